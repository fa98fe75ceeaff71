"""Client-side caches over flips: what is cached is what the store holds, once all is quiet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.clients import Client, Listening, until
from tests.integration.keyferry import Migration
from tests.servers import engine_pairs

KEYS = [f"k{number}" for number in range(200)]
INVALIDATE = b"__redis__:invalidate"


class Cache:
    """A client that keeps what it has read until it is told to forget it.

    mode: the words behind CLIENT TRACKING ON. With a listener, invalidations go there.
    """

    def __init__(self, migration: Migration, mode: str, *, redirects: bool = False) -> None:
        self.migration = migration
        self.mode = mode
        self.redirects = redirects
        self.values: dict[str, Any] = {}
        # Asked for, and not answered yet: on its other way an invalidation may come first.
        self.asked: dict[str, bool] = {}
        self.forgotten = 0
        self.everything = 0
        self.hits = 0
        self._dice = random.Random(mode)

    async def open(self) -> None:
        """Track, the client's own way."""
        self.client = await Listening.open(self.migration.port)
        self.client.on_push = self.pushed
        words = ["CLIENT", "TRACKING", "ON", *self.mode.split()]
        if self.redirects:
            self.listener = await Listening.open(self.migration.port)
            self.listener.on_push = self.pushed
            number = await self.listener.call("CLIENT", "ID")
            await self.listener.call("SUBSCRIBE", INVALIDATE.decode())
            self.listener.listen()
            words += ["REDIRECT", str(number)]
        else:
            await self.client.call("HELLO", "3")
        await self.client.call(*words)

    def pushed(self, frame: list[Any]) -> None:
        if frame[0] not in (b"invalidate", b"message"):
            return
        keys = frame[-1]
        if keys is None:
            self.everything += 1
            self.values.clear()
            self.asked = dict.fromkeys(self.asked, False)
            return
        for key in keys:
            self.forgotten += 1
            self.values.pop(key.decode(), None)
            if key.decode() in self.asked:
                self.asked[key.decode()] = False

    async def get(self, key: str) -> None:
        if key in self.values:
            self.hits += 1
            return
        self.asked[key] = True
        if "OPTIN" in self.mode:
            assert await self.client.call("CLIENT", "CACHING", "YES") == b"OK"
        value = await self.client.call("GET", key)
        if self.asked.pop(key):
            self.values[key] = value

    async def run(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            await self.get(self._dice.choice(KEYS))
            # Invalidations are read with the next answer at the latest.
            if self._dice.random() < 0.2:
                await self.client.call("PING")
                await asyncio.sleep(0)

    async def close(self) -> None:
        await self.client.close()
        if self.redirects:
            await self.listener.close()


async def write(migration: Migration, number: int, is_over: asyncio.Event) -> None:
    client = await Client.open(migration.port)
    dice = random.Random(number)
    at = 0
    try:
        while not is_over.is_set():
            at += 1
            await client.call("SET", dice.choice(KEYS), f"{number}-{at}")
            if dice.random() < 0.05:
                await client.call("DEL", dice.choice(KEYS))
            if dice.random() < 0.01:
                await client.block(("SET", dice.choice(KEYS), "b"), ("INCR", "n"))
    finally:
        await client.close()


@pytest.fixture
async def caches(migration: Migration) -> AsyncIterator[list[Cache]]:
    made = [
        Cache(migration, ""),
        Cache(migration, "NOLOOP"),
        Cache(migration, "BCAST"),
        Cache(migration, "BCAST PREFIX k1 PREFIX k2 PREFIX k3 PREFIX k4 PREFIX k5 PREFIX k6"
              " PREFIX k7 PREFIX k8 PREFIX k9 PREFIX k0"),
        Cache(migration, "OPTIN"),
        Cache(migration, "OPTOUT"),
        Cache(migration, "", redirects=True),
        Cache(migration, "OPTIN NOLOOP", redirects=True),
        Cache(migration, "BCAST", redirects=True),
    ]  # fmt: skip
    yield made
    for each in made:
        await each.close()


@engine_pairs
async def test_caches_over_three_flips_hold_nothing_that_is_not_so(
    migration: Migration, caches: list[Cache]
) -> None:
    await migration.verified()
    for cache in caches:
        await cache.open()
    is_over = asyncio.Event()
    tasks = [asyncio.create_task(write(migration, number, is_over)) for number in range(3)]
    tasks += [asyncio.create_task(cache.run(is_over)) for cache in caches]
    for flip in (migration.cutover, migration.rollback, migration.cutover):
        seen = [(cache.forgotten, cache.hits) for cache in caches]
        await until(
            lambda seen=seen: all(
                cache.forgotten > forgotten + 20 and cache.hits > hits
                for cache, (forgotten, hits) in zip(caches, seen, strict=True)
            ),
            "every cache is used, and told to forget",
        )
        await flip()
    seen = [(cache.forgotten, cache.hits) for cache in caches]
    await until(
        lambda: all(
            cache.forgotten > forgotten + 20
            for cache, (forgotten, _) in zip(caches, seen, strict=True)
        ),
        "invalidations come from the new primary",
    )
    is_over.set()
    await asyncio.gather(*tasks)
    await migration.settled()
    for cache in caches:
        assert cache.everything == 3, cache.mode
        for key in KEYS:
            await cache.get(key)
        assert len(cache.values) == len(KEYS)
    held = migration.target.cli("MGET", *KEYS)
    for cache in caches:
        assert await until(
            lambda cache=cache: [cache.values.get(key, b"?") for key in KEYS] == held,
            f"the cache {cache.mode!r} is right",
        )
    assert await migration.differences() == []
