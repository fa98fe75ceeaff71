"""A small world around a key table: lanes, two stores, a mirror log, and what may happen next.

Owns the rules that hold whatever the order: `step` performs one event and checks all of them, and
`explore` runs every order that a scenario allows. A write appends its own name to each of its
keys, so two stores are equal only if they saw the same writes in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.keytable import KeyTable, Lease, Place, Ticket

from .operations import Copy, CopyAlone, Fence, Flush, Lose, Mark, Op, Unnamed, Write

Event = tuple[str, str]
Store = dict[Place, tuple[str, ...]]


def places(keys: str) -> tuple[Place, ...]:
    return tuple(key.encode() for key in keys)


@dataclass(eq=False)
class Lane:
    """What was sent on a connection and is not answered; the first `executed` of it are done."""

    name: str
    sent: deque[Running] = field(default_factory=deque)
    executed: int = 0
    is_lost: bool = False


class Table(KeyTable):
    """Tells of each mark before it is made."""

    def __init__(self, on_mark: Callable[[Place], None]) -> None:
        super().__init__()
        self.on_mark = on_mark

    def mark_unproven(self, place: Place) -> None:
        self.on_mark(place)
        super().mark_unproven(place)


class Running(Ticket):
    """An operation on its way through the world."""

    __slots__ = (
        "copied", "had_company", "is_answered", "is_dispatched", "lease", "lost_keys", "name", "op",
        "world",
    )  # fmt: skip

    def __init__(self, world: World, name: str, op: Op) -> None:
        self.world = world
        self.name = name
        self.op = op
        self.places = places(getattr(op, "keys", ""))
        self.lane: object = self
        self.is_dispatched = False
        self.is_answered = False
        self.lease: Lease | None = None
        self.copied: Store | None = None
        # Another copy was under way meanwhile, and of two leases of a key one is touched.
        self.had_company = False
        # What the rules say must be in the lease's `touched`, kept by the world itself.
        self.lost_keys: set[Place] = set()

    def go(self) -> None:
        self.world.dispatched(self)


class World:
    """One run of a scenario: `clients` are lists of operations, each in its own order.

    With `pipelines` what a client sent behind an operation that had to wait goes in the same step
    as that. `is_eager` leaves fewer orders: the primary executes at once, the secondary too.
    """

    def __init__(
        self,
        *clients: Sequence[Op],
        keys: str = "ab",
        unproven: str = "",
        pipelines: bool = False,
        is_eager: bool = False,
    ) -> None:
        self.table = Table(self._marked)
        self.table.is_everything_unproven = False
        self.pipelines = pipelines
        self.is_eager = is_eager
        self.primary: Store = dict.fromkeys(places(keys), ("0",))
        self.secondary = dict(self.primary)
        self.lanes: dict[str, Lane] = {}
        self.dead: list[Lane] = []
        self.log: deque[Callable[[], None]] = deque()
        self.todo = {f"c{at}": deque(ops) for at, ops in enumerate(clients)}
        self.held: set[str] = set()
        self.running: list[Running] = []
        self.arrived: list[Running] = []
        self.movers: list[Running] = []
        self.barrier: Running | None = None
        self.story: list[str] = []
        self.count = 0
        for key in places(unproven):
            del self.secondary[key]
            self.table.mark_unproven(key)

    # -- what may happen -------------------------------------------------------------

    def enabled(self) -> list[Event]:
        events: list[Event] = [
            ("arrive", client)
            for client, ops in self.todo.items()
            if ops and client not in self.held
        ]
        for name, lane in self.lanes.items():
            if lane.executed < len(lane.sent):
                events.append(("execute", name))
            if lane.executed:
                events.append(("answer", name))
        for at, lane in enumerate(self.dead):
            if lane.executed < len(lane.sent):
                events.append(("execute late", str(at)))
        events += [("read" if each.copied is None else "append", each.name) for each in self.movers]
        if self.log:
            events.append(("apply", ""))
        fence = self.barrier
        if fence is not None and isinstance(fence.op, Fence):  # noqa: SIM102
            # One that gives up may do so before everything is in.
            if fence.is_dispatched or fence.op.gives_up:
                events.append(("release", ""))
        if fence is not None and isinstance(fence.op, Unnamed) and fence.is_answered:
            events.append(("tell", ""))
        return events

    def step(self, event: Event) -> None:
        what, which = event
        self.story.append(f"{what} {which}".strip())
        if what == "arrive":
            self._arrive(which)
        elif what == "execute":
            self._execute(self.lanes[which])
        elif what == "execute late":
            self._execute(self.dead[int(which)])
        elif what == "answer":
            lane = self.lanes[which]
            lane.executed -= 1
            self._answer(lane.sent.popleft())
        elif what in ("read", "append"):
            mover = next(mover for mover in self.movers if mover.name == which)
            self._read(mover) if what == "read" else self._append(mover)
        elif what == "apply":
            self.log.popleft()()
        elif what == "tell":
            self._tell()
        else:
            self._release_fence()
        if self.is_eager:
            for lane in self.lanes.values():
                while lane.executed < len(lane.sent):
                    self._execute(lane)
            while self.log:
                self.log.popleft()()
        self.check()

    # -- clients ------------------------------------------------------------------------

    def _arrive(self, client: str) -> None:
        if self.table.is_closed:
            self.held.add(client)
            self.table.when_open(lambda: self._unhold(client))
            return
        op = self.todo[client].popleft()
        self.count += 1
        running = Running(self, f"{client}.{self.count}", op)
        self.running.append(running)
        if isinstance(op, Mark):
            for place in running.places:
                self.table.mark_unproven(place)
            self.running.remove(running)
        elif isinstance(op, Lose):
            self.running.remove(running)
            self._lose(op.lane)
        elif isinstance(op, Copy):
            self._kill_dead()
            self._watch(running)
        elif isinstance(op, Flush | Unnamed | Fence):
            self.held.add(client)
            self.barrier = running
            self.arrived.append(running)
            if not isinstance(op, Fence):
                running.lane = self._lane(op.lane)
            self.table.close(running.go)
        else:
            if isinstance(op, Write):
                running.lane = self._lane(op.lane)
            self.arrived.append(running)
            if self.table.acquire(running):
                self.dispatched(running)
            else:
                self.held.add(client)

    def _unhold(self, client: str) -> None:
        self.held.discard(client)
        # As a session does: what the client sent behind it goes in the same step.
        if self.pipelines and self.todo[client]:
            self._arrive(client)

    def _lane(self, name: str) -> Lane:
        return self.lanes.setdefault(name, Lane(name))

    def dispatched(self, running: Running) -> None:
        assert not running.is_dispatched and not running.is_answered, f"{running.name} went twice"
        self._check_order(running)
        running.is_dispatched = True
        op = running.op
        if isinstance(op, Flush):
            self.table.touch_everything()
        elif isinstance(op, Unnamed):
            self.table.touches.touch_all()
        for mover in self.movers:
            # Of a script's keys nobody knows until they are told.
            if mover is not running and not isinstance(op, Unnamed):
                mover.lost_keys |= self._written(running) & set(mover.places)
        if isinstance(op, Write | Flush | Unnamed):
            assert isinstance(running.lane, Lane)
            if running.lane.is_lost:
                self._lost(running)
            else:
                running.lane.sent.append(running)
        elif isinstance(op, CopyAlone):
            self._kill_dead()
            self._watch(running)
        if not isinstance(op, Flush | Unnamed | Fence):
            self._unhold(running.name.partition(".")[0])

    def _written(self, running: Running) -> set[Place]:
        if isinstance(running.op, Flush):
            return set(places("abcdefgh"))
        return set() if isinstance(running.op, Fence) else set(running.places)

    def _execute(self, lane: Lane) -> None:
        running = lane.sent[lane.executed]
        lane.executed += 1
        if isinstance(running.op, Flush):
            self.primary.clear()
        for place in running.places:
            self.primary[place] = (*self.primary.get(place, ()), running.name)

    def _answer(self, running: Running) -> None:
        running.is_answered = True
        self.running.remove(running)
        if isinstance(running.op, Unnamed):
            return
        if isinstance(running.op, Flush):
            self.table.touch_everything()
            self.table.unapplied_everywhere += 1
            self.log.append(self._flushed)
            if not self.dead:  # else the store may still read a write that was lost
                self.table.forget(None)
            self._open(running)
            return
        if self.table.unproven and self.table.drops(running.places):
            for place in running.places:
                self.table.mark_unproven(place)
        else:
            self.table.appended(running.places)
            self.log.append(lambda: self._applied(running))
        self.table.release(running)

    def _lose(self, name: str) -> None:
        lane = self.lanes.pop(name, None)
        if lane is None:
            return
        lane.is_lost = True
        self.dead.append(lane)
        for running in lane.sent:
            self._lost(running)

    def _lost(self, running: Running) -> None:
        running.is_answered = True
        self.running.remove(running)
        if isinstance(running.op, Flush | Unnamed):
            for mover in self.movers:
                mover.lost_keys |= set(mover.places)
            self.table.mark_everything_unproven()
            self._open(running)
            return
        for place in running.places:
            self.table.mark_unproven(place)
        self.table.release(running)

    def _kill_dead(self) -> None:
        self.dead.clear()

    # -- barriers ------------------------------------------------------------------------

    def _release_fence(self) -> None:
        fence = self.barrier
        assert fence is not None
        fence.is_answered = True
        self.running.remove(fence)
        self._open(fence)

    def _tell(self) -> None:
        script = self.barrier
        assert script is not None
        for place in script.places:
            self.table.mark_unproven(place)
        self._open(script)

    def _open(self, barrier: Running) -> None:
        self.barrier = None
        self.table.open()
        self._unhold(barrier.name.partition(".")[0])

    # -- copies ---------------------------------------------------------------------------

    def _watch(self, mover: Running) -> None:
        own = mover if isinstance(mover.op, CopyAlone) else None
        for other in self.running:
            if other is not mover and other.is_dispatched and isinstance(other.op, Write | Flush):
                mover.lost_keys |= self._written(other) & set(mover.places)
        mover.lease = self.table.watch(mover.places, own)
        self.movers.append(mover)
        if len(self.movers) > 1:
            for each in self.movers:
                each.had_company = True

    def _read(self, mover: Running) -> None:
        mover.copied = {
            place: self.primary[place] for place in mover.places if place in self.primary
        }

    def _append(self, mover: Running) -> None:
        assert mover.lease is not None and mover.copied is not None
        touched = mover.lease.touched
        assert mover.lost_keys <= touched, "a write was not noticed"
        if not mover.had_company:
            assert touched <= mover.lost_keys, "a lease was ended by nothing"
        for place in mover.places:
            if place in touched:
                self.table.mark_unproven(place)
            else:
                number = self.table.copies_appended((place,))
                self.log.append(self._copied(place, number, mover.copied.get(place)))
        mover.lease.end()
        self.movers.remove(mover)
        self.running.remove(mover)
        mover.is_answered = True
        if isinstance(mover.op, CopyAlone):
            self.table.release(mover)

    def _marked(self, place: Place) -> None:
        for mover in self.movers:
            if place in mover.places:
                mover.lost_keys.add(place)

    # -- the secondary ----------------------------------------------------------------------

    def _applied(self, running: Running) -> None:
        for place in running.places:
            self.secondary[place] = (*self.secondary.get(place, ()), running.name)
        self.table.applied(running.places)

    def _copied(
        self, place: Place, number: int, value: tuple[str, ...] | None
    ) -> Callable[[], None]:
        def copied() -> None:
            if value is None:
                self.secondary.pop(place, None)
            else:
                self.secondary[place] = value
            self.table.copies_applied((place,), number)

        return copied

    def _flushed(self) -> None:
        self.secondary.clear()
        self.table.unapplied_everywhere -= 1

    # -- what must hold ------------------------------------------------------------------------

    def _check_order(self, running: Running) -> None:
        """At a dispatch: nothing that arrived before it and conflicts is unfinished."""
        is_barrier = isinstance(running.op, Flush | Unnamed | Fence)
        for other in self.arrived:
            if other is running:
                break
            if other.is_answered:
                continue
            conflicts = is_barrier or bool(set(other.places) & set(running.places))
            if conflicts and (is_barrier or other.lane is not running.lane):
                raise AssertionError(f"{running.name} went while {other.name} was unfinished")
            if conflicts and not other.is_dispatched and not self.pipelines:
                raise AssertionError(f"{running.name} overtook {other.name} on its lane")
        if self.barrier is not None and self.barrier is not running:
            assert not self.barrier.is_dispatched, f"{running.name} went while a barrier stood"

    def check(self) -> None:
        """After every event."""
        table = self.table
        for place in places("abcdefgh"):
            lanes = {
                id(each.lane)
                for each in self.running
                if each.is_dispatched and place in each.places and not isinstance(each.op, Copy)
            }
            assert len(lanes) <= 1, f"{place!r} is in flight on two connections"
        unsure = any(isinstance(each.op, Flush) and each.is_dispatched for each in self.running)
        # Nobody reads from the secondary until a script's keys are told.
        unsure = unsure or (self.barrier is not None and isinstance(self.barrier.op, Unnamed))
        late = {
            place
            for lane in self.dead
            for each in list(lane.sent)[lane.executed :]
            for place in each.places
        }
        for place in () if unsure else places("abcdefgh"):
            if table.is_settled(place):
                assert self.secondary.get(place) == self.primary.get(place), (
                    f"{place!r} may be read from the secondary and is older there"
                )
                assert place not in late, f"{place!r} is proven, and an old write may still come"

    def finish(self) -> None:
        """Nothing can happen any more: everybody was served, and nothing is left behind."""
        assert not any(self.todo.values()) and not self.held, "somebody waits for ever"
        assert not self.running, "an operation never went"
        table = self.table
        assert not table.entries and not table.leases and not table.active, "the table leaks"
        assert not table.is_closed and not table.unapplied_everywhere


def explore(make: Callable[[], World]) -> int:
    """Run every order of events of a scenario; returns how many there are."""
    path: list[int] = []
    count = 0
    while True:
        world = make()
        widths: list[int] = []
        try:
            while events := world.enabled():
                if len(widths) == len(path):
                    path.append(0)
                event = events[path[len(widths)]]
                widths.append(len(events))
                world.step(event)
            world.finish()
        except AssertionError as error:
            raise AssertionError(f"{error}; the order was: {', '.join(world.story)}") from error
        count += 1
        while path and path[-1] + 1 == widths[len(path) - 1]:
            path.pop()
        if not path:
            return count
        path[-1] += 1
