"""TLS on one connection: an `asyncio.Protocol` towards TCP, an `asyncio.Transport` towards ours.

Owns the records: what comes is decrypted and delivered at once, what is written is encrypted as
far as TCP takes it. It never looks at what passes, opens no connection, and decides nothing about
certificates: that is the context's.

Why not the event loop's own: that one reads until OpenSSL complains that nothing is there, which
is an exception for each command, it does not count what it has handed to TCP, and it ends both
directions where a peer has ended its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from ssl import SSLError, SSLWantReadError, SSLZeroReturnError
from typing import Any, cast

# Plaintext of one record at most.
RECORD = 16 * 1024
# What is read at least: a record may be partly in OpenSSL already.
LEAST = 64
# Bytes that pass through OpenSSL's buffers at once. These keep the size that they once had.
PORTION = 64 * 1024
# Encrypted bytes at most that wait for the peer, but for a portion; the rest waits as it came.
TCP_HIGH = 256 * 1024
HIGH = 64 * 1024
# How long a peer may take for the next byte of what was written before the connection was closed.
SHUTDOWN_S = 5.0
# How long a connection stays that has failed, so that the alert is not lost to a reset.
LINGER_S = 1.0


def _nowhere(data: bytes) -> None:
    """Before there is a connection nothing is sent."""


class TlsWire:
    """See the module's docstring. Both an `asyncio.Protocol` and a `Transport` by shape.

    `make_protocol` is called, and its `connection_made`, when the handshake is done; `handshaken`
    is done then, or has what went wrong as an OSError (ssl.SSLError is one). Whoever waits for that
    has the deadline, and calls :meth:`abort`.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        # Looked up once: each look-up costs as much as a small record's share of the rest.
        self._read = self._ssl.read
        self._write = self._ssl.write
        self._feed = self._incoming.write
        self._encrypted = self._outgoing.read
        self._send: Callable[[bytes], None] = _nowhere
        self._make_protocol: Callable[[], Any] | None = make_protocol
        self.handshaken: asyncio.Future[None] = self._loop.create_future()
        # Of who waits until TCP's connection has ended, too.
        self._gone: asyncio.Future[None] | None = None
        self._tcp: Any = None
        self._protocol: Any = None
        # Nothing that comes is looked at any more: it has failed, is closing, or the peer is done.
        self._is_deaf = False
        self._has_ended = False
        self._is_closing = False
        self._has_said_goodbye = False
        self._error: SSLError | None = None
        # What is not encrypted yet, since TCP has enough, or a renegotiation waits for the peer.
        self._waiting: deque[memoryview] = deque()
        self._waiting_size = 0
        self._is_stalled = False
        self._wants_read = False
        # The protocol has been told to write no more.
        self._is_paused = False
        self._high = HIGH
        self._low = HIGH // 4
        self._timer: asyncio.TimerHandle | None = None

    # -- towards TCP: a protocol -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = transport
        self._send = self._tcp.write
        self.set_write_buffer_limits(self._high, self._low)
        if not self._ssl.server_side and not self._shake() and self._error is not None:
            self._fail(self._error)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_deaf = self._is_closing = True
        self._forget()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self._lost(error or self._error)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        pieces: list[bytes] = []
        size = len(data)
        if size <= PORTION:
            self._take(data, pieces)
        else:
            view = memoryview(data)
            for at in range(0, size, PORTION):
                self._take(view[at : at + PORTION], pieces)
        if self._outgoing.pending and not self._is_closing:
            self._send(self._encrypted())
        if pieces:
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._wants_read and not self._is_closing:
            self._wants_read = False
            self._go_on()
        if self._error is not None:
            self._fail(self._error)
        elif self._has_ended:
            self._end()

    def eof_received(self) -> bool:
        # An end without TLS's own word for it is an end as well: what was cut off is no command.
        if self._protocol is None or self._is_closing:
            return False
        if not self._has_ended:
            self._has_ended = self._is_deaf = True
            self._end()
        return True  # It is closed here, behind what is still to be encrypted.

    def pause_writing(self) -> None:
        self._is_stalled = True
        self._check()

    def resume_writing(self) -> None:
        self._is_stalled = False
        self._go_on()

    # -- towards ours: a transport -----------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._is_closing or self._error is not None or not data:
            return
        size = len(data)
        if size <= RECORD and not self._is_stalled and not self._waiting:
            sent = self._encrypt(data)
            if sent == size:
                self._send(self._encrypted())
                return
            self._keep(memoryview(data)[sent:])
        else:
            self._keep(memoryview(data))
        self._drain()
        self._check()

    def writelines(self, pieces: list[bytes]) -> None:
        if self._is_closing or self._error is not None:
            return
        for piece in pieces:
            if piece:
                self._keep(memoryview(piece))
        self._drain()
        self._check()

    def close(self) -> None:
        """End the connection behind what was written; the peer has to go on taking it."""
        if self._is_closing:
            return
        self._is_deaf = self._is_closing = True
        self._tcp.pause_reading()
        if not self._waiting:
            self._say_goodbye()
        self._hurry(0)

    def abort(self) -> None:
        """End the connection at once: what TCP has not sent is gone."""
        self._is_deaf = self._is_closing = True
        self._forget()
        if self._tcp is not None:
            self._tcp.abort()

    async def wait_gone(self) -> None:
        """What has failed is over: the peer has been told why, or did not want to know."""
        if self._gone is not None:
            await self._gone

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._tcp.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH if high is None else high
        self._low = self._high // 4 if low is None else low
        # TCP's are never above ours, or we would not hear of reaching them.
        tcp_high = min(self._high, TCP_HIGH)
        self._tcp.set_write_buffer_limits(tcp_high, min(self._low, tcp_high // 4))

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and that the system has not taken."""
        size: int = self._tcp.get_write_buffer_size()
        return self._waiting_size + size

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._ssl
        return self._tcp.get_extra_info(name, default)

    # -- inside ------------------------------------------------------------------------

    def _shake(self) -> bool:
        """One step of the handshake; whether that was the last one."""
        try:
            self._ssl.do_handshake()
        except SSLWantReadError:
            self._send(self._encrypted())
            return False
        except SSLError as error:
            self._error = error
            self._is_deaf = True
            return False
        if self._outgoing.pending:
            self._send(self._encrypted())
        assert self._make_protocol is not None, "a handshake ends once"
        self._protocol = self._make_protocol()
        self._make_protocol = None
        if not self.handshaken.done():
            self.handshaken.set_result(None)
        self._protocol.connection_made(self)
        return True

    def _take(self, data: bytes | memoryview, pieces: list[bytes]) -> None:
        """Decrypt what there is of whole records into ``pieces``."""
        if self._is_deaf:
            return
        incoming = self._incoming
        self._feed(data)
        if self._protocol is None and not self._shake():
            return
        while not self._is_deaf:
            asked = incoming.pending
            if not asked:
                return
            # No record is longer decrypted than encrypted.
            asked = min(max(asked, LEAST), RECORD)
            try:
                piece = self._read(asked)
                while len(piece) == asked and self._ssl.pending():
                    pieces.append(piece)
                    piece = self._read(asked)
            except SSLWantReadError:
                return  # The rest of the last record is still to come.
            except SSLZeroReturnError:
                piece = b""
            except SSLError as error:
                self._error = error
                self._is_deaf = True
                return
            if piece:
                pieces.append(piece)
            else:
                self._has_ended = self._is_deaf = True

    def _encrypt(self, data: bytes | memoryview) -> int:
        """All of it, or nothing where that cannot be now; how many bytes that was."""
        sent = 0
        try:
            sent = self._write(data)
        except SSLWantReadError:
            self._wants_read = True
        except SSLError as error:
            # Not now: whoever writes may be amid something.
            self._error = error
            self._is_deaf = True
            self._loop.call_soon(self._fail, error)
        return sent

    def _keep(self, piece: memoryview) -> None:
        self._waiting.append(piece)
        self._waiting_size += len(piece)

    def _drain(self) -> None:
        """Encrypt what waits, a portion at a time, until TCP has enough."""
        waiting = self._waiting
        while waiting and not (self._is_stalled or self._wants_read or self._error is not None):
            portion = 0
            while waiting and portion < PORTION:
                piece = waiting[0]
                left = PORTION - portion
                sent = self._encrypt(piece if len(piece) <= left else piece[:left])
                if not sent:
                    break
                portion += sent
                if sent == len(piece):
                    waiting.popleft()
                else:
                    waiting[0] = piece[sent:]
            self._waiting_size -= portion
            self._send(self._encrypted())

    def _check(self) -> None:
        """Tell the protocol if more waits than it should write."""
        if self._is_paused or self._is_closing:
            return
        if self.get_write_buffer_size() > self._high:
            self._is_paused = True
            self._protocol.pause_writing()

    def _go_on(self) -> None:
        """TCP takes more."""
        self._drain()
        if self._is_closing:
            if not self._waiting and self._protocol is not None:
                self._say_goodbye()
        elif self._is_paused and (
            not (self._waiting or self._is_stalled) or self.get_write_buffer_size() <= self._low
        ):
            self._is_paused = False
            self._protocol.resume_writing()

    def _end(self) -> None:
        """The peer has no more to say. Where the protocol has, this direction stays open."""
        if not self._is_closing and not self._protocol.eof_received():
            self.close()

    def _say_goodbye(self) -> None:
        if self._has_said_goodbye:
            return
        self._has_said_goodbye = True
        with contextlib.suppress(SSLError):  # The peer's own goodbye is not waited for.
            self._ssl.unwrap()
        if self._outgoing.pending:
            self._send(self._encrypted())
        self._tcp.close()

    def _hurry(self, before: int) -> None:
        """Look from time to time whether the peer takes what was written before the end."""
        now = self.get_write_buffer_size()
        if before and now >= before:
            self.abort()
        elif now:
            self._timer = self._loop.call_later(SHUTDOWN_S, self._hurry, now)

    def _fail(self, error: SSLError) -> None:
        """The peer gets the alert with the reason, and we the end."""
        if self._gone is not None:
            return
        if self._is_closing:
            # By the protocol, behind what came before.
            self._waiting.clear()
            self._waiting_size = 0
            self._tcp.close()
            return
        self._is_deaf = self._is_closing = True
        self._error = error
        self._forget()
        self._gone = self._loop.create_future()
        if self._outgoing.pending:
            self._send(self._encrypted())
        self._tcp.write_eof()
        self._timer = self._loop.call_later(LINGER_S, self._tcp.abort)
        self._lost(error)

    def _forget(self) -> None:
        self._waiting.clear()
        self._waiting_size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lost(self, error: Exception | None) -> None:
        """Tell whoever is to be told, once."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)
        if not self.handshaken.done():
            self.handshaken.set_exception(error or ConnectionResetError("the peer hung up"))
            self.handshaken.exception()  # Nobody may be there to look any more.


def as_protocol(wire: TlsWire) -> asyncio.Protocol:
    """It is one by shape: compiled it has no base."""
    return cast(asyncio.Protocol, wire)


def as_transport(wire: TlsWire) -> asyncio.Transport:
    return cast(asyncio.Transport, wire)
