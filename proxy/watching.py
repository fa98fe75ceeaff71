"""WATCH: a connection of one client's own, until EXEC, DISCARD or UNWATCH.

Owns that connection, and the rule for what can break a watch beside a write: a flip,
a lost connection, or another user on the client's connection. Then EXEC answers nil,
as if a key had changed, and the application tries again, as it must be able to.

Only WATCH, UNWATCH and the block go on it. What the client does in between goes
where it always goes: the store sees those writes, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lane import Lane
from .metrics import CommandClass
from .ops import Block, Reaction, ignore
from .resp import Request, encode_command

if TYPE_CHECKING:
    from .session import Session

OK = b"+OK\r\n"
UNWATCH = b"*1\r\n$7\r\nUNWATCH\r\n"


class Watching:
    """One client's watch on ``lane``, which nobody else uses meanwhile."""

    __slots__ = ("_epoch", "_of", "lane")

    def __init__(self, session: Session) -> None:
        proxy = session.proxy
        self._epoch = proxy.epoch
        self._of = (session.user, session.resp)
        self.lane: Lane = proxy.own_lane(session.user, session.resp)

    def is_broken(self, session: Session) -> bool:
        """Whether something may have changed the keys that the store can tell nobody of."""
        return (
            self._epoch != session.proxy.epoch
            or self.lane.is_lost
            or self._of != (session.user, session.resp)
        )

    def select(self, db: int) -> None:
        """Bring the connection to the client's database; it is one that the client uses."""
        if self.lane.db != db:
            self.lane.db = db
            self.lane.send(Reaction(ignore), encode_command(b"SELECT", b"%d" % db))

    def end(self, session: Session) -> None:
        """Nothing is watched any more, and the connection may be another client's."""
        # Also a broken one: the store knows nothing of that.
        self.lane.send(Reaction(ignore), UNWATCH)
        session.proxy.give_back(self.lane)


class WatchedBlock(Block):
    """A block on a connection of the client's own; its EXEC ends the watch."""

    __slots__ = ()

    def _executed(self, frame: bytes) -> None:
        super()._executed(frame)
        if self.is_unwrapped:  # There was no block, so its EXEC has ended nothing.
            self.lane.send(Reaction(ignore), UNWATCH)
        self.session.proxy.give_back(self.lane)


def watch(session: Session, request: Request) -> bool:
    """WATCH, outside of a block. False: it cannot go yet."""
    if session.outstanding:
        return False
    watching = session.watching
    if watching is None:
        watching = session.watching = Watching(session)
    elif watching.is_broken(session):
        session.out.append(OK)
        return True
    if not session.use(watching.lane):
        return False
    watching.select(session.db)
    session.count(watching.lane.side, CommandClass.OTHER)
    watching.lane.send(session, request.raw)
    return True


def unwatch(session: Session) -> bool:
    """UNWATCH, outside of a block. False: it cannot go yet."""
    if session.outstanding:
        return False
    if session.watching is not None:
        session.watching.end(session)
        session.watching = None
    session.out.append(OK)
    return True
