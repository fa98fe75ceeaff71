"""SCAN and its kin: a cursor means something only to the side that gave it.

Pooled clients send a cursor from any connection, so the cursor itself tells whose it
is: the target's carry a tag (design, section 4). An iteration that began before a flip is
finished where it began, which the reverse mirror keeps exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .counts import CommandClass
from .op import Op
from .resp import Request, encode_command
from .sides import Side

if TYPE_CHECKING:
    from .commands import Command
    from .session import Session

# A bit that no engine's cursor uses (they hold a table index and, in a cluster,
# 14 bits of slot), and that still fits a signed 64-bit integer of a client.
TAG = 1 << 62


class CursorRead(Op):
    """A SCAN or its kin on the target, whose cursors carry the tag."""

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        self.session = session

    def reply(self, frame: bytes) -> None:
        self.session.reply(tagged(frame))

    def lost(self) -> None:
        self.session.lost()


def tagged(frame: bytes) -> bytes:
    """Set the tag in the cursor of a SCAN reply ``*2 $n cursor …``; 0 stays 0."""
    if not frame.startswith(b"*2\r\n$"):
        return frame
    start = frame.index(b"\r\n", 4) + 2
    end = frame.index(b"\r\n", start)
    cursor = int(frame[start:end])
    if cursor == 0:
        return frame
    digits = b"%d" % (cursor | TAG)
    return b"*2\r\n$%d\r\n%b" % (len(digits), digits) + frame[end:]


def issued_by(request: Request) -> tuple[Side | None, bytes]:
    """Which side gave the cursor (None: it is a beginning), and the command for that side."""
    at = 1 if request.name in (b"SCAN", b"CLUSTERSCAN") else 2
    text = request.arg(at) if request.argc > at else b""
    cursor = int(text) if text.isdigit() and len(text) < 20 else 0
    if cursor & TAG:
        args = request.args()
        args[at] = b"%d" % (cursor & ~TAG)
        return Side.TARGET, encode_command(*args)
    return (Side.SOURCE if cursor else None), request.raw


def from_the_start(request: Request) -> bytes:
    """The same command as the beginning of an iteration."""
    args = request.args()
    args[1 if request.name in (b"SCAN", b"CLUSTERSCAN") else 2] = b"0"
    return encode_command(*args)


def serve(session: Session, command: Command, request: Request) -> bool:
    """Ask the side that the cursor is of; False: it cannot go yet."""
    proxy = session.proxy
    issuer, raw = issued_by(request)
    if issuer is proxy.primary.other and session.pinned is not None:
        # What is read there is not tracked: it begins anew where it is.
        issuer, raw = None, from_the_start(request)
    side = proxy.primary if issuer is None else issuer
    lane = session.primary_lane()
    if side is not proxy.primary:
        # Behind a shifted read on the same lane its reply might overtake that read's.
        if session.outstanding:
            return False
        lane = proxy.lane(side, session.user, session.db, session.resp)
    if not session.use(lane):
        return False
    session.count(lane.side, CommandClass.OTHER)
    lane.send(CursorRead(session) if side is Side.TARGET else session, raw)
    return True
