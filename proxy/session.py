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
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from . import local
from .commands import Kind
from .commands.model import Command
from .counts import CommandClass
from .fifo import Fifo
from .keytable import Place, place_of
from .ops import Barrier, Trim, Write
from .own import Borrowed, Mode
from .places import places_of
from .pressure import WEIGHED
from .profile import Profile
from .resp.limits import Limits
from .resp.requests import Request, RequestScanner
from .serving import SERVE
from .upstreams import Upstreams
from .writing import write_all

if TYPE_CHECKING:
    from .server import Proxy
    from .subscribing import Subscriber
    from .waiter import Waiter

log = logging.getLogger("keyferry.session")

# Commands of one client sent and not answered. More would only make others' replies later.
MAX_OUTSTANDING = 4096
# To ask an enum for a member is a search each time.
_READ, _WRITE, _NODE = Kind.READ, Kind.WRITE, Kind.NODE
_READS, _WRITES, _OTHERS = CommandClass


class Session(Upstreams):
    """See the module's docstring. An `asyncio.Protocol` by shape: compiled it has no such base."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy)
        self.id = proxy.next_client_id()
        self.profile = Profile(proxy.now())
        self.transport: asyncio.Transport | None = None
        self.backlog = Fifo()
        # What takes the client's commands in place of the usual dispatch: a MULTI, say.
        self.mode: Mode | None = None
        # The client's own connections: for a WATCH or a MULTI, and for one command.
        self.borrowed: Borrowed | None = None
        self.once: Borrowed | None = None
        # What the client is subscribed to, with the connection that its messages come on.
        self.subscriber: Subscriber | None = None
        # The command that it waits in.
        self.waiter: Waiter | None = None
        self.is_closed = False
        # Replies are not written: the client is gone, or has asked for silence (CLIENT REPLY).
        self.is_silent = False
        # Whether the client has logged in, where that is asked of it.
        self.may_pass = not proxy.auth_required
        limits = proxy.limits
        self.scanner = RequestScanner(limits.before_login() if proxy.auth_required else limits)
        self._when_closed: list[Callable[[], None]] = []
        self._is_running = False
        # When it has sent something, and what: for CLIENT LIST.
        self.heard_at = proxy.now()
        self.last: Command | None = None
        # The poll's epoch in which it was counted.
        self.seen_in = -1
        self._is_slow = False
        self._is_reading = True
        # Bytes that came since the backlog was last empty.
        self.unsent = 0
        # Bytes of the largest reply that waits to be read.
        self._largest = 0
        # Nothing more comes from the client.
        self.has_hung_up = False
        self._protocol_error: bytes | None = None

    # -- the client's connection ---------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's: by shape only
        if not self.proxy.admit(self):
            self._ended()
            transport.write(b"-ERR max number of clients reached\r\n")
            transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()
        for borrowed in (self.borrowed, self.once):
            if borrowed is not None:
                borrowed.discard()
        if self.subscriber is not None:
            self.subscriber.end()
        if self.waiter is not None:
            self.waiter.leave()
        self.proxy.leave(self)
        callbacks, self._when_closed = self._when_closed, []
        for callback in callbacks:
            callback()

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once when the client's connection has ended."""
        self._when_closed.append(callback)

    def eof_received(self) -> bool:
        # What a client sent before it hung up is still carried out, as a server does.
        self.has_hung_up = True
        self.run()
        if self.waiter is not None:
            self.waiter.hung_up()
        return not self.is_closed

    def pause_writing(self) -> None:
        self._is_slow = True

    def resume_writing(self) -> None:
        self._is_slow = False
        self._largest = 0
        self.run()

    def data_received(self, data: bytes) -> None:
        poll = self.plane.poll
        poll.stir(True)
        if poll.epoch != self.seen_in:
            self.seen_in = poll.epoch
            poll.seen += 1
        requests = self.scanner.feed(data)
        if self.scanner.error is not None and self._protocol_error is None:
            self._protocol_error = self.scanner.error.reply
        if requests:
            self.backlog.extend(requests)
            last: Request = requests[-1]
            self.last = self.plane.commands.lookup(last)
        if self.scanner.pending > WEIGHED:
            self.proxy.pressure.arriving(self)
        if self.backlog:
            self.unsent += len(data)
        if not self._is_running:
            self.run()
        self.heard_at = self.ran_at

    def close(self) -> None:
        """End the connection behind what is written."""
        if self.is_closed:
            return
        self._write()
        self._ended()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End the connection at once: what it has not read is gone."""
        self._ended()
        if self.transport is not None:
            self.transport.abort()

    def _ended(self) -> None:
        self.is_closed = self.is_silent = True
        self.backlog.clear()
        if self.split is not None:
            self.split.clear()

    def lost(self) -> None:
        """The upstream connection ended with a command of ours: what a direct client would see."""
        self.outstanding -= 1
        if not self.is_closed:
            self.proxy.stats.client_error("upstream_lost")
            self.close()

    # -- the loop --------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Nothing that the client has been served waits for an answer."""
        return not self.outstanding and not self._holds

    def unhold(self) -> None:
        self._holds -= 1
        if not self._holds:
            self.run()

    def run(self) -> None:
        """Dispatch what may go, then write what is answered."""
        if self._is_running or self.is_closed:
            return
        self._is_running = True
        # When what follows is sent: one look at the clock for all of it.
        self.ran_at = self.plane.now()
        backlog = self.backlog
        table = self.plane.table
        while backlog and not self._holds:
            if table.is_closed and not self.proxy.scripting.passes(self, backlog.peek()):
                break
            if self._is_slow or self.outstanding >= MAX_OUTSTANDING:
                break
            request = backlog.peek()
            try:
                mode = self.mode
                has_gone = self.dispatch(request) if mode is None else mode.take(self, request)
            except Exception:
                # A defect of ours ends this client, and nobody else's wait.
                log.exception("client %d: %s could not be served", self.id, request.name)
                self._is_running = False
                self.close()
                return
            if not has_gone:
                break
            # A lost lane closes the session, and that empties the backlog.
            if backlog:
                backlog.popleft()
        self._is_running = False
        if not backlog and not self.is_closed:
            self._at_rest()
        self._write()
        self.regulate()

    def _at_rest(self) -> None:
        if not self.is_idle:
            return
        if self.mode is not None:
            self.mode.at_rest(self)
            if self.outstanding or self._holds:
                return
        if self._protocol_error is not None:
            self.proxy.stats.client_error("protocol")
            self.answer(self._protocol_error)
            self.close()
        elif self.has_hung_up:
            self.close()

    def regulate(self) -> None:
        """Read on, or no further: what waits takes memory."""
        if self.is_closed or self.transport is None:
            return
        wants_more = not self._is_slow and self._protocol_error is None
        if not self.backlog:
            self.unsent = 0
        elif self.proxy.pressure.is_enough(self):
            wants_more = False
        if wants_more is not self._is_reading:
            self._is_reading = wants_more
            if wants_more:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def dispatch(self, request: Request) -> bool:
        """Dispatch one command as if the client were in no mode; False: it cannot go yet."""
        command = self.plane.commands.lookup(request)
        if command is None or not command.fits(request.argc):
            return self.refuse(local.malformed(self, request))
        if not self.may_pass and request.name not in local.BEFORE_LOGIN:
            return self.refuse(local.noauth(request))
        kind = command.kind
        if kind is _READ:
            if self.pinned is not None:
                self.pinned.reads(command.keys(request))
            elif self.plane.splits_reads:
                return self.read(command, request)
            return self.ask(request, _READS)
        if kind is _WRITE:
            return self._write_command(command, request)
        if kind is _NODE:
            return self.ask(request, _OTHERS)
        return SERVE[kind](self, command, request)

    # -- upstreams ---------------------------------------------------------------------

    def borrow(self) -> Borrowed:
        """A connection of the client's own, kept until it is given back."""
        if self.borrowed is None:
            self.borrowed = Borrowed(self)
        elif self.borrowed.is_void(self):
            self.borrowed = self.borrowed.renewed(self)
        return self.borrowed

    def to_database(self, db: int) -> None:
        """The client's commands are of this database from here on."""
        self.db = db
        self.change_lane()
        self.proxy.note_user(self)

    def scanner_limits(self, limits: Limits) -> None:
        """What the client may announce, from its next request on.

        A request that was too large before the client had logged in may be right now.
        """
        scanner = self.scanner
        scanner.limits = limits
        self.backlog.extend(scanner.feed(b""))
        self._protocol_error = scanner.error.reply if scanner.error is not None else None

    def _write_command(self, command: Command, request: Request) -> bool:
        lane = self.primary_lane()
        if not self.use(lane):
            return False
        if command.single_key:
            places: tuple[Place, ...] = (place_of(self.db, request.arg(1)),)
        else:
            if command.unknown_keys(request):
                return self.barrier(command, request)
            places = tuple(places_of(self.db, command, request))
        self.count(lane.side, _WRITES)
        probe = command.probe(request)
        op = Write() if probe is None else Trim(probe)
        op.begin(self, lane, command, request, places, self.ran_at)
        if self.plane.table.acquire(op):
            op.dispatch()
        else:
            self.hold()
        if self.plane.waiting:
            self.proxy.parking.behind(self, lane, command, request, places)
        return True

    def barrier(self, command: Command, request: Request) -> bool:
        """Send it when all before it is answered, and nothing else until it is."""
        lane = self.primary_lane()
        if not self.use(lane):
            return False
        self.count(lane.side, CommandClass.WRITE)
        self.hold()
        self.proxy.table.close(Barrier(self, lane, command, request).go)
        if self.plane.waiting:
            self.proxy.parking.behind_barrier(self.db, command, request)
        return True

    # -- replies ---------------------------------------------------------------------------

    def refuse(self, error: bytes) -> bool:
        """Answer a command with an error of the proxy's, in its turn."""
        if self.outstanding:
            return False
        self.proxy.stats.client_error("refused")
        self.answer(error)
        return True

    def answer(self, frame: bytes) -> None:
        """A reply of the proxy's own, to a command that is not outstanding."""
        if self.is_silent:
            self.kept_back()
        else:
            self.out.append(frame)

    def push(self, frame: bytes) -> None:
        """A frame that answers nothing the client has sent; one that is silent gets it, too."""
        if not self.is_closed:
            self.out.append(frame)
            self.soil()

    def reply_by_push(self) -> None:
        """The oldest outstanding command is answered, by what was pushed."""
        self.outstanding -= 1
        self.kept_back()

    def kept_back(self) -> None:
        """No reply is written; what it held back goes on as if it had been."""
        if not self.is_closed:
            if self.profile.skips_one:
                self.is_silent = self.profile.skips_one = False
            self.soil()

    def flush(self) -> None:
        """Behind a batch of replies: write them, and go on with what they held back."""
        split = self.split
        if split is not None and split.size:
            split.deliver()
        self.is_dirty = False
        if self.is_closed:
            return
        if self.sample_at and (self.out or split is None or not split.size):
            self.observe(self._lane)
        self._write()
        # Mostly nothing was held back.
        if self.backlog or (not self.outstanding and self._awaits_rest()):
            self.run()

    def _awaits_rest(self) -> bool:
        return (
            self.mode is not None
            or self.has_hung_up
            or self._protocol_error is not None
            or not self._is_reading
        )

    def _write(self) -> None:
        out = self.out
        if not out or self.is_closed or self.transport is None:
            return
        self.out = []
        largest = write_all(self.transport, out)
        if self._is_slow:
            self._largest = max(self._largest, largest)
            self.proxy.pressure.unread(self, self._largest)
