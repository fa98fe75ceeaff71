"""One client's conversation: its order, its bytes, and what it does not see of others."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable

import pytest

from tests.servers import Server

from .clients import Client, Proxied, connected, encoded, until

# Commands whose replies a client must get byte by byte as from the store itself: every type of
# reply, and errors of the store, of the table and of the protocol.
TEXT = """
PING|PING hello|ECHO a|SET k v|GET k|GET nothing|SET k v NX|SET k 1 EX 100|SET k v GET|STRLEN k
INCR k|SET n 5|INCR n|INCRBYFLOAT n 0.5|APPEND n x|INCR n|GETRANGE n 0 1|SETRANGE n 2 zz|GETDEL n
MSET a 1 b 2|MGET a b c|MSETNX c 1 a 2|DEL a b c|UNLINK a|EXISTS k k|TYPE k|TTL k|PTTL missing
LPUSH l 1 2 3|LRANGE l 0 -1|LRANGE l 5 9|LPOP l 2|LPOP nolist 2|LPOP nolist|LPOS l 9
LINSERT l BEFORE 1 0|RPOPLPUSH l l2|LMOVE l l2 LEFT RIGHT|HSET h f 1 g 2|HGETALL h|HGET h f
HGET h x|HMGET h f x|HINCRBYFLOAT h f 1.5|HRANDFIELD h 0|SADD s a b|SMEMBERS s|SISMEMBER s a
SMISMEMBER s a z|SPOP s 0|SUNIONSTORE d s s|ZADD z 1 a 2.5 b|ZRANGE z 0 -1 WITHSCORES|ZSCORE z a
ZSCORE z x|ZADD z INCR 1 a|ZPOPMIN z|ZINCRBY z 1.1 b|ZRANGEBYSCORE z -inf +inf|ZMSCORE z b x
XADD x 1-1 f v|XRANGE x - +|XLEN x|XADD x 1-1 f v|XGROUP CREATE x g 0|XGROUP CREATE x g 0
XREADGROUP GROUP g c STREAMS x >|XPENDING x g|XACK x g 1-1|XINFO GROUPS x|XREAD STREAMS x 0
XREAD STREAMS x 9|PFADD hll a b|PFCOUNT hll|BITCOUNT k|GEOADD geo 13.361389 38.115556 p
GEOPOS geo p nobody|GEODIST geo p nobody|SETBIT bits 7 1|GETBIT bits 7
BITFIELD bits SET u8 0 255 GET u8 0|SORT l2|SORT s ALPHA STORE sorted|OBJECT ENCODING nothing
COPY k k2|RENAME k k3|RENAME k k4|EXPIRE k3 100|PERSIST k3|PEXPIREAT k3 1|GET k3|DBSIZE|RANDOMKEY
KEYS nothing*|SCAN 0 MATCH h|HSCAN h 0|SSCAN s 0|ZSCAN z 0|SELECT 1|SET k one|GET k|MOVE k 2
SELECT 2|GET k|SELECT 0|GET|GET a b|SET k|NOSUCHCOMMAND|NOSUCHCOMMAND a b c|LPUSH h x|INCR h
HSET h f|EXPIRE h notanumber|SET k v EX 0|SET k v EX -1|SET k v BOGUS|ZADD z nan m|SETRANGE k -1 x
LSET l 99 x|XADD x 0-0 f v|OBJECT FOO k|LRANGE l a b|BITOP NOT d k h|SELECT 99|SELECT -1
SELECT abc|SELECT 007|SELECT 99999999999|CLIENT GETNAME|CLIENT SETNAME me|CLIENT GETNAME
CLIENT SETNAME ""|CLIENT GETNAME|DISCARD|EXEC|FLUSHDB|DBSIZE|FLUSHALL BOGUS|CONFIG GET maxmemory
COMMAND COUNT|AUTH a b c d|RESET|PING
"""
CONVERSATION = [line for row in TEXT.split("\n") for line in row.split("|") if line]

# Only its length and form are the same: it picks, or it tells what a connection is.
INDEFINITE = ("RANDOMKEY", "SPOP")


async def both(proxied: Proxied, resp: int) -> list[tuple[str, bytes, bytes]]:
    """The conversation with the proxy and with the store itself, one command at a time."""
    heard: list[list[bytes]] = []
    for port in (proxied.port, proxied.source.port):
        proxied.source.cli("FLUSHALL")
        async with connected(port) as client:
            if resp == 3:
                await client.call("HELLO 3")
            heard.append([await client.call(line) for line in CONVERSATION])
    return list(zip(CONVERSATION, *heard, strict=True))


@pytest.mark.parametrize("resp", [2, 3])
async def test_a_client_gets_the_very_bytes_of_the_store(proxied: Proxied, resp: int) -> None:
    different = [
        (line, through, direct)
        for line, through, direct in await both(proxied, resp)
        if through != direct and not line.startswith(INDEFINITE)
    ]
    assert different == []


async def test_a_pipeline_gets_its_replies_in_its_order(proxied: Proxied) -> None:
    lines = [line for line in CONVERSATION if not line.startswith((*INDEFINITE, "RESET"))]
    async with connected(proxied.port) as client:
        singly = [await client.call(line) for line in lines]
    proxied.source.cli("FLUSHALL")
    async with connected(proxied.port) as client:
        assert await client.calls(*lines) == singly


async def test_a_pipeline_may_arrive_byte_by_byte(proxied: Proxied) -> None:
    async with connected(proxied.port) as client:
        for byte in encoded("SET k v", "GET k", "MULTI", "INCR n", "EXEC", "GET n"):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert b"".join(await client.replies(6)) == (
            b"+OK\r\n$1\r\nv\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n$1\r\n1\r\n"
        )


async def test_a_pipeline_of_a_hundred_thousand_commands(proxied: Proxied) -> None:
    async with connected(proxied.port) as client:
        client.writer.write(encoded("INCR n") * 100_000)
        replies = await client.replies(100_000)
    assert replies == [b":%d\r\n" % n for n in range(1, 100_001)]


async def test_a_value_of_50_megabytes_goes_through_and_nobody_waits_for_ever(
    mirrored: Proxied,
) -> None:
    big = b"x" * 50_000_000
    async with mirrored.client(2) as (client, other):
        client.writer.write(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n%b\r\n" % (len(big), big))
        assert await other.call("SET small 1") == b"+OK\r\n"
        assert await client.replies(1) == [b"+OK\r\n"]
        assert await client.call("GET big") == b"$%d\r\n%b\r\n" % (len(big), big)
        assert await other.call("GET small") == b"$1\r\n1\r\n"
    await mirrored.applied()
    assert mirrored.target.cli("STRLEN", "big") == len(big)


async def test_pipelines_of_many_clients_keep_each_ones_order_around_flushes(
    mirrored: Proxied,
) -> None:
    async def work(client: Client, name: str) -> None:
        for turn in range(20):
            lines = [f"RPUSH {name} {at}" for at in range(10)]
            lines += [f"SET shared {name}{turn}", "FLUSHALL" if turn % 7 == 3 else "FLUSHDB"]
            replies = await client.calls(*lines, f"LPUSH {name} x")
            pushed = [int(reply[1:]) for reply in replies[:10]]
            # Others flush in between, so the list may begin anew, but never run backwards.
            assert all(b in (a + 1, 1) for a, b in itertools.pairwise(pushed))
            assert replies[10:12] == [b"+OK\r\n"] * 2
            assert int(replies[12][1:]) >= 1

    async with mirrored.client(8) as clients:
        await asyncio.gather(*(work(each, f"c{at}") for at, each in enumerate(clients)))
    await mirrored.applied()
    assert snapshot(mirrored.source) == snapshot(mirrored.target)
    table = mirrored.proxy.table
    assert not table.entries and not table.unproven and not table.unapplied_everywhere
    assert mirrored.mirror is not None and mirrored.mirror.divergences == 0


def snapshot(server: Server) -> dict[bytes, bytes | list[bytes]]:
    cli = server.cli
    return {
        key: cli("LRANGE", key, 0, -1) if cli("TYPE", key) == b"list" else cli("GET", key)
        for key in cli("KEYS", "*")
    }


async def test_select_changes_one_client_only(proxied: Proxied) -> None:
    async with proxied.client(2) as (one, other):
        await one.calls("SELECT 3", "SET k three")
        assert await other.call("GET k") == b"$-1\r\n"
        assert await one.calls("GET k", "SELECT 99", "GET k") == [
            b"$5\r\nthree\r\n",
            b"-ERR DB index is out of range\r\n",
            b"$5\r\nthree\r\n",
        ]
    assert proxied.source.cli("GET", "k", db=3) == b"three"


async def test_every_client_has_an_id_of_its_own_and_keeps_it(proxied: Proxied) -> None:
    async with proxied.client(2) as (one, other):
        ids = [await one.call("CLIENT ID"), await other.call("CLIENT ID")]
        assert ids[0] != ids[1] and all(re.fullmatch(rb":[0-9]+\r\n", each) for each in ids)
        await one.calls("SELECT 1", "HELLO 3", "RESET")
        assert await one.call("CLIENT ID") == ids[0]


async def test_quit_is_answered_behind_everything_before_it(proxied: Proxied) -> None:
    async with proxied.client() as client:
        client.send("SET k v", "GET k", "QUIT", "SET k after")
        assert await client.rest() == b"+OK\r\n$1\r\nv\r\n+OK\r\n"
    assert proxied.source.cli("GET", "k") == b"v"


async def test_a_client_that_hangs_up_in_the_middle_disturbs_nobody(mirrored: Proxied) -> None:
    async with mirrored.client() as other:
        for end in (b"", b"*3\r\n$3\r\nSET\r\n$1\r\nk"):
            async with mirrored.client() as client:
                client.writer.write(encoded(*["INCR n"] * 500) + end)
                await client.writer.drain()
                client.writer.transport.abort()
        assert await other.call("SET k v") == b"+OK\r\n"
        await until(lambda: len(mirrored.proxy.sessions) == 1)
        await until(lambda: not mirrored.proxy.table.active)
        assert await other.call("GET k") == b"$1\r\nv\r\n"
    await mirrored.applied()
    assert mirrored.source.cli("GET", "n") == mirrored.target.cli("GET", "n")


@pytest.mark.parametrize("count", [3, 20_000])
async def test_a_half_closed_client_gets_every_answer(proxied: Proxied, count: int) -> None:
    async with proxied.client() as client:
        client.writer.write(encoded("INCR n") * count + b"*2\r\n$3\r\nGET")
        client.writer.write_eof()
        assert await client.rest() == b"".join(b":%d\r\n" % n for n in range(1, count + 1))
    await until(lambda: not proxied.proxy.sessions)


async def test_more_clients_than_allowed_are_told_so(
    source: Server, target: Server, proxies: Callable[..., Awaitable[Proxied]]
) -> None:
    proxied = await proxies(source, target, max_clients=1)
    async with proxied.client() as first:
        assert await first.call("PING") == b"+PONG\r\n"
        async with proxied.client() as second:
            assert await second.rest() == b"-ERR max number of clients reached\r\n"
        assert await first.call("PING") == b"+PONG\r\n"
    await until(lambda: not proxied.proxy.sessions)
    async with proxied.client() as third:
        assert await third.call("PING") == b"+PONG\r\n"
