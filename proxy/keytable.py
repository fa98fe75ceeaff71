"""The key table: who may go, and what is known of a key.

Owns the order between operations of different connections (tickets), the state
of each key that something is going on with (in flight, unapplied, unproven,
watched), and the barrier. Pure: it never sees a connection, a clock or the
event loop; whoever may go is told so by its :meth:`Ticket.go`.

The rule (design, section 1): an operation queues, at once, on every key that it
reads or writes. It goes when nothing is before it on any of them, except that
operations of the same lane follow each other without waiting, since the lane
keeps them in order. All queues are joined in one step, so the order on every
key is the order of arrival, and no two operations can wait for each other.

A key that nothing is going on with has no entry, so "absent from the table" is
the whole test for a read that may be served by the secondary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from .op import Op
from .touches import Touches

# A key and its database as one hashable value. Database 0 holds nearly all
# keys of nearly all stores, so its keys stand for themselves.
Place = bytes | tuple[int, bytes]


def place_of(db: int, key: bytes) -> Place:
    return key if db == 0 else (db, key)


def db_and_key(place: Place) -> tuple[int, bytes]:
    return (0, place) if isinstance(place, bytes) else place


RELEASED = -1


class Ticket(Op):
    """A place in the order of one operation.

    ``lane`` is compared by identity: tickets of one lane do not wait for each
    other. A ticket that must be alone passes itself.
    """

    __slots__ = ("entry", "lane", "places", "waiting")

    entry: Entry | None
    """Of its only place, once it was dispatched without waiting: saves looking it up again."""
    lane: object
    places: Sequence[Place]
    waiting: int

    def go(self) -> None:
        """Called once, when a ticket that had to wait may be dispatched."""
        raise NotImplementedError


class Entry:
    """What is going on with one key."""

    __slots__ = ("head_is_granted", "in_flight", "lane", "queue", "unapplied")

    def __init__(self) -> None:
        self.lane: object = None
        self.in_flight = 0
        self.unapplied = 0
        self.queue: deque[Ticket] | None = None
        # The first waiter may go as far as this key is concerned; counted once.
        self.head_is_granted = False


class Lease:
    """An optimistic claim that nobody writes some keys (design: *watched*).

    ``touched`` holds the places that had a write dispatched, in flight or lost
    at any moment since the lease began. What was read under the lease of a
    place that is not in it may be used until the next await.
    """

    __slots__ = ("places", "table", "touched")

    def __init__(self, table: KeyTable, places: Sequence[Place]) -> None:
        self.table = table
        self.places = places
        self.touched: set[Place] = set()

    def end(self) -> None:
        leases = self.table.leases
        for place in self.places:
            if leases.get(place) is self:
                del leases[place]


class KeyTable:
    """See the module's docstring. ``unproven_limit`` bounds the unproven set."""

    def __init__(self, unproven_limit: int = 1_000_000) -> None:
        self.entries: dict[Place, Entry] = {}
        self.leases: dict[Place, Lease] = {}
        self.touches = Touches()
        # 0: a copy is owed and effects are dropped until it is appended;
        # n > 0: copy number n is appended and not acknowledged yet.
        self.unproven: dict[Place, int] = {}
        self._owed: dict[Place, None] = {}
        self.unproven_limit = unproven_limit
        # While a backfill runs, an uncopied key cannot be told from a copied one.
        self.is_everything_unproven = True
        self.has_overflowed = False
        # Raised each time everything becomes unproven: a backfill that began
        # before is not complete.
        self.generation = 0
        # Whole-db effects that the secondary has not acknowledged.
        self.unapplied_everywhere = 0
        self.on_owed: Callable[[], None] | None = None
        self.active = 0
        self.is_closed = False
        self._on_idle: Callable[[], None] | None = None
        self._ready: deque[Ticket] = deque()
        self._is_waking = False
        self._at_the_gate: deque[Callable[[], None]] = deque()
        self._copy_number = 0
        # Databases that have ever changed places, each with all of its kind.
        self._swapped: dict[int, set[int]] = {}

    # -- tickets ---------------------------------------------------------------

    def acquire(self, ticket: Ticket) -> bool:
        """Queue a ticket on its places (no duplicates). True: it goes now.

        Otherwise its ``go`` is called later. The caller has seen that the table
        is open: behind a barrier it waits with :meth:`when_open`.
        """
        entries = self.entries
        places = ticket.places
        lane = ticket.lane
        ticket.waiting = 0
        ticket.entry = None
        self.active += 1
        if len(places) == 1:
            place = places[0]
            entry = entries.get(place)
            if entry is None:
                entry = entries[place] = Entry()
            if not entry.queue and (not entry.in_flight or entry.lane is lane):
                entry.lane = lane
                entry.in_flight += 1
                ticket.entry = entry
                if self.leases or self.touches.is_on:
                    self.touch(place)
                return True
        found = []
        waiting = 0
        for place in places:
            entry = entries.get(place)
            if entry is None:
                entry = entries[place] = Entry()
            elif entry.queue or (entry.in_flight and entry.lane is not lane):
                waiting += 1
            found.append(entry)
        if not waiting:
            self._dispatch(ticket, found)
            return True
        ticket.waiting = waiting
        for entry in found:
            if entry.queue is None:
                entry.queue = deque()
            if not entry.queue and (not entry.in_flight or entry.lane is lane):
                entry.head_is_granted = True
            entry.queue.append(ticket)
        return False

    def release(self, ticket: Ticket) -> None:
        """The operation has its answer (or will never have one)."""
        if ticket.waiting == RELEASED:  # A defect between answer and end tells it twice.
            return
        ticket.waiting = RELEASED
        entry = ticket.entry
        if entry is not None and not entry.queue:
            ticket.entry = None
            entry.in_flight -= 1
            if not entry.in_flight and not entry.unapplied:
                del self.entries[ticket.places[0]]
            self.active -= 1
            if not self.active and self._on_idle is not None:
                self._go_idle()
            return
        entries = self.entries
        ready: list[Ticket] = []
        for place in ticket.places:
            entry = entries[place]
            entry.in_flight -= 1
            if entry.queue:
                self._advance(entry, ready)
            elif not entry.in_flight and not entry.unapplied:
                del entries[place]
        self.active -= 1
        if ready:
            self._wake(ready)
        if not self.active and self._on_idle is not None:
            self._go_idle()

    def _go_idle(self) -> None:
        on_idle, self._on_idle = self._on_idle, None
        assert on_idle is not None
        on_idle()

    def _wake(self, ready: list[Ticket]) -> None:
        # Not recursive: where lanes are lost, whoever goes is done at once and releases in turn,
        # and the queue of a hot key may be longer than the stack is deep.
        self._ready.extend(ready)
        if not self._is_waking:
            self._is_waking = True
            try:
                while self._ready:
                    self._ready.popleft().go()
            finally:
                self._is_waking = False

    def _advance(self, entry: Entry, ready: list[Ticket]) -> None:
        work = [entry]
        while work:
            entry = work.pop()
            queue = entry.queue
            if not queue or entry.head_is_granted:
                continue
            head = queue[0]
            if entry.in_flight and entry.lane is not head.lane:
                continue
            entry.head_is_granted = True
            head.waiting -= 1
            if head.waiting == 0:
                found = [self.entries[place] for place in head.places]
                for each in found:
                    assert each.queue is not None and each.queue[0] is head
                    each.queue.popleft()
                    each.head_is_granted = False
                self._dispatch(head, found)
                ready.append(head)
                # Followers of the same lane may go right behind it.
                work.extend(reversed(found))

    def _dispatch(self, ticket: Ticket, found: list[Entry]) -> None:
        for entry in found:
            entry.lane = ticket.lane
            entry.in_flight += 1
        if self.leases or self.touches.is_on:
            for place in ticket.places:
                self.touch(place)

    # -- the barrier: a ticket on everything ------------------------------------

    def close(self, on_idle: Callable[[], None]) -> None:
        """Take a ticket on everything; ``on_idle`` runs when all before it is answered."""
        assert not self.is_closed, "a second barrier must wait at the gate"
        self.is_closed = True
        if self.active:
            self._on_idle = on_idle
        else:
            on_idle()

    def open(self) -> None:
        """Release the barrier, or give it up while it still waits."""
        self.is_closed = False
        self._on_idle = None
        gate = self._at_the_gate
        while gate and not self.is_closed:
            gate.popleft()()

    @property
    def has_waiting(self) -> bool:
        """Whether somebody waits at the gate. It is open then only while they pass, one by one."""
        return bool(self._at_the_gate)

    def when_open(self, callback: Callable[[], None], *, is_first: bool = False) -> None:
        """Run ``callback`` when the barrier is released, in order of arrival.

        is_first: in front of all who have come: it belongs to the barrier, or takes one ticket
        and closes nothing.
        """
        assert self.is_closed or self._at_the_gate
        if is_first:
            self._at_the_gate.appendleft(callback)
        else:
            self._at_the_gate.append(callback)

    # -- leases -----------------------------------------------------------------

    def watch(self, places: Sequence[Place], own: Ticket | None = None) -> Lease:
        """Begin a lease. Places already in flight, or watched by another, are touched.

        ``own`` is a ticket that the watcher itself holds: what it holds is no write.
        """
        lease = Lease(self, places)
        leases = self.leases
        entries = self.entries
        for place in places:
            entry = entries.get(place)
            is_busy = entry is not None and entry.in_flight and entry.lane is not own
            if place in leases or is_busy:
                lease.touched.add(place)
            else:
                leases[place] = lease
        return lease

    def touch(self, place: Place) -> None:
        lease = self.leases.pop(place, None)
        if lease is not None:
            lease.touched.add(place)
        if self.touches.is_on:
            self.touches.touch(place)

    def touch_everything(self) -> None:
        """Something may have changed any key: every lease ends."""
        for place, lease in self.leases.items():
            lease.touched.add(place)
        self.leases.clear()
        self.touches.touch_all()

    # -- what the secondary knows ------------------------------------------------

    def is_settled(self, place: Place) -> bool:
        """Whether the secondary holds what the primary acknowledged for this key."""
        return not (
            place in self.entries
            or place in self.unproven
            or self.is_everything_unproven
            or self.unapplied_everywhere
        )

    def are_settled(self, places: Iterable[Place]) -> bool:
        for place in places:  # noqa: SIM110  a generator cannot be compiled into a loop
            if not self.is_settled(place):
                return False
        return True

    def appended(self, places: Iterable[Place]) -> None:
        """An effect on these places was appended to the mirror log."""
        entries = self.entries
        for place in places:
            entry = entries.get(place)
            if entry is None:
                entry = entries[place] = Entry()
            entry.unapplied += 1

    def applied_one(self, place: Place, entry: Entry) -> None:
        """The same of an effect on one place, whose entry is known."""
        entry.unapplied -= 1
        if not entry.unapplied and not entry.in_flight and not entry.queue:
            del self.entries[place]

    def applied(self, places: Iterable[Place]) -> None:
        """The secondary has answered the effect, or it is lost."""
        entries = self.entries
        for place in places:
            entry = entries[place]
            entry.unapplied -= 1
            if not entry.unapplied and not entry.in_flight and not entry.queue:
                del entries[place]

    # -- unproven ----------------------------------------------------------------

    def drops(self, places: Iterable[Place]) -> bool:
        """Whether an effect on these places is dropped, for a copy of one is owed."""
        unproven = self.unproven
        for place in places:  # noqa: SIM110  a generator cannot be compiled into a loop
            if unproven.get(place) == 0:
                return True
        return False

    def mark_unproven(self, place: Place) -> None:
        """The two sides may differ here: a copy is owed."""
        unproven = self.unproven
        # Also when it is marked already: a copy may be under way from before.
        if self.leases or self.touches.is_on:
            self.touch(place)
        if unproven.get(place) == 0:
            return
        if place not in unproven and len(unproven) >= self.unproven_limit:
            self.overflow()
            return
        unproven[place] = 0
        self._owed[place] = None
        if self.on_owed is not None:
            self.on_owed()

    def names(self, place: Place) -> list[Place]:
        """What a key may be called by now that was called so when it was sent, or told of.

        Behind a SWAPDB it may have another name: nobody knows which came first.
        """
        if not self._swapped:
            return [place]
        db, key = db_and_key(place)
        return [place_of(each, key) for each in self._swapped.get(db, (db,))]

    def mark_wherever(self, place: Place) -> None:
        """As :meth:`mark_unproven`, of a key that may have another name by now."""
        for each in self.names(place):
            self.mark_unproven(each)

    def is_unproven(self, place: Place) -> bool:
        """Whether it is, by any of its names."""
        return not self.unproven.keys().isdisjoint(self.names(place))

    def overflow(self) -> None:
        """More may differ than is remembered by name: only a new backfill helps."""
        self.has_overflowed = True
        self.mark_everything_unproven()

    def mark_everything_unproven(self) -> None:
        self.is_everything_unproven = True
        self.generation += 1
        self.touch_everything()
        self.unproven.clear()
        self._owed.clear()

    def owe_again(self, places: Iterable[Place]) -> None:
        """Copies that were taken and not made are still owed."""
        for place in places:
            if self.unproven.get(place) == 0:
                self._owed[place] = None

    def set_aside(self, places: Iterable[Place]) -> None:
        """These stay unproven, and nobody is asked to copy them until :meth:`owe_again`."""
        for place in places:
            self._owed.pop(place, None)

    def take_owed(self, limit: int) -> list[Place]:
        """Up to ``limit`` places, oldest first, that a copy is owed for."""
        taken: list[Place] = []
        owed = self._owed
        while owed and len(taken) < limit:
            place = next(iter(owed))
            del owed[place]
            if self.unproven.get(place) == 0:
                taken.append(place)
        return taken

    @property
    def has_owed(self) -> bool:
        return bool(self._owed)

    def copies_appended(self, places: Iterable[Place]) -> int:
        """Copies of keys, each once, were appended: one number, for :meth:`copies_applied`.

        From here on effects on the keys are mirrored again.
        """
        self._copy_number += 1
        number = self._copy_number
        unproven = self.unproven
        if unproven:
            for place in places:
                if place in unproven:
                    unproven[place] = number
        return number

    def copies_applied(self, places: Iterable[Place], number: int) -> None:
        """The secondary acknowledged the copies: proven, but for what was marked again since."""
        unproven = self.unproven
        if unproven:
            for place in places:
                if unproven.get(place) == number:
                    del unproven[place]

    def forget(self, db: int | None) -> None:
        """A FLUSHDB of ``db``, or a FLUSHALL, has wiped both sides alike."""
        if db is None:
            self.unproven.clear()
            self._owed.clear()
            return
        for place in [p for p in self.unproven if db_and_key(p)[0] == db]:
            del self.unproven[place]
            self._owed.pop(place, None)

    def swap(self, a: int, b: int) -> None:
        """A SWAPDB of two databases: what is owed to a key is owed where it is now.

        A copy that is on its way, or in somebody's hands, goes by the old name: it is
        owed again.
        """
        together = self._swapped.get(a, {a}) | self._swapped.get(b, {b})
        self._swapped.update(dict.fromkeys(together, together))
        names = {a: b, b: a}
        moved = {place for place in self.unproven if db_and_key(place)[0] in names}
        for place in moved:
            self._owed.pop(place, None)
        new = {_moved(place, names): 0 for place in moved}
        self.unproven = {p: n for p, n in self.unproven.items() if p not in moved} | new
        self._owed.update(dict.fromkeys(new))
        if new and self.on_owed is not None:
            self.on_owed()


def _moved(place: Place, names: dict[int, int]) -> Place:
    db, key = db_and_key(place)
    return place_of(names.get(db, db), key)
