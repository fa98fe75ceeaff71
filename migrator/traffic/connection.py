"""One connection of an application: batches of commands, and their replies as values.

Owns the connection and nothing of what is sent on it. It never connects again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis

from proxy.resp.values import ReplyError

Arg = bytes | int | float

pack = cast(Callable[[tuple[Arg, ...]], bytes], hiredis.pack_command)

_MORE = object()


class Lost(ConnectionError):
    """The connection ended; `values` are the replies of the batch that had arrived."""

    def __init__(self, reason: str, values: list[Any]) -> None:
        super().__init__(reason)
        self.values = values


class Connection(asyncio.Protocol):
    """See the module's docstring; one batch at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_MORE)
        self._values: list[Any] = []
        self._wanted = 0
        self._future: asyncio.Future[list[Any]] | None = None
        self._reason: str | None = None

    @classmethod
    async def open(
        cls, host: str, port: int, login: tuple[str, str] | None = None, resp: int = 2
    ) -> Connection:
        """Connect and authenticate. Raises OSError, Lost, ReplyError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, port)
        words: tuple[Arg, ...] = (b"HELLO", resp)
        if login is not None:
            words += (b"AUTH", login[0].encode(), login[1].encode())
        (greeting,) = await connection.batch(pack(words), 1)
        if isinstance(greeting, ReplyError):
            connection.close()
            raise greeting
        return connection

    async def batch(self, raw: bytes, replies: int) -> list[Any]:
        """Write once, return so many replies; errors are instances of ReplyError. Raises Lost."""
        assert self._future is None and self._transport is not None
        if self._reason is not None:
            raise Lost(self._reason, [])
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._future = future
        self._values = []
        self._wanted = replies
        self._transport.write(raw)
        try:
            return await future
        finally:
            self._future = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's: by shape only

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        values = self._values
        while (value := reader.gets()) is not _MORE:
            values.append(value)
        if self._future is None or len(values) > self._wanted:
            self._end("a reply that nobody asked for")
        elif len(values) == self._wanted and not self._future.done():
            self._future.set_result(values)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error or "closed by the other end"))

    def _end(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()
        if self._future is not None and not self._future.done():
            self._future.set_exception(Lost(self._reason, self._values))
