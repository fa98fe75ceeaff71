"""Caches that the server invalidates: CLIENT TRACKING.

Owns the promise of it: what a cache still holds when all is quiet is what the store holds. Each
cache reads keys that everybody writes, in one of the ways that tracking knows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

from .connection import Endpoint, Line, Lost, Words
from .counts import Counts
from .draw import Sizes
from .ledger import COUNTER, FIELD, TRIPLE, shared_key

INVALIDATE = b"__redis__:invalidate"
KEPT = 60
# For the last invalidations, when nobody writes any more.
PATIENCE_S = 8.0


class Cache:
    """One cache of database 0. `number` chooses the way: with the invalidations of what was read,
    of all that begins so, only of what was asked for, or sent to a second connection."""

    def __init__(
        self, number: int, seed: str, endpoint: Endpoint, sizes: Sizes, counts: Counts
    ) -> None:
        self.name = f"cache {number}"
        self.counts = counts
        # In RESP2 only another connection can be told.
        self._is_redirected = endpoint.resp == 2
        self._mode = number // 2 % 3
        self._rng = random.Random(f"{seed}/{self.name}")
        self._hot = min(12, sizes.shared)
        self._endpoint = endpoint
        self._line = Line(self.name, endpoint, counts.error, self._on_push)
        self._ear = Line(f"{self.name}, second connection", endpoint, counts.error, self._on_push)
        self._values: dict[bytes, Any] = {}
        # Read and not answered yet: an invalidation may overtake the answer on its other way.
        self._reading: set[bytes] = set()
        self._is_stopping = False

    def stop(self) -> None:
        """When nobody writes any more: the last look follows."""
        self._is_stopping = True

    async def run(self) -> None:
        self._is_stopping = False
        try:
            while not self._is_stopping:
                try:
                    await self._fill()
                except Lost:
                    self._line.close()
                    self._ear.close()
            await self._compare()
        except Lost:
            pass  # Counted.
        finally:
            self._line.close()
            self._ear.close()

    async def _fill(self) -> None:
        """Track, and read what is not cached, until the end. Raises Lost."""
        self._values.clear()
        await self._track()
        while not self._is_stopping:
            key = self._key()
            if key in self._values:
                await asyncio.sleep(0.002)
            else:
                await self._read(key)
            if len(self._values) > KEPT:
                del self._values[next(iter(self._values))]

    async def _track(self) -> None:
        words: Words = (b"CLIENT", b"TRACKING", b"ON")
        if not await self._line.open():
            raise Lost("not connected", [])
        if self._is_redirected:
            words += (b"REDIRECT", await self._ear.call(b"CLIENT", b"ID"))
            self._ear.send(b"SUBSCRIBE", INVALIDATE)
            await self._ear.ask((b"PING",))
        words += ((), (b"BCAST", b"PREFIX", b"shared:"), (b"OPTIN",))[self._mode]
        reply = await self._line.call(*words)
        if reply != b"OK":
            self.counts.complain(self.name, words, b"OK", reply)

    def _key(self) -> bytes:
        kind = self._rng.choice((COUNTER, FIELD, TRIPLE))
        return shared_key(kind, self._rng.randrange(self._hot), "a" if kind == TRIPLE else "")

    async def _read(self, key: bytes) -> None:
        read = _read_of(key)
        self._reading.add(key)
        commands: tuple[Words, ...] = (read,)
        if self._mode == 2:
            commands = ((b"CLIENT", b"CACHING", b"YES"), read)
        value = (await self._line.ask(*commands))[-1]
        self.counts.commands += len(commands)
        if key in self._reading:
            self._reading.remove(key)
            self._values[key] = value

    def _on_push(self, frame: list[Any]) -> None:
        if frame[0] == b"invalidate":
            self._drop(frame[1])
        elif frame[0] == b"message":
            self._drop(frame[2])

    def _drop(self, keys: Iterable[bytes] | None) -> None:
        """None: all of them."""
        self.counts.invalidations += 1
        if keys is None:
            self._values.clear()
            self._reading.clear()
            return
        for key in keys:
            self._values.pop(key, None)
            self._reading.discard(key)

    async def _compare(self) -> None:
        """An invalidation may still be on its way; when none comes any more, nothing is stale."""
        line = Line(f"{self.name}, last look", self._endpoint, self.counts.error)
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        try:
            while stale := await self._stale(line):
                if loop.time() > until:
                    for key, value, cached in stale:
                        self.counts.complain(
                            f"{self.name} RESP{self._endpoint.resp} mode {self._mode}",
                            _read_of(key), f"{value!r}, and it was not invalidated", cached,
                        )  # fmt: skip
                    return
                await asyncio.sleep(0.02)
        finally:
            line.close()

    async def _stale(self, line: Line) -> list[tuple[bytes, Any, Any]]:
        keys = list(self._values)
        await line.open()
        values = await line.ask(*map(_read_of, keys)) if keys else []
        await self._line.ask((b"PING",))
        return [
            (key, value, self._values[key])
            for key, value in zip(keys, values, strict=True)
            if key in self._values and self._values[key] != value
        ]


def _read_of(key: bytes) -> Words:
    return (b"HGET", key, b"n") if key.startswith(b"shared:%b:" % FIELD.encode()) else (b"GET", key)
