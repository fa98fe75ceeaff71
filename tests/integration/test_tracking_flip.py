"""Client-side caches over flips: what is cached is what the store holds, once all is quiet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import hiredis
import pytest

from migrator.errors import Refused
from proxy.follower import Nothing, NotPrepared
from proxy.sides import Side
from tests.integration.clients import Client, until
from tests.integration.keyferry import Migration, refusal

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


# -- at one moment of a flip ---------------------------------------------------------------------


class Teller(Nothing):
    """A follower that does something of a test's at a moment of the flip."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration
        self.prepared: Callable[[], Awaitable[Any]] | None = None
        self.settled: Callable[[], Awaitable[Any]] | None = None
        migration.proxy.followers.append(self)

    async def prepare(self, side: Side) -> list[str]:
        pins = self.migration.proxy.pins
        await until(
            lambda: all(each._next and each._next.told for each in pins._all.values()),
            "everybody who tracks has a connection to the other side",
        )
        if self.prepared is not None:
            await self.prepared()
        return []

    async def settle(self) -> None:
        if self.settled is not None:
            await self.settled()


class Tracking(Listening):
    """A RESP3 client; `heard` are its pushes."""

    heard: list[Any]

    @classmethod
    async def on(cls, migration: Migration, *words: str | int) -> Tracking:
        client = await cls.open(migration.port)
        # Closed with the migration.
        migration._clients.append(client)
        client.heard = []
        client.on_push = client.heard.append
        await client.call("HELLO", "3")
        assert await client.call("CLIENT", "TRACKING", "ON", *words) == b"OK"
        return client

    async def pushes(self) -> list[Any]:
        """What has come since it was asked last."""
        await self.call("CLIENT", "ID")
        heard = [each[-1] for each in self.heard]
        self.heard.clear()
        return heard


@pytest.fixture
async def writer(migration: Migration) -> Client:
    await migration.verified()
    return await migration.client()


async def test_what_is_read_before_a_flip_is_forgotten_at_it_and_what_is_read_behind_is_tracked(
    migration: Migration, writer: Client
) -> None:
    client = await Tracking.on(migration)
    for flip in (migration.cutover, migration.rollback, migration.cutover):
        await client.call("GET", "k")
        await flip()
        assert await client.pushes() == [None]
        await writer.call("SET", "k", "1")
        assert await client.pushes() == []
        await client.call("GET", "k")
        await writer.call("SET", "k", "2")
        assert await client.pushes() == [[b"k"]]


async def test_what_was_said_of_the_next_command_holds_behind_the_flip(
    migration: Migration, writer: Client
) -> None:
    asks = await Tracking.on(migration, "OPTIN")
    declines = await Tracking.on(migration, "OPTOUT")
    await asks.call("CLIENT", "CACHING", "YES")
    await declines.call("CLIENT", "CACHING", "NO")
    # It is not the next command: CLIENT never is.
    await asks.call("CLIENT", "GETREDIR")
    await migration.cutover()
    assert b"caching-yes" in (await asks.call("CLIENT", "TRACKINGINFO"))[b"flags"]
    for client in (asks, declines):
        assert await client.pushes() == [None]
        await client.call("GET", "k")
        await client.call("GET", "l")
    await writer.call("MSET", "k", "1", "l", "1")
    assert await asks.pushes() == [[b"k"]]
    assert await declines.pushes() == [[b"l"]]


async def test_a_block_that_is_cached_goes_on_behind_the_flip(
    migration: Migration, writer: Client
) -> None:
    client = await Tracking.on(migration, "OPTIN")
    await client.call("SELECT", 3)
    await client.call("CLIENT", "CACHING", "YES")
    await client.call("MULTI")
    await client.call("GET", "k")
    await migration.cutover()
    await client.call("GET", "l")
    assert await client.call("EXEC") == [None, None]
    assert await client.call("GET", "m") is None
    other = await migration.client(db=3)
    await other.call("MSET", "k", "1", "l", "1", "m", "1")
    assert await client.pushes() == [None, [b"k"], [b"l"]]


async def test_a_flip_that_is_refused_inside_the_fence_disturbs_nobody(
    migration: Migration, writer: Client
) -> None:
    teller = Teller(migration)

    async def refuse() -> None:
        raise NotPrepared("it is a test")

    teller.settled = refuse
    asks = await Tracking.on(migration, "OPTIN")
    blocks = await Tracking.on(migration)
    await asks.call("CLIENT", "CACHING", "YES")
    await blocks.call("MULTI")
    await blocks.call("GET", "k")
    assert await refusal(migration.cutover()) == {"not_prepared"}
    assert len(migration.proxy._own) == 2
    await asks.call("GET", "k")
    assert await blocks.call("EXEC") == [None]
    await writer.call("SET", "k", "1")
    assert await asks.pushes() == await blocks.pushes() == [[b"k"]]


async def test_who_begins_to_track_while_the_flip_is_prepared_follows_it(
    migration: Migration, writer: Client
) -> None:
    teller = Teller(migration)
    found: list[Tracking] = []
    changes = await Tracking.on(migration, "BCAST", "PREFIX", "a")

    async def begin() -> None:
        found.append(await Tracking.on(migration))
        await found[0].call("GET", "k")
        await changes.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "b")

    teller.prepared = begin
    await migration.cutover()
    (client,) = found
    assert await client.pushes() == await changes.pushes() == [None]
    await client.call("GET", "k")
    await writer.call("MSET", "k", "1", "a1", "1", "b1", "1", "c1", "1")
    assert await client.pushes() == [[b"k"]]
    assert sorted(key for keys in await changes.pushes() for key in keys) == [b"a1", b"b1"]


async def test_the_mirrors_writes_are_no_invalidations(
    migration: Migration, writer: Client
) -> None:
    """Before the flip the connection to the other side hears the mirror; behind it, the old one."""
    teller = Teller(migration)
    client = await Tracking.on(migration, "BCAST", "PREFIX", "x")

    async def write_one() -> None:
        await writer.call("SET", "x", "1")
        await migration.settled()
        assert await client.pushes() == [[b"x"]]

    teller.prepared = write_one
    await migration.cutover()
    assert await client.pushes() == [None]
    await writer.call("SET", "x", "2")
    await migration.settled()
    assert await client.pushes() == [[b"x"]]


async def test_who_leaves_while_the_flip_is_prepared_is_not_waited_for(
    migration: Migration, writer: Client
) -> None:
    teller = Teller(migration)
    leaves, stays = await Tracking.on(migration), await Tracking.on(migration)

    async def leave() -> None:
        await leaves.close()
        await until(lambda: len(migration.proxy.pins._all) == 1, "it has gone")

    teller.prepared = leave
    await migration.cutover()
    assert await stays.pushes() == [None]
    await until(lambda: len(migration.proxy._own) == 1, "its connections have gone")


async def test_a_redirection_follows_and_so_does_a_broken_one(
    migration: Migration, writer: Client
) -> None:
    ear, gone = await migration.client(), await migration.client()
    number, lost = await ear.call("CLIENT", "ID"), await gone.call("CLIENT", "ID")
    await ear.call("SUBSCRIBE", "any")
    client = await Tracking.on(migration, "REDIRECT", number)
    broken = await Tracking.on(migration, "REDIRECT", lost)
    await gone.close()
    await until(lambda: len(migration.proxy._own) == 4, "its inbox is closed")
    for flip in (migration.cutover, migration.rollback):
        await flip()
        assert await ear.reply() == [b"message", INVALIDATE, None]
        for each, of in ((client, number), (broken, lost)):
            assert await each.call("CLIENT", "GETREDIR") == of
            assert (await each.call("CLIENT", "TRACKINGINFO"))[b"redirect"] == of
            await each.call("GET", "k")
        await writer.call("SET", "k", "1")
        assert await ear.reply() == [b"message", INVALIDATE, [b"k"]]
        assert await client.pushes() == []
        assert await broken.pushes() == [lost]
    assert len(migration.proxy._own) == 4


async def test_a_client_that_may_not_track_on_the_target_stops_the_flip_and_loses_nothing(
    migration: Migration,
) -> None:
    for server, rights in ((migration.source, "+@all"), (migration.target, "-client")):
        server.cli("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", rights)
    await migration.verified()
    client = await Tracking.on(migration)
    await client.call("AUTH", "limited", "pw")
    with pytest.raises(Refused) as caught:
        await migration.cutover()
    (blocker,) = caught.value.blockers
    assert blocker.name == "not_prepared"
    assert "a client that tracks keys cannot follow: limited: NOPERM" in blocker.message
    assert len(migration.proxy._own) == 1
    await client.call("GET", "k")
    await (await migration.client()).call("SET", "k", "1")
    assert await client.pushes() == [[b"k"]]
    migration.target.cli("ACL", "SETUSER", "limited", "+client")
    await migration.cutover()
    assert await client.pushes() == [None]


async def test_a_lost_connection_to_the_other_side_is_made_again_inside_the_fence(
    migration: Migration, writer: Client
) -> None:
    teller = Teller(migration)
    client = await Tracking.on(migration)

    async def cut() -> None:
        (pinned,) = migration.proxy.pins._all.values()
        assert pinned._next is not None
        lane = pinned._next.lane
        migration.target.cli("CLIENT", "KILL", "ID", lane.client_id)
        await until(lambda: lane.is_lost, "it is lost")

    teller.prepared = cut
    await migration.cutover()
    assert await client.pushes() == [None]
    await client.call("GET", "k")
    await writer.call("SET", "k", "1")
    assert await client.pushes() == [[b"k"]]


async def test_no_touch_follows_where_the_store_knows_it(
    migration: Migration, writer: Client
) -> None:
    def untouching() -> int:
        listed = migration.target.cli("CLIENT", "LIST", "TYPE", "normal").decode()
        return listed.count(" flags=T ")

    await migration.cutover()
    client = await migration.client()
    await client.call("CLIENT", "NO-TOUCH", "ON")
    assert untouching() == 1
    await migration.rollback()
    assert await client.call("GET", "k") is None
    await migration.cutover()
    assert await client.call("GET", "k") is None
    assert untouching() == 1
    await client.call("CLIENT", "NO-TOUCH", "OFF")
    assert untouching() == 0
