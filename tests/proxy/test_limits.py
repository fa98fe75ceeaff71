"""Slow and lost peers: who is closed, who is held, and what is unproven then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.servers import Server

from .clients import Proxied, until
from .relay import Relay

Proxies = Callable[..., Awaitable[Proxied]]
MEGABYTE = 1_000_000


async def test_a_client_that_never_reads_is_closed_and_others_go_on(
    source: Server, target: Server, proxies: Proxies
) -> None:
    proxied = await proxies(source, target, client_output_limit=8 * MEGABYTE)
    source.cli("SET", "big", "x" * MEGABYTE)
    async with proxied.client(2) as (lazy, other):
        lazy.send(*["GET big"] * 200)
        await until(lambda: proxied.proxy.stats.client_errors["output_limit"])
        assert await other.calls("SET k v", "GET k") == [b"+OK\r\n", b"$1\r\nv\r\n"]
        await until(lambda: len(proxied.proxy.sessions) == 1)
        assert len(await lazy.rest()) < 200 * MEGABYTE


async def test_a_slow_reader_below_the_limit_gets_everything(proxied: Proxied) -> None:
    proxied.source.cli("SET", "big", "x" * MEGABYTE)
    async with proxied.client(2) as (slow, other):
        slow.send(*["GET big"] * 40)
        for _ in range(20):
            assert await other.call("PING") == b"+PONG\r\n"
        assert {len(reply) for reply in await slow.replies(40)} == {MEGABYTE + 12}


async def test_a_held_client_is_not_read_without_bound(proxied: Proxied) -> None:
    await proxied.proxy.fence()
    async with proxied.client() as client:
        client.send(*[f"SET k{at} {'x' * MEGABYTE}" for at in range(64)])
        (session,) = proxied.proxy.sessions
        sending = asyncio.create_task(client.writer.drain())
        held = 0
        while not sending.done():
            before, held = held, sum(len(each.raw) for each in session.backlog)
            if held > 32 * MEGABYTE or (held == before and not session._is_reading):
                break
            await asyncio.sleep(0.01)
        sending.cancel()
        proxied.proxy.release()
        assert held <= 32 * MEGABYTE


@pytest.mark.parametrize("is_mirrored", [True, False])
async def test_commands_in_flight_when_the_upstream_dies(
    source: Server, target: Server, proxies: Proxies, is_mirrored: bool
) -> None:
    async with Relay(source) as relay:
        proxied = await proxies(source, target, source_port=relay.port)
        if is_mirrored:
            await proxied.start_mirror()
        table = proxied.proxy.table
        async with proxied.client(3) as (writer, blocker, idle):
            assert await idle.call("SET before 1") == b"+OK\r\n"
            if is_mirrored:
                await proxied.applied()
            relay.requests.clear()
            writer.send("SET a 1", "INCR n", "MSET b 1 c 2", "XADD x MAXLEN ~ 5 * f v", "GET a")
            blocker.send("MULTI", "SET d 1", "GET e", "EXEC")
            await until(lambda: b"$1\r\ne\r\n" in relay.seen)
            relay.cut()
            relay.requests.set()
            assert await writer.rest() == await blocker.rest() == b""
            assert set(table.unproven) == (set(b"a n b c x d".split()) if is_mirrored else set())
            assert not table.active and not table.entries
            # A client with nothing in flight goes on, over a new connection.
            assert await idle.calls("SET after 1", "GET after") == [b"+OK\r\n", b"$1\r\n1\r\n"]
        assert proxied.proxy.stats.client_errors["upstream_lost"] == 2


async def test_a_write_that_waits_for_a_lane_that_dies_goes_on(
    source: Server, target: Server, proxies: Proxies
) -> None:
    source.cli("ACL", "SETUSER", "other", "on", ">pw", "~*", "+@all")
    async with Relay(source) as relay:
        proxied = await proxies(source, target, source_port=relay.port)
        await proxied.start_mirror()
        async with proxied.client(2) as (first, second):
            await first.call("PING")
            await second.calls("AUTH other pw", "PING")
            relay.requests.clear()
            first.send("SET k first")
            await until(lambda: b"first" in relay.seen)
            second.send("SET k second")
            await until(lambda: proxied.proxy.table.active == 2)
            (lane,) = [each for each in proxied.proxy._lanes.values() if each.user is None]
            lane.close()
            assert await first.rest() == b""
            await until(lambda: b"second" in relay.seen)
            relay.requests.set()
            assert await second.replies(1) == [b"+OK\r\n"]
        assert b"k" in proxied.proxy.table.unproven and not proxied.proxy.table.active


async def test_a_dead_source_closes_clients_and_is_served_again_when_it_is_back(
    proxied: Proxied,
) -> None:
    async with proxied.client() as client:
        await client.call("SET k v")
        proxied.source.kill()
        client.send("GET k")
        assert await client.rest() == b""
    async with proxied.client() as client:
        client.send("GET k")
        assert await client.rest() == b""
    proxied.source.start()
    async with proxied.client() as client:
        assert await client.calls("SET k w", "GET k") == [b"+OK\r\n", b"$1\r\nw\r\n"]


async def test_a_fence_holds_everybody_and_lets_them_go_in_order(proxied: Proxied) -> None:
    async with proxied.client(4) as clients:
        await proxied.proxy.fence()
        for at, client in enumerate(clients):
            client.send(f"RPUSH l {at}", "LLEN l", "FLUSHDB" if at == 3 else "PING")
        await until(lambda: len(proxied.proxy.table._at_the_gate) == 4)
        assert proxied.source.cli("LLEN", "l") == 0
        proxied.proxy.release()
        for at, client in enumerate(clients):
            assert (await client.replies(3))[0] == b":%d\r\n" % (at + 1)


async def test_a_fence_given_up_while_it_waits_leaves_no_trace(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(source) as relay:
        proxied = await proxies(source, target, source_port=relay.port)
        async with proxied.client(2) as (slow, other):
            await slow.call("PING")
            relay.requests.clear()
            slow.send("SET k v")
            await until(lambda: proxied.proxy.table.active)
            fence = asyncio.create_task(proxied.proxy.fence())
            await until(lambda: proxied.proxy.table.is_closed)
            other.send("SET k w")
            fence.cancel()
            await asyncio.gather(fence, return_exceptions=True)
            relay.requests.set()
            assert [*await slow.replies(1), *await other.replies(1)] == [b"+OK\r\n"] * 2
            assert not proxied.proxy.table.is_closed
