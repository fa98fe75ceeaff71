"""The other end of a TLS connection, record by record: what it sends is cut and joined at will."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from .clients import DEADLINE_SECONDS

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Peer:
    """TLS without a connection: takes bytes of the wire, and gives some."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool = False) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )
        self.is_greeted = False
        self.has_heard_goodbye = False

    def shake(self) -> bytes:
        """What it has to say in the handshake now."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.ssl.do_handshake()
            self.is_greeted = True
        return self._outgoing.read()

    def said(self) -> bytes:
        """What it has said by itself: an alert."""
        return self._outgoing.read()

    def encrypted(self, data: bytes) -> bytes:
        """One record, or more where it is too long for one."""
        while data:
            data = data[self.ssl.write(data) :]
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """A close_notify. It goes on to read."""
        with contextlib.suppress(ssl.SSLError):
            self.ssl.unwrap()
        return self._outgoing.read()

    def take(self, data: bytes) -> None:
        self._incoming.write(data)

    def decrypted(self) -> bytes:
        """All that has come. Raises ssl.SSLError, as for an alert."""
        found = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                try:
                    piece = self.ssl.read(1 << 16)
                except ssl.SSLZeroReturnError:
                    piece = b""
                if not piece:
                    self.has_heard_goodbye = True
                    break
                found.append(piece)
        return b"".join(found)


class PeerClient:
    """A `Peer` with a socket: `write` sends bytes of the wire, as they are."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.peer = peer
        self.reader = reader
        self.writer = writer

    async def greet(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                self.writer.write(self.peer.shake())
                if self.peer.is_greeted:
                    return
                data = await self.reader.read(1 << 16)
                assert data, "hung up amid the handshake"
                self.peer.take(data)

    def send(self, data: bytes) -> None:
        self.writer.write(self.peer.encrypted(data))

    async def exactly(self, size: int) -> bytes:
        """That many decrypted bytes."""
        found = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(found) < size:
                data = await self.reader.read(1 << 16)
                assert data, f"hung up behind {found[:100]!r}"
                self.peer.take(data)
                found += self.peer.decrypted()
        return found

    async def rest(self) -> bytes:
        """What is decrypted until TCP ends. Raises ssl.SSLError for an alert."""
        found = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while data := await self.reader.read(1 << 16):
                self.peer.take(data)
                found += self.peer.decrypted()
        return found

    def hang_up(self) -> None:
        """End the sending half of the connection, whatever TLS thinks of it."""
        self.writer.write_eof()


@contextlib.asynccontextmanager
async def peer_client(port: int, context: ssl.SSLContext) -> AsyncIterator[PeerClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        client = PeerClient(Peer(context), reader, writer)
        await client.greet()
        yield client
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
