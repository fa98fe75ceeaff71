"""Clients that wait while the migration goes on: in the store, in the proxy, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.sides import Side
from tests.integration.clients import Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration
from tests.servers import Server


async def waits_in_the_store(migration: Migration, count: int = 1) -> None:
    await until(lambda: len(migration.proxy.parking.blocked) == count, "they wait in the store")
    primary = (migration.source, migration.target)[migration.proxy.primary]
    await until(
        lambda: b"blocked_clients:%d\r\n" % count in primary.cli("INFO", "clients"),
        "the store has them",
    )


async def waits_in_the_proxy(migration: Migration, count: int = 1) -> None:
    def do_wait() -> bool:
        waiters = [each.waiter for each in migration.proxy.sessions if each.waiter is not None]
        return len(waiters) == count and all(w.is_parked and not w.claims for w in waiters)

    await until(lambda: migration.proxy.waiting and do_wait(), "they wait in the proxy")
    assert not migration.proxy.parking.blocked


async def test_in_idle_a_push_past_the_proxy_serves_who_waits_behind_it(
    migration: Migration,
) -> None:
    worker = await migration.client()
    worker.send("BLPOP", "q", 0)
    await waits_in_the_store(migration)
    migration.source.cli("RPUSH", "q", "job")
    assert await worker.reply() == [b"q", b"job"]
    assert await worker.call("PING") == b"PONG"


async def test_who_waits_in_the_store_is_called_back_when_the_mirror_begins(
    migration: Migration,
) -> None:
    """In order of arrival; and what is pushed then is mirrored."""
    workers = [await migration.client() for _ in range(3)]
    for at, worker in enumerate(workers):
        worker.send("BLPOP", "q", 0)
        await waits_in_the_store(migration, at + 1)
    reader = await migration.client()
    reader.send("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    await waits_in_the_store(migration, 4)
    await migration.mirroring()
    await waits_in_the_proxy(migration, 4)
    assert b"blocked_clients:0\r\n" in migration.source.cli("INFO", "clients")
    producer = await migration.client()
    for at, worker in enumerate(workers):
        assert await producer.call("RPUSH", "q", at) == 1
        assert await worker.reply() == [b"q", b"%d" % at]
    await producer.call("XADD", "s", "5-1", "f", "v")
    assert await reader.reply() == [[b"s", [[b"5-1", [b"f", b"v"]]]]]
    assert await migration.differences() == []


async def test_served_by_the_store_then_called_back_then_its_reply_arrives(
    migration: Migration, wires: Wires
) -> None:
    """The job is the client's, and it is gone on both sides."""
    worker = await migration.client()
    worker.send("BLPOP", "q", 0)
    await waits_in_the_store(migration)
    (blocked,) = migration.proxy.parking.blocked.values()
    wires.hold_replies(blocked.lane)
    migration.source.cli("RPUSH", "q", "job")
    starting = asyncio.create_task(migration.start())
    admin = migration.proxy.admin_lane(Side.SOURCE)
    await until(lambda: admin.batches > 3, "it has been called back more than once")
    wires.release_replies(blocked.lane)
    assert await worker.reply() == [b"q", b"job"]
    await starting
    await migration.copied()
    assert await migration.differences() == []
    assert not migration.proxy.waiting


async def test_a_timeout_that_began_in_the_store_ends_in_the_proxy(migration: Migration) -> None:
    worker = await migration.client()
    worker.send("BLPOP", "q", "1.5")
    await waits_in_the_store(migration)
    await migration.mirroring()
    await waits_in_the_proxy(migration)
    assert await worker.reply() is None
    worker.send("BLPOP", "q", "1.5")
    await waits_in_the_proxy(migration)
    await migration.controller.cancel()
    await waits_in_the_store(migration)
    assert await worker.reply() is None


async def cancelled(migration: Migration) -> Server:
    await migration.controller.cancel()
    return migration.source


async def finished(migration: Migration) -> Server:
    assert (await migration.verify())["passed"]
    await migration.cutover()
    await migration.controller.finish()
    return migration.target


@pytest.mark.parametrize("end", [cancelled, finished])
async def test_who_waits_in_the_proxy_waits_in_the_store_when_the_mirror_has_ended(
    migration: Migration, end: Callable[[Migration], Awaitable[Server]]
) -> None:
    await migration.mirroring()
    workers = [await migration.client() for _ in range(2)]
    for worker in workers:
        worker.send("BRPOPLPUSH", "q", "p", 0)
    reader = await migration.client()
    reader.send("XREAD", "BLOCK", 60_000, "STREAMS", "s", "$")
    await waits_in_the_proxy(migration, 3)
    store = await end(migration)
    await waits_in_the_store(migration, 3)
    store.cli("RPUSH", "q", "a", "b")
    assert sorted([await worker.reply() for worker in workers]) == [b"a", b"b"]
    store.cli("XADD", "s", "5-1", "f", "v")
    assert await reader.reply() == [[b"s", [[b"5-1", [b"f", b"v"]]]]]


async def test_a_flip_changes_nothing_for_who_waits(migration: Migration) -> None:
    await migration.verified()
    worker, mover, producer = [await migration.client() for _ in range(3)]
    for flip in (migration.cutover, migration.rollback, migration.cutover):
        worker.send("BLPOP", "q", 0)
        mover.send("BLMOVE", "r", "q", "LEFT", "RIGHT", 0)
        await waits_in_the_proxy(migration, 2)
        await flip()
        assert await producer.call("RPUSH", "r", "job") == 1
        assert await mover.reply() == b"job"
        assert await worker.reply() == [b"q", b"job"]
        assert await migration.differences() == []


async def test_a_later_try_that_finds_nothing_makes_the_consumer_on_both_sides(
    migration: Migration,
) -> None:
    """First in vain on the source, where that may make none; then in vain on the target."""
    client, reader = await migration.client(), await migration.client()
    await client.call("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    await migration.verified()
    reader.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", ">")
    await waits_in_the_proxy(migration)
    await migration.cutover()
    client.send("MULTI")
    client.send("XADD", "s", "1-1", "f", "v")
    client.send("XREADGROUP", "GROUP", "g", "other", "STREAMS", "s", ">")
    client.send("EXEC")
    assert [await client.reply() for _ in range(4)][3][1] == [[b"s", [[b"1-1", [b"f", b"v"]]]]]
    await waits_in_the_proxy(migration)
    await migration.settled()
    assert len(migration.target.cli("XINFO", "CONSUMERS", "s", "g")) == 2
    assert await migration.differences() == []
    await client.call("XADD", "s", "2-1", "f", "v")
    assert await reader.reply() == [[b"s", [[b"2-1", [b"f", b"v"]]]]]
    assert await migration.differences() == []


@pytest.mark.parametrize("where", [waits_in_the_store, waits_in_the_proxy])
async def test_who_leaves_while_it_waits_takes_nothing(
    migration: Migration, where: Callable[..., Awaitable[None]]
) -> None:
    if where is waits_in_the_proxy:
        await migration.mirroring()
    leaving, worker, producer = [await migration.client() for _ in range(3)]
    leaving.send("BLPOP", "q", 0)
    await where(migration)
    worker.send("BLPOP", "q", 0)
    await where(migration, 2)
    await leaving.close()
    await where(migration, 1)
    await producer.call("RPUSH", "q", "job")
    assert await worker.reply() == [b"q", b"job"]


@pytest.mark.parametrize("where", [waits_in_the_store, waits_in_the_proxy])
async def test_client_unblock(migration: Migration, where: Callable[..., Awaitable[None]]) -> None:
    if where is waits_in_the_proxy:
        await migration.mirroring()
    worker, other = await migration.client(), await migration.client()
    number = await worker.call("CLIENT", "ID")
    assert await other.call("CLIENT", "UNBLOCK", number) == 0
    for how, heard in ((), None), (("TIMEOUT",), None), (("ERROR",), "UNBLOCKED client unblocked"):
        worker.send("BLPOP", "q", 0)
        await where(migration)
        assert await other.call("CLIENT", "UNBLOCK", number, *how) == 1
        reply = await worker.reply()
        assert reply is None if heard is None else str(reply).startswith(heard)
        assert await other.call("CLIENT", "UNBLOCK", number) == 0
    assert await worker.call("PING") == b"PONG"


async def test_client_unblock_of_one_that_is_served_meanwhile_ends_nobody_elses_wait(
    migration: Migration, wires: Wires
) -> None:
    worker, other, next_one = [await migration.client() for _ in range(3)]
    number = await worker.call("CLIENT", "ID")
    worker.send("BLPOP", "q", 0)
    await waits_in_the_store(migration)
    admin = migration.proxy.admin_lane(Side.SOURCE)
    await admin.ready()
    wires.hold_sending(admin)
    other.send("CLIENT", "UNBLOCK", number)
    await until(lambda: admin.ops, "it is on its way")
    migration.source.cli("RPUSH", "q", "job")
    assert await worker.reply() == [b"q", b"job"]
    next_one.send("BLPOP", "r", 0)
    await waits_in_the_store(migration)
    wires.release_sending(admin)
    assert await other.reply() == 0
    migration.source.cli("RPUSH", "r", "job")
    assert await next_one.reply() == [b"r", b"job"]


async def test_writes_past_the_proxy_are_found_where_somebody_waits(migration: Migration) -> None:
    """Waived by the operator; the other writer is seen in the store's list of clients."""
    await migration.mirroring()
    workers = [await migration.client() for _ in range(2)]
    for worker in workers:
        worker.send("BLPOP", "q", 0)
    await waits_in_the_proxy(migration, 2)
    other = await Client.open(migration.source.port)
    try:

        async def is_seen() -> bool:
            # By the last command of each client.
            await other.call("SET", "k", "v")
            await migration.controller.watch.check_warnings()
            return migration.proxy.parking.has_other_writers

        await until(is_seen, "the other writer is seen")
        for at, worker in enumerate(workers):
            await other.call("RPUSH", "q", at)
            assert await worker.reply() == [b"q", b"%d" % at]
    finally:
        await other.close()


async def test_a_store_that_lets_nobody_be_called_back_closes_who_waits(
    migration: Migration,
) -> None:
    """What a client sees when its connection is lost; nothing is taken past the mirror."""
    worker, other = await migration.client(), await migration.client()
    worker.send("BLPOP", "q", 0)
    await waits_in_the_store(migration)
    migration.source.cli("ACL", "SETUSER", "default", "-client")
    try:
        await migration.mirroring()
        with pytest.raises(ConnectionError):
            await worker.reply()
        assert await other.call("RPUSH", "q", "job") == 1
        assert await migration.differences() == []
        assert await other.call("LLEN", "q") == 1
    finally:
        migration.source.cli("ACL", "SETUSER", "default", "+client")
