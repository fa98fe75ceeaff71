"""Tracking at one moment of a flip: each interleaving, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from migrator.errors import Refused
from proxy.follower import Nothing, NotPrepared
from proxy.pinned import Inbox
from proxy.sides import Side
from tests.integration.clients import Client, Listening, until
from tests.integration.keyferry import Migration, refusal

INVALIDATE = b"__redis__:invalidate"


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
        # The keys, too: not every cache understands that it is all of them.
        assert await client.pushes() == [[b"k"], None]
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
    assert await client.pushes() == [[b"k"], None]
    assert await changes.pushes() == [None]
    await client.call("GET", "k")
    await writer.call("MSET", "k", "1", "a1", "1", "b1", "1", "c1", "1")
    assert await client.pushes() == [[b"k"]]
    assert sorted(key for keys in await changes.pushes() for key in keys) == [b"a1", b"b1"]


async def test_a_redirection_that_is_on_its_way_when_the_fence_begins_is_in_order_behind_it(
    migration: Migration, writer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = Teller(migration)
    ear = await migration.client()
    number = await ear.call("CLIENT", "ID")
    await ear.call("HELLO", "3")
    client = await Tracking.on(migration)
    kept: list[Callable[[], None]] = []
    opened = Inbox._open

    def slow(inbox: Inbox, side: Side) -> Any:
        wire = opened(inbox, side)
        if side is Side.SOURCE:
            settled = wire.lane.when_settled
            monkeypatch.setattr(
                wire.lane, "when_settled", lambda then: kept.append(lambda: settled(then))
            )
        return wire

    async def ask() -> None:
        client.send("CLIENT", "TRACKING", "ON", "REDIRECT", number)
        await until(lambda: kept, "its inbox is waited for")

    async def release() -> None:
        await until(lambda: migration.proxy.table.is_closed, "the fence")
        await asyncio.sleep(0.1)
        kept[0]()

    monkeypatch.setattr(Inbox, "_open", slow)
    teller.prepared = ask
    releasing = asyncio.create_task(release())
    await migration.cutover()
    await releasing
    assert await client.reply() == b"OK"
    assert await client.call("CLIENT", "GETREDIR") == number
    await client.call("GET", "k")
    await writer.call("SET", "k", "1")
    while (frame := await ear.reply())[-1] is None:
        pass
    assert frame == [b"invalidate", [b"k"]]


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
    assert await client.pushes() == [[b"k"], None]


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
