"""One client of the application: chooses, sends, and checks every reply.

Owns its connection, its choices and what it counted. Batches of one to many commands, some as
MULTI … EXEC, in one of several databases.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from proxy.resp.values import ReplyError

from . import containers, keys, shared, streams, strings, zsets
from .connection import Arg, Connection, Lost, pack
from .counts import Counts
from .draw import DATABASES, Choice, Draw
from .ledger import Ledger
from .model import ANY, OK, Model, OneOf, Place, Step, Wrong, fits
from .world import World

OWN: tuple[list[Choice], ...] = (
    strings.CHOICES, containers.CHOICES, zsets.CHOICES, streams.CHOICES, keys.CHOICES,
)  # fmt: skip
WEIGHTS = (24, 27, 14, 21, 16)
DEPTHS = (1, 1, 1, 1, 2, 4, 8, 16)

# Short enough to come by often, long enough to be set before it ends.
BRINK_MS = (15, 40)


class Endpoint(NamedTuple):
    """Where the application connects, and as whom."""

    host: str
    port: int
    login: tuple[str, str] | None
    resp: int


class Expected(NamedTuple):
    """What one reply of a batch is for: a step, or a fixed answer (of SELECT, MULTI, QUEUED)."""

    step: Step | None
    fixed: object = ANY
    block: tuple[Step, ...] = ()


class Client:
    """See the module's docstring. Runs until `stop` is called."""

    def __init__(
        self,
        number: int,
        seed: str,
        endpoint: Endpoint,
        world: World,
        ledger: Ledger,
        counts: Counts,
    ) -> None:
        self.number = number
        self.endpoint = endpoint
        self.model = Model(world.initial)
        self.draw = Draw(f"{seed}/{number}", number, self.model, world.sizes)
        self.shared = shared.SharedDraw(self.draw, ledger)
        self.counts = counts
        self._connection: Connection | None = None
        self._is_stopping = False
        self._brinks = 0

    def stop(self) -> None:
        """After the batch under way."""
        self._is_stopping = True

    async def run(self) -> None:
        self._is_stopping = False
        try:
            while not self._is_stopping:
                if self._connection is None:
                    await self._connect()
                elif self.draw.chance(0.01):
                    await self._brink()
                else:
                    await self._batch(*self._choose())
        finally:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def _connect(self) -> None:
        endpoint = self.endpoint
        try:
            self._connection = await Connection.open(
                endpoint.host, endpoint.port, endpoint.login, endpoint.resp
            )
        except (OSError, ReplyError) as error:
            self.counts.error(f"client {self.number} cannot connect: {error}")
            await asyncio.sleep(0.1)
            return
        self.draw.db = 0

    # -- choosing ----------------------------------------------------------------------

    def _choose(self) -> tuple[bytearray, list[Expected]]:
        draw = self.draw
        raw = bytearray()
        expected: list[Expected] = []
        if draw.chance(0.05):
            draw.db = draw.pick((0, *DATABASES))
            raw += pack((b"SELECT", draw.db))
            expected.append(Expected(None, OK))
        for _ in range(draw.pick(DEPTHS)):
            if draw.chance(0.04):
                self._add_block(shared.pair(self.shared), raw, expected)
            elif draw.chance(0.04):
                steps = [step for _ in range(draw.number(1, 4)) for step in self._steps()]
                self._add_block(steps, raw, expected)
            else:
                for step in self._steps():
                    raw += pack(step.args)
                    expected.append(Expected(step))
        return raw, expected

    def _steps(self) -> list[Step]:
        draw = self.draw
        if draw.chance(0.5):
            return draw.pick(shared.CHOICES)(self.shared)
        choices = draw.rng.choices(OWN, WEIGHTS)[0]
        steps = draw.pick(choices)(draw)
        doubtful = {place for step in steps for place in step.places} & self.model.unsure
        here = [place for place in doubtful if place[0] == draw.db]
        # Half of them stay as they are: what became of an unsure key is seen in the end.
        if here and draw.chance(0.5):
            return [self._renewal(here), *steps]
        return steps

    def _renewal(self, places: list[Place]) -> Step:
        def apply(_: Any) -> object:
            for place in places:
                self.model.values[place] = None
            return OneOf(tuple(range(len(places) + 1)))

        args: tuple[Arg, ...] = (b"DEL", *(place[1] for place in places))
        return Step(args, tuple(places), apply, renews=True)

    def _add_block(self, steps: list[Step], raw: bytearray, expected: list[Expected]) -> None:
        raw += pack((b"MULTI",))
        expected.append(Expected(None, OK))
        for step in steps:
            raw += pack(step.args)
            expected.append(Expected(None, b"QUEUED"))
        raw += pack((b"EXEC",))
        expected.append(Expected(None, ANY, tuple(steps)))

    # -- sending and checking --------------------------------------------------------------

    async def _batch(self, raw: bytearray, expected: list[Expected]) -> None:
        connection = self._connection
        assert connection is not None
        model = self.model
        model.sent = sent = time.time() * 1000.0
        try:
            replies = await connection.batch(bytes(raw), len(expected))
        except Lost as lost:
            replies = lost.values
            self._connection = None
            if not self._is_stopping:
                self.counts.error(f"client {self.number}: connection lost: {lost}")
        model.answered = time.time() * 1000.0
        self.counts.waited(model.answered - sent)
        for at, each in enumerate(expected):
            steps = each.block or ((each.step,) if each.step is not None else ())
            if at >= len(replies):
                for step in steps:
                    model.doubt(step)
            elif each.block:
                self._check_block(each.block, replies[at])
            elif each.step is not None:
                self._check(each.step, replies[at])
            else:
                self.counts.commands += 1
                if not fits(each.fixed, replies[at]):
                    self._complain((b"SELECT, MULTI or a command of it",), each.fixed, replies[at])

    def _check_block(self, steps: tuple[Step, ...], reply: Any) -> None:
        self.counts.commands += 1
        if not isinstance(reply, list) or len(reply) != len(steps):
            self._complain((b"EXEC",), f"{len(steps)} replies", reply)
            for step in steps:
                self.model.doubt(step)
            return
        for step, each in zip(steps, reply, strict=True):
            self._check(step, each, counts=False)

    def _check(self, step: Step, reply: Any, *, counts: bool = True) -> None:
        self.counts.commands += counts
        if not step.places and isinstance(reply, ReplyError):
            # Another client has taken the key away; anything else is an error.
            if not (step.args[0] in (b"RENAME", b"RENAMENX") and "no such key" in str(reply)):
                self._complain(step.args, "no error", reply)
            return
        expected = self.model.settle(step, reply)
        # Of an unsure key every reply is right, an error too; of the connection none is.
        if expected is ANY and isinstance(reply, ReplyError) and _is_of_data(reply, step, self):
            return
        if not fits(expected, reply):
            self._complain(step.args, expected, reply)
            self.model.doubt(step)

    def _complain(self, args: tuple[Arg, ...], expected: object, reply: Any) -> None:
        command = b" ".join(a if isinstance(a, bytes) else b"%a" % a for a in args)[:200]
        wanted = expected.wanted if isinstance(expected, Wrong) else expected
        text = (
            f"client {self.number} db {self.draw.db} RESP{self.endpoint.resp}: "
            f"{command!r} answered {reply!r:.300}, not {wanted!s:.300}"
        )
        if isinstance(reply, ReplyError):
            self.counts.error(text)
        else:
            self.counts.wrong(text)

    # -- writes around the end of a key ------------------------------------------------------

    async def _brink(self) -> None:
        """Write a key while it expires, and leave it: nobody comes by to set it right."""
        draw = self.draw
        self._brinks += 1
        key = b"brink:%d:%d" % (self.number, self._brinks)
        ttl = draw.number(*BRINK_MS)
        form = draw.number(0, 4)
        write: tuple[tuple[Arg, ...], ...] = (
            (b"HSET", key, b"%d", b"1"), (b"SADD", key, b"%d"), (b"ZADD", key, 1, b"%d"),
            (b"APPEND", key, b"%d,"),
        )  # fmt: skip
        raw = pack(_numbered(write[form], 0)) + pack((b"PEXPIRE", key, ttl))
        until = time.monotonic() + (ttl + 3) / 1000.0
        at = 0
        while self._connection is not None:
            count = 2 if at == 0 else 1
            await self._batch(
                bytearray(raw), [Expected(Step((b"brink",), (), _any)) for _ in range(count)]
            )
            if time.monotonic() >= until:
                return
            at += 1
            raw = pack(_numbered(write[form], at))


def _any(_: Any) -> object:
    return ANY


def _numbered(words: tuple[Arg, ...], at: int) -> tuple[Arg, ...]:
    return tuple(word % at if isinstance(word, bytes) and b"%d" in word else word for word in words)


def _is_of_data(error: ReplyError, step: Step, client: Client) -> bool:
    """Whether an error speaks of what a key holds, and the key is unsure."""
    is_unsure = not client.model.unsure.isdisjoint(step.places)
    return is_unsure and str(error).startswith(("ERR", "NOGROUP", "BUSYGROUP"))
