"""Optimistic transactions over flips: what was counted is there, and nothing twice."""

from __future__ import annotations

import asyncio

from tests.integration.clients import Client
from tests.integration.keyferry import Migration

CLIENTS = 16


async def _count(client: Client, ended: asyncio.Event) -> int:
    """Increments of `n` by WATCH and MULTI until it ends; how many were executed."""
    done = 0
    while not ended.is_set():
        await client.call("WATCH", "n")
        number = int(await client.call("GET", "n") or 0)
        await client.call("MULTI")
        await client.call("SET", "n", number + 1)
        done += await client.call("EXEC") is not None
    return done


async def test_optimistic_counters_of_16_clients_count_right_over_three_flips(
    migration: Migration,
) -> None:
    await migration.verified()
    clients = [await migration.client() for _ in range(CLIENTS)]
    ended = asyncio.Event()
    counting = [asyncio.create_task(_count(client, ended)) for client in clients]
    for flip in (migration.cutover, migration.rollback, migration.cutover):
        before = int(migration.source.cli("GET", "n") or 0)
        while int(migration.source.cli("GET", "n") or 0) < before + 20:
            await asyncio.sleep(0.01)
        await flip()
    ended.set()
    total = sum(await asyncio.gather(*counting))
    await migration.settled()
    assert total > 60
    assert int(migration.target.cli("GET", "n")) == int(migration.source.cli("GET", "n")) == total
