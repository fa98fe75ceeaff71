"""A source, a target, and a mirror in small: one command at a time, its effect right behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.commands import COPY_KEYS, Check, Clock, CommandTable, Effect, Engine, Kind
from proxy.resp import ReplyError, Request, encode_command, is_error, parse, request, same_reply
from tests.servers import ENGINES, REDIS_6, VALKEY_9, Pair

from .snapshot import differences, snapshot
from .wire import Wire, words

TABLE = CommandTable()

# What a server says to a form that it does not know yet.
_UNKNOWN = (
    "unknown command",
    "unknown subcommand",
    "Unknown subcommand",
    "syntax error",
    "wrong number of arguments",
    "Invalid stream ID",
    "Unsupported option",
)

# Effects that only a server with field expiry can take; all others Redis 6.2 can.
_FIELD_EXPIRY = (b"HPEXPIREAT", b"HPERSIST", b"HSETEX")

MIGRATIONS = [
    (Pair(REDIS_6, VALKEY_9), 2),
    (Pair(REDIS_6, VALKEY_9), 3),
    (Pair(VALKEY_9, REDIS_6), 2),
    (Pair(VALKEY_9, VALKEY_9), 3),
    *((Pair(e, VALKEY_9), 2) for e in ENGINES if e not in (REDIS_6, VALKEY_9)),
]
"""Engines, and the RESP version of both connections."""


def time_ms(reply: bytes) -> float:
    """Of TIME."""
    seconds, micros = parse(reply)
    return int(seconds) * 1000 + int(micros) / 1000


@dataclass
class Sides:
    """Both ends of a migration.

    knows_all: no form of a command is unknown to either, so nothing may be skipped.
    """

    pair: Pair
    source: Wire
    target: Wire
    engine: Engine = field(init=False)
    knows_all: bool = field(init=False)

    def __post_init__(self) -> None:
        source = self.pair.source
        self.engine = Engine.of(source.kind, ".".join(map(str, source.version)))
        self.knows_all = self.pair == Pair(VALKEY_9, VALKEY_9)

    def now_ms(self) -> int:
        return int(time_ms(self.source.call("TIME")))

    def prepare(self, setup: list[str]) -> None:
        """The same on both, and nothing else."""
        for wire in (self.source, self.target):
            wire.call("FLUSHALL")
            for line in setup:
                reply = wire.call(*words(line))
                self.skip_unknown(reply, line)
                assert not is_error(reply), (line, reply)
        assert self.differences() == []

    def differences(self) -> list[str]:
        return differences(snapshot(self.source), snapshot(self.target))

    def skip_unknown(self, reply: bytes, what: object) -> None:
        value = parse(reply)
        if isinstance(value, ReplyError) and any(text in value.text for text in _UNKNOWN):
            assert not self.knows_all, (what, value)
            pytest.skip(f"{what}: {value.text[:60]}")

    def run(self, *args: bytes) -> tuple[bytes, Any]:
        """As a lane does: on the source, behind it the probe. The reply, and the rule's
        outcome; None without a rule."""
        req = request(*args)
        command = TABLE.lookup(req)
        assert command is not None
        assert command.kind is Kind.WRITE, command
        probe = command.probe(req)
        batch = [req.raw] if probe is None else [req.raw, probe]
        clock_read = encode_command("TIME")
        first, *replies, last = self.source.exchange(
            clock_read + b"".join(batch) + clock_read, len(batch) + 2
        )
        if is_error(replies[0]) or command.effect is None or req.argc == command.verbatim_argc:
            return replies[0], None
        value = parse(replies[0]) if probe is None else (parse(replies[0]), parse(replies[1]))
        before, after = time_ms(first), time_ms(last)
        clock = Clock((before + after) / 2, (after - before) / 2, self.engine)
        return replies[0], command.effect(req, value, clock)

    def mirror(self, *args: bytes) -> bytes | None:
        """Run it, and its effect on the target; the reply, or None if its keys are to be copied."""
        reply, effects = self.run(*args)
        if is_error(reply):
            return reply
        if effects is COPY_KEYS:
            return None
        self.apply(request(*args), reply, effects)
        return reply

    def apply(self, req: Request, reply: bytes, effects: list[Effect] | None) -> None:
        """The effects on the target, and whether it answers what it should."""
        for raw, check in [(req.raw, Check.SAME)] if effects is None else effects:
            answer = self.target.exchange(raw, 1)[0]
            name = raw.split(b"\r\n", 3)[2].upper()
            if name in _FIELD_EXPIRY:
                command = TABLE.lookup(req)
                assert command is not None and command.needs, "else it would be sent to Redis 6.2"
                self.skip_unknown(answer, raw)
            assert not is_error(answer), (raw, answer)
            if check is Check.SAME:
                assert same_reply(reply, answer), (raw, reply, answer)
            elif check is not Check.NO_ERROR:
                assert answer == check, raw
