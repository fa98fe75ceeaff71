"""One client that waits: its command, since when, and the tries that are under way for it.

Owns how a wait ends: by an answer, by its timeout, by CLIENT UNBLOCK, by the client's leaving, or
by the loss of a connection that had a try of it. Who is served when is in `blocking`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .commands import Command
from .commands.blocking import FORMS, UNBLOCKED, Waits, group_of
from .counts import CommandClass
from .keytable import Place, place_of
from .resp import Request
from .resp.encoder import null_array

if TYPE_CHECKING:
    from .attempt import Attempt
    from .blocking import Parking
    from .session import Session

# A timer further away than this is none.
_FAR_S = 10.0 * 366 * 86400


class Brought:
    """What a write brings to clients whose first try is under way: ``left`` of them, or nobody
    knows how many (None)."""

    __slots__ = ("left", "place")

    def __init__(self, place: Place, left: int | None) -> None:
        self.place = place
        self.left = left

    def take(self) -> bool:
        """Whether there may be something for one more."""
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


class Waiter:
    """See the module's docstring.

    places: what it waits on, in the order of the command. slot: those of one slot take from each
    other. claims: the tries that it is named in, in the order of their tickets; only the first of
    them may be sent. retries: places that were written while a try was under way, and whose
    elements others were tried for. brought: what was written while its first try was under way,
    by nobody knows which of the two comes first.
    """

    __slots__ = (
        "brought", "claims", "command", "db", "deadline", "destination", "form", "is_expired",
        "is_over", "is_parked", "parking", "places", "request", "retries", "session", "short",
        "slot", "then", "timer",
    )  # fmt: skip

    def __init__(
        self, parking: Parking, session: Session, command: Command, request: Request
    ) -> None:
        engine = parking.engine
        self.parking = parking
        self.session = session
        self.command = command
        self.request = request
        self.db = session.db
        self.form = FORMS[request.name]
        keys = self.form.keys(request)
        self.places: tuple[Place, ...] = tuple(place_of(session.db, key) for key in keys)
        # Where a move leads.
        self.destination = place_of(session.db, request.arg(2)) if command.moves_data else None
        self.short = self.form.shortest(request, engine)
        waits = self.form.waits
        self.slot: object = waits
        if waits is Waits.STREAM:
            self.slot = self
        elif waits is Waits.GROUP:
            self.slot = group_of(request)
        self.claims: deque[Attempt] = deque()
        self.retries: set[Place] = set()
        self.brought: deque[Brought] = deque()
        self.deadline: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.is_parked = False
        self.is_over = False
        self.is_expired = False
        # Of a CLIENT UNBLOCK: told whether it was waiting, and with an error or not.
        self.then: tuple[Callable[[bool], None], bool] | None = None

    def begin(self) -> None:
        """Take the client's turn until the end."""
        session = self.session
        session.outstanding += 1
        session.hold()
        session.waiter = self
        kind = CommandClass.WRITE if self.command.writes else CommandClass.READ
        session.proxy.stats.commands[session.proxy.primary].add(kind, 1)

    @property
    def is_sent(self) -> bool:
        """Whether a try of it is under way, so that nobody knows whether it waits."""
        return bool(self.claims) and self.claims[0].is_sent

    @property
    def is_gone(self) -> bool:
        return self.is_over or self.session.is_closed

    def request_for(self, key: bytes) -> Request:
        """What is sent behind a write of one of its keys."""
        if self.parking.engine.reruns_blocked:
            return self.short
        return self.form.one_key(self.short, key)

    def know_last_ids(self, request: Request) -> None:
        """Its command with the ids that "the last one" meant when it came."""
        self.request = request
        self.short = self.form.shortest(request, self.parking.engine)

    # -- waiting -------------------------------------------------------------------------------

    def wait(self, since: float) -> None:
        """It was tried, and nothing was there: the timeout counts from ``since``."""
        if self.is_parked:
            return
        self.is_parked = True
        timeout = self.form.timeout_s(self.request, self.parking.engine)
        if timeout:
            self.deadline = since + timeout
            self.start_timer()

    def start_timer(self) -> None:
        if self.deadline is None or self.timer is not None:
            return
        left = self.deadline - self.parking.proxy.now()
        if left < _FAR_S:
            loop = asyncio.get_running_loop()
            self.timer = loop.call_later(max(left, 0.0), self._expire)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def hung_up(self) -> None:
        """The client has ended its connection: as a server, which then forgets that it waits."""
        if self.is_parked:
            self.session.close()
            self.leave()

    def _expire(self) -> None:
        self.timer = None
        self.is_expired = True
        if not self.is_sent:
            self.give_up()

    def unblock(self, then: Callable[[bool], None], is_error: bool) -> None:
        """End the wait now, or as soon as it is known whether it still waits."""
        if self.then is not None:
            then(False)  # Somebody else has, a moment ago.
            return
        self.then = (then, is_error)
        if self.is_parked and not self.is_sent:
            self.give_up()

    @property
    def must_give_up(self) -> bool:
        return self.is_expired or self.then is not None

    def give_up(self) -> None:
        """Nothing came: the answer of a timeout, or of CLIENT UNBLOCK."""
        then, self.then = self.then, None
        answer = null_array(self.session.resp)
        if then is not None and then[1]:
            answer = UNBLOCKED
        self.finish()
        if then is not None:
            then[0](True)
        self.answer(answer)

    # -- the end -------------------------------------------------------------------------------

    def finish(self) -> None:
        """It waits no more. What was to be tried for it is told with :meth:`let_go`."""
        if self.is_over:
            return
        self.is_over = True
        self.stop_timer()
        self.parking.forget(self)
        if self.session.waiter is self:
            self.session.waiter = None

    def answer(self, frame: bytes) -> None:
        """The client's reply; it goes on. Behind :meth:`finish`."""
        then, self.then = self.then, None
        if then is not None:
            then[0](False)
        self.session.reply(frame)
        self.let_go()
        self.session.unhold()

    def leave(self) -> None:
        """The client has gone."""
        if not self.is_over:
            self.finish()
            self._tell_gone()
            self.let_go()

    def lost(self) -> None:
        """The connection was lost with a try of it."""
        if not self.is_over:
            self.finish()
            self._tell_gone()
            self.session.lost()

    def _tell_gone(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            then[0](False)

    def release(self, attempt: Attempt) -> None:
        """An attempt has nothing more to do with it; where it has gone, that was told already."""
        if attempt in self.claims:
            self.claims.remove(attempt)

    def let_go(self) -> None:
        """Tries that it was named in need not wait for it."""
        claims, self.claims = self.claims, deque()
        for attempt in claims:
            attempt.proceed()
