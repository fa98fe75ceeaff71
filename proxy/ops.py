"""What waits for a reply on a lane on behalf of a client.

Owns the moment in which the primary's reply arrives: the effect is appended to
the mirror log, the ticket is released, and the client gets the raw bytes, in
that order, in one step. A plain read needs nothing of this, so there the session
itself stands in the lane's FIFO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .commands import Kind
from .commands.model import Command
from .keytable import Place, Ticket
from .lane import Lane
from .op import Op
from .places import written_places
from .resp.requests import Request
from .resp.values import parse
from .sent import ERROR_BYTES

if TYPE_CHECKING:
    from .server import Proxy
    from .session import Session


class Reaction(Op):
    """Calls back with the reply frame, or with None when the connection was lost."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[bytes | None], None]) -> None:
        self.callback = callback

    def reply(self, frame: bytes) -> None:
        self.callback(frame)

    def lost(self) -> None:
        self.callback(None)


def ignore(frame: bytes | None) -> None:
    """For a :class:`Reaction` to a command of our own: nothing follows from the answer."""


class Write(Ticket):
    """A write of a client on the primary's lane."""

    __slots__ = ("command", "db", "request", "sent_at", "session")

    lane: Lane
    session: Session
    command: Command
    db: int
    request: Request
    sent_at: float

    def begin(
        self,
        session: Session,
        lane: Lane,
        command: Command,
        request: Request,
        places: Sequence[Place],
        sent_at: float,
    ) -> None:
        """In place of a constructor: compiled it is far cheaper, and there is one per write."""
        self.session = session
        self.lane = lane
        self.db = session.db
        self.command = command
        self.request = request
        self.places = places
        self.sent_at = sent_at

    def go(self) -> None:
        session = self.session
        self.sent_at = session.proxy.now()
        self.dispatch()
        session.unhold()

    def dispatch(self) -> None:
        lane = self.lane
        lane.send_request(self, self.request)

    def reply(self, frame: bytes) -> None:
        session = self.session
        plane = session.plane
        if plane.mirror is not None:
            lane = self.lane
            plane.mirror.record(
                self.db, self.command, self.request, self.places, frame, self.sent_at, None,
                lane.heard_at, self.entry,
            )  # fmt: skip
        plane.table.release(self)
        session.reply(frame)

    def lost(self) -> None:
        session = self.session
        table = session.proxy.table
        if session.proxy.mirror is not None:
            for place in written_places(self.db, self.command, self.request):
                table.mark_unproven(place)
        table.release(self)
        session.lost()


class Trim(Write):
    """A write whose ``~`` trim only the length behind it tells: stands in the lane twice."""

    __slots__ = ("frame", "probe")

    def __init__(self, probe: bytes) -> None:
        self.probe = probe
        self.frame: bytes | None = None

    def dispatch(self) -> None:
        self.lane.send_batch((self, self), self.request.raw + self.probe)

    def reply(self, frame: bytes) -> None:
        session = self.session
        if self.frame is None:
            # The key stays in flight until the length is known.
            self.frame = frame
            session.reply(frame)
            return
        proxy = session.proxy
        mirror = proxy.mirror
        if mirror is not None and self.frame[0] not in ERROR_BYTES:
            if frame[0] in ERROR_BYTES:  # The user may not run XLEN.
                for place in self.places:
                    proxy.table.mark_unproven(place)
            else:
                mirror.record(
                    self.db, self.command, self.request, self.places, self.frame, self.sent_at,
                    parse(frame),
                )  # fmt: skip
        proxy.table.release(self)

    def lost(self) -> None:
        # Told once for each time that it stands in the FIFO; the second is the last.
        if self.frame is None:
            self.frame = b"-"
            return
        Write.lost(self)


def record_barrier(proxy: Proxy, db: int, command: Command, request: Request) -> None:
    """A command of a whole database, or of all, was executed: append it."""
    mirror = proxy.mirror
    assert mirror is not None
    # A copy may have been read since it was sent, and before it was executed.
    proxy.table.touch_everything()
    if command.name not in ("flushall", "flushdb", "swapdb"):
        # Allowed by an operator, and nobody knows what it did.
        proxy.table.mark_everything_unproven()
        return
    if command.name == "swapdb":
        a, b = int(request.arg(1)), int(request.arg(2))
        mirror.append_swap(a, b, request.raw)
        proxy.on_swap(a, b)
        return
    flushed = None if command.name == "flushall" else db
    mirror.append_flush(flushed, request.raw)
    proxy.flushed(flushed)


class Barrier(Op):
    """A command that orders itself against everything: FLUSHALL, or keys that nobody can name."""

    __slots__ = ("command", "db", "lane", "request", "session")

    def __init__(self, session: Session, lane: Lane, command: Command, request: Request) -> None:
        self.session = session
        self.lane = lane
        self.db = session.db
        self.command = command
        self.request = request

    def go(self) -> None:
        """Everything before it is answered, and nothing behind it is sent."""
        self.session.proxy.table.touch_everything()
        self.lane.send(self, self.request.raw)

    def reply(self, frame: bytes) -> None:
        proxy = self.session.proxy
        mirror = proxy.mirror
        if mirror is not None and frame[0] not in ERROR_BYTES:
            if self.command.kind is Kind.BARRIER:
                record_barrier(proxy, self.db, self.command, self.request)
            else:
                for place in written_places(self.db, self.command, self.request):
                    proxy.table.mark_unproven(place)
        self._done()
        self.session.reply(frame)

    def lost(self) -> None:
        proxy = self.session.proxy
        if proxy.mirror is not None:
            proxy.table.mark_everything_unproven()
        self._done()
        self.session.lost()

    def _done(self) -> None:
        self.session.proxy.table.open()
        self.session.unhold()
