"""One client's conversation with the proxy.

Owns the order of the client's commands and replies, and which upstream they go
to. It parses no values and waits for nothing: a command that cannot go now stays
at the head of the backlog, and whatever it waits for calls :meth:`Session.run`.

Two rules keep a client's own order (design, section 4): it changes upstream only
when its outstanding replies are in, and a command that waits holds back the
later ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, cast

from . import local
from .commands import Command, Kind
from .keytable import Place, place_of
from .lane import Lane
from .metrics import CommandClass
from .ops import CURSOR_TAG, Barrier, Block, CursorRead, Reaction, ShiftedRead, Trim, Write
from .places import places_of
from .resp import LIMITS, UNAUTHENTICATED, Limits, Request, RequestScanner, encode_command
from .sides import Side

if TYPE_CHECKING:
    from .server import Proxy

log = logging.getLogger("keyferry.session")

# Commands of one client that are sent and not answered. More would only make the
# replies of everybody behind it on the lane later.
MAX_OUTSTANDING = 4096
# Requests parsed and not sent, at which reading from the client stops.
MAX_BACKLOG = 2048

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
EXECABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


class Transaction:
    """A MULTI that is arriving: what was queued, and what each step answers."""

    __slots__ = ("answered", "items", "replies", "size", "was_refused")

    def __init__(self) -> None:
        self.items: list[tuple[Command, Request]] = []
        self.replies: list[bytes] = [OK]
        self.answered = 0
        self.was_refused = False
        self.size = 0


class Session(asyncio.Protocol):
    """See the module's docstring."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.id = proxy.next_client_id()
        self.user: tuple[bytes, bytes] | None = None
        self.db = proxy.initial_db
        self.resp = 2
        self.name = b""
        self.transport: asyncio.Transport | None = None
        self.backlog: deque[Request] = deque()
        self.out: list[bytes] = []
        self.outstanding = 0
        # Replies behind a shifted read that is being asked of the primary.
        self.stalled: deque[tuple[Request, bytes]] | None = None
        self.transaction: Transaction | None = None
        self.is_closed = False
        self._lane: Lane | None = None
        self._primary: Lane | None = None
        self._scanner = RequestScanner(UNAUTHENTICATED if proxy.auth_required else LIMITS)
        self._is_running = False
        self._is_dirty = False
        self._holds = 0
        self._is_slow = False
        self._is_reading = True
        self._is_ended = False
        self._protocol_error: bytes | None = None
        # Latency is sampled: one command of each batch that a client sends.
        self._sample_at = 0.0
        self._sample_of = (Side.SOURCE, CommandClass.READ)

    # -- the client's connection ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's: by shape only
        if not self.proxy.admit(self):
            self.is_closed = True
            transport.write(b"-ERR max number of clients reached\r\n")
            transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        self.backlog.clear()
        self.proxy.leave(self)

    def eof_received(self) -> bool:
        # What a client sent before it hung up is still carried out, as a server does.
        self._is_ended = True
        self.run()
        return not self.is_closed

    def pause_writing(self) -> None:
        self._is_slow = True

    def resume_writing(self) -> None:
        self._is_slow = False
        self.run()

    def data_received(self, data: bytes) -> None:
        requests = self._scanner.feed(data)
        if self._scanner.error is not None and self._protocol_error is None:
            self._protocol_error = self._scanner.error.reply
        if requests:
            self.backlog.extend(requests)
        if not self._is_running:
            self.run()

    def close(self) -> None:
        """End the connection behind what is written."""
        if self.is_closed:
            return
        self._write()
        self.is_closed = True
        self.backlog.clear()
        if self.transport is not None:
            self.transport.close()

    def lost(self) -> None:
        """The upstream connection ended with a command of ours: what a direct client would see."""
        self.outstanding -= 1
        if not self.is_closed:
            self.proxy.stats.client_error("upstream_lost")
            self.close()

    # -- the loop --------------------------------------------------------------------

    def hold(self) -> None:
        """Stop dispatching until :meth:`unhold`."""
        self._holds += 1

    def unhold(self) -> None:
        self._holds -= 1
        if not self._holds:
            self.run()

    def run(self) -> None:
        """Dispatch what may go, then write what is answered."""
        if self._is_running or self.is_closed:
            return
        self._is_running = True
        backlog = self.backlog
        table = self.proxy.table
        while backlog and not self._holds:
            if table.is_closed:
                self.hold()
                table.when_open(self.unhold)
                break
            if self._is_slow or self.outstanding >= MAX_OUTSTANDING:
                break
            request = backlog[0]
            if not self._step(request):
                break
            # A lost lane closes the session, and that empties the backlog.
            if backlog:
                backlog.popleft()
        self._is_running = False
        if not backlog and not self.is_closed:
            self._at_rest()
        self._write()
        self._regulate()

    def _at_rest(self) -> None:
        if self.outstanding or self._holds:
            return
        if self.transaction is not None:
            self._answer_early(self.transaction)
        if self._protocol_error is not None:
            self.proxy.stats.client_error("protocol")
            self.out.append(self._protocol_error)
            self.close()
        elif self._is_ended:
            self.close()

    def _regulate(self) -> None:
        if self.is_closed or self.transport is None:
            return
        wants_more = (
            len(self.backlog) < MAX_BACKLOG and not self._is_slow and self._protocol_error is None
        )
        if wants_more is not self._is_reading:
            self._is_reading = wants_more
            if wants_more:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _step(self, request: Request) -> bool:
        """Dispatch one command; False: it cannot go yet."""
        if self.transaction is not None:
            return self._queue(self.transaction, request)
        command = self.proxy.commands.lookup(request)
        if command is None or not command.fits(request.argc):
            return self._refuse(self.proxy.commands.check(request) or b"-ERR unknown command\r\n")
        kind = command.kind
        if kind is Kind.READ:
            proxy = self.proxy
            if proxy.splits_reads:
                return self._read(command, request)
            lane = self._primary_lane()
            if not self._use(lane):
                return False
            self._count(lane.side, CommandClass.READ)
            lane.send(self, request.raw)
            return True
        if kind is Kind.WRITE:
            return self._write_command(command, request)
        if kind is Kind.NODE:
            lane = self._primary_lane()
            if not self._use(lane):
                return False
            self._count(lane.side, CommandClass.OTHER)
            lane.send(self, request.raw)
            return True
        if kind is Kind.TRANSACTION:
            return self._begin(request)
        if kind is Kind.LOCAL:
            return not self.outstanding and local.answer(self, request)
        if kind is Kind.CURSOR:
            return self._cursor(request)
        if kind is Kind.BARRIER:
            return self._barrier(command, request)
        assert command.error is not None, f"{command} has no treatment"
        return self._refuse(command.error)

    def _count(self, side: Side, kind: CommandClass, times: int = 1) -> None:
        """Commands of one kind go to ``side`` now."""
        if not self.outstanding:
            self._sample_at = self.proxy.now()
            self._sample_of = (side, kind)
        self.outstanding += 1
        self.proxy.stats.commands[side][kind] += times

    # -- upstreams ---------------------------------------------------------------------

    def _primary_lane(self) -> Lane:
        lane = self._primary
        if lane is None or lane.is_lost or lane.side is not self.proxy.primary:
            lane = self.proxy.lane(self.proxy.primary, self.user, self.db, self.resp)
            self._primary = lane
        return lane

    def _use(self, lane: Lane) -> bool:
        """Whether a command may go on this lane now; if not, the session is called back."""
        if lane is not self._lane:
            if self.outstanding:
                return False
            self._lane = lane
        if lane.is_paused:
            self.hold()
            lane.when_writable(self.unhold)
            return False
        return True

    def scanner_limits(self, limits: Limits) -> None:
        """What the client may announce, from its next request on.

        A request that was too large before the client had logged in may be right now.
        """
        scanner = self._scanner
        scanner.limits = limits
        self.backlog.extend(scanner.feed(b""))
        self._protocol_error = scanner.error.reply if scanner.error is not None else None

    def change_lane(self) -> None:
        """User, database or protocol changed: the next command finds its lane anew."""
        self._primary = None

    def _write_command(self, command: Command, request: Request) -> bool:
        lane = self._primary_lane()
        if not self._use(lane):
            return False
        if command.single_key:
            places: tuple[Place, ...] = (place_of(self.db, request.arg(1)),)
        else:
            if command.unknown_keys(request):
                return self._barrier(command, request)
            places = tuple(places_of(self.db, command, request))
        proxy = self.proxy
        self._count(lane.side, CommandClass.WRITE)
        probe = command.probe(request)
        op: Write
        if probe is None:
            op = Write(self, lane, command, request, places, proxy.now())
        else:
            op = Trim(probe, self, lane, command, request, places, proxy.now())
        if proxy.table.acquire(op):
            op.dispatch()
        else:
            self.hold()
        return True

    def _barrier(self, command: Command, request: Request) -> bool:
        lane = self._primary_lane()
        if not self._use(lane):
            return False
        self._count(lane.side, CommandClass.WRITE)
        self.hold()
        self.proxy.table.close(Barrier(self, lane, command, request).go)
        return True

    def _read(self, command: Command, request: Request) -> bool:
        proxy = self.proxy
        side = proxy.read_side(self.db, command, request)
        if side is not proxy.primary:
            lane = proxy.ready_lane(side, self.user, self.db, self.resp)
            if lane is not None:
                if not self._use(lane):
                    return False
                self._count(side, CommandClass.READ)
                lane.send(ShiftedRead(self, request), request.raw)
                return True
        lane = self._primary_lane()
        if not self._use(lane):
            return False
        self._count(lane.side, CommandClass.READ)
        lane.send(self, request.raw)
        return True

    def ask_primary(self, request: Request) -> None:
        """A shifted read failed: later replies wait until the primary has answered it."""
        self.stalled = self.stalled or deque()
        self._primary_lane().send(Reaction(self._primary_answered), request.raw)

    def _primary_answered(self, frame: bytes | None) -> None:
        if frame is None:
            self.lost()
            self.stalled = None
            return
        self.reply(frame)
        stalled = self.stalled
        while stalled:
            request, waiting = stalled.popleft()
            if waiting[0] == 45:
                self.ask_primary(request)
                return
            self.reply(waiting)
        self.stalled = None

    def _cursor(self, request: Request) -> bool:
        at = 1 if request.name in (b"SCAN", b"CLUSTERSCAN") else 2
        text = request.arg(at)
        cursor = int(text) if text.isdigit() and len(text) < 20 else 0
        proxy = self.proxy
        side = proxy.primary
        raw = request.raw
        if cursor & CURSOR_TAG:
            side = Side.TARGET
            args = request.args()
            args[at] = b"%d" % (cursor & ~CURSOR_TAG)
            raw = encode_command(*args)
        elif cursor:
            side = Side.SOURCE
        lane = self._primary_lane()
        if side is not proxy.primary:
            lane = proxy.lane(side, self.user, self.db, self.resp)
        if not self._use(lane):
            return False
        self._count(lane.side, CommandClass.OTHER)
        lane.send(CursorRead(self) if side is Side.TARGET else self, raw)
        return True

    # -- transactions --------------------------------------------------------------------

    def _begin(self, request: Request) -> bool:
        if request.name == b"MULTI":
            self.transaction = Transaction()
            return True
        return self._refuse(b"-ERR %b without MULTI\r\n" % request.name)

    def _queue(self, transaction: Transaction, request: Request) -> bool:
        name = request.name
        if name == b"EXEC" and request.argc == 1:
            return self._execute(transaction)
        if name == b"DISCARD" and request.argc == 1:
            return self._finish(transaction, OK)
        command = self.proxy.commands.lookup(request)
        error = None
        if command is None or not command.fits(request.argc):
            error = self.proxy.commands.check(request) or b"-ERR unknown command\r\n"
        elif command.error is not None:
            error = command.error
        elif name == b"MULTI":
            error = b"-ERR MULTI calls can not be nested\r\n"
        elif command.kind not in (Kind.READ, Kind.WRITE, Kind.NODE) or command.unknown_keys(
            request
        ):
            error = b"-ERR Keyferry does not support '%b' inside MULTI yet\r\n" % name.lower()
        transaction.size += len(request.raw)
        if transaction.size > self.proxy.client_output_limit:
            error = b"-ERR the transaction is larger than Keyferry's limit\r\n"
        if error is not None:
            self.proxy.stats.client_error("refused")
            transaction.was_refused = True
            transaction.items.clear()
        elif not transaction.was_refused:
            assert command is not None
            transaction.items.append((command, request))
        transaction.replies.append(error or QUEUED)
        return True

    def _answer_early(self, transaction: Transaction) -> None:
        """The rest has not arrived: the client may be waiting for these answers."""
        self.out.extend(transaction.replies[transaction.answered :])
        transaction.answered = len(transaction.replies)

    def _finish(self, transaction: Transaction, reply: bytes) -> bool:
        if self.outstanding:
            return False
        self._answer_early(transaction)
        self.out.append(reply)
        self.transaction = None
        return True

    def _execute(self, transaction: Transaction) -> bool:
        if transaction.was_refused:
            return self._finish(transaction, EXECABORT)
        lane = self._primary_lane()
        if not self._use(lane):
            return False
        places: dict[Place, None] = {}
        for command, request in transaction.items:
            for place in places_of(self.db, command, request):
                places[place] = None
        proxy = self.proxy
        items = transaction.items
        self._count(lane.side, CommandClass.WRITE, len(items))
        self.outstanding += len(items) + 1 - transaction.answered
        self.transaction = None
        op = Block(self, lane, items, tuple(places), transaction.answered, proxy.now())
        if proxy.table.acquire(op):
            op.dispatch()
        else:
            self.hold()
        return True

    # -- replies ---------------------------------------------------------------------------

    def _refuse(self, error: bytes) -> bool:
        if self.outstanding:
            return False
        self.proxy.stats.client_error("refused")
        self.out.append(error)
        return True

    def reply(self, frame: bytes) -> None:
        """The raw reply to the oldest outstanding command."""
        self.outstanding -= 1
        if self.is_closed:
            return
        self.out.append(frame)
        if not self._is_dirty:
            self._is_dirty = True
            self.proxy.dirty.append(self)

    def flush(self) -> None:
        """Behind a batch of replies: write them, and go on with what they held back."""
        self._is_dirty = False
        if self.is_closed:
            return
        if self._sample_at:
            self.proxy.stats.observe(*self._sample_of, self.proxy.now() - self._sample_at)
            self._sample_at = 0.0
        self._write()
        if self.backlog or not self.outstanding:
            self.run()

    def _write(self) -> None:
        out = self.out
        if not out or self.is_closed or self.transport is None:
            return
        self.out = []
        transport = self.transport
        transport.write(out[0] if len(out) == 1 else b"".join(out))
        if transport.get_write_buffer_size() > self.proxy.client_output_limit:
            log.warning("client %d reads too slowly: closed", self.id)
            self.proxy.stats.client_error("output_limit")
            self.is_closed = True
            self.backlog.clear()
            transport.abort()
