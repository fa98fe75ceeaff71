"""A pipelined connection of Keyferry's own to one store, where values are wanted.

Used by the movers (copy, verify, repair) and for administration. Owns the connection, its
handshake, and which db it is in; replies are parsed (RESP2, bytes). It never carries a client's
command, and never connects again by itself: who owns it opens another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from proxy.endpoint import Endpoint
from proxy.resp.values import ReplyError

__all__ = ["Arg", "Bulk", "BulkClosed", "Command", "ReplyError", "pack"]

Arg = bytes | str | int | float
# The arguments of one command, or its wire form.
Command = Sequence[Arg] | bytes

# Typed here: hiredis says that commands have one word.
pack = cast(Callable[[tuple[Arg, ...]], bytes], hiredis.pack_command)

_MORE = object()


class BulkClosed(ConnectionError):
    """The connection is gone; of what was in flight the outcome is unknown."""


class _Batch:
    """Replies still expected: `wanted` of them; the first `skipped` are not the caller's."""

    __slots__ = ("future", "skipped", "values", "wanted")

    def __init__(self, wanted: int, skipped: int) -> None:
        self.wanted = wanted
        self.skipped = skipped
        self.values: list[Any] = []
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()


class Bulk(asyncio.Protocol):
    """See the module's docstring. Made by `open`; tasks may share one, batches never interleave.

    A batch is written at once and in the order of the calls: what is buffered is bounded by its
    callers, each of which waits for its replies before it sends more.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        # Seconds within which a batch is answered, or the connection is given up; None: any time.
        self.deadline_s: float | None = None
        self.db = 0  # where batches run that name no db
        self._current_db = 0
        self._usable_dbs = {0}
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_MORE)
        self._waiting: deque[_Batch] = deque()
        self._lost: BulkClosed | None = None
        self._gone = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, endpoint: Endpoint, db: int = 0) -> Bulk:
        """Connects, authenticates, selects `db`.

        Raises OSError when there is no connection, ReplyError when the store refuses the user or
        the db. No deadline of its own.
        """
        _, bulk = await endpoint.connect(lambda: cls(endpoint))
        try:
            if endpoint.password is not None:
                user = () if endpoint.user is None else (endpoint.user,)
                await bulk.call("AUTH", *user, endpoint.password)
            await bulk.select(db)
        except BaseException:
            bulk.close()
            raise
        return bulk

    @property
    def closed(self) -> bool:
        return self._lost is not None

    async def call(self, *args: Arg, db: int | None = None) -> Any:
        """One command's reply. Raises ReplyError for an error reply, BulkClosed."""
        [value] = await self.pipeline([args], db=db)
        if isinstance(value, ReplyError):
            raise value
        return value

    async def select(self, db: int) -> None:
        """Makes `db` the one for batches that name none. Raises ReplyError, BulkClosed."""
        await self._prove_usable(db)
        self.db = db

    async def pipeline(
        self, commands: Sequence[Command] | bytes, n: int | None = None, *, db: int | None = None
    ) -> list[Any]:
        """Sends a batch in one write and returns its replies, errors as ReplyError instances.

        `commands` holds arguments or wire forms, mixed as you like, or is the wire form of all of
        them, then `n` says how many. With `db` the batch runs there (a SELECT goes along only when
        the connection is elsewhere). Raises BulkClosed, and ReplyError when SELECT is refused.
        """
        if isinstance(commands, bytes):
            if n is None:
                raise TypeError("a wire form needs the number of its commands")
            chunks = [commands]
        else:
            n = len(commands)
            chunks = [c if isinstance(c, bytes) else pack(tuple(c)) for c in commands]
        if not n:
            return []
        if db is None:
            db = self.db
        if db not in self._usable_dbs:
            await self._prove_usable(db)
        selects = db != self._current_db
        if selects:
            chunks.insert(0, pack(("SELECT", db)))
            self._current_db = db
        return await self._send(chunks, _Batch(n + selects, int(selects)))

    async def _prove_usable(self, db: int) -> None:
        # A SELECT that is refused (fewer databases, or NOPERM) must not go with a batch: the batch
        # would run all the same, in another db. So a db is tried alone, once, there and back.
        if db not in self._usable_dbs:
            there = pack(("SELECT", db))
            back = pack(("SELECT", self._current_db))
            values = await self._send([there, back], _Batch(2, 0))
            if isinstance(values[0], ReplyError):
                raise values[0]
            self._usable_dbs.add(db)

    async def _send(self, chunks: list[bytes], batch: _Batch) -> list[Any]:
        if self._lost is not None:
            raise BulkClosed(*self._lost.args)
        assert self._transport is not None, "open() gives out connected ones only"
        self._waiting.append(batch)
        self._transport.write(b"".join(chunks))
        if self.deadline_s is None:
            return await batch.future
        try:
            async with asyncio.timeout(self.deadline_s):
                return await batch.future
        except TimeoutError:
            reason = f"{self.endpoint.address} gave no answer in {self.deadline_s:g} s"
            self._abort(reason)
            raise BulkClosed(reason) from None

    def close(self) -> None:
        """Ends the connection; what is in flight fails with BulkClosed. May be called twice."""
        self._abort(f"the connection to {self.endpoint.address} was closed")

    async def wait_closed(self) -> None:
        """Returns when the transport is gone."""
        await asyncio.shield(self._gone)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._lost is not None:
            return
        waiting = self._waiting
        gets = self._reader.gets
        try:
            self._reader.feed(data)
            while waiting:
                batch = waiting[0]
                append = batch.values.append
                for _ in range(batch.wanted - len(batch.values)):
                    value = gets()
                    if value is _MORE:
                        return
                    append(value)
                waiting.popleft()
                self._finish(batch)
            surplus = gets() is not _MORE
        except hiredis.ProtocolError:
            surplus = True
        if surplus:
            # A reply that nobody asked for puts all later ones in the wrong place.
            self._abort(f"{self.endpoint.address} sent what is no reply")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(f"the connection to {self.endpoint.address} was lost: {exc or 'closed by peer'}")
        if not self._gone.done():
            self._gone.set_result(None)

    def _finish(self, batch: _Batch) -> None:
        refused = next(
            (v for v in batch.values[: batch.skipped] if isinstance(v, ReplyError)), None
        )
        if refused is not None:
            # It worked before, so the user's rights have changed; what was sent behind it ran, or
            # will run, in a db that nobody named.
            if not batch.future.done():
                batch.future.set_exception(refused)
            self._abort(f"{self.endpoint.address} refused to change the database: {refused}")
        elif not batch.future.done():  # done: its caller was cancelled
            del batch.values[: batch.skipped]
            batch.future.set_result(batch.values)

    def _abort(self, reason: str) -> None:
        self._lose(reason)
        if self._transport is not None:
            self._transport.abort()

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = BulkClosed(reason)
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(BulkClosed(reason))
