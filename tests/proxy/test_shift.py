"""Reads on the secondary: each sees every acknowledged write, and no error of the secondary."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.counts import CommandClass
from proxy.cursors import TAG as CURSOR_TAG
from proxy.resp import encode_command
from proxy.sides import Side
from tests.servers import Server

from .clients import Client, Proxied, until
from .relay import Relay

Proxies = Callable[..., Awaitable[Proxied]]


def reads_of_the_target(proxied: Proxied) -> int:
    return proxied.proxy.stats.commands[Side.TARGET][CommandClass.READ]


@pytest.fixture
async def shifted(mirrored: Proxied) -> Proxied:
    """All reads go to the target, whose lane is open."""
    mirrored.proxy.shift(100)
    assert await mirrored.proxy.lane(Side.TARGET, None, 0, 2).ready() is None
    return mirrored


async def test_a_settled_key_is_read_from_the_target(shifted: Proxied) -> None:
    shifted.target.cli("SET", "k", "of the target")
    async with shifted.client() as client:
        assert await client.call("GET k") == b"$13\r\nof the target\r\n"
        shifted.proxy.shift(0)
        assert await client.call("GET k") == b"$-1\r\n"


async def test_the_share_of_reads_is_by_key_and_sticky(mirrored: Proxied) -> None:
    assert await mirrored.proxy.lane(Side.TARGET, None, 0, 2).ready() is None
    keys = [f"key:{at}" for at in range(400)]
    for key in keys:
        mirrored.target.cli("SET", key, "t")
    shares = []
    async with mirrored.client() as client:
        for percent in (10, 50, 100):
            mirrored.proxy.shift(percent)
            first = await client.calls(*[f"GET {key}" for key in keys])
            assert first == await client.calls(*[f"GET {key}" for key in keys])
            shares.append({key for key, reply in zip(keys, first, strict=True) if b"t" in reply})
    assert shares[0] < shares[1] < shares[2] == set(keys)
    assert 10 < len(shares[0]) < 90 and 140 < len(shares[1]) < 260


async def test_a_read_right_behind_its_own_write_sees_it(shifted: Proxied) -> None:
    async with shifted.client(4) as clients:

        async def work(client: Client, name: str) -> None:
            lines = [line for at in range(200) for line in (f"SET {name} {at}", f"GET {name}")]
            replies = await client.calls(*lines)
            assert replies[1::2] == [b"$%d\r\n%d\r\n" % (len(str(at)), at) for at in range(200)]
            for at in range(50):
                assert await client.call(f"SET {name} {at}") == b"+OK\r\n"
                assert (await client.call(f"GET {name}")).endswith(b"\r\n%d\r\n" % at)

        await asyncio.gather(*(work(each, f"k{at}") for at, each in enumerate(clients)))


async def test_a_read_while_the_effect_is_on_its_way_is_the_primarys(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        await proxied.start_mirror()
        proxied.proxy.shift(100)
        assert await proxied.proxy.lane(Side.TARGET, None, 0, 2).ready() is None
        async with proxied.client(2) as (writer, reader):
            relay.requests.clear()
            assert await writer.call("SET k v") == b"+OK\r\n"
            assert await reader.call("GET k") == b"$1\r\nv\r\n"
            assert await reader.call("MGET other k") == b"*2\r\n$-1\r\n$1\r\nv\r\n"
            assert await writer.call("FLUSHALL") == b"+OK\r\n"
            assert await reader.call("GET other") == b"$-1\r\n"
            assert reads_of_the_target(proxied) == 0
            relay.requests.set()
            await proxied.applied()
            assert await reader.call("GET k") == b"$-1\r\n"
            assert reads_of_the_target(proxied) == 1


async def test_what_is_unproven_is_read_from_the_primary(shifted: Proxied) -> None:
    shifted.source.cli("SET", "k", "right")
    shifted.target.cli("SET", "k", "wrong")
    shifted.proxy.table.mark_unproven(b"k")
    async with shifted.client() as client:
        assert await client.calls("GET k", "MGET z k", "EXISTS k") == [
            b"$5\r\nright\r\n",
            b"*2\r\n$-1\r\n$5\r\nright\r\n",
            b":1\r\n",
        ]
        shifted.proxy.table.is_everything_unproven = True
        assert await client.call("GET z") == b"$-1\r\n"
    assert reads_of_the_target(shifted) == 0


async def test_a_read_whose_keys_nobody_can_name_is_the_primarys(shifted: Proxied) -> None:
    for server, first in ((shifted.source, 1), (shifted.target, 2)):
        server.cli("RPUSH", "l", "a", "b")
        server.cli("MSET", "w_a", first, "w_b", 3 - first)
    shifted.proxy.table.mark_unproven(b"w_a")
    async with shifted.client() as client:
        assert await client.call("SORT l BY w_*") == b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"


async def test_an_error_of_the_secondary_is_never_shown_and_order_is_kept(
    shifted: Proxied,
) -> None:
    for at in range(20):
        shifted.source.cli("SET", f"k{at}", at)
        if at % 3:
            shifted.target.cli("SET", f"k{at}", at)
        else:
            shifted.target.cli("LPUSH", f"k{at}", "of another type")
    async with shifted.client() as client:
        lines = [f"GET k{at}" for at in range(20)]
        lines[10:10] = ["SET other 1", "GET other"]
        replies = await client.calls(*lines, "PING")
        values = [b"$%d\r\n%d\r\n" % (len(str(at)), at) for at in range(20)]
        values[10:10] = [b"+OK\r\n", b"$1\r\n1\r\n"]
        assert replies == [*values, b"+PONG\r\n"]
        # What is an error on both sides is the primary's.
        assert (await client.call("LRANGE k1 0 1")).startswith(b"-WRONGTYPE")


async def test_reads_on_a_secondary_that_dies_are_answered_by_the_primary(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        await proxied.start_mirror()
        proxied.proxy.shift(100)
        assert await proxied.proxy.lane(Side.TARGET, None, 0, 2).ready() is None
        source.cli("MSET", "a", 1, "b", 2)
        async with proxied.client() as client:
            relay.requests.clear()
            client.send("GET a", "GET b", "GET a")
            await until(lambda: reads_of_the_target(proxied) == 3)
            relay.cut()
            assert await client.replies(3) == [b"$1\r\n1\r\n", b"$1\r\n2\r\n", b"$1\r\n1\r\n"]
            relay.requests.set()
            assert await client.calls("SET a 3", "GET a") == [b"+OK\r\n", b"$1\r\n3\r\n"]


async def test_a_cursor_is_finished_on_the_side_that_gave_it(mirrored: Proxied) -> None:
    expected = set()
    async with mirrored.client() as client:
        for at in range(300):
            client.send(f"SET key:{at} v", f"HSET h f{at} {'x' * 100}")
            expected.add(b"key:%d" % at)
        await client.replies(600)
        await mirrored.applied()

        async def scan(cursor: int, seen: set[bytes]) -> int:
            reply = (await client.call(f"SCAN {cursor} COUNT 50 MATCH key:*")).split(b"\r\n")
            seen |= set(reply[5::2])
            return int(reply[2])

        before: set[bytes] = set()
        opened_before = await scan(0, before)
        assert 0 < opened_before < CURSOR_TAG
        await mirrored.proxy.fence()
        mirror = mirrored.proxy.mirror
        mirrored.proxy.flip(Side.TARGET, mirror, 100)
        mirrored.proxy.release()
        after: set[bytes] = set()
        cursor = await scan(0, after)
        assert cursor & CURSOR_TAG
        while cursor:
            cursor = await scan(cursor, after)
        while opened_before:
            assert not opened_before & CURSOR_TAG
            opened_before = await scan(opened_before, before)
        assert before - {b""} == after - {b""} == expected
        fields: set[bytes] = set()
        text = b"0"
        while True:
            reply = (await client.call(f"HSCAN h {text.decode()} COUNT 50")).split(b"\r\n")
            text = reply[2]
            fields |= set(reply[5::4])
            if text == b"0":
                break
            assert int(text) & CURSOR_TAG
        assert fields - {b""} == {b"f%d" % at for at in range(300)}


async def test_what_a_client_dumps_it_can_restore(shifted: Proxied) -> None:
    async with shifted.client() as client:
        await client.call("SET k v")
        await shifted.applied()
        payload = (await client.call("DUMP k")).split(b"\r\n", 1)[1][:-2]
        words = [b"RESTORE", b"copy", b"0", payload]
        client.writer.write(encode_command(*words))
        assert await client.replies(1) == [b"+OK\r\n"]
