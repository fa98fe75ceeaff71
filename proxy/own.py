"""A connection of one client's own: borrowed for a while, or for as long as it is needed.

Owns the rule of what such a connection is: on the primary, the client's user and
protocol, in the client's database, and nobody else's meanwhile. Lanes carry only what
cannot change a connection; what can goes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .counts import CommandClass
from .lane import Lane
from .op import Op
from .ops import Reaction, ignore
from .resp import Request, encode_command
from .resp.encoder import OK

if TYPE_CHECKING:
    from .commands import Command
    from .session import Session

PING = b"*1\r\n$4\r\nPING\r\n"
UNWATCH = b"*1\r\n$7\r\nUNWATCH\r\n"


class Mode(Protocol):
    """What takes a client's commands in place of the usual dispatch."""

    @property
    def queued(self) -> int:
        """How many commands of a MULTI stand queued; -1: it is none."""

    def take(self, session: Session, request: Request) -> bool:
        """The client's next command. False: it cannot go yet."""

    def at_rest(self, session: Session) -> None:
        """All that has come is taken and answered: the client may be waiting."""


def select(lane: Lane, db: int) -> None:
    """Bring a client's own connection to a database that the client is known to use."""
    if lane.db != db:
        lane.db = db
        lane.send(Reaction(ignore), encode_command(b"SELECT", b"%d" % db))


def forget_watch(session: Session) -> None:
    """Nothing is watched any more, and the connection may be another client's."""
    borrowed, session.borrowed = session.borrowed, None
    if borrowed is not None:
        # Also a broken one: the store knows nothing of that.
        borrowed.clean(session, UNWATCH)


class Borrowed:
    """A client's connection from the pool of clean ones, until it is given back.

    watches: the store watches keys for it. is_broken: such a watch cannot be kept any more.
    """

    __slots__ = ("_epoch", "_is_pooled", "_of", "is_broken", "lane", "watches")

    def __init__(self, session: Session, *, pinned: bool = True) -> None:
        proxy = session.proxy
        self._epoch = proxy.epoch
        self._of = (session.user, session.resp)
        self.watches = False
        self.is_broken = False
        if session.pinned is None or not pinned:
            self._is_pooled = True
            self.lane = proxy.own_lane(session.user, session.resp)
        else:
            self._is_pooled = False
            self.lane = session.pinned.lane(session)

    @property
    def unsent(self) -> int:
        """Bytes that the store has not taken yet."""
        return self.lane.unsent

    def is_void(self, session: Session) -> bool:
        """Whether a flip, a loss or another user has come in between."""
        return (
            self._epoch != session.proxy.epoch
            or self.lane.is_lost
            or self._of != (session.user, session.resp)
            # What a client reads on its pinned connection is tracked: its blocks are there, too.
            or self._is_pooled is not (session.pinned is None)
        )

    def renewed(self, session: Session) -> Borrowed:
        """Another one in its place; what it watched is not watched any more."""
        self.discard()
        new = Borrowed(session)
        new.is_broken = self.is_broken or self.watches
        return new

    def give_back(self, session: Session) -> None:
        """Its state is as new, but for the database."""
        if self._is_pooled:
            session.proxy.give_back(self.lane)
        elif session.pinned is not None:
            session.pinned.look()

    def clean(self, session: Session, raw: bytes) -> None:
        """Give it back if ``raw`` makes it as new; a user may lack the right to that."""

        def cleaned(frame: bytes | None) -> None:
            if frame == OK:
                self.give_back(session)
            else:
                self.discard()

        self.lane.send(Reaction(cleaned), raw)

    def discard(self) -> None:
        """Its state is not known, so it is nobody's any more."""
        if self._is_pooled:
            self.lane.close()


class Once(Op):
    """The one command for which a connection was borrowed."""

    __slots__ = ("borrowed", "session")

    def __init__(self, session: Session, borrowed: Borrowed) -> None:
        self.session = session
        self.borrowed = borrowed

    def reply(self, frame: bytes) -> None:
        session = self.session
        if session.once is self.borrowed:
            session.once = None
            self.borrowed.give_back(session)
        session.reply(frame)

    def lost(self) -> None:
        self.session.lost()


def serve(session: Session, command: Command, request: Request) -> bool:
    """WAIT and what else would hold up everybody on a lane. False: it cannot go yet.

    On an idle connection WAIT answers at once, since it waits for what that connection
    has written; behind a PING it speaks of all that the server has (measured).
    """
    if session.outstanding:
        return False
    if session.once is not None and session.once.is_void(session):
        # It was not open before a flip, or was lost: nothing has been sent on it.
        session.once.discard()
        session.once = None
    if session.once is None:
        # Never the client's pinned one: the fence waits for what is sent on those.
        session.once = Borrowed(session, pinned=False)
    borrowed = session.once
    lane = borrowed.lane
    if not session.use(lane):
        return False
    select(lane, session.db)
    lane.send(Reaction(ignore), PING)
    session.count(lane.side, CommandClass.OTHER)
    lane.send(Once(session, borrowed), request.raw)
    return True
