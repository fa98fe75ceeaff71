"""The mirror log between real stores: its order, its comparison, and a target that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from proxy.append import MOST_MADE_ANEW
from proxy.mirror import Mirror
from proxy.resp import encode_command
from proxy.sent import MirrorAway
from proxy.sides import Side
from tests.servers import DEFAULT_PAIR, Server

from .clients import Client, Proxied, until
from .relay import Relay

Proxies = Callable[..., Awaitable[Proxied]]


@dataclass
class Copied:
    """A copy of a key, as the movers make them."""

    key: bytes
    commands: list[bytes]


def made(key: bytes, *commands: tuple[bytes, ...]) -> Copied:
    return Copied(key, [encode_command(*words) for words in commands])


def unproven(proxied: Proxied) -> set[object]:
    return set(proxied.proxy.table.unproven)


def divergences(proxied: Proxied) -> int:
    assert proxied.mirror is not None
    return proxied.mirror.divergences


async def away(proxied: Proxied) -> None:
    mirror = proxied.mirror
    assert mirror is not None
    await until(lambda: not mirror.is_connected, "the mirror is away")


async def back(proxied: Proxied) -> None:
    mirror = proxied.mirror
    assert mirror is not None
    await until(lambda: mirror.is_connected, "the mirror is back")


# -- order ---------------------------------------------------------------------------


async def test_effects_reach_the_target_in_the_order_of_the_replies(
    source: Server, target: Server, proxies: Proxies
) -> None:
    # Two users, so two lanes: their connections race, and only the tickets order them.
    source.cli("ACL", "SETUSER", "other", "on", ">pw", "~*", "+@all")
    proxied = await proxies(source, target)
    await proxied.start_mirror()
    async with proxied.client(4) as clients:
        for client in clients[:2]:
            await client.call("AUTH other pw")

        async def work(client: Client, name: str) -> None:
            lines = [f"APPEND k {name}", f"RPUSH l {name}", f"SET last {name}", f"APPEND k2 {name}"]
            for _ in range(50):
                await client.calls(*lines)

        await asyncio.gather(*(work(each, "abcd"[at]) for at, each in enumerate(clients)))
    await proxied.applied()
    for command in (("GET", "k"), ("GET", "k2"), ("LRANGE", "l", 0, -1), ("GET", "last")):
        assert source.cli(*command) == target.cli(*command)
    assert source.cli("STRLEN", "k") == 200
    assert not divergences(proxied) and not proxied.proxy.table.entries and not unproven(proxied)


async def test_databases_do_not_mix(mirrored: Proxied) -> None:
    async with mirrored.client(3) as clients:
        for db, client in enumerate(clients):
            await client.call(f"SELECT {db}")
        for at in range(50):
            for db, client in enumerate(clients):
                client.send(f"RPUSH k {db}-{at}", f"COPY k k{at} DB {(db + 1) % 3}")
        for client in clients:
            await client.replies(100)
    await mirrored.applied()
    for db in range(3):
        for key in ("k", *(f"k{at}" for at in range(50))):
            command = ("LRANGE", key, 0, -1)
            assert mirrored.source.cli(*command, db=db) == mirrored.target.cli(*command, db=db)
    assert not divergences(mirrored)


async def test_a_database_that_the_target_lacks_harms_no_other(
    source: Server, server_factory: Callable[..., Server], proxies: Proxies
) -> None:
    target = server_factory(DEFAULT_PAIR.target, args=("--databases", "4"))
    proxied = await proxies(source, target)
    await proxied.start_mirror()
    async with proxied.client() as client:
        await client.calls("SET k zero", "SELECT 12", "SET k twelve", "GET k")
        await proxied.applied()
        assert target.cli("GET", "k") == b"zero"
        assert unproven(proxied) == {(12, b"k")}
        assert await client.call("FLUSHDB") == b"+OK\r\n"
        await proxied.applied()
        assert target.cli("GET", "k") == b"zero"


# -- comparison -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "line"),
    [
        (("SET", "k", "7"), "INCR k"),
        (("SADD", "k", "a"), "SADD k a b"),
        (("RPUSH", "k", "x"), "INCR k"),
        (("HSET", "k", "f", "1"), "HSET k f 2 g 3"),
        (("RPUSH", "k", "x"), "LPUSH k y"),
    ],
)
async def test_a_planted_difference_is_found_and_the_key_is_unproven(
    mirrored: Proxied, planted: tuple[str, ...], line: str
) -> None:
    mirrored.target.cli(*planted)
    async with mirrored.client() as client:
        direct = await client.call(line)
        assert not direct.startswith(b"-")
        await mirrored.applied()
        assert unproven(mirrored) == {b"k"} and divergences(mirrored) == 1
        # Its next effects are dropped until it is copied: no second alarm.
        await client.call(line)
        await mirrored.applied()
    assert divergences(mirrored) == 1
    assert not mirrored.proxy.table.entries


# -- a target that is away ----------------------------------------------------------------


async def test_writes_while_the_target_is_away_are_unproven_and_no_client_notices(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        await proxied.start_mirror()
        async with proxied.client() as client:
            await client.call("SET before 1")
            await proxied.applied()
            relay.requests.clear()
            await client.call("SET unanswered 1")
            relay.cut()
            await away(proxied)
            assert await client.calls("SET k 1", "INCR n", "INCR n", "MSET a 1 b 2") == [
                b"+OK\r\n", b":1\r\n", b":2\r\n", b"+OK\r\n",
            ]  # fmt: skip
            relay.requests.set()
            await back(proxied)
            assert unproven(proxied) == set(b"unanswered k n a b".split())
            await client.calls("SET after 1", "INCR n")
            await proxied.applied()
        assert sorted(target.cli("KEYS", "*")) == [b"after", b"before"]
        assert not proxied.proxy.table.is_everything_unproven and not divergences(proxied)
        assert not proxied.proxy.table.entries


async def test_a_target_of_another_run_id_makes_everything_unproven(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        await client.call("SET k 1")
        await mirrored.applied()
        generation = mirrored.proxy.table.generation
        mirrored.target.restart()
        await until(lambda: mirrored.proxy.table.generation > generation)
        await back(mirrored)
        assert mirrored.proxy.table.is_everything_unproven
        assert await client.call("SET k 2") == b"+OK\r\n"
    await mirrored.applied()
    assert mirrored.target.cli("GET", "k") == b"2"


async def test_a_mirror_that_is_told_a_run_id_checks_it(mirrored: Proxied) -> None:
    proxy, first = mirrored.proxy, mirrored.mirror
    assert first is not None and first.run_id is not None
    for run_id, is_everything in ((first.run_id, False), ("another", True)):
        mirror = Mirror(
            proxy.table, proxy.endpoints[1], Side.TARGET, run_id=run_id, bracket=proxy.bracket
        )
        await mirror.connected()
        assert proxy.table.is_everything_unproven is is_everything
        await mirror.close()


async def test_past_its_bound_the_log_drops_effects_and_marks_their_keys_once(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        mirror = await proxied.start_mirror(buffer_bytes=20_000)
        async with proxied.client() as client:
            relay.requests.clear()
            lines = [f"SET k{at % 10} {at}{'x' * 1000}" for at in range(100)]
            assert await client.calls(*lines) == [b"+OK\r\n"] * 100
            assert mirror.lag_bytes <= 20_000
            assert unproven(proxied) == {b"k%d" % at for at in range(10)}
            assert sorted(proxied.proxy.table.take_owed(99)) == sorted(unproven(proxied))
            relay.requests.set()
            await proxied.applied()
            assert mirror.lag_bytes == mirror.lag_operations == 0
            assert await client.call("SET new 1") == b"+OK\r\n"
            await proxied.applied()
        assert target.cli("GET", "new") == b"1"


async def test_a_large_request_is_mirrored_as_it_is_or_its_key_is_copied(mirrored: Proxied) -> None:
    large = "x" * MOST_MADE_ANEW
    async with mirrored.client() as client:
        assert await client.call(f"SET k {large}") == b"+OK\r\n"
        assert not unproven(mirrored)
        # What it did would have to be made anew, with a time that does not depend on when.
        assert await client.call(f"SET k2 {large} PX 1000000") == b"+OK\r\n"
        assert unproven(mirrored) == {b"k2"}
    await mirrored.applied()
    assert mirrored.target.cli("STRLEN", "k") == MOST_MADE_ANEW


@pytest.mark.parametrize("line", ["FLUSHALL", "FLUSHDB"])
async def test_a_flush_while_the_target_is_away_is_made_up_for(
    source: Server, target: Server, proxies: Proxies, line: str
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        await proxied.start_mirror()
        table = proxied.proxy.table
        async with proxied.client() as client:
            await client.calls("SET old 1", "SELECT 1", "SET kept 1", "SELECT 0")
            await proxied.applied()
            relay.requests.clear()
            relay.cut()
            await away(proxied)
            await client.calls("SET lost 1", line, "SET k 1")
            assert unproven(proxied) == {b"k"} and not table.is_settled(b"z")
            relay.requests.set()
            await back(proxied)
        assert target.cli("KEYS", "*") == []
        assert target.cli("EXISTS", "kept", db=1) == (1 if line == "FLUSHDB" else 0)
        assert table.is_settled(b"z") and unproven(proxied) == {b"k"}


async def test_a_flush_that_was_sent_and_lost_is_made_up_for(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        await proxied.start_mirror()
        async with proxied.client() as client:
            await client.call("SET old 1")
            await proxied.applied()
            relay.requests.clear()
            await client.calls("SET k 1", "FLUSHALL", "SET new 1")
            relay.cut()
            await away(proxied)
            relay.requests.set()
            await back(proxied)
        assert target.cli("KEYS", "*") == [] and b"new" in unproven(proxied)
        assert not proxied.proxy.table.unapplied_everywhere


async def test_a_flush_while_a_flush_is_being_made_up_for_wipes_nothing_later(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        mirror = await proxied.start_mirror()
        async with proxied.client() as client:
            relay.requests.clear()
            relay.cut()
            await away(proxied)
            await client.call("FLUSHALL")
            relay.seen = b""
            relay.replies.clear()
            relay.requests.set()
            # The new connection asks, and hears nothing until the client has flushed once more.
            await until(lambda: b"CLIENT" in relay.seen)
            await client.call("FLUSHALL")
            relay.replies.set()
            await back(proxied)
            assert not mirror.owed_flushes and not proxied.proxy.table.unapplied_everywhere
            await client.call("SET k 1")
            await proxied.applied()
            relay.cut()
            await away(proxied)
            await back(proxied)
        assert target.cli("GET", "k") == b"1"


async def test_a_flush_that_the_target_refuses_makes_everything_unproven(
    mirrored: Proxied,
) -> None:
    mirrored.target.cli("ACL", "SETUSER", "default", "-flushall", "-flushdb")
    async with mirrored.client() as client:
        await client.call("FLUSHALL")
        await mirrored.applied()
    assert mirrored.proxy.table.is_everything_unproven
    assert not mirrored.proxy.table.unapplied_everywhere


@pytest.mark.parametrize("reason", ["OOM", "READONLY", "NOPERM"])
async def test_a_target_that_refuses_writes_is_away_and_not_divergent(
    mirrored: Proxied, reason: str
) -> None:
    target, mirror = mirrored.target, mirrored.mirror
    assert mirror is not None
    if reason == "OOM":
        target.cli("CONFIG", "SET", "maxmemory", "1")
    elif reason == "READONLY":
        target.cli("REPLICAOF", "127.0.0.1", "1")
    else:
        target.cli("ACL", "SETUSER", "default", "-@write")
    async with mirrored.client() as client:
        assert await client.calls("SET k 1", "INCR n", "LPUSH l 1") == [
            b"+OK\r\n", b":1\r\n", b":1\r\n",
        ]  # fmt: skip
    await mirrored.applied()
    assert unproven(mirrored) == {b"k", b"n", b"l"}
    assert not divergences(mirrored)
    assert mirror.refusal is not None and mirror.refusal.startswith(reason)


async def test_what_follows_from_a_refusal_is_no_divergence(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        await proxied.start_mirror()
        target.cli("CONFIG", "SET", "maxmemory", "1")
        async with proxied.client() as client:
            relay.requests.clear()
            await client.calls("SET k 1", "DEL k")
            relay.requests.set()
        await proxied.applied()
        assert b"k" in unproven(proxied)
        assert not divergences(proxied)


async def test_a_target_that_is_not_there_at_the_start_is_waited_for(
    source: Server, target: Server, proxies: Proxies
) -> None:
    target.kill()
    proxied = await proxies(source, target)
    proxy = proxied.proxy
    mirror = Mirror(proxy.table, proxy.endpoints[1], Side.TARGET, bracket=proxy.bracket)
    proxied.mirror = proxy.mirror = mirror
    proxy.table.is_everything_unproven = False
    async with proxied.client() as client:
        assert await client.calls("SET k 1", "GET k") == [b"+OK\r\n", b"$1\r\n1\r\n"]
        with pytest.raises(MirrorAway):
            await mirror.applied()
        with pytest.raises(MirrorAway):
            mirror.append_copies(0, [made(b"k", (b"DEL", b"k"))])
        target.start()
        await back(proxied)
    assert unproven(proxied) == {b"k"}


async def test_a_mirror_that_ends_owing_a_flush_leaves_everything_unproven_and_no_debt(
    mirrored: Proxied,
) -> None:
    mirrored.target.kill()
    await away(mirrored)
    async with mirrored.client() as client:
        await client.call("FLUSHALL")
    assert mirrored.mirror is not None
    await mirrored.mirror.close()
    table = mirrored.proxy.table
    assert table.is_everything_unproven and not table.unapplied_everywhere


async def test_a_flush_in_flight_touches_a_copy_that_is_read_meanwhile(
    source: Server, target: Server, proxies: Proxies
) -> None:
    async with Relay(source) as relay:
        proxied = await proxies(source, target, source_port=relay.port)
        await proxied.start_mirror()
        table = proxied.proxy.table
        async with proxied.client() as client:
            await client.call("SET k 1")
            relay.requests.clear()
            client.send("FLUSHALL")
            await until(lambda: b"FLUSHALL" in relay.seen)
            # The copy's read is on a connection of its own, so it overtakes the flush.
            lease = table.watch([b"k"])
            assert source.cli("GET", "k") == b"1"
            relay.requests.set()
            assert await client.replies(1) == [b"+OK\r\n"]
            assert lease.touched == {b"k"}
