"""Connections that end with something under way: to the source, and the mirror's."""

from __future__ import annotations

import pytest

from proxy.keytable import place_of
from tests.integration.clients import until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, stopped


async def test_the_upstream_connection_is_killed_with_a_write_in_flight_then_the_key_is_repaired(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "n", "5")
    await migration.settled()
    lane = migration.lane()
    wires.hold_replies(lane)
    client.send("INCR", "n")
    look = await migration.direct(migration.source)

    async def is_executed() -> bool:
        return await look.call("GET", "n") == b"6"

    await until(is_executed, "the source has executed the INCR")
    assert lane.client_id is not None
    await look.call("CLIENT", "KILL", "ID", lane.client_id)
    with pytest.raises(ConnectionError):
        await client.reply()
    again = await migration.client()
    assert await again.call("GET", "n") == b"6", "not sent twice"
    assert await migration.differences() == []
    assert migration.target.cli("GET", "n") == b"6"
    assert await again.call("INCR", "n") == 7
    assert await migration.differences() == []


async def test_what_a_dead_connection_left_unread_is_executed_before_the_copy_or_never(
    migration: Migration,
) -> None:
    """The source has not read it yet when the connection is lost; it reads it later."""
    clients = [await migration.client() for _ in range(4)]
    await migration.mirroring()
    for number, client in enumerate(clients):
        await client.call("SET", f"n{number}", "0")
    await migration.settled()
    value = "x" * 1000
    with stopped(migration.source):
        for number, client in enumerate(clients):
            for _ in range(500):
                client.send("APPEND", f"n{number}", value)
        await until(lambda: all(migration.is_in_flight(b"n%d" % n) for n in range(4)), "sent")
        lane = migration.lane()
        lane._transport.abort()  # type: ignore[union-attr]
        for client in clients:
            with pytest.raises(ConnectionError):
                await client.reply()
    assert await migration.differences() == []


async def test_the_mirrors_connection_is_killed_with_effects_on_their_way(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "n", "5")
    await client.call("SET", "quiet", "v")
    await migration.settled()
    lane = migration.mirror_lane
    wires.hold_sending(lane)
    await client.call("INCR", "n")
    await client.call("FLUSHDB")
    await client.call("SET", "only on the source", "v")
    await client.call("HSET", "h", "a", "1")
    assert lane.client_id is not None
    migration.target.cli("CLIENT", "KILL", "ID", lane.client_id)
    await until(lambda: lane.is_lost, "the connection is lost")
    await client.call("HSET", "h", "b", "2")
    assert await migration.differences() == []
    assert migration.target.cli("HLEN", "h") == 2


async def test_a_flush_owed_to_a_target_that_was_away_comes_before_what_followed_it(
    migration: Migration,
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "old", "1")
    await migration.settled()
    # Unreachable, but the same process: it keeps what it has.
    migration.mirror_lane._transport.abort()  # type: ignore[union-attr]
    await until(lambda: not migration.status()["mirror"]["connected"], "the mirror is away")
    await client.call("FLUSHALL")
    await client.call("HSET", "h", "a", "1")
    assert await migration.differences() == []
    assert migration.target.cli("KEYS", "[^k]*") == [b"h"]
    assert place_of(0, b"old") not in migration.proxy.table.unproven
