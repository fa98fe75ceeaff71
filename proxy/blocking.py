"""Clients that wait for a key to hold something: parked in the proxy (design, section 4).

Owns who waits for what, and who is tried for behind which write: first come, first served. A new
client is tried for at once; when nothing is there it waits here, and right behind each write to
one of its keys, under the next ticket, the command of the first who waits is sent again. So a
store's connections never wait, effects are exact, and a flip is nothing special.

While nothing is mirrored a store may be written past the proxy, by applications that have not
moved yet: then a client waits in the store itself, on a connection of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .attempt import Attempt, Part, first_part, later_part
from .blocked import Blocked
from .commands import Command, Kind
from .commands.blocking import ANYTHING, GONE, ONE_ELEMENT, Push, Waits, pushed, together
from .commands.engine import Engine
from .keytable import Place
from .lane import Lane
from .places import places_of
from .resp import Request
from .waiter import Brought, Waiter

if TYPE_CHECKING:
    from .block import Item
    from .server import Proxy
    from .session import Session

log = logging.getLogger("keyferry.blocking")

# A store that is loading, or runs a script, is asked again after so long.
_RETRY_S = 0.05
# Where others write past the proxy: how often, and for how many keys at once, is looked.
POLL_S = 0.25
_POLLED = 100


def serve(session: Session, command: Command, request: Request) -> bool:
    """A command that waits. False: it cannot go yet."""
    if not session.use(session.primary_lane()):
        return False
    session.proxy.parking.begin(session, command, request)
    return True


class Parking:
    """See the module's docstring. ``waiting``: who waits at a place, in order of arrival."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.waiting = proxy.waiting
        # Those that wait in the store.
        self.blocked: dict[Waiter, Blocked] = {}
        # Somebody writes past the proxy, so that nothing tells when to try.
        self.has_other_writers = False
        # Users who may not ask for types.
        self.blind: set[tuple[bytes, bytes] | None] = set()
        self._polling: asyncio.TimerHandle | None = None

    @property
    def engine(self) -> Engine:
        return self.proxy.engines[self.proxy.primary]

    @property
    def count(self) -> int:
        """How many clients wait."""
        return len({waiter for waiters in self.waiting.values() for waiter in waiters}) + len(
            self.blocked
        )

    # -- arrival -------------------------------------------------------------------------------

    def begin(self, session: Session, command: Command, request: Request) -> None:
        """Try for a new client; it waits when nothing is there."""
        waiter = Waiter(self, session, command, request)
        waiter.begin()
        if self.proxy.mirror is not None:
            self._register(waiter)
        attempt = Attempt(self, [first_part(waiter)], None)
        attempt.start()
        self._chain(attempt, [waiter])

    def begin_again(self, part: Part) -> None:
        """The same, alone on its keys."""
        self._unless_closed(lambda: Attempt(self, [part], None, is_alone=True).start())

    def _unless_closed(self, callback: Callable[[], None]) -> None:
        table = self.proxy.table
        if table.is_closed:
            table.when_open(callback)
        else:
            callback()

    def _register(self, waiter: Waiter) -> None:
        for place in waiter.places:
            self.waiting.setdefault(place, {})[waiter] = None
        if self.has_other_writers:
            self._poll_later()

    def forget(self, waiter: Waiter) -> None:
        """It waits no more."""
        self.blocked.pop(waiter, None)
        for place in waiter.places:
            waiters = self.waiting.get(place)
            if waiters is not None:
                waiters.pop(waiter, None)
                if not waiters:
                    del self.waiting[place]

    def later(self, waiter: Waiter) -> None:
        """A try for it is over, and it may wait on: what comes next."""
        if waiter.is_gone:
            return
        if waiter.is_parked and waiter.must_give_up and not waiter.is_sent:
            waiter.give_up()
        elif waiter.claims:
            waiter.claims[0].proceed()
        elif waiter.session.has_hung_up:
            # As a server does where a client ends its connection while it waits.
            waiter.session.close()
            waiter.leave()
        elif self.proxy.mirror is None:
            self._block(waiter)
        else:
            self._register(waiter)
            retries, waiter.retries = waiter.retries, set()
            while waiter.brought and not retries:
                brought = waiter.brought.popleft()
                if brought.take():
                    retries.add(brought.place)
            for place in retries:
                self._unless_closed(partial(self._retry, waiter, place))

    def _retry(self, waiter: Waiter, place: Place) -> None:
        if waiter.claims:
            waiter.retries.add(place)
        elif not waiter.is_gone:
            self._try([waiter], place, Push(frozenset((waiter.form.waits,)), 1))

    def retry_in_a_while(self, waiter: Waiter, place: Place) -> None:
        """The store could not try: it is loading, or a script runs."""
        loop = asyncio.get_running_loop()
        loop.call_later(_RETRY_S, self._unless_closed, partial(self._retry, waiter, place))

    # -- writes --------------------------------------------------------------------------------

    def behind(
        self,
        session: Session,
        lane: Lane,
        command: Command,
        request: Request,
        places: Sequence[Place],
    ) -> None:
        """A write has taken its ticket: those who wait for what it may bring are tried for."""
        push = pushed(command, request)
        if push is not None:
            self.wrote(places, push, (session,), lane)

    def behind_block(self, session: Session, lane: Lane, db: int, items: Iterable[Item]) -> None:
        """The same of a block: a server, too, serves those who wait behind all of it."""
        pushes: dict[Place, list[Push]] = {}
        for command, request, *_ in items:
            places: Sequence[Place] | None = ()
            push: Push | None = ANYTHING
            if command.kind is Kind.SCRIPT:
                places = self.proxy.scripting.touched(db, command, request)
            elif command.name == "select" or command.kind is Kind.BARRIER:
                places = None
            elif command.writes:
                push, places = pushed(command, request), places_of(db, command, request)
            if places is None:
                self.wrote_anything()
                return
            for place in places:
                if push is not None and place in self.waiting:
                    pushes.setdefault(place, []).append(push)
        for place, found in pushes.items():
            self.wrote((place,), together(found), (session,), lane)

    def behind_barrier(self, db: int, command: Command, request: Request) -> None:
        """The same of a write that is alone: what comes is tried for before anybody goes on."""
        if command.name in ("flushall", "flushdb"):
            self.wrote(list(self.waiting), GONE)
        elif command.kind is Kind.BARRIER:
            self.wrote_anything()
        else:
            self.wrote(places_of(db, command, request))

    def wrote(
        self,
        places: Sequence[Place],
        push: Push = ANYTHING,
        sessions: Iterable[Session] = (),
        lane: Lane | None = None,
    ) -> None:
        """Something that holds a ticket on these places, or has held it, writes them.

        Call it in the step in which the ticket was taken. ``sessions`` go on behind what is
        tried for here: at once if that follows on the same ``lane``.
        """
        if self.proxy.table.is_closed:
            # A write that is alone: before anybody goes on.
            again = partial(self.wrote, places, push)
            self.proxy.table.when_open(again, is_first=True)
            return
        for place in places:
            if place in self.waiting:
                for attempt in self._serve(place, push):
                    if not (attempt.is_sent and attempt.lane is lane):
                        for session in sessions:
                            attempt.keep(session)

    def wrote_anything(self) -> None:
        """Anything may have been written."""
        self.wrote(list(self.waiting))

    def _serve(
        self,
        place: Place,
        push: Push,
        *,
        only_free: bool = False,
        but: Waiter | None = None,
    ) -> list[Attempt]:
        """Try for as many as can be served, in the order in which they came.

        Those who are to be served by an earlier write are passed over. Where nobody knows whether
        they will be, or where nobody else is there, all wait for that; with ``only_free`` nobody
        is tried for then. Where only new clients are there, the first of them whose first try
        fails is tried for again, and nobody is held up. ``but``: not for this one.
        """
        slots: dict[object, _Slot] = {}
        is_one_slot = len(push.waits) == 1 and not push.waits & _OF_STREAMS
        for waiter in self.waiting[place]:
            if waiter.form.waits not in push.waits or waiter.is_gone or waiter is but:
                continue
            slot = slots.get(waiter.slot)
            if slot is None:
                slot = slots[waiter.slot] = _Slot(push.most)
            if slot.need == 0:
                if is_one_slot:
                    break
            elif only_free and waiter.claims:
                slot.need = 0
            else:
                slot.take(waiter)
        now: list[Waiter] = []
        later: list[Waiter] = []
        for slot in slots.values():
            now += slot.now
            if slot.rest or (slot.need != 0 and not slot.new):
                later += slot.passed + slot.new + slot.rest
                continue
            for waiter in slot.passed:
                waiter.retries.add(place)
            if slot.need != 0:
                brought = Brought(place, slot.need)
                for waiter in slot.new:
                    waiter.brought.append(brought)
        attempts: list[Attempt] = []
        if now:
            attempts += self._try(now, place, push)
        if later:
            attempts += self._try(later, place, push, is_alone=True)
        return attempts

    def _try(
        self, waiters: Sequence[Waiter], place: Place, push: Push, *, is_alone: bool = False
    ) -> list[Attempt]:
        """Begin an attempt; returns it, and those for whom it may move something."""
        lane = waiters[0].session.primary_lane()
        is_alone = is_alone or any(each.session.primary_lane() is not lane for each in waiters)
        attempt = Attempt(
            self,
            [later_part(waiter, place) for waiter in waiters],
            place,
            is_alone=is_alone,
            limit=push.most,
            is_sure=push.is_sure and not is_alone,
        )
        attempt.start()
        return [attempt, *self._chain(attempt, waiters)]

    def _chain(self, attempt: Attempt, waiters: Sequence[Waiter]) -> list[Attempt]:
        """A move is a write, too: those who wait where it leads are tried for behind it."""
        found: list[Attempt] = []
        for waiter in waiters:
            to = waiter.destination
            if to is None or to not in self.waiting or self.proxy.table.is_closed:
                continue
            chained = self._serve(to, ONE_ELEMENT, only_free=True, but=waiter)
            if chained:
                attempt.chained.add(waiter)
                found += chained
        return found

    # -- in the store --------------------------------------------------------------------------

    def _block(self, waiter: Waiter) -> None:
        """Let it wait in the store, for what is left of its time."""
        waiter.stop_timer()
        request = waiter.request
        if waiter.deadline is not None:
            request = waiter.form.lasting(request, waiter.deadline - self.proxy.now())
        blocked = self.blocked[waiter] = Blocked(self, waiter)
        blocked.send(request)

    async def recall(self) -> None:
        """Inside a fence, before a mirror begins: who waits in the store waits here from now on."""
        blocked = list(self.blocked.values())
        await asyncio.gather(*(each.recall() for each in blocked))
        for each in blocked:
            if not each.waiter.is_over:
                self._register(each.waiter)
                each.waiter.start_timer()
        if self.waiting:
            # Something may have come past the proxy just now.
            self._unless_closed(self.wrote_anything)

    def unmirrored(self) -> None:
        """A mirror has ended: who waits here waits in the store from now on."""
        waiters = dict.fromkeys(each for waiters in self.waiting.values() for each in waiters)
        self.waiting.clear()
        for waiter in waiters:
            if not waiter.claims:
                self.later(waiter)

    # -- others --------------------------------------------------------------------------------

    def unblock(self, client_id: int, is_error: bool, then: Callable[[bool], None]) -> None:
        """CLIENT UNBLOCK: ``then`` is told whether the client was waiting, and does no more."""
        found = (each.waiter for each in self.proxy.sessions if each.id == client_id)
        waiter = next(found, None)
        if waiter is None or waiter.is_gone:
            then(False)
        elif waiter in self.blocked:
            self.blocked[waiter].unblock(is_error, then)
        else:
            waiter.unblock(then, is_error)

    def watch_others(self, has_other_writers: bool) -> None:
        """Whether somebody writes to the primary past the proxy: then nothing tells when to try."""
        self.has_other_writers = has_other_writers
        if has_other_writers:
            self._poll_later()

    def _poll_later(self) -> None:
        if self._polling is None:
            self._polling = asyncio.get_running_loop().call_later(POLL_S, self._poll)

    def _poll(self) -> None:
        self._polling = None
        if not self.waiting or not self.has_other_writers:
            return
        places = [] if self.proxy.table.is_closed else list(self.waiting)[:_POLLED]
        for place in places:
            # The others come first the next time.
            self.waiting[place] = self.waiting.pop(place)
        for place in places:
            if place in self.waiting:
                self._serve(place, ANYTHING._replace(most=1), only_free=True)
        self._poll_later()


_OF_STREAMS = frozenset((Waits.STREAM, Waits.GROUP))


class _Slot:
    """Who of those that take from each other is to be tried for behind a write.

    now: they are free. passed: an earlier write serves them, unless it fails. new: their first
    try is under way, so that nobody can tell whether they came before the write or behind it.
    rest: nobody knows whether the first of them has been served, so all of them wait for that.
    """

    __slots__ = ("need", "new", "now", "passed", "rest")

    def __init__(self, need: int | None) -> None:
        self.need = need
        self.now: list[Waiter] = []
        self.passed: list[Waiter] = []
        self.new: list[Waiter] = []
        self.rest: list[Waiter] = []

    def take(self, waiter: Waiter) -> None:
        claims = waiter.claims
        if claims and not waiter.is_parked and not self.rest:
            self.new.append(waiter)
        elif claims and claims[-1].is_sure and not self.rest:
            self.passed.append(waiter)
        elif claims:
            self.rest.append(waiter)
        else:
            (self.rest if self.rest else self.now).append(waiter)
            if self.need is not None:
                self.need -= 1
