"""Clients for tests: one that says exactly what goes over the wire, and what waits for a state.

Nothing here sleeps to let something happen: `until` polls a condition, and fails with what it
waited for when its deadline has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import hiredis

DEADLINE_S = 20.0
POLL_S = 0.005


async def until(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]],
    what: str,
    deadline_s: float = DEADLINE_S,
) -> Any:
    """The first true value of `condition` (a plain or an async function)."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert loop.time() < ends, f"not in {deadline_s:g} s: {what}"
        await asyncio.sleep(POLL_S)


class Client:
    """A raw connection: `send` only writes, `reply` takes the next reply, `call` does both."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = hiredis.Reader()

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        user: str | None = None,
        password: str = "",
        db: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
        if user is not None:
            await client.call("AUTH", user, password)
        if db:
            await client.call("SELECT", db)
        return client

    def send(self, *words: str | bytes | int) -> None:
        self._writer.write(hiredis.pack_command(words))  # type: ignore[arg-type]

    async def reply(self) -> Any:
        """The next reply; an error is returned. Raises ConnectionError when there is none."""
        async with asyncio.timeout(DEADLINE_S):
            while (value := self._parser.gets()) is False:
                data = await self._reader.read(1 << 16)
                if not data:
                    raise ConnectionError("the connection was closed")
                self._parser.feed(data)
        return value

    async def messages(self) -> AsyncIterator[Any]:
        """All that comes, until the connection is closed."""
        while data := await self._reader.read(1 << 16):
            self._parser.feed(data)
            while (value := self._parser.gets()) is not False:
                yield value

    async def call(self, *words: str | bytes | int) -> Any:
        """Raises hiredis.ReplyError."""
        self.send(*words)
        value = await self.reply()
        if isinstance(value, hiredis.ReplyError):
            raise value
        return value

    async def block(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        """A MULTI … EXEC sent in one piece; the replies of its commands."""
        self.send("MULTI")
        for command in commands:
            self.send(*command)
        self.send("EXEC")
        for _ in range(len(commands) + 1):
            await self.reply()
        replies = await self.reply()
        assert isinstance(replies, list), replies
        return replies

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Listening(Client):
    """A client that takes pushes out of the way of its replies."""

    on_push: Any = None
    _task: asyncio.Task[None] | None = None

    async def reply(self) -> Any:
        while True:
            frame = await super().reply()
            if isinstance(frame, hiredis.PushNotification) or (
                isinstance(frame, list) and frame and frame[0] == b"message"
            ):
                self.on_push(frame)
            else:
                return frame

    def listen(self) -> None:
        """Take what comes by itself."""

        async def take() -> None:
            while True:
                data = await self._reader.read(1 << 16)
                if not data:
                    return
                self._parser.feed(data)
                while (frame := self._parser.gets()) is not False:
                    self.on_push(frame)

        self._task = asyncio.create_task(take(), name="a listener")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await super().close()


@contextlib.asynccontextmanager
async def writers(
    port_of: Callable[[], int],
    keys: list[str],
    *,
    depth: int = 8,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[dict[str, list[int]]]:
    """One pipelining client per key, which counts: yields key -> [acknowledged, sent].

    A client whose connection ends connects again and goes on; what was on its way then may have
    been done or not, so that `acknowledged <= value <= sent` at any time. Beside it the numbers
    sent are added to the set `seen:<key>`: where one is missing, no later reply tells of it.
    """
    counts = {key: [0, 0] for key in keys}
    stopping = asyncio.Event()

    async def pipelines(key: str) -> None:
        count = counts[key]
        client = await Client.open(port_of(), tls=tls)
        try:
            while not stopping.is_set():
                for _ in range(depth):
                    count[1] += 1
                    client.send("SADD", f"seen:{key}", count[1])
                    client.send("INCR", key)
                for _ in range(depth):
                    assert await client.reply() == 1
                    value = await client.reply()
                    assert isinstance(value, int), value
                    assert count[0] < value <= count[1]
                    count[0] = value
                await asyncio.sleep(0)
        finally:
            await client.close()

    async def work(key: str) -> None:
        while not stopping.is_set():
            with contextlib.suppress(OSError):
                await pipelines(key)
            await asyncio.sleep(POLL_S)

    tasks = [asyncio.create_task(work(key)) for key in keys]
    try:
        yield counts
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
