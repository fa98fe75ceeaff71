"""Refused commands that an operator has allowed: what they do, the mirror follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hiredis
import pytest

from tests.integration.clients import until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, refusal
from tests.servers import REDIS_6, Pair, Server

Open = Callable[..., Any]


@pytest.fixture
def pair() -> Pair:
    """Both of the engine that takes DEBUG without being told to."""
    return Pair(REDIS_6, REDIS_6)


@pytest.fixture
async def allowing(
    source: Server, target: Server, tmp_path: Path, wires: Wires
) -> AsyncIterator[Open]:
    """`await allowing(names)`: a migration that allows these."""
    opened: list[Migration] = []

    async def open_(*names: str) -> Migration:
        migration = Migration(source, target, tmp_path / "state", allow_commands=names)
        await migration.open()
        opened.append(migration)
        return migration

    yield open_
    for migration in opened:
        await migration.close()


async def test_debug_that_makes_keys_has_everything_copied_again(allowing: Open) -> None:
    migration = await allowing("debug")
    client = await migration.client()
    await client.call("SET", "mine", "1")
    await migration.verified()
    generation = migration.proxy.table.generation
    assert await client.call("DEBUG", "SLEEP", "0") == b"OK"
    assert await client.call("DEBUG", "OBJECT", "mine")
    assert migration.proxy.table.generation == generation
    assert migration.status()["blockers"] == []

    assert await client.call("DEBUG", "POPULATE", "30") == b"OK"
    assert {"backfill_incomplete", "not_verified"} & await refusal(migration.cutover())
    await migration.copied()
    assert migration.target.cli("DBSIZE") == migration.source.cli("DBSIZE") == 32
    assert await migration.differences() == []
    assert await refusal(migration.cutover()) == {"not_verified"}
    assert (await migration.verify())["passed"]
    await migration.cutover()


async def test_debug_inside_a_block_does_the_same(allowing: Open) -> None:
    migration = await allowing("debug")
    client = await migration.client()
    await migration.verified()
    await client.call("MULTI")
    await client.call("INCR", "n")
    await client.call("DEBUG", "POPULATE", "20")
    assert await client.call("EXEC") == [1, b"OK"]
    await migration.copied()
    assert await migration.differences() == []


async def test_migrate_takes_its_keys_off_both(
    allowing: Open, server_factory: Callable[..., Server]
) -> None:
    migration = await allowing("migrate")
    elsewhere = server_factory(REDIS_6)
    client = await migration.client()
    await migration.mirroring()
    await client.call("MSET", "a", "1", "b", "2", "stays", "3")
    to = ("MIGRATE", "127.0.0.1", elsewhere.port, "", 0, 1000)
    assert await client.call(*to, "KEYS", "a", "b") == b"OK"
    assert await migration.differences() == []
    assert migration.target.cli("KEYS", "?") == []

    # One goes, the other fails: an error, and a key that has moved.
    await client.call("MSET", "c", "1", "d", "2")
    elsewhere.cli("SET", "d", "in the way")
    with pytest.raises(hiredis.ReplyError, match="BUSYKEY"):
        await client.call(*to, "KEYS", "c", "d")
    assert migration.source.cli("EXISTS", "c", "d") == 1
    assert await migration.differences() == []


@pytest.mark.parametrize("command", [("PFDEBUG", "TODENSE", "hll"), ("PFDEBUG", "GETREG", "hll")])
async def test_pfdebug_has_its_key_copied(allowing: Open, command: tuple[str, ...]) -> None:
    migration = await allowing("pfdebug")
    client = await migration.client()
    await client.call("PFADD", "hll", "a", "b")
    await migration.mirroring()
    repaired = migration.controller.copying.repair.repaired
    await client.call(*command)
    await migration.settled()
    assert migration.controller.copying.repair.repaired == repaired + 1
    assert await migration.differences() == []


async def test_restore_asking_is_mirrored_as_restore(allowing: Open) -> None:
    migration = await allowing("restore-asking")
    client = await migration.client()
    await client.call("SET", "a", "v")
    await migration.mirroring()
    payload = await client.call("DUMP", "a")
    assert await client.call("RESTORE-ASKING", "b", "50000", payload) == b"OK"
    assert await migration.differences() == []
    assert migration.target.cli("GET", "b") == b"v"


async def test_a_setting_is_of_the_primary_alone(allowing: Open) -> None:
    migration = await allowing("config set", "save")
    client = await migration.client()
    await migration.verified()
    assert await client.call("CONFIG", "SET", "maxmemory-samples", "7") == b"OK"
    assert migration.source.cli("CONFIG", "GET", "maxmemory-samples")[1] == b"7"
    assert migration.target.cli("CONFIG", "GET", "maxmemory-samples")[1] == b"5"
    assert await client.call("SAVE") == b"OK"
    with pytest.raises(hiredis.ReplyError, match="Keyferry refuses 'config rewrite'"):
        await client.call("CONFIG", "REWRITE")
    assert migration.status()["allowed_commands"] == ["config set", "save"]
    await migration.cutover()
    assert await client.call("CONFIG", "SET", "maxmemory-samples", "9") == b"OK"
    assert migration.target.cli("CONFIG", "GET", "maxmemory-samples")[1] == b"9"


async def test_replicaof_no_one_has_everything_copied_again(allowing: Open) -> None:
    migration = await allowing("replicaof")
    client = await migration.client()
    await client.call("SET", "k", "v")
    await migration.verified()
    assert await client.call("REPLICAOF", "NO", "ONE") == b"OK"
    await until(lambda: "not_verified" in migration.status()["blockers"], "it is stale")
    await migration.copied()
    assert await migration.differences() == []


async def test_a_shutdown_is_what_a_direct_client_would_see(allowing: Open) -> None:
    migration = await allowing("shutdown")
    client = await migration.client()
    await client.call("SET", "k", "v")
    await migration.mirroring()
    with pytest.raises(ConnectionError):
        await client.call("SHUTDOWN", "NOSAVE")
    await until(lambda: not migration.source.is_running, "the source has ended")
    migration.source.start()
    again = await migration.client()
    assert await again.call("INCR", "n") == 1
    await migration.copied()
    assert migration.target.cli("GET", "n") == b"1"
