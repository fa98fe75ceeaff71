"""What clients may hold of the proxy's memory, each and in all: who goes, and who never notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.servers import Server

from .clients import Client, Proxied, until
from .relay import Relay

Proxies = Callable[..., Awaitable[Proxied]]
MEGABYTE = 1_000_000


def errors(proxied: Proxied, reason: str) -> int:
    return proxied.proxy.stats.client_errors[reason]


def half_of_a_set(key: str, size: int) -> bytes:
    """A SET of which nothing is missing but the end of its value."""
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key.encode(), size + 3) + (
        b"x" * size
    )


async def session_id(client: Client) -> int:
    return int((await client.call("CLIENT ID"))[1:])


async def test_of_all_that_leave_replies_unread_the_largest_goes_first(
    source: Server, target: Server, proxies: Proxies, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 60 * MEGABYTE
    proxied = await proxies(
        source, target, client_output_limit=50 * MEGABYTE, clients_memory_limit=limit
    )
    source.cli("SET", "big", "x" * MEGABYTE)
    pressure = proxied.proxy.pressure
    async with proxied.client(4) as (small, second, largest, other):
        who = await session_id(largest)
        small.send(*["GET big"] * 18)
        second.send(*["GET big"] * 28)
        await until(lambda: pressure.total > 25 * MEGABYTE)
        assert not pressure.evicted
        largest.send(*["GET big"] * 45)
        await until(lambda: pressure.evicted)
        assert errors(proxied, "memory_limit") == pressure.evicted == 1
        await until(lambda: pressure.total <= limit)
        assert f"client {who} (127.0.0.1:" in caplog.text
        assert f"--clients-memory-limit is {limit}: closed" in caplog.text
        # The lane went on: what was meant for it is skipped, and everybody else is served.
        assert await other.calls("SET k v", "GET k") == [b"+OK\r\n", b"$1\r\nv\r\n"]
        for reader, count in ((small, 18), (second, 28)):
            assert {len(reply) for reply in await reader.replies(count)} == {MEGABYTE + 12}
        assert len(await largest.rest()) < 45 * MEGABYTE
    await until(lambda: not pressure.total)


async def test_requests_that_never_end_count(
    source: Server, target: Server, proxies: Proxies
) -> None:
    proxied = await proxies(source, target, clients_memory_limit=10 * MEGABYTE)
    pressure = proxied.proxy.pressure
    async with proxied.client(4) as (one, two, three, other):
        one.writer.write(half_of_a_set("one", 2 * MEGABYTE))
        two.writer.write(half_of_a_set("two", 5 * MEGABYTE))
        await until(lambda: pressure.total >= 7 * MEGABYTE)
        three.writer.write(half_of_a_set("three", 4 * MEGABYTE))
        await until(lambda: pressure.evicted)
        # A request that is still arriving is nobody else's business.
        assert await other.calls("SET k v", "GET k") == [b"+OK\r\n", b"$1\r\nv\r\n"]
        assert await two.rest() == b""
        for client in (one, three):
            client.writer.write(b"end\r\n")
            assert await client.replies(1) == [b"+OK\r\n"]
        assert await other.call("EXISTS one two three") == b":2\r\n"
        await until(lambda: not pressure.total)


async def test_a_block_that_is_queued_counts(
    source: Server, target: Server, proxies: Proxies
) -> None:
    proxied = await proxies(source, target, clients_memory_limit=8 * MEGABYTE)
    async with proxied.client(2) as (client, other):
        client.send("MULTI")
        assert await client.replies(1) == [b"+OK\r\n"]
        for at in range(12):
            client.send(f"SET k{at} {'x' * MEGABYTE}")
        await until(lambda: errors(proxied, "memory_limit"))
        assert await other.call("EXISTS k0") == b":0\r\n"


async def test_who_asked_not_to_be_evicted_stays(
    source: Server, target: Server, proxies: Proxies
) -> None:
    proxied = await proxies(target, source, clients_memory_limit=10 * MEGABYTE)
    async with proxied.client(2) as (important, other):
        assert await important.call("CLIENT NO-EVICT ON") == b"+OK\r\n"
        important.writer.write(half_of_a_set("one", 8 * MEGABYTE))
        await until(lambda: proxied.proxy.pressure.total >= 8 * MEGABYTE)
        other.writer.write(half_of_a_set("two", 4 * MEGABYTE))
        assert await other.rest() == b""
        important.writer.write(b"end\r\n")
        assert await important.replies(1) == [b"+OK\r\n"]


async def test_a_reply_larger_than_the_limit_reaches_who_reads(
    source: Server, target: Server, proxies: Proxies
) -> None:
    proxied = await proxies(source, target, client_output_limit=MEGABYTE)
    source.cli("SET", "huge", "x" * 40 * MEGABYTE)
    async with proxied.client() as client:
        client.send("GET huge", "PING", "STRLEN huge")
        # All of it is there to be read before the first byte is.
        await until(lambda: all(not each.outstanding for each in proxied.proxy.sessions))
        huge, *others = await client.replies(3)
        assert len(huge) == 40 * MEGABYTE + 13
        assert others == [b"+PONG\r\n", b":%d\r\n" % (40 * MEGABYTE)]
    assert not proxied.proxy.stats.client_errors


async def test_behind_a_fence_all_clients_together_stay_below_the_limit_and_none_is_closed(
    source: Server, target: Server, proxies: Proxies
) -> None:
    limit = 20 * MEGABYTE
    proxied = await proxies(source, target, clients_memory_limit=limit)
    pressure = proxied.proxy.pressure
    async with proxied.client(30) as clients:
        assert await asyncio.gather(*(each.call("PING") for each in clients)) == [b"+PONG\r\n"] * 30
        await proxied.proxy.fence()
        for number, client in enumerate(clients):
            client.send(*[f"SET {number}:{at} {'x' * 10_000}" for at in range(300)])
        # 90 MB are on their way: 30 times a megabyte would be too much already.
        await until(lambda: pressure.total > limit // 2)
        sessions = list(proxied.proxy.sessions)
        await until(lambda: not any(each._is_reading for each in sessions))
        assert pressure.total <= limit and len(proxied.proxy.sessions) == 30
        proxied.proxy.release()
        for client in clients:
            assert await client.replies(300) == [b"+OK\r\n"] * 300
        assert await clients[0].call("DBSIZE") == b":9000\r\n"
        await until(lambda: not pressure.total)
        assert not pressure.evicted and pressure.max_unsent > 1


async def test_reading_goes_on_when_others_have_made_room(
    source: Server, target: Server, proxies: Proxies
) -> None:
    """Who was read no further because of others, and whose own command still waits."""
    proxied = await proxies(source, target, clients_memory_limit=40 * MEGABYTE)
    pressure = proxied.proxy.pressure
    async with proxied.client(2) as (large, held):
        await held.call("PING")
        large.writer.write(half_of_a_set("large", 30 * MEGABYTE))
        await until(lambda: pressure.total >= 30 * MEGABYTE)
        (session,) = [each for each in proxied.proxy.sessions if each.uses_lanes]
        await proxied.proxy.fence()
        held.send(f"SET k {'x' * 50_000}")
        await until(lambda: not session._is_reading)
        large.writer.transport.abort()
        await until(lambda: session._is_reading)
        proxied.proxy.release()
        assert await held.replies(1) == [b"+OK\r\n"]


async def test_all_clients_in_one_turn_do_not_send_more_than_a_lane_may_hold(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(source) as relay:
        proxied = await proxies(source, target, source_port=relay.port)
        async with proxied.client(40) as clients:
            for client in clients:
                assert await client.call("PING") == b"+PONG\r\n"
            relay.requests.clear()
            await proxied.proxy.fence()
            for at, client in enumerate(clients):
                client.send(f"SET {at} {'x' * MEGABYTE}")
            sessions = list(proxied.proxy.sessions)
            await until(lambda: all(each.backlog for each in sessions))
            # 40 MB can go at once now.
            proxied.proxy.release()
            (lane,) = proxied.proxy._lanes.values()
            await until(lambda: lane.is_paused)
            assert lane.unsent <= 8 * MEGABYTE
            relay.requests.set()
            for client in clients:
                assert await client.replies(1) == [b"+OK\r\n"]


@pytest.mark.parametrize("is_mirrored", [False, True])
async def test_a_pipeline_of_100_000_commands(proxied: Proxied, is_mirrored: bool) -> None:
    if is_mirrored:
        await proxied.start_mirror()
    count = 100_000
    async with proxied.client(2) as (client, other):
        client.writer.write(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" * count)
        assert await other.call("SET k v") == b"+OK\r\n"
        assert await client.replies(count) == [b":%d\r\n" % at for at in range(1, count + 1)]
    if is_mirrored:
        await proxied.applied()
        assert proxied.target.cli("GET", "n") == b"%d" % count


async def test_a_reply_of_a_million_elements_and_who_comes_behind_it(proxied: Proxied) -> None:
    count = 1_000_000
    script = "for i=0,999 do local t={} for j=1,1000 do t[j]=i*1000+j end "
    proxied.source.cli("EVAL", script + "redis.call('RPUSH',KEYS[1],unpack(t)) end", "1", "l")
    async with proxied.client(2) as (client, other):
        client.send("LRANGE l 0 -1", "PING")
        assert await other.call("SET k v") == b"+OK\r\n"
        reply, pong = await client.replies(2)
        assert pong == b"+PONG\r\n"
        items: Any = [b"%d" % at for at in range(1, count + 1)]
        assert reply == b"*%d\r\n" % count + b"".join(
            b"$%d\r\n%b\r\n" % (len(item), item) for item in items
        )
