"""Where clients connect: plain, or with TLS, from the accepted socket to the end of the handshake.

Owns the sockets that listen, and connections that are not a client yet: how many there may be,
how long they may take, and what one is told that does not speak TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

from .tls import Renewed
from .tlswire import TlsWire, as_protocol

log = logging.getLogger("keyferry.tls")

BACKLOG = 4096
# From the accepted connection to the end of the handshake.
HANDSHAKE_S = 10.0
# More handshakes at once are not begun: they wait in the system's backlog.
MAX_HANDSHAKES = 512
# The first byte of every TLS connection, and of no command.
HANDSHAKE = b"\x16"
NO_TLS = b"-ERR Keyferry speaks TLS on this port: use rediss:// (redis-cli --tls)\r\n"
# A failure of one kind is logged so often at most.
LOG_EVERY_S = 10.0


MakeProtocol = Callable[[], asyncio.Protocol]


async def listen(
    make_protocol: MakeProtocol,
    host: str,
    port: int,
    tls: Renewed | None,
    on_refused: Callable[[], None],
) -> asyncio.Server | TlsListener:
    """Serves clients on every address of `host`; plain without `tls`. Raises OSError.

    `on_refused` is called for each connection that did not become a client.
    """
    loop = asyncio.get_running_loop()
    if tls is None:
        return await loop.create_server(make_protocol, host, port, backlog=BACKLOG)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            made = socket.create_server(address, family=family, backlog=BACKLOG)
            made.setblocking(False)
            sockets.append(made)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return TlsListener(sockets, tls, make_protocol, on_refused)


class TlsListener:
    """Accepts on `sockets` and makes of each connection that speaks TLS a client."""

    def __init__(
        self,
        sockets: list[socket.socket],
        tls: Renewed,
        make_protocol: MakeProtocol,
        on_refused: Callable[[], None],
    ) -> None:
        self.sockets = sockets
        self._tls = tls
        self._make_protocol = make_protocol
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(MAX_HANDSHAKES)
        self._greeting: set[asyncio.Task[None]] = set()
        self._unlogged: Counter[str] = Counter()
        self._log_at: dict[str, float] = {}
        self._accepting = [
            self._loop.create_task(self._accept(each), name="accepts TLS clients")
            for each in sockets
        ]

    def close(self) -> None:
        """Accept nobody any more, and end those who are not clients yet."""
        for task in (*self._accepting, *self._greeting):
            task.cancel()
        for each in self.sockets:
            each.close()

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            await self._slots.acquire()
            try:
                accepted, address = await self._loop.sock_accept(listening)
            except OSError as error:
                self._slots.release()
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.error("cannot accept clients: %s", error.strerror)
                    await asyncio.sleep(1.0)
                continue
            except asyncio.CancelledError:
                self._slots.release()
                raise
            task = self._loop.create_task(
                self._greet(accepted, address), name="TLS handshake of a client"
            )
            self._greeting.add(task)
            task.add_done_callback(self._greeted)

    def _greeted(self, task: asyncio.Task[None]) -> None:
        self._greeting.discard(task)
        self._slots.release()

    async def _greet(self, accepted: socket.socket, address: Any) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                try:
                    first = await self._first_byte(accepted)
                except BaseException:
                    accepted.close()
                    raise
                if first != HANDSHAKE:
                    self._turn_away(accepted, address, first)
                    return
                await self._shake(accepted, address)
        except TimeoutError:
            self._refused(address, "no TLS handshake in time")
        except OSError as error:
            code = error.errno
            self._refused(address, os.strerror(code) if code else "the client hung up")

    async def _shake(self, accepted: socket.socket, address: Any) -> None:
        wire = TlsWire(self._tls.context(), self._make_protocol, server_side=True)
        try:
            # From here on the socket is the transport's.
            await self._loop.connect_accepted_socket(lambda: as_protocol(wire), accepted)
            await wire.handshaken
        except ssl.SSLError as error:
            # PEER_DID_NOT_RETURN_A_CERTIFICATE, TLSV1_ALERT_UNKNOWN_CA, UNSUPPORTED_PROTOCOL, …
            self._refused(address, getattr(error, "verify_message", "") or error.reason or "failed")
            try:
                # It counts among the handshakes until the client has heard why.
                await wire.wait_gone()
            finally:
                wire.abort()
        except BaseException:
            wire.abort()
            raise

    async def _first_byte(self, accepted: socket.socket) -> bytes:
        """What the client says first, left where it is; empty if it hung up."""
        accepted.setblocking(False)
        while True:
            with contextlib.suppress(BlockingIOError):
                return accepted.recv(1, socket.MSG_PEEK)
            readable: asyncio.Future[None] = self._loop.create_future()
            self._loop.add_reader(accepted, _resolve, readable)
            try:
                await readable
            finally:
                self._loop.remove_reader(accepted)

    def _turn_away(self, accepted: socket.socket, address: Any, first: bytes) -> None:
        with accepted:
            if not first:
                return  # a health check of a load balancer, say
            with contextlib.suppress(OSError):
                # What is left unread would make the end a reset, and the answer would be lost.
                accepted.recv(1 << 16)
                accepted.send(NO_TLS)
                accepted.shutdown(socket.SHUT_RDWR)
        self._refused(address, "it does not speak TLS")

    def _refused(self, address: Any, reason: str) -> None:
        self._on_refused()
        now = self._loop.time()
        if now < self._log_at.get(reason, 0.0):
            self._unlogged[reason] += 1
            return
        self._log_at[reason] = now + LOG_EVERY_S
        others = self._unlogged.pop(reason, 0)
        log.warning(
            "TLS with the client %s: %s%s",
            address[0], reason, f" (and {others} others)" if others else "",
        )  # fmt: skip


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
