"""A MULTI that is arriving: queued here, and sent whole at its EXEC.

Owns what each step answers. A block that arrives whole is answered by the server,
word for word. Where the client waits for an answer in between, it gets the one the
server would give, and the block goes as one all the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .commands import Command, Kind
from .keytable import Place
from .metrics import CommandClass
from .ops import Block, Reaction, ignore
from .places import places_of
from .resp import Request
from .watching import WatchedBlock

if TYPE_CHECKING:
    from .session import Session

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
EXECABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
NESTED = b"-ERR MULTI calls can not be nested\r\n"
NO_WATCH = b"-ERR WATCH inside MULTI is not allowed\r\n"
NO_EXEC = (
    b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"
)
TOO_LARGE = b"-ERR the transaction is larger than Keyferry's limit\r\n"


class Transaction:
    """One client's, from MULTI to EXEC or DISCARD."""

    __slots__ = ("answered", "items", "may_begin", "replies", "requests", "size", "was_refused")

    def __init__(self) -> None:
        self.items: list[tuple[Command, Request]] = []
        # What each step answers, MULTI first; ``answered`` of them have been given.
        self.replies: list[bytes] = [OK]
        self.answered = 0
        self.was_refused = False
        self.size = 0
        # All that came behind MULTI, and whether the user is known to have that right.
        self.requests: list[Request] = []
        self.may_begin = False

    def take(self, session: Session, request: Request) -> bool:
        """The client's next command. False: it cannot go yet."""
        name = request.name
        if name == b"EXEC":
            return self._execute(session) if request.argc == 1 else self._finish(session, NO_EXEC)
        if name == b"DISCARD" and request.argc == 1:
            return self._finish(session, OK)
        error = self._problem(session, request)
        if error is not None:
            session.proxy.stats.client_error("refused")
            self.was_refused = True
            self.items.clear()
        elif not self.was_refused:
            command = session.proxy.commands.lookup(request)
            assert command is not None
            self.items.append((command, request))
        self.requests.append(request)
        self.replies.append(error or QUEUED)
        return True

    def _problem(self, session: Session, request: Request) -> bytes | None:
        """Why the server, or the proxy, would not queue it."""
        proxy = session.proxy
        command = proxy.commands.lookup(request)
        if command is None or not command.fits(request.argc):
            return proxy.commands.check(request) or b"-ERR unknown command\r\n"
        if command.error is not None:
            return command.error
        if request.name == b"WATCH":
            return NO_WATCH
        if request.name == b"MULTI":
            # Redis only answers an error, Valkey 8 and newer gives the block up as well. The
            # server says which, as long as its answers are the ones that are given.
            return NESTED if self.answered else None
        is_plain = command.kind in (Kind.READ, Kind.WRITE, Kind.NODE)
        if not is_plain or command.unknown_keys(request):
            name = request.name.lower()
            return b"-ERR Keyferry does not support '%b' inside MULTI yet\r\n" % name
        self.size += len(request.raw)
        return TOO_LARGE if self.size > proxy.client_output_limit else None

    def answer(self, session: Session) -> None:
        """The rest has not arrived: the client may be waiting for these answers.

        Before the first of them the server is asked whether the user has the right to
        MULTI: without it, each command would be carried out by itself.
        """
        if self.may_begin:
            self._give(session)
            return
        lane = session.primary_lane()
        if session.use(lane):
            session.hold()
            asked = (Reaction(partial(self._asked, session)), Reaction(ignore))
            lane.send_batch(asked, b"*1\r\n$5\r\nMULTI\r\n*1\r\n$7\r\nDISCARD\r\n")

    def _asked(self, session: Session, frame: bytes | None) -> None:
        if frame is None:
            session.close()
        elif frame == OK:
            self.may_begin = True
        else:
            session.out.append(frame)
            session.transaction = None
            session.backlog.extendleft(reversed(self.requests))
        session.unhold()

    def _give(self, session: Session) -> None:
        session.out.extend(self.replies[self.answered :])
        self.answered = len(self.replies)

    def _finish(self, session: Session, reply: bytes) -> bool:
        if session.outstanding:
            return False
        self._give(session)
        session.out.append(reply)
        session.transaction = None
        if session.watching is not None:
            session.watching.end(session)
            session.watching = None
        return True

    def _execute(self, session: Session) -> bool:
        if self.was_refused:
            return self._finish(session, EXECABORT)
        watching = session.watching
        if watching is not None and watching.is_broken(session):
            return self._finish(session, b"_\r\n" if session.resp == 3 else b"*-1\r\n")
        lane = session.primary_lane() if watching is None else watching.lane
        if not session.use(lane):
            return False
        places: dict[Place, None] = {}
        for command, request in self.items:
            places.update(dict.fromkeys(places_of(session.db, command, request)))
        proxy = session.proxy
        session.count(lane.side, CommandClass.WRITE, len(self.items))
        session.outstanding += len(self.items) + 1 - self.answered
        session.transaction = None
        kind = Block
        if watching is not None:
            watching.select(session.db)
            session.watching = None
            kind = WatchedBlock
        op = kind(session, lane, self.items, tuple(places), self.answered, proxy.now())
        if proxy.table.acquire(op):
            op.dispatch()
        else:
            session.hold()
        return True
