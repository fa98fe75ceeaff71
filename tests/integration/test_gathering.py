"""Effects that wait for more to go with them: nothing is lost, and nothing waits for them.

The mirror gathers for a millisecond; here it gathers for an hour. What goes out is hastened by
somebody who waits for it, and until then the interleaving stands still.
"""

from __future__ import annotations

import asyncio

import pytest

from proxy.counts import CommandClass
from proxy.sides import Side
from tests.integration.clients import Client, until
from tests.integration.keyferry import Migration


@pytest.fixture(autouse=True)
def gathers_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every connection of a mirror that is made from here on."""
    monkeypatch.setattr("proxy.mirror.GATHER_S", 3600.0)


async def gathered(migration: Migration, client: Client, *writes: tuple[str, ...]) -> None:
    """Runs writes whose effects wait in the gathering then: nothing of them is on the wire."""
    for write in writes:
        await client.call(*write)
    lane = migration.mirror_lane
    assert len(lane.ops) >= len(writes)
    assert lane.unsent > 0 and lane._timer is not None


async def test_an_effect_waits_in_the_gathering_and_reads_of_its_key_go_to_the_primary(
    migration: Migration,
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "k", "old")
    await client.call("SET", "other", "v")
    await migration.settled()
    await migration.controller.shift(100)
    reads = migration.proxy.stats.commands[Side.TARGET]

    async def is_shifted() -> bool:
        before = reads[CommandClass.READ]
        assert await client.call("GET", "k") == b"old"
        return reads[CommandClass.READ] > before

    await until(is_shifted, "the target serves the read")
    await gathered(migration, client, ("SET", "k", "new"))
    assert migration.target.cli("GET", "k") == b"old"
    before = reads[CommandClass.READ]
    assert await client.call("GET", "k") == b"new"
    assert await client.call("MGET", "other", "k") == [b"v", b"new"]
    assert reads[CommandClass.READ] == before
    assert await client.call("GET", "other") == b"v"
    assert reads[CommandClass.READ] == before + 1
    await migration.settled()
    assert migration.target.cli("GET", "k") == b"new"
    assert await client.call("GET", "k") == b"new"
    assert reads[CommandClass.READ] == before + 2


async def test_effects_wait_in_the_gathering_then_the_flip_sends_them_before_it_commits(
    migration: Migration,
) -> None:
    client = await migration.client()
    await migration.verified()
    for flip, behind in (
        (migration.cutover, migration.target),
        (migration.rollback, migration.source),
    ):
        writes = (("INCR", "n"), ("RPUSH", "l", "a"), ("INCR", "n"))
        await gathered(migration, client, *writes)
        n = int(await client.call("GET", "n"))
        assert behind.cli("GET", "n") != b"%d" % n
        await flip()
        assert behind.cli("GET", "n") == b"%d" % n
        assert await client.call("INCR", "n") == n + 1
        assert await migration.differences() == []


async def test_effects_wait_in_the_gathering_and_a_fence_that_is_given_up_keeps_them(
    migration: Migration,
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await gathered(migration, client, ("INCR", "n"), ("INCR", "n"))
    async with asyncio.timeout(20):
        await migration.proxy.fence()
        migration.proxy.release()
    assert await client.call("INCR", "n") == 3
    await migration.settled()
    assert migration.target.cli("GET", "n") == b"3"
    assert migration.status()["mirror"]["divergences"] == 0


async def test_effects_wait_in_the_gathering_then_the_targets_connection_is_lost(
    migration: Migration,
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "n", "5")
    await migration.settled()
    lane = migration.mirror_lane
    await gathered(migration, client, ("INCR", "n"), ("HSET", "h", "a", "1"))
    assert lane.client_id is not None
    migration.target.cli("CLIENT", "KILL", "ID", lane.client_id)
    await until(lambda: lane.is_lost, "the connection is lost")
    assert migration.is_unproven(b"n") and migration.is_unproven(b"h")
    assert await migration.differences() == []
    assert migration.target.cli("GET", "n") == b"6"
    assert migration.target.cli("HGET", "h", "a") == b"1"


async def test_effects_wait_in_the_gathering_then_keyferry_stops_in_good_order(
    migration: Migration,
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await gathered(migration, client, ("SET", "last", "words"))
    await migration.controller.stop()
    at_target = migration.target.cli("GET", "last")
    assert at_target == b"words" or migration.is_unproven(b"last")


async def test_a_copy_goes_at_once_with_all_that_waited_before_it(migration: Migration) -> None:
    client = await migration.client()
    migration.source.cli("SET", "copied", "v")
    await migration.mirroring()
    await gathered(migration, client, ("SET", "k", "1"), ("INCR", "k"))
    # A script's keys are copied, and nobody else would send anything for an hour.
    await client.call("EVAL", "return redis.call('INCR', KEYS[1])", "1", "k")
    await until(lambda: not migration.proxy.table.unproven, "the copy is acknowledged")
    assert migration.target.cli("GET", "k") == b"3"
