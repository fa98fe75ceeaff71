"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

Owns which of two ways a block goes (design, section 4). One that arrives whole, of commands
that cannot change a connection, goes as one on the lane. Any other runs on a connection of
the client's own from its MULTI on, or from its WATCH on, so that each step is answered by
the server; its EXEC is ordered by a ticket for all its keys.

A flip, a lost connection or another user breaks a WATCH: EXEC answers nil, as if a key had
changed, and the application tries again, as it must be able to. A block without one is told
to the new primary again, which nobody notices.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from . import client_block, cursors, login, profile, subscribing_block
from .block import Block, Exec, Item, places_of_items
from .commands import Command, Kind
from .counts import CommandClass
from .op import Op
from .ops import Reaction, ignore
from .own import Borrowed, Mode, forget_watch, select
from .pressure import WEIGHED
from .resp import Request
from .resp.encoder import null_array
from .sent import MULTI
from .subscribing_block import SubscribingExec, subscribes

if TYPE_CHECKING:
    from .lane import Lane
    from .session import Session

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
DISCARD = b"*1\r\n$7\r\nDISCARD\r\n"
# Refused by every server where it is queued, so that the block around it is, too.
SPOILER = b"*1\r\n$3\r\nGET\r\n"
TOO_LARGE = b"-ERR the transaction is larger than Keyferry's limit\r\n"

# What a lane may carry in a block, and what a connection of the client's own may.
PLAIN = (Kind.READ, Kind.WRITE, Kind.NODE)
QUEUEABLE = (*PLAIN, Kind.BARRIER, Kind.BLOCKING, Kind.SCRIPT, Kind.CURSOR, Kind.OWN)


def serve(session: Session, command: Command, request: Request) -> bool:
    """One of these commands outside of a block. False: it cannot go yet."""
    name = request.name
    if name == b"MULTI":
        session.mode = Transaction(session.mode)
        return True
    if name == b"WATCH":
        return _watch(session, request)
    if name == b"UNWATCH":
        return _unwatch(session, request)
    # Without a MULTI it changes nothing, and the server says so.
    return session.ask(request, CommandClass.OTHER)


def _watch(session: Session, request: Request) -> bool:
    if session.outstanding:
        return False
    borrowed = session.borrow()
    if not session.use(borrowed.lane):
        return False
    borrowed.watches = True
    select(borrowed.lane, session.db)
    session.count(borrowed.lane.side, CommandClass.OTHER)
    borrowed.lane.send(session, request.raw)
    return True


def _unwatch(session: Session, request: Request) -> bool:
    if session.outstanding:
        return False

    def then(frame: bytes) -> None:
        if frame == OK:
            forget_watch(session)
        session.answer(frame)

    # Whether the user may; on a lane nothing is watched.
    return profile.ask(session, request.raw, then)


class Transaction:
    """One client's, from MULTI to EXEC or DISCARD: a mode of its session."""

    __slots__ = ("_below", "_borrowed", "items", "size", "was_refused")

    def __init__(self, below: Mode | None) -> None:
        # The mode that the client is in behind it.
        self._below = below
        # While all of it arrives together: what came. On the client's own connection: what
        # the server has queued.
        self.items: list[Item] = []
        self.was_refused = False
        self._borrowed: Borrowed | None = None
        # Bytes of what is queued.
        self.size = 0

    @property
    def queued(self) -> int:
        return len(self.items)

    def at_rest(self, session: Session) -> None:
        """The rest has not arrived: the client may be waiting for these answers."""
        if self._borrowed is None:
            self._begin(session)

    def take(self, session: Session, request: Request) -> bool:
        """The client's next command. False: it cannot go yet."""
        if self._borrowed is not None:
            return self._step(session, self._borrowed, request)
        if session.borrowed is None:
            if request.name == b"EXEC" and request.argc == 1:
                return self._execute_whole(session)
            command = session.proxy.commands.lookup(request)
            is_plain = command is not None and _is_plain(command, request)
            if is_plain and self._has_room(session, request):
                assert command is not None
                self.items.append(Item(command, request, request.raw))
                return True
        self._begin(session)
        return False

    def _has_room(self, session: Session, request: Request) -> bool:
        self.size += len(request.raw)
        if self.size > WEIGHED:
            session.proxy.pressure.weigh(session)
        return self.size <= session.proxy.client_output_limit

    def _execute_whole(self, session: Session) -> bool:
        lane = session.primary_lane()
        if not session.use(lane):
            return False
        proxy = session.proxy
        places = places_of_items(proxy, session.db, self.items)
        assert places is not None, "a plain block names its keys"
        session.count(lane.side, CommandClass.WRITE, len(self.items))
        session.outstanding += len(self.items) + 1
        session.mode = self._below
        op = Block(session, lane, self.items, places, proxy.now())
        if proxy.table.acquire(op):
            op.dispatch()
        else:
            session.hold()
        if proxy.parking.waiting:
            proxy.parking.behind_block(session, lane, op.db, self.items)
        return True

    # -- on a connection of the client's own -----------------------------------------------

    def _begin(self, session: Session) -> None:
        """Say MULTI there, and what has come so far."""
        if session.outstanding:
            return
        borrowed = session.borrow()
        if not session.use(borrowed.lane):
            return
        session.hold()
        select(borrowed.lane, session.db)
        borrowed.lane.send(Reaction(partial(self._begun, session, borrowed)), MULTI)

    def _begun(self, session: Session, borrowed: Borrowed, frame: bytes | None) -> None:
        if frame is None:
            session.close()
            return
        session.answer(frame)
        items, self.items = self.items, []
        if frame == OK:
            self._borrowed = borrowed
            for item in items:
                self._queue(session, borrowed.lane, item, item.raw)
        else:
            # Without the right to MULTI each of them is a command by itself.
            session.mode = self._below
            forget_watch(session)
            session.backlog.put_back([item.request for item in items])
        session.unhold()

    def _step(self, session: Session, borrowed: Borrowed, request: Request) -> bool:
        if borrowed.is_void(session):
            if session.outstanding:
                return False
            borrowed = self._begin_again(session)
        if not session.use(borrowed.lane):
            return False
        name = request.name
        if name == b"EXEC":
            return self._execute(session, borrowed, request)
        if name == b"DISCARD" and request.argc == 1:
            return self._discard(session, borrowed)
        if name in (b"RESET", b"QUIT") and request.argc == 1:
            if session.outstanding:
                return False
            # These end a block; then they are what they always are.
            self._leave(session, borrowed)
            return session.dispatch(request)
        command = session.proxy.commands.lookup(request)
        # What is malformed is refused by the server, at once or when it executes it.
        is_well_formed = command is not None and command.fits(request.argc)
        error = None
        if command is not None and is_well_formed:
            error = _refusal(session, command, request)
        if error is None and not self._has_room(session, request):
            error = TOO_LARGE
        if error is not None:
            if not session.refuse(error):
                return False
            self.was_refused = True
            borrowed.lane.send(Reaction(ignore), SPOILER)
            return True
        raw = request.raw
        if command is not None and command.kind is Kind.CURSOR:
            side, raw = cursors.issued_by(request)
            if side not in (None, session.proxy.primary):
                # It began on the other side, where this block cannot be: it begins anew.
                raw = cursors.from_the_start(request)
        item = None
        if command is not None:
            is_local = (
                command.name.startswith("client|") and command.kind is Kind.LOCAL and is_well_formed
            )
            if is_local and session.pinned is None and client_block.stays(command, request):
                if session.outstanding:
                    return False
                # The block goes on there, told anew.
                session.proxy.pins.pin(session).take_over()
                return self._step(session, self._begin_again(session), request)
            raw = client_block.stand_in(command, request) if is_local else raw
            item = Item(command, request, raw, is_local)
        self._queue(session, borrowed.lane, item, raw)
        return True

    def _queue(self, session: Session, lane: Lane, item: Item | None, raw: bytes) -> None:
        session.count(lane.side, CommandClass.WRITE)
        lane.send(Queued(self, session, item), raw)

    def _begin_again(self, session: Session) -> Borrowed:
        """A flip has come in between, or a loss: tell it all to the new connection."""
        borrowed = self._borrowed = session.borrow()
        lane = borrowed.lane
        select(lane, session.db)
        lane.send(Reaction(ignore), MULTI)
        for item in self.items:
            lane.send(Reaction(ignore), item.raw)
        if self.was_refused:
            lane.send(Reaction(ignore), SPOILER)
        return borrowed

    def _execute(self, session: Session, borrowed: Borrowed, request: Request) -> bool:
        if session.outstanding:
            return False
        if borrowed.is_broken:
            if not self.was_refused:
                self._leave(session, borrowed)
                session.answer(null_array(session.resp))
                return True
            borrowed.lane.send(Reaction(ignore), SPOILER)
        session.mode = self._below
        session.borrowed = None
        places = places_of_items(session.proxy, session.db, self.items)
        session.count(borrowed.lane.side, CommandClass.WRITE)
        make = SubscribingExec if subscribes(self.items) else Exec
        make(session, borrowed, self.items, places, request.raw).start()
        return True

    def _discard(self, session: Session, borrowed: Borrowed) -> bool:
        if session.outstanding:
            return False
        session.hold()
        borrowed.lane.send(Reaction(partial(self._discarded, session, borrowed)), DISCARD)
        return True

    def _discarded(self, session: Session, borrowed: Borrowed, frame: bytes | None) -> None:
        if frame is None:
            # What a direct client would see.
            session.close()
        else:
            if frame == OK:
                borrowed.give_back(session)
                session.borrowed = None
                session.mode = self._below
            # Without the right to it the client is in its block still.
            session.answer(frame)
        session.unhold()

    def _leave(self, session: Session, borrowed: Borrowed) -> None:
        borrowed.clean(session, DISCARD)
        session.borrowed = None
        session.mode = self._below


class Queued(Op):
    """A command that the server is asked to queue."""

    __slots__ = ("item", "session", "transaction")

    def __init__(self, transaction: Transaction, session: Session, item: Item | None) -> None:
        self.transaction = transaction
        self.session = session
        self.item = item

    def reply(self, frame: bytes) -> None:
        transaction = self.transaction
        if frame != QUEUED:
            transaction.was_refused = True
        elif self.item is not None:
            transaction.items.append(self.item)
        else:
            # The server knows a command that the table does not: nobody could mirror it.
            transaction.was_refused = True
            frame = b"-ERR Keyferry does not know this command\r\n"
            assert self.session.borrowed is not None
            self.session.borrowed.lane.send(Reaction(ignore), SPOILER)
        self.session.reply(frame)

    def lost(self) -> None:
        self.session.lost()


def _is_plain(command: Command, request: Request) -> bool:
    """Whether a lane may carry it in a block: it changes no connection, and names its keys."""
    return (
        command.kind in PLAIN and command.fits(request.argc) and not command.unknown_keys(request)
    )


def _refusal(session: Session, command: Command, request: Request) -> bytes | None:
    """Why the proxy will not have it in a block."""
    if command.kind is Kind.SUBSCRIBE:
        return subscribing_block.refusal(session, command.name.encode())
    if command.kind in QUEUEABLE or command.kind is Kind.TRANSACTION:
        return None
    if command.name == "select":
        return None
    if command.kind is Kind.LOCAL and command.name.startswith("client|"):
        return client_block.refusal(command, request)
    name = command.name.replace("|", " ").encode()
    if command.name in login.IN_BLOCKS:
        engine = session.proxy.engines[session.proxy.primary]
        if login.has_password(request) and engine.hides_failed_logins is not False:
            # An EXEC that is never answered to its end would hold its keys for ever.
            return b"-ERR Keyferry does not support a login inside MULTI of this engine\r\n"
        return subscribing_block.refusal(session, name)
    return command.error or b"-ERR Keyferry does not support '%b' inside MULTI\r\n" % name
