"""One connection of an application: batches of commands, and their replies as values.

Owns the connection and nothing of what is sent on it. It never connects again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import hiredis

from proxy.resp.values import ReplyError

Arg = bytes | int | float
Words = tuple[Arg, ...]
# What arrives and answers no command: messages, confirmations, invalidations.
OnPush = Callable[[list[Any]], None]

pack = cast(Callable[[Words], bytes], hiredis.pack_command)

_MORE = object()
# In RESP2 what a subscribed connection gets looks like a reply.
_PUSHED = {
    b"message", b"pmessage", b"smessage", b"subscribe", b"psubscribe", b"ssubscribe",
    b"unsubscribe", b"punsubscribe", b"sunsubscribe",
}  # fmt: skip


class Endpoint(NamedTuple):
    """Where the application connects, and as whom."""

    host: str
    port: int
    login: tuple[str, str] | None
    resp: int


class Lost(ConnectionError):
    """The connection ended; `values` are the replies of the batch that had arrived."""

    def __init__(self, reason: str, values: list[Any]) -> None:
        super().__init__(reason)
        self.values = values


class Connection(asyncio.Protocol):
    """See the module's docstring; one batch at a time. `on_push` gets what is no reply."""

    def __init__(self, on_push: OnPush | None = None) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_MORE)
        self._values: list[Any] = []
        self._wanted = 0
        self._future: asyncio.Future[list[Any]] | None = None
        self._reason: str | None = None
        self._on_push = on_push

    @classmethod
    async def open(cls, endpoint: Endpoint, on_push: OnPush | None = None) -> Connection:
        """Connect and authenticate. Raises OSError, Lost, ReplyError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: cls(on_push), endpoint.host, endpoint.port
        )
        words: Words = (b"HELLO", endpoint.resp)
        if endpoint.login is not None:
            words += (b"AUTH", *(each.encode() for each in endpoint.login))
        (greeting,) = await connection.batch(pack(words), 1)
        if isinstance(greeting, ReplyError):
            connection.close()
            raise greeting
        return connection

    async def batch(self, raw: bytes, replies: int) -> list[Any]:
        """Write once, return so many replies; errors are instances of ReplyError. Raises Lost."""
        assert self._future is None
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.send(raw)
        self._future = future
        self._values = []
        self._wanted = replies
        try:
            return await future
        finally:
            self._future = None

    def send(self, raw: bytes) -> None:
        """Write what only `on_push` hears the answer of. Raises Lost."""
        assert self._transport is not None
        if self._reason is not None:
            raise Lost(self._reason, [])
        self._transport.write(raw)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's: by shape only

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        while (value := reader.gets()) is not _MORE:
            if self._on_push is not None and _is_push(value):
                self._on_push(value)
                continue
            self._values.append(value)
            if self._future is None or len(self._values) > self._wanted:
                self._end(f"a reply that nobody asked for: {value!r:.100}")
                return
        future = self._future
        if future is not None and not future.done() and len(self._values) == self._wanted:
            future.set_result(self._values)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error or "closed by the other end"))

    def _end(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()
        if self._future is not None and not self._future.done():
            self._future.set_exception(Lost(self._reason, self._values))


def _is_push(value: Any) -> bool:
    if isinstance(value, hiredis.PushNotification):
        return True
    return isinstance(value, list) and bool(value) and value[0] in _PUSHED


class Line:
    """A connection that lasts: opened when it is needed, and again when it was lost.

    `db` is the database that it is in. Every loss is an error of the application's, told to
    `on_error`; the commands under way are nobody's any more.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        on_error: Callable[[str], None],
        on_push: OnPush | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.db = 0
        self._on_error = on_error
        self._on_push = on_push
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def open(self) -> bool:
        """Whether it is; where it cannot be, after a moment."""
        if self._connection is None:
            try:
                self._connection = await Connection.open(self.endpoint, self._on_push)
            except (OSError, ReplyError) as error:
                self._on_error(f"{self.name} cannot connect: {error}")
                await asyncio.sleep(0.1)
            self.db = 0
        return self._connection is not None

    async def batch(self, raw: bytes, replies: int) -> list[Any]:
        """See Connection.batch. Raises Lost."""
        if self._connection is None:
            raise Lost("not connected", [])
        try:
            return await self._connection.batch(raw, replies)
        except Lost as lost:
            self._connection = None
            self._on_error(f"{self.name}: connection lost: {lost}")
            raise

    async def ask(self, *commands: Words) -> list[Any]:
        """The replies to commands that are sent at once. Raises Lost."""
        return await self.batch(b"".join(map(pack, commands)), len(commands))

    async def call(self, *words: Arg, db: int | None = None) -> Any:
        """One command's reply, in a database. Raises Lost."""
        if not await self.open():
            raise Lost("not connected", [])
        if db is not None and db != self.db:
            await self.ask((b"SELECT", db))
            self.db = db
        return (await self.ask(words))[0]

    def send(self, *words: Arg) -> None:
        """What only pushes answer. Raises Lost."""
        if self._connection is None:
            raise Lost("not connected", [])
        self._connection.send(pack(words))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
