"""WATCH through the proxy: what the store answers, whoever writes, and whatever happens to us."""

from __future__ import annotations

import asyncio

import pytest

from proxy.sides import Side

from .clients import Client, Proxied, connected, until

# Each is a conversation, answered at once or step by step; `other` clients write before EXEC.
CONVERSATIONS = {
    "nothing happens": ["WATCH k", "GET k", "MULTI", "INCR k", "EXEC", "GET k"],
    "own write": ["WATCH k", "INCR k", "MULTI", "INCR k", "EXEC", "GET k"],
    "unwatched": ["WATCH k", "INCR k", "UNWATCH", "MULTI", "INCR k", "EXEC", "GET k"],
    "discarded": ["WATCH k", "INCR k", "MULTI", "DISCARD", "MULTI", "INCR k", "EXEC", "GET k"],
    "watched twice": ["WATCH k", "WATCH l k", "MULTI", "RPUSH l a", "EXEC", "LLEN l"],
    "another database": ["SELECT 2", "WATCH k", "SET k 5", "MULTI", "INCR k", "EXEC", "GET k"],
    "changed database": ["WATCH k", "SELECT 2", "SET k 5", "MULTI", "INCR k", "EXEC", "GET k"],
    "ended by its EXEC": ["WATCH k", "MULTI", "EXEC", "INCR k", "MULTI", "INCR k", "EXEC"],
    "without anything": ["UNWATCH", "WATCH", "EXEC", "MULTI", "INCR k", "EXEC"],
    "in resp3": ["HELLO 3", "WATCH k", "INCR k", "MULTI", "INCR k", "EXEC", "GET k"],
}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "step by step"])
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_a_conversation_is_answered_as_by_the_store(
    mirrored: Proxied, name: str, at_once: bool
) -> None:
    heard = []
    for port in (mirrored.source.port, mirrored.port):
        mirrored.source.cli("FLUSHALL")
        async with connected(port) as client:
            lines = CONVERSATIONS[name]
            replies = (
                await client.calls(*lines)
                if at_once
                else [await client.call(line) for line in lines]
            )
        # HELLO answers with the number of the connection.
        heard.append([reply for line, reply in zip(lines, replies, strict=True) if line[0] != "H"])
    assert heard[1] == heard[0]


async def test_another_clients_write_ends_it_and_nothing_is_executed(mirrored: Proxied) -> None:
    async with mirrored.client(2) as (one, other):
        assert await one.calls("SET k 1", "WATCH k") == [b"+OK\r\n"] * 2
        await other.call("INCR k")
        assert (await one.calls("MULTI", "SET k 0", "EXEC"))[-1] == b"*-1\r\n"
        assert await one.call("GET k") == b"$1\r\n2\r\n"
    await mirrored.applied()
    assert mirrored.target.cli("GET", "k") == b"2"


async def test_a_watch_is_of_one_client_and_the_next_on_its_connection_has_none(
    mirrored: Proxied,
) -> None:
    async with mirrored.client(2) as (one, next_one):
        await one.calls("WATCH k", "MULTI", "EXEC")
        await until(lambda: any(mirrored.proxy._idle.values()), "the connection given back")
        await next_one.call("WATCH l")
        await one.call("SET k 1")
        assert (await next_one.calls("MULTI", "SET l 1", "EXEC"))[-1] == b"*1\r\n+OK\r\n"


async def test_after_a_flip_a_watch_is_broken_once(mirrored: Proxied) -> None:
    proxy = mirrored.proxy
    async with mirrored.client() as client:
        assert await client.calls("SET k 1", "WATCH k") == [b"+OK\r\n"] * 2
        await proxy.fence()
        await mirrored.applied()
        proxy.flip(Side.TARGET, None, 100)
        proxy.release()
        steps = ("WATCH l", "MULTI", "INCR k", "EXEC")
        assert await client.calls(*steps) == [b"+OK\r\n", b"+OK\r\n", b"+QUEUED\r\n", b"*-1\r\n"]
        assert (await client.calls("WATCH k", "MULTI", "INCR k", "EXEC"))[-1] == b"*1\r\n:2\r\n"
    assert mirrored.target.cli("GET", "k") == b"2"


async def test_a_lost_connection_breaks_the_watch_and_not_the_client(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        await client.call("WATCH k")
        (lane,) = mirrored.proxy._own
        mirrored.source.cli("CLIENT", "KILL", "ID", lane.client_id)
        await until(lambda: lane.is_lost, "the loss")
        assert (await client.calls("MULTI", "SET k 1", "EXEC"))[-1] == b"*-1\r\n"
        assert await client.call("GET k") == b"$-1\r\n"


async def increments(client: Client, times: int) -> None:
    """INCR as applications did it before there was one."""
    done = 0
    while done < times:
        _, value = await client.calls("WATCH n", "GET n")
        number = int(value.split(b"\r\n")[1]) if value != b"$-1\r\n" else 0
        answers = await client.calls("MULTI", f"SET n {number + 1}", "EXEC")
        done += answers[-1] == b"*1\r\n+OK\r\n"


async def test_optimistic_counters_of_many_clients_count_right(mirrored: Proxied) -> None:
    async with mirrored.client(8) as clients:
        await asyncio.gather(*(increments(client, 25) for client in clients))
    await mirrored.applied()
    assert mirrored.source.cli("GET", "n") == mirrored.target.cli("GET", "n") == b"200"


async def test_a_block_is_one_step_on_the_secondary_too(mirrored: Proxied) -> None:
    mirrored.target.cli("CONFIG", "RESETSTAT")
    async with mirrored.client() as client:
        await client.calls("MULTI", "SET a 1", "INCR b", "SETEX c 100 x", "EXEC")
        await client.calls("MULTI", "SET a 2", "EXEC")
    await mirrored.applied()
    assert mirrored.target.info("commandstats")["cmdstat_exec"].startswith("calls=1,")
    assert [mirrored.target.cli("GET", key) for key in "abc"] == [b"2", b"1", b"x"]
    assert not mirrored.proxy.table.unproven


@pytest.mark.parametrize("broken_by", ["two flips", "another protocol"])
async def test_a_broken_watch_is_not_left_to_the_next_client_of_its_connection(
    mirrored: Proxied, broken_by: str
) -> None:
    proxy, mirror = mirrored.proxy, mirrored.proxy.mirror
    async with mirrored.client(2) as (one, next_one):
        await one.call("WATCH k")
        if broken_by == "two flips":
            for side in (Side.TARGET, Side.SOURCE):
                await proxy.fence()
                proxy.flip(side, mirror if side is Side.SOURCE else None, 0)
                proxy.release()
        else:
            await one.call("HELLO 3")
        await one.call("UNWATCH")
        await next_one.call("WATCH l")
        await one.call("SET k 1")
        assert (await next_one.calls("MULTI", "SET l 1", "EXEC"))[-1] == b"*1\r\n+OK\r\n"


async def test_a_block_that_was_no_block_leaves_no_watch_behind(mirrored: Proxied) -> None:
    rights = ("+@all", "-multi", "~*", "&*", "nopass", "on")
    for server in (mirrored.source, mirrored.target):
        server.cli("ACL", "SETUSER", "blockless", *rights)
    async with mirrored.client(2) as (one, next_one):
        for client in (one, next_one):
            assert await client.call("AUTH blockless x") == b"+OK\r\n"
        # Without the right to MULTI its commands are executed one by one, and EXEC is an error.
        assert (await one.calls("WATCH k", "MULTI", "SET l 1", "EXEC"))[-1].startswith(b"-ERR")
        await until(lambda: any(mirrored.proxy._idle.values()), "the connection given back")
        await next_one.call("WATCH m")
        mirrored.source.cli("SET", "k", 1)
        mirrored.source.cli("ACL", "SETUSER", "blockless", "+multi")
        assert (await next_one.calls("MULTI", "SET l 2", "EXEC"))[-1] == b"*1\r\n+OK\r\n"
