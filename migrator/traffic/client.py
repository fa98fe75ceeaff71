"""One client of the application: chooses, sends, and checks every reply.

Owns its connections, its choices and what it checks. Batches of one to many commands, some as
MULTI … EXEC, in one of several databases; between them conversations, of which each step waits
for the answer to the one before.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from proxy.resp.values import ReplyError

from . import shared
from .connection import Endpoint, Line, Lost, Words, pack
from .counts import Counts
from .draw import DATABASES, Choice, Draw
from .ledger import Ledger
from .model import ANY, OK, Model, OneOf, Place, Step, Wrong, fits
from .world import World

DEPTHS = (1, 1, 1, 1, 2, 4, 8, 16)


Talk = Callable[["Client"], Awaitable[None]]


class Habits(NamedTuple):
    """What a client does: commands on own keys, in groups with their weights; commands on shared
    keys; conversations, and in how many of a thousand turns each is begun; in which databases;
    and what it says before all else, with the answers."""

    own: Sequence[tuple[Sequence[Choice], int]]
    shared: Sequence[shared.Choice]
    talks: Sequence[tuple[Talk, int]]
    databases: Sequence[int] = DATABASES
    arrival: Sequence[tuple[Words, object]] = ()


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
        habits: Habits,
    ) -> None:
        self.number = number
        self.name = f"client {number}"
        self.resp = endpoint.resp
        self.families = world.families
        self.model = Model(world.initial)
        self.draw = Draw(f"{seed}/{number}", number, self.model, world.sizes, habits.databases)
        self.shared = shared.SharedDraw(self.draw, ledger)
        self.counts = counts
        self.main = Line(self.name, endpoint, counts.error)
        self.second = Line(f"{self.name}, second connection", endpoint, counts.error)
        # What conversations keep between two of their turns.
        self.kept: dict[str, Any] = {}
        self._habits = habits
        self._own = [choices for choices, _ in habits.own]
        self._weights = [weight for _, weight in habits.own]
        self._has_arrived = False
        self._is_stopping = False

    def stop(self) -> None:
        """After the batch under way."""
        self._is_stopping = True

    async def run(self) -> None:
        self._is_stopping = False
        self.kept.pop("iteration", None)
        draw = self.draw
        talks = [talk for talk, _ in self._habits.talks]
        weights = [weight for _, weight in self._habits.talks]
        share = sum(weights) / 1000.0
        try:
            while not self._is_stopping:
                try:
                    if not self.main.is_open:
                        if await self.main.open():
                            await self._arrive()
                    elif draw.chance(share):
                        await draw.rng.choices(talks, weights)[0](self)
                    else:
                        await self._batch(*self._choose())
                except Lost:
                    continue  # Counted; whoever asked has marked what is in doubt.
        finally:
            self.main.close()
            self.second.close()

    async def _arrive(self) -> None:
        """Raises Lost."""
        habits = self._habits
        self.draw.db = habits.databases[0]
        if self.draw.db:
            await self.ask(((b"SELECT", self.draw.db), OK))
        if not self._has_arrived:
            await self.ask(*habits.arrival)
            self._has_arrived = True

    # -- choosing ----------------------------------------------------------------------

    def _choose(self) -> tuple[bytearray, list[Expected]]:
        draw = self.draw
        raw = bytearray()
        expected: list[Expected] = []
        if draw.chance(0.05):
            draw.db = draw.pick((self._habits.databases[0], *self._habits.databases))
            raw += pack((b"SELECT", draw.db))
            expected.append(Expected(None, OK))
        for _ in range(draw.pick(DEPTHS)):
            if self._habits.shared and draw.chance(0.04):
                self._add_block(shared.pair(self.shared), raw, expected)
            elif draw.chance(0.04):
                steps = [step for _ in range(draw.number(1, 4)) for step in self.steps()]
                self._add_block(steps, raw, expected)
            else:
                for step in self.steps():
                    raw += pack(step.args)
                    expected.append(Expected(step))
        return raw, expected

    def steps(self) -> list[Step]:
        """The next command, or a few that belong together."""
        draw, habits = self.draw, self._habits
        if habits.shared and draw.chance(0.5):
            return draw.pick(habits.shared)(self.shared)
        choices = draw.rng.choices(self._own, self._weights)[0]
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

        args: Words = (b"DEL", *(place[1] for place in places))
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
        replies = await self._send(raw, len(expected))
        for at, each in enumerate(expected):
            steps = each.block or ((each.step,) if each.step is not None else ())
            if at >= len(replies):
                for step in steps:
                    self.model.doubt(step)
            elif each.block:
                self.counts.commands += 1
                self.check_block(each.block, replies[at])
            elif each.step is not None:
                self.counts.commands += 1
                self.check(each.step, replies[at])
            else:
                self.counts.commands += 1
                self.expect((b"SELECT, MULTI or a command of it",), each.fixed, replies[at])

    async def _send(self, raw: bytes | bytearray, count: int) -> list[Any]:
        """The replies that came; fewer than `count` when the connection was lost."""
        model = self.model
        model.sent = sent = time.time() * 1000.0
        try:
            return await self.main.batch(bytes(raw), count)
        except Lost as lost:
            return lost.values
        finally:
            model.answered = time.time() * 1000.0
            self.counts.waited(model.answered - sent)

    async def ask(self, *commands: tuple[Words, object]) -> list[Any]:
        """Commands that are sent at once, each with what it must answer. Raises Lost."""
        if not commands:
            return []
        replies = await self._send(b"".join(pack(words) for words, _ in commands), len(commands))
        for (words, expected), reply in zip(commands, replies, strict=False):
            self.counts.commands += 1
            self.expect(words, expected, reply)
        if len(replies) < len(commands):
            raise Lost("", replies)
        return replies

    async def perform(self, *steps: Step) -> None:
        """Steps that are sent at once. Raises Lost."""
        await self._batch(
            bytearray(b"".join(pack(step.args) for step in steps)),
            [Expected(step) for step in steps],
        )
        if not self.main.is_open:
            raise Lost("", [])

    def check_block(self, steps: Sequence[Step], reply: Any) -> None:
        """The reply to an EXEC that must have been carried out."""
        if not isinstance(reply, list) or len(reply) != len(steps):
            self.complain((b"EXEC",), f"{len(steps)} replies", reply)
            for step in steps:
                self.model.doubt(step)
            return
        for step, each in zip(steps, reply, strict=True):
            self.check(step, each)

    def check(self, step: Step, reply: Any) -> None:
        if not step.places and isinstance(reply, ReplyError):
            # Another client has taken the key away; anything else is an error.
            if not (step.args[0] in (b"RENAME", b"RENAMENX") and "no such key" in str(reply)):
                self.complain(step.args, "no error", reply)
            return
        expected = self.model.settle(step, reply)
        # Of an unsure key every reply is right, an error too; of the connection none is.
        if expected is ANY and isinstance(reply, ReplyError) and _is_of_data(reply, step, self):
            return
        if not fits(expected, reply):
            self.complain(step.args, expected, reply)
            self.model.doubt(step)

    def expect(self, words: Words, expected: object, reply: Any) -> None:
        """A reply that the model has no part in."""
        if not fits(expected, reply):
            self.complain(words, expected, reply)

    def complain(self, args: Words, expected: object, reply: Any) -> None:
        self.counts.complain(
            f"{self.name} db {self.draw.db} RESP{self.resp}", args, _wanted(expected), reply
        )


def _wanted(expected: object) -> object:
    return expected.wanted if isinstance(expected, Wrong) else expected


def _is_of_data(error: ReplyError, step: Step, client: Client) -> bool:
    """Whether an error speaks of what a key holds, and the key is unsure."""
    is_unsure = not client.model.unsure.isdisjoint(step.places)
    return is_unsure and str(error).startswith(("ERR", "NOGROUP", "BUSYGROUP"))
