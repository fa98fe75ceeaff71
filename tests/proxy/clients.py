"""Raw clients of a proxy, or of a store: bytes out, raw reply frames in, and a proxy to talk to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from proxy.commands import CommandTable, Engine
from proxy.endpoint import Endpoint
from proxy.mirror import Mirror
from proxy.resp import ReplyScanner, Request, RequestScanner, encode_command
from proxy.server import Proxy
from proxy.sides import Side
from tests.servers import Server

DEADLINE_SECONDS = 20.0


def words(line: str) -> list[bytes]:
    """A command as one types it; ``""`` is an empty argument."""
    return [b"" if word == '""' else word.encode() for word in line.split()]


def encoded(*lines: str) -> bytes:
    """Commands as one types them, in array form: a pipeline."""
    return b"".join(encode_command(*words(line)) for line in lines)


def request(line: str) -> Request:
    (made,) = RequestScanner().feed(encoded(line))
    return made


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait for something that another task or process brings about."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.002)
    assert condition(), what


class Client:
    """A connection that shows every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._scanner = ReplyScanner()
        # What has come and was not asked for yet.
        self.frames: list[bytes] = []

    def send(self, *lines: str) -> None:
        self.writer.write(encoded(*lines))

    async def replies(self, count: int) -> list[bytes]:
        """The next raw reply frames."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.frames) < count:
                data = await self.reader.read(1 << 20)
                if not data:
                    raise ConnectionError(f"closed behind {self.frames[:3]!r}")
                self.frames += self._scanner.feed(data)
        taken, self.frames = self.frames[:count], self.frames[count:]
        return taken

    async def glance(self) -> None:
        """Take in what has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                self.frames += self._scanner.feed(await self.reader.read(1 << 20))

    async def call(self, line: str) -> bytes:
        self.send(line)
        return (await self.replies(1))[0]

    async def calls(self, *lines: str) -> list[bytes]:
        """A pipeline's replies."""
        self.send(*lines)
        return await self.replies(len(lines))

    async def rest(self) -> bytes:
        """Everything until the other end hangs up."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            data = b"".join(self.frames)
            with contextlib.suppress(ConnectionError):
                while chunk := await self.reader.read(1 << 20):
                    data += chunk
            return data

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(*ports: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Any]:
    """A client of each port: one client alone, or a list."""
    clients = []
    try:
        for port in ports:
            clients.append(  # noqa: PERF401  what was opened is closed if the next fails
                Client(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20, ssl=tls))
            )
        yield clients[0] if len(clients) == 1 else clients
    finally:
        for client in clients:
            await client.close()


@dataclass
class Proxied:
    """A proxy that listens on `port`, before `source` and, when it mirrors, `target`."""

    proxy: Proxy
    port: int
    source: Server
    target: Server
    mirror: Mirror | None = None

    def client(self, count: int = 1) -> contextlib.AbstractAsyncContextManager[Any]:
        return connected(*[self.port] * count)

    async def start_mirror(self, **options: Any) -> Mirror:
        """Mirror from here on; both sides are taken to be equal now."""
        proxy = self.proxy
        mirror = Mirror(
            proxy.table, proxy.endpoints[1], Side.TARGET, bracket=proxy.bracket, **options
        )
        self.mirror = proxy.mirror = mirror
        proxy.table.is_everything_unproven = False
        async with asyncio.timeout(DEADLINE_SECONDS):
            await mirror.connected()
        return mirror

    async def applied(self) -> None:
        assert self.mirror is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.mirror.applied()

    async def close(self) -> None:
        if self.mirror is not None:
            await self.mirror.close()
        await self.proxy.close()


async def started(
    source: Server, target: Server, *, source_port: int = 0, target_port: int = 0, **options: Any
) -> Proxied:
    """A proxy before two stores; the ports are those of relays before them.

    Options are `Proxy`'s, `source_url` in the place of the store's own, and `tls` to serve with.
    """
    tls = options.pop("tls", None)
    urls = [options.pop("source_url", source.url), target.url]
    for at, (server, port) in enumerate(((source, source_port), (target, target_port))):
        if port:
            urls[at] = urls[at].replace(f":{server.port}", f":{port}")
    endpoints = (Endpoint.parse(urls[0], "source"), Endpoint.parse(urls[1], "target"))
    commands = CommandTable()
    commands.complete(source.cli("COMMAND"))
    proxy = Proxy(endpoints, commands, **options)
    for side, server in zip(Side, (source, target), strict=True):
        engine = server.engine
        proxy.engines[side] = Engine.of(engine.kind, ".".join(map(str, engine.version)))
    return Proxied(proxy, await proxy.listen("127.0.0.1", 0, tls), source, target)
