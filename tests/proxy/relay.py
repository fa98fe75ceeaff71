"""A connection's middle that a test can stop: bytes wait in it until they are let go."""

from __future__ import annotations

import asyncio
import contextlib

from tests.servers import Server


class Relay:
    """Listens on `port` and passes bytes to a store and back.

    Without `requests` (`replies`) set, what clients (the store) send waits; `seen` counts the
    bytes of requests that have arrived, let through or not.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = 0
        self.requests = asyncio.Event()
        self.replies = asyncio.Event()
        self.requests.set()
        self.replies.set()
        self.seen = b""
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection; what waits in them is gone."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self.server.port)
            self._writers.add(forth)
            await asyncio.gather(
                self._pass(reader, forth, self.requests, keeps=True),
                self._pass(back, writer, self.replies),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self.cut_one(writer)

    def cut_one(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        with contextlib.suppress(OSError):
            writer.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
        *,
        keeps: bool = False,
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if keeps:
                    self.seen = (self.seen + data)[-4096:]
                await gate.wait()
                writer.write(data)
                await writer.drain()
        finally:
            self.cut_one(writer)
