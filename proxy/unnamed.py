"""Scripts whose keys nobody can name: ordered against everything, and the witness tells on them.

Owns the round: everything else has been answered and waits, the witness looks on, the scripts of
any number of clients run, and what the witness has seen becomes unproven. In which order they run
is for the server alone to know, for their effect is a copy of what they have written.

Leases go on meanwhile: a copy that was read before a script wrote the key, and appended behind
it, is followed by another one, and nobody reads from the secondary until the round is over. Who
compares waits until the witness has told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .keytable import place_of
from .lua import Script, speaks_of_swapdb
from .op import Op

if TYPE_CHECKING:
    from .lane import Lane
    from .resp import Request
    from .server import Proxy
    from .session import Session
    from .witness import Testimony, Witness

# Others wait meanwhile: so many run in one round, if more come while it lasts.
MAX_CALLS = 100


class UnnamedCall(Op):
    """One script of one client, on the primary's lane."""

    __slots__ = ("db", "lane", "request", "round", "script", "session")

    def __init__(
        self, round_: Round, session: Session, lane: Lane, request: Request, script: Script
    ) -> None:
        self.round = round_
        self.session = session
        self.lane = lane
        self.db = session.db
        self.request = request
        self.script = script

    def send(self) -> None:
        self.lane.send(self, self.request.raw)

    def reply(self, frame: bytes) -> None:
        self.round.answered(self)
        self.session.reply(frame)

    def lost(self) -> None:
        # The store may still read it later, when nobody looks on.
        self.round.proxy.table.mark_everything_unproven()
        self.round.answered(self)
        self.session.lost()


class Round:
    """The one that is running, if any: see the module's docstring."""

    def __init__(self, proxy: Proxy, witness: Witness) -> None:
        self.proxy = proxy
        self._witness = witness
        self.is_running = False
        self._has_begun = False
        self._is_ending = False
        self._calls: list[UnnamedCall] = []
        self._unanswered = 0
        # Who waits for the next one, and whether it is their turn at the gate.
        self._waiting: list[Callable[[], None]] = []
        self._has_turn = False

    @property
    def takes_more(self) -> bool:
        """Whether one more call may join now, while everything else waits."""
        return self.is_running and not self._is_ending and len(self._calls) < MAX_CALLS

    @property
    def may_begin(self) -> bool:
        """Not while others who have waited pass the gate: they may have such calls, too."""
        return self._has_turn or not self.proxy.table.has_waiting

    def wait(self, session: Session) -> None:
        """Hold a session whose next command is such a call until it may join a round."""
        session.hold()
        self._waiting.append(session.unhold)
        if len(self._waiting) == 1:
            # One place at the gate for all of them: they run together.
            self.proxy.table.when_open(self._let_in)

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._has_turn = True
        for unhold in waiting:
            unhold()
        self._has_turn = False

    def join(self, call: UnnamedCall) -> None:
        """Send it as soon as it may go. It :attr:`takes_more`, or :attr:`may_begin`."""
        self._calls.append(call)
        self._unanswered += 1
        if self._has_begun:
            call.send()
            return
        # What the client has sent behind it must not overtake it.
        call.session.hold()
        if not self.is_running:
            self.is_running = True
            self.proxy.table.close(self._go)

    def _go(self) -> None:
        """Everything before it is answered, and nothing behind it is sent."""
        self._witness.begin(self._begun)

    def _begun(self) -> None:
        self._has_begun = True
        # Which keys they write is told behind them.
        self.proxy.table.touches.touch_all()
        calls = list(self._calls)
        for call in calls:
            call.send()
        for call in calls:
            call.session.unhold()

    def answered(self, call: UnnamedCall) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self._is_ending = True
            self._witness.end(self._over)

    def _over(self, testimony: Testimony | None) -> None:
        calls, self._calls = self._calls, []
        self.is_running = self._has_begun = self._is_ending = False
        mark_seen(
            self.proxy,
            testimony,
            {call.db for call in calls},
            [(call.script, call.request) for call in calls],
        )
        if self.proxy.parking.waiting:
            self.proxy.parking.wrote_anything()
        self.proxy.table.open()


def mark_seen(
    proxy: Proxy,
    testimony: Testimony | None,
    dbs: set[int],
    calls: Iterable[tuple[Script, Request]],
) -> None:
    """What the witness has seen of these calls is unproven.

    In these databases that they were called in, or in all that hold keys.
    """
    if proxy.mirror is None:
        return
    table = proxy.table
    if testimony is None:
        table.touch_everything()
        proxy.on_unknown_writes()
        return
    stays, swaps = True, False
    for script, request in calls:
        stays = stays and script.stays
        swaps = swaps or script.swaps or speaks_of_swapdb(request.raw)
    if testimony.everything or swaps:
        # Of which database, or between which, it does not tell.
        table.mark_everything_unproven()
        return
    for db in dbs if stays else testimony.dbs | dbs:
        for key in testimony.keys:
            # In a block a SWAPDB may have been behind it.
            table.mark_wherever(place_of(db, key))
