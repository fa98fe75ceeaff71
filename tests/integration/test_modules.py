"""Commands of modules: JSON, Bloom and its kin, TimeSeries, search, by the rule for what only the
server knows. On Redis 7.4 with its modules, where that is (`make stack`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from migrator.servers import find_engines
from tests.integration.clients import Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, refusal
from tests.servers import Server

STACK = next((engine for engine in find_engines() if engine.modules), None)
pytestmark = pytest.mark.skipif(STACK is None, reason="no engine with modules: `make stack`")


def load(server_factory: Callable[..., Server], *only: str) -> Server:
    assert STACK is not None
    paths = [path for path in STACK.modules if not only or path.stem in only]
    return server_factory(STACK, args=[word for p in paths for word in ("--loadmodule", str(p))])


@pytest.fixture
async def migration(
    server_factory: Callable[..., Server], tmp_path: Path, wires: Wires
) -> AsyncIterator[Migration]:
    migration = Migration(load(server_factory), load(server_factory), tmp_path / "state")
    await migration.open()
    yield migration
    await migration.close()


async def run(client: Client, lines: list[str]) -> None:
    for line in lines:
        assert await client.call(*line.split()) is not None, line


JSON = [
    'JSON.SET doc $ {"a":1,"l":[1,2,3],"s":"x","t":true,"o":{"k":"v"}}',
    "JSON.NUMINCRBY doc $.a 5",
    "JSON.NUMMULTBY doc $.a 2.5",
    "JSON.ARRAPPEND doc $.l 4 5",
    "JSON.ARRINSERT doc $.l 0 0",
    "JSON.ARRPOP doc $.l",
    "JSON.ARRTRIM doc $.l 0 2",
    'JSON.STRAPPEND doc $.s "yz"',
    "JSON.TOGGLE doc $.t",
    'JSON.MERGE doc $ {"m":[1]}',
    "JSON.CLEAR doc $.o",
    "JSON.DEL doc $.m",
    "JSON.MSET a $ 1 b $ 2 c $ 3",
    "JSON.FORGET c",
    "JSON.GET doc",
    "JSON.MGET a b $",
    "EXPIRE a 5000",
    "COPY a d",
    "RENAME b e",
]
BLOOM = [
    "BF.RESERVE bf 0.01 1000",
    "BF.ADD bf x",
    "BF.MADD bf a b c",
    "BF.INSERT made CAPACITY 100 ITEMS i j",
    "BF.EXISTS bf x",
    "CF.RESERVE cf 1000",
    "CF.ADD cf x",
    "CF.ADDNX cf y",
    "CF.INSERT cf ITEMS p q",
    "CF.DEL cf x",
    "CMS.INITBYDIM cms 100 5",
    "CMS.INITBYDIM merged 100 5",
    "CMS.INCRBY cms a 3 b 4",
    "CMS.MERGE merged 1 cms",
    "TOPK.RESERVE topk 3",
    "TOPK.ADD topk a b c d a",
    "TOPK.INCRBY topk a 5",
    "TDIGEST.CREATE td",
    "TDIGEST.ADD td 1 2 3.5",
    "TDIGEST.MERGE tm 1 td",
    "TDIGEST.QUANTILE td 0.5",
    "TDIGEST.RESET td",
]
SERIES = [
    "TS.CREATE ts LABELS sensor 1",
    "TS.ADD ts 1000 5",
    "TS.ADD made 1000 5 LABELS sensor 2",
    "TS.MADD ts 2000 6 made 2000 7",
    "TS.INCRBY counter 5 TIMESTAMP 1000",
    "TS.DECRBY counter 2 TIMESTAMP 2000",
    "TS.ADD ts * 8",
    "TS.ALTER ts RETENTION 100000000",
    "TS.DEL made 1000 1000",
    "TS.RANGE ts - +",
    "TS.MGET FILTER sensor=1",
]


@pytest.mark.parametrize("lines", [JSON, BLOOM, SERIES], ids=["json", "bloom", "series"])
async def test_writes_of_modules_are_on_both_sides(migration: Migration, lines: list[str]) -> None:
    client = await migration.client()
    await run(client, lines[: len(lines) // 2])
    await migration.verified()
    for step in (migration.cutover, migration.rollback):
        await client.call("FLUSHALL")
        await run(client, lines)
        assert await migration.differences() == []
        assert (await migration.verify())["passed"]
        assert migration.target.cli("DBSIZE") > 3
        await step()
    assert migration.status()["mirror"]["divergences"] == 0


async def test_in_blocks_and_scripts_they_do_the_same(migration: Migration) -> None:
    client = await migration.client()
    await client.call("JSON.SET", "doc", "$", "1")
    await migration.verified()
    answers = await client.block(
        ("JSON.NUMINCRBY", "doc", "$", 4),
        ("BF.ADD", "bf", "x"),
        ("JSON.GET", "doc"),
        ("TS.ADD", "ts", 1000, 5),
    )
    assert answers == [b"[5]", 1, b"5", 1000]
    assert await migration.differences() == []
    body = (
        "redis.call('JSON.NUMINCRBY', KEYS[1], '$', 1)"
        " return redis.call('BF.ADD', 'made' .. ARGV[1], 'x')"
    )
    for number in range(3):
        assert await client.call("EVAL", body, 1, "doc", number) == 1
    assert await migration.differences() == []
    assert migration.target.cli("JSON.GET", "doc") == b"8"
    assert (await migration.verify())["passed"]
    await migration.cutover()


async def test_a_type_whose_dump_differs_is_compared_by_what_it_shows(
    migration: Migration,
) -> None:
    client = await migration.client()
    await run(client, ["TOPK.RESERVE t 3", "TOPK.ADD t a b c a"])
    await migration.verified()
    migration.target.cli("TOPK.ADD", "t", "planted")
    assert (await migration.verify())["mismatches"] == 1
    assert (await migration.verify(repair=True))["passed"]


async def test_what_a_module_reads_is_asked_of_the_primary(migration: Migration) -> None:
    client = await migration.client()
    await client.call("JSON.SET", "doc", "$", "1")
    await client.call("TS.ADD", "ts", "1000", "5", "LABELS", "of", "here")
    await migration.verified()
    await migration.controller.shift(100)
    migration.target.cli("CONFIG", "RESETSTAT")
    copying = migration.controller.copying
    assert copying is not None
    repaired = copying.repair.repaired
    assert await client.call("JSON.GET", "doc") == b"1"
    assert (await client.call("TS.MGET", "FILTER", "of=here"))[0][0] == b"ts"
    stats = migration.target.info("commandstats")
    assert not [name for name in stats if "json" in name or "mget" in name]
    await migration.settled()
    assert copying.repair.repaired == repaired, "a read has nothing copied"


async def test_a_series_with_compaction_rules_blocks_a_flip_until_they_are_gone(
    migration: Migration,
) -> None:
    """DUMP leaves them out, and nothing can make one that goes on in the middle of a bucket."""
    client = await migration.client()
    rule = ("raw", "sums", "AGGREGATION", "sum", 10)
    await client.call("TS.CREATE", "raw")
    await client.call("TS.CREATE", "sums")
    await client.call("TS.ADD", "raw", 1, 1)
    migration.source.cli("TS.CREATERULE", *rule)
    assert await refusal(migration.start()) == {"compaction_rules"}
    await client.call("TS.DELETERULE", "raw", "sums")
    await migration.verified()

    await client.call("TS.CREATERULE", *rule)
    for at in range(2, 50):
        await client.call("TS.ADD", "raw", at, 1)
    await until(lambda: migration.status()["mirror"]["failing_keys"] == 1, "it is refused")
    because = migration.status()["mirror"]["failing_because"]
    assert because == "the target cannot hold it: compaction rules of a time series"
    await until(lambda: migration.status()["backfill"]["done"], "everything else is copied")
    assert await refusal(migration.cutover()) == {"not_verified", "unproven_keys"}
    verify = await migration.verify()
    assert verify["passed"] is False

    await client.call("TS.DELETERULE", "raw", "sums")
    assert await migration.differences() == []
    assert len(migration.target.cli("TS.RANGE", "sums", "-", "+")) == 4
    assert (await migration.verify())["passed"]
    await migration.cutover()


async def test_flips_under_writes_of_modules_lose_nothing(migration: Migration) -> None:
    first = await migration.client()
    await first.call("JSON.SET", "doc", "$", '{"n":0}')
    await migration.verified()
    is_over = asyncio.Event()
    counts = [0, 0, 0]

    async def write(number: int) -> None:
        client = await migration.client()
        while not is_over.is_set():
            counts[number] += 1
            at = counts[number]
            if number == 0:
                assert await client.call("TS.ADD", "raw", at, 1) == at
            elif number == 1:
                assert await client.call("JSON.NUMINCRBY", "doc", "$.n", 1) == b"[%d]" % at
            else:
                await client.call("BF.ADD", f"bf{at % 3}", at)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(write(number))
        for step in (migration.cutover, migration.rollback, migration.cutover):
            wanted = sum(counts) + 100
            await until(lambda wanted=wanted: sum(counts) > wanted, "they write")
            assert (await migration.verify())["passed"]
            await step()
        is_over.set()
    assert await migration.differences() == []
    primary = migration.target
    assert len(primary.cli("TS.RANGE", "raw", "-", "+")) == counts[0]
    assert primary.cli("JSON.GET", "doc", "$.n") == b"[%d]" % counts[1]


async def test_an_index_that_drops_its_documents_has_everything_copied(
    migration: Migration,
) -> None:
    client = await migration.client()
    create = ("FT.CREATE", "idx", "PREFIX", 1, "doc:", "SCHEMA", "t", "TEXT")
    await client.call(*create)
    await client.call("HSET", "doc:1", "t", "hello")
    await client.call("HSET", "other", "t", "hello")
    await until(lambda: _found(client), "it is indexed")
    await migration.verified("search_indexes")
    await client.call("FT.SUGADD", "suggestions", "hello", 1)
    assert await migration.differences() == []
    await client.call("FT.DROPINDEX", "idx", "DD")
    assert {"backfill_incomplete", "not_verified"} & await refusal(migration.cutover())
    await migration.copied()
    assert migration.target.cli("EXISTS", "doc:1") == migration.source.cli("EXISTS", "doc:1") == 0
    assert await migration.differences() == []


async def _found(client: Client) -> bool:
    return bool((await client.call("FT.SEARCH", "idx", "hello"))[0] == 1)
