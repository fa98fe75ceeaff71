"""The small world with clients that read from both sides at once.

Owns the rule of what they may see: what the primary alone could have answered to them, in their
order. Each answer is looked for among the primary's states between the sending of the request and
the delivery of the reply, and never at an earlier one than the answer before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.commands import CommandTable
from proxy.keytable import Place
from proxy.op import Op as LaneOp
from proxy.plane import Client, Plane
from proxy.resp import Request
from proxy.resp.requests import request
from proxy.sides import Side
from proxy.split import Split

from .operations import Op
from .world import Event, Lane, Running, Store, World, places

COMMANDS = CommandTable()
# What a reply shows of each place.
Seen = tuple[tuple[str, ...] | None, ...]


class Ask(Running):
    """A read on its way on a lane; the reply frame names what it has seen."""

    __slots__ = ("client", "read", "seen")

    def __init__(self, client: Reader, read: LaneOp, keys: tuple[Place, ...]) -> None:
        self.client = client
        self.read = read
        self.places = keys
        self.name = f"{client.name} reads {b''.join(keys)!r}"  # type: ignore[arg-type]
        self.seen = -1


class Reader(Client):
    """Sends GETs, and MGETs where more than one letter stands, each side as it may.

    `shifted`: the places whose reads the secondary serves where it may.
    """

    def __init__(self, world: ReadingWorld, name: str, reads: Sequence[str], shifted: str) -> None:
        plane = Plane(COMMANDS, Side.SOURCE, 1000)
        plane.table = world.table
        super().__init__(plane, 0)
        self.world = world
        self.name = name
        self.todo = list(reads)
        self.shifted = places(shifted)
        self.split = Split(self)
        # In the order of requests: its places, and the primary's state when it was sent.
        self.sent: list[tuple[tuple[Place, ...], int]] = []
        self.delivered = 0
        self.state = 0

    def go_on(self) -> None:
        keys = places(self.todo.pop(0))
        world = self.world
        made = request(b"MGET", *keys)  # type: ignore[arg-type]
        self.sent.append((keys, len(world.states) - 1))
        self.outstanding += 1
        table = world.table
        if keys[0] in self.shifted and table.are_settled(keys) and not table.is_closed:
            one, several = (keys[0], None) if len(keys) == 1 else (None, keys)
            world.ask("secondary", self, self.split.shift(made, one, several), keys)
        elif self.split.size:
            world.ask("A", self, self.split.ask(made), keys)
        else:
            world.ask("A", self, self, keys)

    def ask_primary(self, read: LaneOp, made: Request) -> None:
        world = self.world
        world.asked_again += 1
        world.ask("A", self, read, tuple(made.args()[1:]))

    def reply(self, frame: bytes) -> None:
        self.outstanding -= 1
        self.check(self.world.answers[int(frame[1:])])

    def soil(self) -> None:
        self.is_dirty = True

    def weigh(self) -> None:
        pass

    def lost(self) -> None:
        raise AssertionError("the primary's lane of readers is not lost here")

    def check(self, seen: Seen) -> None:
        keys, sent = self.sent[self.delivered]
        self.delivered += 1
        states = self.world.states
        first = max(sent, self.state)
        for at in range(first, len(states)):
            if tuple(states[at].get(key) for key in keys) == seen:
                self.state = at
                return
        raise AssertionError(f"{self.name} saw {seen} of {keys}, not in {states[first:]}")


class ReadingWorld(World):
    """`readers`: what each reads, in its order. `at_once`: what never lies waiting: requests on
    lanes of these names (on B their replies, too), and effects in the ``log``. So there are fewer
    orders."""

    def __init__(
        self,
        *clients: Sequence[Op],
        readers: Sequence[Sequence[str]],
        shifted: str,
        at_once: Sequence[str] = ("secondary", "log"),
        **options: Any,
    ) -> None:
        super().__init__(*clients, **options)
        self.table.touches.note(True)
        # Each state that the primary has been in.
        self.states: list[Store] = [dict(self.primary)]
        self.answers: list[Seen] = []
        self.asked_again = 0
        self.at_once = at_once
        self.readers = [Reader(self, f"r{at}", reads, shifted) for at, reads in enumerate(readers)]

    def enabled(self) -> list[Event]:
        events = super().enabled()
        return events + [("send", each.name) for each in self.readers if each.todo]

    def step(self, event: Event) -> None:
        if event[0] == "send":
            self.story.append(" ".join(event))
            next(each for each in self.readers if each.name == event[1]).go_on()
            self.check()
        else:
            super().step(event)
        for name in self.at_once:
            lane = self.lanes.get(name)
            while lane is not None and lane.executed < len(lane.sent):
                self._execute(lane)
                if name == "B":
                    lane.executed -= 1
                    self._answer(lane.sent.popleft())
        while self.log and "log" in self.at_once:
            self.log.popleft()()
        for reader in self.readers:
            if reader.is_dirty:
                reader.is_dirty = False
                reader.split.deliver()

    def ask(self, lane: str, client: Reader, read: LaneOp, keys: tuple[Place, ...]) -> None:
        self._lane(lane).sent.append(Ask(client, read, keys))

    def _execute(self, lane: Lane) -> None:
        running = lane.sent[lane.executed]
        if isinstance(running, Ask):
            lane.executed += 1
            store = self.secondary if lane.name == "secondary" else self.primary
            running.seen = len(self.answers)
            self.answers.append(tuple(store.get(place) for place in running.places))
            return
        super()._execute(lane)
        self.states.append(dict(self.primary))

    def _answer(self, running: Running) -> None:
        if not isinstance(running, Ask):
            super()._answer(running)
            return
        running.read.reply(b"+%d" % running.seen)
        running.client.soil()

    def finish(self) -> None:
        super().finish()
        for reader in self.readers:
            assert reader.delivered == len(reader.sent), f"{reader.name} waits for a reply"
            assert not reader.outstanding
