"""Each write in each form, on real servers: after its effect both sides hold the same again."""

from __future__ import annotations

import time

import pytest

from migrator.copy.dialect import REWRITTEN_VERSION
from migrator.copy.footer import with_version
from proxy.commands import Command, Kind
from proxy.resp import is_error, parse, request
from tests.servers import REDIS_6

from .cases import cases, filled_in
from .mirroring import TABLE, Sides
from .snapshot import TTL_TOLERANCE_MS
from .wire import words


@pytest.mark.parametrize("case", cases())
def test_the_effect_makes_both_sides_the_same(sides: Sides, case: str) -> None:
    setup, line = filled_in(case.removeprefix("!"), sides.now_ms())
    sides.prepare(setup)
    reply = sides.mirror(*words(line))
    if case.startswith("!"):
        assert reply is None, "its keys are copied"
        return
    assert reply is not None
    sides.skip_unknown(reply, line)
    assert not is_error(reply), reply
    assert sides.differences() == []


RESTORES = ["0", "0 REPLACE", "100000", "{future_ms} ABSTTL REPLACE", "{past_ms} ABSTTL REPLACE"]


@pytest.mark.parametrize("form", RESTORES)
def test_restore_is_mirrored_with_its_time_absolute(sides: Sides, form: str) -> None:
    setup, line = filled_in(f"SET made v => {form}", sides.now_ms())
    sides.prepare([*setup, "SET k a"] if "REPLACE" in form else setup)
    # A version that both take.
    payload = with_version(parse(sides.source.call("DUMP", "made")), REWRITTEN_VERSION)
    ttl, *options = words(line)
    reply = sides.mirror(b"RESTORE", b"k", ttl, payload, *options)
    assert reply == b"+OK\r\n"
    assert sides.differences() == []


def test_an_effect_that_arrives_late_says_the_same(sides: Sides) -> None:
    """All forms with a time, each on keys of its own: run, wait, then mirrored."""
    late = []
    sides.prepare([])
    now_ms = sides.now_ms()
    for n, case in enumerate(cases()):
        if not any(word in case for word in (" EX", " PX", "EXPIRE", "SETEX", "GETEX")):
            continue
        setup, line = filled_in(case, now_ms)
        forms = [on_own_keys(words(text), b"%d" % n) for text in [*setup, line]]
        if forms[-1][0].startswith(b"H") and sides.pair.target == REDIS_6:
            continue  # field expiry
        if all(
            not is_error(wire.call(*form))
            for form in forms[:-1]
            for wire in (sides.source, sides.target)
        ):
            reply, effects = sides.run(*forms[-1])
            if not is_error(reply):
                late.append((request(*forms[-1]), reply, effects))
    assert len(late) > 30
    time.sleep(4 * TTL_TOLERANCE_MS / 1000)
    for req, reply, effects in late:
        sides.apply(req, reply, effects)
    assert sides.differences() == []


def on_own_keys(form: list[bytes], suffix: bytes) -> list[bytes]:
    req = request(*form)
    names = set(named(form).keys(req))
    return [arg + suffix if i and arg in names else arg for i, arg in enumerate(form)]


def test_every_write_of_the_table_has_a_case() -> None:
    covered = {named(words(filled_in(case, 0)[1])).name for case in cases()} | {"restore"}
    assert {c.name for c in TABLE if c.kind is Kind.WRITE} - covered == set()


def named(form: list[bytes]) -> Command:
    command = TABLE.lookup(request(*form))
    assert command is not None, form
    return command
