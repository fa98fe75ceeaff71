"""Long random runs of writes over few keys: types change, conditions fail, keys are emptied."""

from __future__ import annotations

import random

import pytest

from proxy.commands import Kind
from proxy.resp import ReplyError, is_error, parse, request

from .cases import cases, filled_in
from .mirroring import TABLE, Sides
from .wire import words

STEPS = 400
KEYS = [b"a", b"b", b"c", b"d", b"e"]


def random_command(rng: random.Random, now_ms: int) -> list[bytes]:
    """A form of the cases, its setup included, with its keys replaced by any of ours."""
    setup, line = filled_in(rng.choice(cases()).removeprefix("!"), now_ms)
    args = words(rng.choice([*setup[:6], line]))
    req = request(*args)
    command = TABLE.lookup(req)
    assert command is not None
    names = set(command.keys(req))
    return [rng.choice(KEYS) if arg in names and i else arg for i, arg in enumerate(args)]


@pytest.mark.parametrize("seed", range(6))
def test_both_sides_stay_the_same(sides: Sides, seed: int) -> None:
    rng = random.Random(seed)
    sides.prepare([])
    mirrored = 0
    for step in range(STEPS):
        args = random_command(rng, sides.now_ms())
        req = request(*args)
        command = TABLE.lookup(req)
        if command is None or command.kind is not Kind.WRITE:
            continue
        try:
            reply = sides.mirror(*args)
        except pytest.skip.Exception:
            reply = None  # the target does not know it: an error, so its keys are copied
        if reply is None:
            copied(sides, list(command.written(req)), command.other_db(req))
        elif not is_error(reply):
            mirrored += 1
        if step % 20 == 0:
            assert sides.differences() == [], (seed, step, args)
    assert sides.differences() == []
    assert mirrored > STEPS // 4


def copied(sides: Sides, keys: list[bytes], db: int | None) -> None:
    """The keys are made alike. How they are copied is not the matter here, so they are deleted."""
    for wire in (sides.source, sides.target):
        for at in {0, db or 0}:
            wire.call("SELECT", at)
            assert not isinstance(parse(wire.call("DEL", *keys)), ReplyError)
        wire.call("SELECT", 0)
