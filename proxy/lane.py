"""A lane: one multiplexed, pipelined connection to a store.

Owns the connection and the FIFO of what was sent on it: execution order = send
order = reply order. It never looks into a command, and never decides what may
enter it (design, section 4: only what cannot change the connection's state).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from .endpoint import Endpoint
from .fifo import Fifo
from .handshake import handshake_commands
from .op import Op
from .resp import ProtocolError, encode_command
from .resp.replies import ReplyScanner
from .resp.requests import Request
from .resp.values import is_error, parse
from .sides import Side
from .writing import write_all

log = logging.getLogger("keyferry.lane")

PUSH = 62  # ord(">")
HANDSHAKE_S = 5.0
# Gathered at most, where a lane gathers at all.
GATHER_BYTES = 64 * 1024
# Sent at most in one turn of the loop before the transport is asked whether it is too much.
TURN_BYTES = 1024 * 1024
# Bytes of one request or reply behind which nobody is to wait who has not sent anything yet.
CLOGGING_BYTES = 1024 * 1024
# A store that answers sooner is near: to wait for its answer costs less than a write for each few
# commands, which wakes the store, and then the proxy, once more.
NEAR_S = 0.0005


class Call(Op):
    """An operation of the proxy's own: a future of the raw reply frame."""

    __slots__ = ("at", "future")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[bytes] = loop.create_future()
        self.at = time.monotonic()

    def reply(self, frame: bytes) -> None:
        if not self.future.done():
            self.future.set_result(frame)

    def lost(self) -> None:
        if not self.future.done():
            self.future.set_exception(ConnectionResetError("the connection was lost"))
            self.future.exception()  # Nobody needs to look: a lost lane says so itself.


class Lane:
    """See the module's docstring. An `asyncio.Protocol` by shape: compiled it has no base.

    ``user`` is (name, password), or None for a connection that does not
    authenticate. ``after_batch`` runs once behind each batch of replies;
    ``on_lost`` runs once when the connection has ended, or could not be made,
    after every waiting operation was told. ``on_push`` gets the frames that answer
    nothing: RESP3's pushes, and what MONITOR prints. ``on_clogged`` is told that something large
    has begun to pass, in either direction. ``gather_s``: how long what is sent may
    wait for more to go with it, in seconds; 0: until the end of the loop's turn.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        side: Side,
        *,
        user: tuple[bytes, bytes] | None = None,
        db: int = 0,
        resp: int = 2,
        name: bytes = b"keyferry",
        after_batch: Callable[[], None] | None = None,
        on_lost: Callable[[Lane], None] | None = None,
        on_push: Callable[[bytes], None] | None = None,
        on_clogged: Callable[[Lane], None] | None = None,
        high_water: int = 4 * 1024 * 1024,
        gather_s: float = 0.0,
    ) -> None:
        self.endpoint = endpoint
        self.side = side
        self.user = user
        self.db = db
        self.resp = resp
        self.name = name
        self.client_id: int | None = None
        self.local_address = ""
        self.failure: bytes | None = None
        self.is_ready = False
        self.is_lost = False
        # Nothing is dispatched to a lane that is not ready, or whose store reads too slowly.
        self.is_paused = True
        # There is another one for the same clients: they change as soon as nothing of theirs is
        # under way here.
        self.is_left = False
        self._is_full = False
        self._is_kept_back = False
        # Whether something was under way when it was lost.
        self.was_busy = False
        self.ops = Fifo()
        # Batches of replies that have come: it stands still where the store hangs.
        self.batches = 0
        # Who is being told of one: if that goes wrong, its outcome is unknown.
        self._receiving: Op | None = None
        # When the last of them came.
        self.heard_at = 0.0
        # To be written: bytes, and behind them a piece of what a client sent, that may still grow.
        self._out: list[bytes] = []
        self._piece: bytes | None = None
        self._piece_start = 0
        self._piece_end = 0
        self._is_scheduled = False
        self._gather_s = gather_s
        self._gathered = 0
        # Replies so far, and how many of them will have come when all that was sent is answered.
        self._answered = 0
        self._mark = 0
        # Commands wait for the answer to the batch before them.
        self._is_held = False
        self._is_near = False
        self._flushed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: deque[tuple[bytes, bool]] = deque()
        self._scanner = ReplyScanner()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._after_batch = after_batch
        self._on_lost = on_lost
        self._on_push = on_push
        self._on_clogged = on_clogged
        self._high_water = high_water
        self._when_settled: list[Callable[[bytes | None], None]] = []
        self._when_writable: list[Callable[[], None]] = []
        self._opening = self._loop.create_task(self._open(), name=f"open {self}")

    def __str__(self) -> str:
        user = self.user[0].decode(errors="replace") if self.user else "default"
        return f"lane to {self.side.label} {self.endpoint.address} ({user}, db {self.db})"

    # -- life ------------------------------------------------------------------

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(5.0):
                await self.endpoint.connect(lambda: cast(asyncio.Protocol, self))
        except (OSError, TimeoutError) as error:
            log.warning("%s: cannot connect: %s", self, error)
            self._end(b"-ERR Keyferry cannot reach the %s\r\n" % self.side.label.encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        transport = self._transport
        if self.is_lost:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=self._high_water)
        name = transport.get_extra_info("sockname")
        if isinstance(name, tuple):
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            self.local_address = f"{host}:{name[1]}"
        steps = handshake_commands(self.user, self.db, self.resp, self.name)
        self._handshake.extend(steps)
        transport.write(b"".join(raw for raw, _ in steps))
        self._loop.call_later(HANDSHAKE_S, self._give_up)

    def _give_up(self) -> None:
        if not self.is_ready and not self.is_lost:
            log.warning("%s: it does not answer", self)
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.is_lost:
            log.warning("%s: connection lost: %s", self, error or "closed by the store")
        self._end(None)

    def close(self) -> None:
        """End the connection; whatever still waits is told that it is lost."""
        self._opening.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._end(None)

    def _end(self, failure: bytes | None) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self.is_ready = False
        self.failure = self.failure or failure or b"-ERR Keyferry lost its upstream connection\r\n"
        if self._transport is not None:
            self._transport.abort()
        self._out.clear()
        self._piece = None
        if self._timer is not None:
            self._timer.cancel()
        self.was_busy = bool(self.ops)
        ops, self.ops = self.ops, Fifo()
        for op in ops:
            op.lost()
        if self._on_lost is not None:
            self._on_lost(self)
        self._settle(self.failure)
        self._wake_writers()
        if self._after_batch is not None:
            self._after_batch()

    def when_settled(self, callback: Callable[[bytes | None], None]) -> None:
        """Call back with None once the lane is ready, or with an error frame."""
        if self.is_ready:
            callback(None)
        elif self.is_lost:
            callback(self.failure)
        else:
            self._when_settled.append(callback)

    def _settle(self, failure: bytes | None) -> None:
        callbacks, self._when_settled = self._when_settled, []
        for callback in callbacks:
            callback(failure)

    async def ready(self) -> bytes | None:
        """Wait until the lane is ready (None) or has failed (the error frame)."""
        future: asyncio.Future[bytes | None] = self._loop.create_future()

        def settled(failure: bytes | None) -> None:
            if not future.done():
                future.set_result(failure)

        self.when_settled(settled)
        return await future

    # -- sending -----------------------------------------------------------------

    def send(self, op: Op, raw: bytes) -> None:
        """Send ``raw``; ``op`` gets the reply. All of one loop turn go in one write."""
        if self.is_lost:
            op.lost()
            return
        self.ops.append(op)
        self._put(raw)

    def send_request(self, op: Op, request: Request) -> None:
        """Send a client's request. Those that came in one piece go on in one piece."""
        if self.is_lost:
            op.lost()
            return
        self.ops.append(op)
        if request.chunk is self._piece and request.start == self._piece_end:
            self._piece_end = request.end
        else:
            self._close_piece()
            self._piece = request.chunk
            self._piece_start = request.start
            self._piece_end = request.end
        size = request.end - request.start
        self._gathered += size
        if size > CLOGGING_BYTES:
            self._clog()
        if not self._is_scheduled or self._gathered > GATHER_BYTES:
            self._schedule()

    def send_batch(self, ops: Sequence[Op], raw: bytes) -> None:
        """Send commands that were encoded together; one operation per command."""
        if self.is_lost:
            for op in ops:
                op.lost()
            return
        self.ops.extend(ops)
        self._put(raw)

    def _put(self, raw: bytes) -> None:
        self._close_piece()
        self._out.append(raw)
        self._gathered += len(raw)
        if len(raw) > CLOGGING_BYTES:
            self._clog()
        if not self._is_scheduled or self._gathered > GATHER_BYTES:
            self._schedule()

    def _close_piece(self) -> None:
        piece = self._piece
        if piece is not None:
            self._piece = None
            if self._piece_end - self._piece_start == len(piece):
                self._out.append(piece)
            else:
                view = piece
                self._out.append(view[self._piece_start : self._piece_end])

    def _schedule(self) -> None:
        if not self.is_ready:
            return
        if not self._gather_s:
            if self._gathered > TURN_BYTES:
                self._flush()
            elif not self._is_scheduled:
                self._is_scheduled = True
                self._loop.call_soon(self._end_turn)
        elif self._gathered > GATHER_BYTES:
            self._flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._timer = self._loop.call_later(self._gather_s, self._flush)

    def hasten(self) -> None:
        """Somebody waits for the answer to what was sent: gather no longer."""
        if self._timer is not None:
            self._flush()

    def divert(self, on_push: Callable[[bytes], None], on_lost: Callable[[Lane], None]) -> None:
        """From here on nobody stands in the FIFO: all that comes goes to ``on_push``."""
        assert not self.ops, "somebody waits for a reply"
        before = self._on_lost

        def lost(lane: Lane) -> None:
            if before is not None:
                before(lane)
            on_lost(lane)

        self._on_push = on_push
        self._on_lost = lost

    def write(self, raw: bytes) -> None:
        """Send what is in no FIFO, on a lane that is diverted."""
        if not self.is_lost:
            self._put(raw)

    async def call(self, *words: bytes) -> bytes:
        """Run a command of the proxy's own and return the raw reply frame."""
        call = Call()
        self.send(call, encode_command(*words))
        self.hasten()
        return await call.future

    def _end_turn(self) -> None:
        """Send what this turn has brought; behind the last batch, if a near store is at it."""
        if self._mark > self._answered and self._is_near and self._gathered <= TURN_BYTES:
            self._is_held = True
        else:
            self._flush()

    def _flush(self) -> None:
        self._is_scheduled = self._is_held = False
        self._mark = self._answered + len(self.ops)
        self._flushed_at = time.monotonic()
        self._gathered = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_piece()
        if self._transport is not None and self._out:
            out, self._out = self._out, []
            write_all(self._transport, out)

    @property
    def unsent(self) -> int:
        """Bytes that wait to be taken by the store."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._gathered + waiting

    def eof_received(self) -> None:
        pass  # The connection ends.

    def pause_writing(self) -> None:
        self._is_full = True
        self.is_paused = True

    def resume_writing(self) -> None:
        self._is_full = False
        self.is_paused = self._is_kept_back
        self._wake_writers()

    def _clog(self) -> None:
        if self._on_clogged is not None and not self.is_left:
            self._on_clogged(self)

    def keep_back(self) -> None:
        """Nothing more is dispatched here, until :meth:`let_go`."""
        self._is_kept_back = True
        self.is_paused = True

    def let_go(self) -> None:
        """Who waits to dispatch here looks again: there may be a better lane."""
        self._is_kept_back = False
        self.is_paused = self._is_full or not self.is_ready
        self._wake_writers()

    def _wake_writers(self) -> None:
        waiters, self._when_writable = self._when_writable, []
        for waiter in waiters:
            waiter()

    def when_writable(self, callback: Callable[[], None]) -> None:
        self._when_writable.append(callback)

    # -- replies -----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._scanner.feed(data)
        except ProtocolError as error:
            log.error("%s: not a RESP reply: %s", self, error)
            self._end(None)
            return
        if self._scanner.is_amid(CLOGGING_BYTES):
            self._clog()
        self.batches += 1
        self.heard_at = time.monotonic()
        if self._flushed_at:
            self._is_near = self.heard_at - self._flushed_at < NEAR_S
            self._flushed_at = 0.0
        self._receiving = None
        if not self.is_ready:
            frames = self._shake(frames)
        try:
            self._deliver(frames)
        except Exception:
            # A defect of ours must not leave a client waiting for ever, nor let the replies
            # behind it reach the wrong ones.
            log.exception("%s: a reply could not be processed", self)
            op = self._receiving
            if op is not None:
                with contextlib.suppress(Exception):
                    op.lost()
            self._end(None)
            return
        if self._is_held:
            self._flush()
        if self._after_batch is not None:
            self._after_batch()

    def _deliver(self, frames: list[bytes]) -> None:
        ops = self.ops
        for frame in frames:
            if self.is_lost:
                # What was sent has been told so: none of it gets an answer as well.
                return
            if frame[0] == PUSH or not ops:
                self._receiving = None
                if self._on_push is None:
                    if frame[0] == PUSH:
                        continue
                    log.error("%s: a reply that nobody asked for: %r", self, frame[:80])
                    self._end(None)
                    return
                self._on_push(frame)
                continue
            op = ops.popleft()
            self._receiving = op
            self._answered += 1
            op.reply(frame)
        self._receiving = None

    def _shake(self, frames: list[bytes]) -> list[bytes]:
        for at, frame in enumerate(frames):
            if not self._handshake:
                return frames[at:]
            raw, must_succeed = self._handshake.popleft()
            if is_error(frame):
                if must_succeed:
                    self.failure = frame
                    self._end(frame)
                    return []
            elif raw.endswith(b"\r\nID\r\n"):
                self.client_id = parse(frame)
            if not self._handshake:
                self.is_ready = True
                self.is_paused = False
                self._settle(None)
                self._flush()
                self._wake_writers()
        return []
