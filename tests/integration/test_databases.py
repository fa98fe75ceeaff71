"""Commands of whole databases, and between databases, in each phase and while keys are copied.

A twin of the source is told the same, without a proxy: every reply must be the same, and in the
end both sides must hold what the twin holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from migrator.marker import KEY as MARKER
from tests.integration.clients import Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, differences
from tests.servers import REDIS_6, Server

COMMANDS = (
    "FLUSHALL", "FLUSHALL ASYNC", "FLUSHALL SYNC", "FLUSHDB", "FLUSHDB ASYNC", "SWAPDB 0 3",
    "SWAPDB 3 9", "MOVE text 3", "MOVE hash 9", "COPY list other DB 3 REPLACE", "COPY set set DB 9",
    "SWAPDB 3 3", "SWAPDB 0 9", "SWAPDB 9 3", "SWAPDB 0 999",
)  # fmt: skip
BEFORE = (
    "SELECT 0", "SET text old", "HSET hash a 1 b 2", "RPUSH list x y", "SADD set m",
    "SELECT 3", "SET text of_3", "RPUSH list z", "SELECT 0", "APPEND text er",
)  # fmt: skip
BEHIND = (
    "APPEND text st", "HINCRBY hash a 1", "EXISTS text list set", "SELECT 3", "GET text",
    "RPUSH list end", "SCARD set", "SELECT 9", "HGETALL hash", "SELECT 0", "TYPE text",
)  # fmt: skip

Phase = Callable[[Migration], Awaitable[Any]]


@pytest.fixture
def twin(server_factory: Callable[..., Server]) -> Server:
    return server_factory(REDIS_6)


async def idle(migration: Migration) -> None:
    pass


async def mirroring(migration: Migration) -> None:
    await migration.mirroring()


async def shifted(migration: Migration) -> None:
    await migration.verified()
    await migration.controller.shift(100)


async def cut_over(migration: Migration) -> None:
    await migration.verified()
    await migration.cutover()


async def rolled_back(migration: Migration) -> None:
    await cut_over(migration)
    await migration.rollback()


async def ask(client: Client, line: str) -> Any:
    client.send(*line.split())
    return await client.reply()


async def both(client: Client, twin: Client, *lines: str) -> None:
    for line in lines:
        wanted = await ask(twin, line)
        found = await ask(client, line)
        assert str(found) == str(wanted), line


async def same_everywhere(migration: Migration, twin: Server) -> None:
    assert await migration.differences() == []
    for server in (migration.source, migration.target):
        await until(lambda server=server: server.cli("DEL", MARKER), "the marker is in its place")
        assert await differences(twin, server) == []


@pytest.fixture
async def clients(migration: Migration, twin: Server) -> tuple[Client, Client]:
    return await migration.client(), await migration.direct(twin)


@pytest.mark.parametrize("phase", [idle, mirroring, shifted, cut_over, rolled_back])
async def test_in_each_phase_they_do_what_they_do_without_a_proxy(
    migration: Migration, twin: Server, clients: tuple[Client, Client], phase: Phase
) -> None:
    await both(*clients, *BEFORE)
    await phase(migration)
    for command in COMMANDS:
        await both(*clients, *BEFORE, command, *BEHIND)
    if phase is idle:
        await migration.mirroring()
    assert (await migration.verify())["passed"]
    await same_everywhere(migration, twin)


@pytest.mark.parametrize("command", COMMANDS)
async def test_while_keys_are_copied_too(
    migration: Migration, twin: Server, clients: tuple[Client, Client], wires: Wires, command: str
) -> None:
    await both(*clients, *BEFORE)
    read = wires.hold_read(b"text")
    await migration.start()
    await read.arrived()
    await both(*clients, command, *BEHIND)
    read.release()
    await both(*clients, *BEFORE, command, *BEHIND)
    await migration.copied()
    assert (await migration.verify())["passed"]
    await same_everywhere(migration, twin)


NAMED = "EVAL return(redis.call('INCRBY',KEYS[1],ARGV[1])) 1 n 53"
UNNAMED = "EVAL return(redis.call('INCRBY',KEYS[1]..':x',ARGV[1])) 1 n 53"


@pytest.mark.parametrize(
    "block",
    [
        (NAMED, "SWAPDB 0 3"),
        ("SWAPDB 0 3", NAMED),
        (NAMED, "SWAPDB 0 3", "SWAPDB 3 9"),
        ("SELECT 3", NAMED, "SELECT 0", "SWAPDB 3 9", NAMED),
        (NAMED, "INCR n", "SWAPDB 0 3", "INCR n"),
        (UNNAMED, "SWAPDB 0 3"),
        ("SWAPDB 9 0", UNNAMED, "SWAPDB 0 3"),
    ],
    ids=" ".join,
)
async def test_what_a_script_wrote_moves_with_its_database_in_the_same_block(
    migration: Migration, twin: Server, clients: tuple[Client, Client], block: tuple[str, ...]
) -> None:
    await both(*clients, "SET n 1", "SET n:x 1", "SELECT 3", "SET n 3", "SELECT 0")
    await migration.mirroring()
    await both(*clients, "MULTI", *block, "EXEC")
    await same_everywhere(migration, twin)


async def test_an_effect_is_on_its_way_then_databases_are_swapped_and_its_reply_differs(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    for line in ("SET n 1", "SET a 1", "SET other 1"):
        await ask(client, line)
    await migration.mirroring()
    for key in ("n", "a"):
        migration.target.cli("INCR", key)
    wires.hold_sending(migration.mirror_lane)
    # What `b` is made of turns out to differ only when both names are others.
    for line in ("INCR n", "INCR a", "RENAME a b", "SWAPDB 0 3", "SET other 2"):
        await ask(client, line)
    wires.release_sending(migration.mirror_lane)
    assert await migration.differences() == []
    assert migration.target.cli("MGET", "n", "b", db=3) == [b"2", b"2"]
    assert migration.status()["mirror"]["divergences"] == 2


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHALL ASYNC", "FLUSHDB", "SWAPDB 0 3"])
async def test_among_the_writes_of_others_none_of_those_behind_it_is_lost(
    migration: Migration, command: str
) -> None:
    """Each writes what nobody else does; what was acknowledged behind the command is there."""
    await migration.verified()
    writing = [await migration.client() for _ in range(8)]
    last = [0] * len(writing)
    ended = asyncio.Event()

    async def write(number: int) -> None:
        while not ended.is_set():
            for at in range(10):
                writing[number].send("SADD", f"k{number}", last[number] + at + 1)
            for _ in range(10):
                assert await writing[number].reply() == 1
            last[number] += 10

    tasks = [asyncio.create_task(write(number)) for number in range(len(writing))]
    commander = await migration.client()
    for _ in range(5):
        reached = sum(last)
        await until(lambda reached=reached: sum(last) > reached + 200, "writes between")
        before = list(last)
        assert await ask(commander, command) == b"OK"
        # What is sent from now on is behind it.
        since = [number + 20 for number in last]
    reached = sum(last)
    await until(lambda: sum(last) > reached + 400, "writes behind it")
    ended.set()
    await asyncio.gather(*tasks)
    assert all(since[at] > before[at] for at in range(len(writing)))
    assert await migration.differences() == []
    for number, end in enumerate(last):
        held = {int(each) for each in migration.target.cli("SMEMBERS", f"k{number}")}
        assert held.issuperset(range(since[number] + 1, end + 1))
    assert (await migration.verify())["passed"]
    await migration.cutover()
