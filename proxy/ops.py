"""What waits for a reply on a lane on behalf of a client.

Owns the moment in which the primary's reply arrives: the effect is appended to
the mirror log, the ticket is released, and the client gets the raw bytes, in
that order, in one step. A plain read needs nothing of this, so there the session
itself stands in the lane's FIFO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .commands import Command, Kind
from .keytable import Place, Ticket
from .lane import Lane
from .places import places_of, written_places
from .resp import Request
from .resp.values import parse
from .sent import ERROR_BYTES, EXEC, MULTI, split_array

if TYPE_CHECKING:
    from .session import Session


class Reaction:
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

    def __init__(
        self,
        session: Session,
        lane: Lane,
        command: Command,
        request: Request,
        places: Sequence[Place],
        sent_at: float,
    ) -> None:
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
        self.lane.send(self, self.request.raw)

    def reply(self, frame: bytes) -> None:
        session = self.session
        proxy = session.proxy
        if proxy.mirror is not None:
            proxy.mirror.record(
                self.db, self.command, self.request, self.places, frame, self.sent_at
            )
        proxy.table.release(self)
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

    def __init__(self, probe: bytes, *rest: object) -> None:
        super().__init__(*rest)  # type: ignore[arg-type]
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
        super().lost()


class Block(Ticket):
    """A whole MULTI … EXEC on the primary's lane.

    ``skip`` of its replies were given to the client while it was arriving.
    """

    __slots__ = ("db", "index", "is_unwrapped", "items", "queued", "sent_at", "session", "skip")

    lane: Lane

    def __init__(
        self,
        session: Session,
        lane: Lane,
        items: Sequence[tuple[Command, Request]],
        places: Sequence[Place],
        skip: int,
        sent_at: float,
    ) -> None:
        self.session = session
        self.lane = lane
        self.db = session.db
        self.items = items
        self.places = places
        self.skip = skip
        self.sent_at = sent_at
        self.index = 0
        self.is_unwrapped = False
        # Those of the items that the server has queued: EXEC answers these.
        self.queued: list[tuple[Command, Request]] = []

    def go(self) -> None:
        self.sent_at = self.session.proxy.now()
        self.dispatch()
        self.session.unhold()

    def dispatch(self) -> None:
        raw = b"".join(request.raw for _, request in self.items)
        self.lane.send_batch(
            [self] * (len(self.items) + 2),
            MULTI + raw + EXEC,
        )

    def reply(self, frame: bytes) -> None:
        self.index += 1
        if self.index == 1:
            # A user who may not run MULTI has its commands executed one by one.
            self.is_unwrapped = frame != b"+OK\r\n"
        elif self.index == len(self.items) + 2:
            self._executed(frame)
        elif self.is_unwrapped:
            self._record(*self.items[self.index - 2], frame)
        elif frame == b"+QUEUED\r\n":
            self.queued.append(self.items[self.index - 2])
        if self.index > self.skip:
            self.session.reply(frame)

    def _executed(self, frame: bytes) -> None:
        try:
            if frame.startswith(b"*") and not frame.startswith(b"*-"):
                mirror = self.session.proxy.mirror
                with mirror.one_step() if mirror is not None else nullcontext():
                    for item, child in zip(self.queued, split_array(frame), strict=True):
                        self._record(*item, child)
        finally:
            self.session.proxy.table.release(self)

    def _record(self, command: Command, request: Request, frame: bytes) -> None:
        mirror = self.session.proxy.mirror
        if mirror is not None and command.kind is Kind.WRITE:
            places = places_of(self.db, command, request)
            mirror.record(self.db, command, request, places, frame, self.sent_at)

    def lost(self) -> None:
        total = len(self.items) + 2
        if self.index == total:
            return
        self.index = total
        proxy = self.session.proxy
        if proxy.mirror is not None:
            for command, request in self.items:
                if command.kind is Kind.WRITE:
                    for place in written_places(self.db, command, request):
                        proxy.table.mark_unproven(place)
        proxy.table.release(self)
        self.session.lost()


class Barrier:
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
                # A copy may have been read since it was sent, and before it was executed.
                proxy.table.touch_everything()
                db = None if self.command.name == "flushall" else self.db
                mirror.append_flush(db, self.request.raw)
                proxy.flushed(db)
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


class ShiftedRead:
    """A read on the secondary. Its error, or its loss, is never shown: the primary is asked."""

    __slots__ = ("request", "session")

    def __init__(self, session: Session, request: Request) -> None:
        self.session = session
        self.request = request

    def reply(self, frame: bytes) -> None:
        session = self.session
        if session.stalled is not None:
            session.stalled.append((self.request, frame))
        elif frame[0] in ERROR_BYTES:
            session.ask_primary(self.request)
        else:
            session.reply(frame)

    def lost(self) -> None:
        self.reply(b"-")


class CursorRead:
    """A SCAN or its kin on the target, whose cursors carry the tag (design, section 4)."""

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        self.session = session

    def reply(self, frame: bytes) -> None:
        self.session.reply(tag_cursor(frame))

    def lost(self) -> None:
        self.session.lost()


# A bit that no engine's cursor uses (they hold a table index and, in a cluster,
# 14 bits of slot), and that still fits a signed 64-bit integer of a client.
CURSOR_TAG = 1 << 62


def tag_cursor(frame: bytes) -> bytes:
    """Set the tag in the cursor of a SCAN reply ``*2 $n cursor …``; 0 stays 0."""
    if not frame.startswith(b"*2\r\n$"):
        return frame
    start = frame.index(b"\r\n", 4) + 2
    end = frame.index(b"\r\n", start)
    cursor = int(frame[start:end])
    if cursor == 0:
        return frame
    digits = b"%d" % (cursor | CURSOR_TAG)
    return b"*2\r\n$%d\r\n%b" % (len(digits), digits) + frame[end:]
