"""Copies of keys on the mirror's lane: what they prove, and what the target refuses."""

from __future__ import annotations

import pytest

from proxy.keytable import place_of
from proxy.resp import encode_command
from tests.servers import Server

from .clients import Proxied
from .relay import Relay
from .test_mirror import Proxies, divergences, made, unproven


async def test_a_copy_proves_the_key_and_its_effects_are_mirrored_from_then_on(
    mirrored: Proxied,
) -> None:
    mirrored.source.cli("SET", "k", "5")
    table, mirror = mirrored.proxy.table, mirrored.mirror
    assert mirror is not None
    table.mark_unproven(b"k")
    async with mirrored.client() as client:
        assert await client.call("INCR k") == b":6\r\n"
        await mirrored.applied()
        assert mirrored.target.cli("EXISTS", "k") == 0
        answered = mirror.append_copies(0, [made(b"k", (b"SET", b"k", b"6"))])
        assert await client.call("INCR k") == b":7\r\n"
        assert await answered == []
    await mirrored.applied()
    assert mirrored.target.cli("GET", "k") == b"7"
    assert not unproven(mirrored) and not divergences(mirrored)


async def test_a_copy_that_the_target_refuses_leaves_the_key_unproven(mirrored: Proxied) -> None:
    table, mirror = mirrored.proxy.table, mirrored.mirror
    assert mirror is not None
    table.mark_unproven(b"good")
    table.mark_unproven(b"bad")
    failures = await mirror.append_copies(
        0,
        [
            made(b"good", (b"DEL", b"good"), (b"SET", b"good", b"1")),
            made(b"bad", (b"DEL", b"bad"), (b"RESTORE", b"bad", b"0", b"junk"), (b"PING",)),
        ],
    )
    assert [(failure.place, failure.is_away) for failure in failures] == [(b"bad", False)]
    assert unproven(mirrored) == {b"bad"} and table.drops([b"bad"])


@pytest.mark.parametrize("db", [0, 2])
async def test_strings_of_one_command_are_all_made_or_all_unproven(
    mirrored: Proxied, db: int
) -> None:
    table, mirror, target = mirrored.proxy.table, mirrored.mirror, mirrored.target
    assert mirror is not None
    keys = [b"a", b"b", b"c"]
    places = [place_of(db, key) for key in keys]
    good = encode_command(b"MSET", *(word for key in keys for word in (key, b"value")))
    async with mirrored.client() as client:  # The target is known to have this database.
        await client.calls(f"SELECT {db}", "SET else 1")
    await mirrored.applied()
    for place in places:
        table.mark_unproven(place)
    assert await mirror.append_strings(db, keys, good) == []
    assert not unproven(mirrored)
    assert target.cli("MGET", *keys, db=db) == [b"value"] * 3
    failures = await mirror.append_strings(db, keys, encode_command(b"MSET", *keys, b"v", b"w"))
    assert [(failure.place, failure.is_away) for failure in failures] == [
        (place, False) for place in places
    ]
    assert unproven(mirrored) == set(places)
    target.cli("CONFIG", "SET", "maxmemory", 1)
    assert all(failure.is_away for failure in await mirror.append_strings(db, keys, good))
    assert mirror.refusal is not None and mirror.refusal.startswith("OOM")
    assert mirror.lag_bytes == mirror.lag_operations == 0 and not table.entries


@pytest.mark.parametrize("line", ["SUNIONSTORE dst src", "RENAME src dst", "COPY src dst"])
async def test_what_is_made_of_a_key_whose_copy_is_then_refused_is_unproven_too(
    source: Server, target: Server, proxies: Proxies, line: str
) -> None:
    source.cli("SADD", "src", "a", "b")
    target.cli("SADD", "src", "x", "y")
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        mirror = await proxied.start_mirror()
        proxied.proxy.table.mark_unproven(b"src")
        async with proxied.client() as client:
            relay.requests.clear()
            answered = mirror.append_copies(0, [made(b"src", (b"RESTORE", b"src", b"0", b"junk"))])
            assert not (await client.call(line)).startswith(b"-")
            relay.requests.set()
            assert len(await answered) == 1
            await proxied.applied()
        assert b"dst" in unproven(proxied) and not divergences(proxied)


async def test_what_is_made_of_an_unproven_key_is_unproven(mirrored: Proxied) -> None:
    mirrored.source.cli("SADD", "src", "a")
    mirrored.proxy.table.mark_unproven(b"src")
    async with mirrored.client() as client:
        await client.calls("SUNIONSTORE dst src other", "SADD untouched a")
    await mirrored.applied()
    assert unproven(mirrored) == {b"src", b"dst"}
    assert mirrored.target.cli("KEYS", "*") == [b"untouched"]


async def test_while_everything_is_unproven_a_difference_is_no_divergence(
    mirrored: Proxied,
) -> None:
    mirrored.proxy.table.is_everything_unproven = True
    mirrored.source.cli("SET", "n", "5")
    async with mirrored.client() as client:
        assert await client.calls("INCR n", "SADD s a", "SUNIONSTORE d s") == [
            b":6\r\n", b":1\r\n", b":1\r\n",
        ]  # fmt: skip
    await mirrored.applied()
    assert not divergences(mirrored) and unproven(mirrored) == {b"n", b"d"}
