"""What clients do with keys that a running verification has not looked at yet.

A difference is planted on the target; while the verification rests at a named point of its walk
a client brings it to where the walk has been, or would be missed by it, with replies that are the
same on both sides. The verdict must say what is true in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from migrator import verify
from migrator.bulk import Bulk
from proxy import noted
from proxy.keytable import Place
from tests.integration.clients import Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration

PAGE = 10
KEYS = 60


class Walk:
    """`before(db, n)`: what is awaited before the n-th SCAN of this database, from 1."""

    def __init__(self) -> None:
        self.steps: dict[tuple[int, int], Callable[[], Awaitable[Any]]] = {}
        self.scans: dict[int, int] = {}
        self.seen: set[bytes] = set()

    def before(self, db: int, n: int, step: Callable[[], Awaitable[Any]]) -> None:
        self.steps[db, n] = step


@pytest.fixture(autouse=True)
def walk(monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.setattr(verify, "SCAN_COUNT", PAGE)
    walk = Walk()
    call = Bulk.call

    async def counted(bulk: Bulk, *args: Any, **options: Any) -> Any:
        if args[0] != "SCAN":
            return await call(bulk, *args, **options)
        db = options["db"]
        at = walk.scans[db] = walk.scans.get(db, 0) + 1
        step = walk.steps.pop((db, at), None)
        if step is not None:
            await step()
        answer = await call(bulk, *args, **options)
        walk.seen.update(answer[1])
        return answer

    monkeypatch.setattr(Bulk, "call", counted)
    return walk


def parts(migration: Migration, db: int = 0) -> tuple[list[str], list[str]]:
    """Keys that the first page of a walk shows, and all others."""
    first = {key.decode() for key in migration.source.cli("SCAN", 0, "COUNT", PAGE, db=db)[1]}
    keys = {f"k{number}" for number in range(KEYS)}
    return sorted(first & keys), sorted(keys - first)


async def looked_at(migration: Migration, keys: int) -> None:
    """The verification has compared so many keys, and rests."""
    verification = migration.controller.verification
    assert verification is not None
    await until(lambda: verification.progress.keys_checked >= keys, "they were compared")


async def verdict_is_true(migration: Migration, *, passed: bool) -> None:
    """The verification that runs, or will, says `passed`, and so it is; a repair mends it."""
    result = await migration.verify()
    assert bool(await migration.differences()) is not passed
    assert result["passed"] is passed
    assert result["mismatches"] == (0 if passed else 1)
    assert (await migration.verify(repair=True))["passed"]
    assert await migration.differences() == []
    assert migration.status()["mirror"]["divergences"] == 0


# how each key is made, the difference in one, and how a client carries it from {k} to {l}
CARRIED = {
    "RENAME": (["SET {0} v"], ["SET {k} w"], ["RENAME {k} {l}"]),
    "COPY": (["SET {0} v"], ["SET {k} w"], ["COPY {k} {l} REPLACE", "DEL {k}"]),
    "SUNIONSTORE": (
        ["SADD {0} a"],
        ["SADD {k} b", "SREM {k} a"],
        ["SUNIONSTORE {l} {k}", "DEL {k}"],
    ),
    "ZUNIONSTORE": (
        ["ZADD {0} 1 a"],
        ["ZADD {k} 2 a"],
        ["ZUNIONSTORE {l} 1 {k}", "DEL {k}"],
    ),
    "ZRANGESTORE": (
        ["ZADD {0} 1 a"],
        ["ZADD {k} 2 a"],
        ["ZRANGESTORE {l} {k} 0 -1", "DEL {k}"],
    ),
    "GEOSEARCHSTORE": (
        ["GEOADD {0} 13.36 38.11 p"],
        ["GEOADD {k} 13.37 38.12 p"],
        ["GEOSEARCHSTORE {l} {k} FROMLONLAT 13 38 BYRADIUS 200 km", "DEL {k}"],
    ),
    "BITOP": (["SET {0} v"], ["SET {k} w"], ["BITOP NOT {l} {k}", "DEL {k}"]),
    "PFMERGE": (
        ["PFADD {0} a"],
        ["PFADD {k} b"],
        ["DEL {l}", "PFMERGE {l} {k}", "DEL {k}"],
    ),
    "SORT": (["RPUSH {0} a"], ["LSET {k} 0 b"], ["SORT {k} ALPHA STORE {l}", "DEL {k}"]),
    "a block": (["SET {0} v"], ["SET {k} w"], ["MULTI", "RENAME {k} {l}", "INCR n", "EXEC"]),
    "a script": (
        ["SET {0} v"],
        ["SET {k} w"],
        ["EVAL return(redis.call('RENAME',KEYS[1],KEYS[2])) 2 {k} {l}"],
    ),
    "over another": (
        ["SET {0} v"],
        ["SET {k} w"],
        ["RENAME {k} {j}", "COPY {j} {l} REPLACE", "DEL {j}"],
    ),
}  # fmt: skip
# What they write is copied in any case.
MENDED_AT_ONCE = ("PFMERGE", "SORT", "a script")


async def ask(client: Client, *lines: str) -> None:
    for line in lines:
        await client.call(*line.split())


@pytest.mark.parametrize("is_written", [False, True], ids=["", "and written"])
@pytest.mark.parametrize("what", CARRIED)
async def test_a_difference_is_carried_to_a_key_that_was_compared_before(
    migration: Migration, walk: Walk, what: str, is_written: bool
) -> None:
    """`is_written`: before it was compared, and so looked at again only for what is carried."""
    made, planted, carried = CARRIED[what]
    client = await migration.client()
    for number in range(KEYS):
        await ask(client, *(line.format(f"k{number}") for line in made))
    await migration.mirroring()
    done, rest = parts(migration)
    names = {"k": rest[0], "j": rest[1], "l": done[0]}
    for line in planted:
        migration.target.cli(*line.format(**names).split())

    async def write() -> None:
        if is_written:
            await ask(client, f"DEL {done[0]}", *(line.format(done[0]) for line in made))

    async def carry() -> None:
        await looked_at(migration, len(done))
        await ask(client, *(line.format(**names) for line in carried))

    walk.scans.clear()
    walk.before(0, 1, write)
    walk.before(0, 2, carry)
    await verdict_is_true(migration, passed=what in MENDED_AT_ONCE)


async def test_a_key_is_written_all_the_time_and_compared_once(
    migration: Migration, walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not so what was first written behind the walk, or has got the data of others."""
    client = await migration.client()
    for number in range(KEYS):
        await ask(client, f"SET k{number} 1", f"SET moved{number} 1")
    await migration.mirroring()
    done, rest = parts(migration)
    again: set[Place] = set()
    close = noted.Noted.close

    def seen(self: noted.Noted) -> set[Place]:
        again.update(written := close(self))
        return written

    async def write() -> None:
        await ask(client, f"INCR {done[0]}", f"INCR {done[1]}")

    async def write_again() -> None:
        await looked_at(migration, len(done))
        await ask(client, f"INCR {done[0]}", f"INCR {done[2]}", f"COPY {rest[0]} {done[1]} REPLACE")
        await ask(client, f"INCR {done[1]}")

    monkeypatch.setattr(noted.Noted, "close", seen)
    walk.scans.clear()
    walk.before(0, 1, write)
    walk.before(0, 2, write_again)
    await verdict_is_true(migration, passed=True)
    assert {name for name in done if name.encode() in again} == {done[1], done[2]}


@pytest.mark.parametrize("is_written", [False, True], ids=["", "and written"])
async def test_a_difference_is_moved_to_a_database_that_was_compared_before(
    migration: Migration, walk: Walk, is_written: bool
) -> None:
    client = await migration.client()
    await ask(client, "SET k0 v", "SELECT 3", "SET moved v", "SET copied v", "SET stays v")
    await migration.mirroring()
    migration.target.cli("SET", "moved", "w", db=3)
    migration.target.cli("SET", "copied", "x", db=3)

    async def write() -> None:
        if is_written:
            await ask(client, "SELECT 0", "SET copied equal", "SELECT 3")

    async def move() -> None:
        await looked_at(migration, 1 + is_written)
        await ask(client, "MOVE moved 0", "COPY copied copied DB 0 REPLACE", "DEL copied")

    walk.scans.clear()
    walk.before(0, 1, write)
    walk.before(3, 1, move)
    result = await migration.verify()
    assert len(await migration.differences()) == 2
    assert result["mismatches"] == 2
    assert (await migration.verify(repair=True))["passed"]
    assert await migration.differences() == []


async def swappable(migration: Migration) -> tuple[Client, str]:
    """Two databases of many keys; one in 0, that no first page shows, differs."""
    client = await migration.client()
    for db in (0, 3):
        await ask(client, f"SELECT {db}", *(f"SET k{number} of{db}" for number in range(KEYS)))
    await migration.mirroring()
    _, rest = parts(migration)
    migration.target.cli("SET", rest[0], "w")
    return client, rest[0]


@pytest.mark.parametrize("at", [(0, 1), (0, 2), (3, 1), (3, 2)])
async def test_databases_are_swapped_amid_the_walk_and_it_goes_on_where_they_are(
    migration: Migration, walk: Walk, at: tuple[int, int]
) -> None:
    client, _ = await swappable(migration)

    async def swap() -> None:
        await ask(client, "SWAPDB 0 3", "SWAPDB 3 9")

    walk.scans.clear()
    walk.before(*at, swap)
    await verdict_is_true(migration, passed=False)
    verification = migration.controller.verification
    assert verification is not None and verification.progress.keys_checked == 2 * KEYS


async def test_a_scan_is_answered_behind_the_swap_and_before_the_swaps_own_answer(
    migration: Migration, walk: Walk, wires: Wires
) -> None:
    client, differs = await swappable(migration)
    await ask(client, "SELECT 0")
    lane = migration.lane()
    table = migration.proxy.table
    released: list[asyncio.Task[None]] = []

    async def release() -> None:
        await until(lambda: table.has_waiting, "the walk waits for what is under way")
        wires.release_replies(lane)

    async def swap() -> None:
        wires.hold_replies(lane)
        client.send("SWAPDB", 0, 3)
        await until(lambda: migration.source.cli("GET", differs) == b"of3", "it is done")
        released.append(asyncio.create_task(release()))

    walk.scans.clear()
    walk.before(0, 2, swap)
    await verdict_is_true(migration, passed=False)
    await released[0]


async def test_everything_has_to_be_copied_anew_amid_the_walk_and_there_is_no_verdict(
    migration: Migration, walk: Walk
) -> None:
    """Of what the secondary still holds nothing is a difference."""
    client, _ = await swappable(migration)
    await migration.verify(repair=True)

    async def flush() -> None:
        # Nobody can name what it writes, so that all that is known is that something was flushed.
        client.send("EVAL", "redis.call('FLUSHDB') redis.call('SET', ARGV[1], 1)", 0, "k0")
        await client.reply()

    walk.scans.clear()
    walk.before(0, 2, flush)
    result = await migration.verify()
    assert result["passed"] is None and result["mismatches"] == 0
    assert result["error"] == "every key is copied anew: verify behind that"
    await migration.copied()
    await verdict_is_true(migration, passed=True)


async def test_databases_are_swapped_at_each_scan_and_there_is_no_verdict(
    migration: Migration, walk: Walk
) -> None:
    client = await migration.client()
    await ask(client, "SET k0 v", "SELECT 3", "SET k0 v", "SET k1 v")
    await migration.mirroring()

    async def swap() -> None:
        walk.scans.clear()
        for db in (0, 3):
            walk.before(db, 1, swap)
        await ask(client, "SWAPDB 0 3")

    await swap()
    assert (await migration.verify())["passed"] is None
    walk.steps.clear()
    await verdict_is_true(migration, passed=True)


async def test_a_key_is_written_and_then_its_database_moves_and_it_is_compared_where_it_is(
    migration: Migration, walk: Walk
) -> None:
    client, differs = await swappable(migration)
    done, _ = parts(migration)

    async def write() -> None:
        await looked_at(migration, len(done))
        await ask(client, "SELECT 0", f"RENAME {differs} {done[0]}", "SWAPDB 0 3")
        await ask(client, f"RENAME {done[1]} {done[2]}")

    walk.scans.clear()
    walk.before(0, 2, write)
    await verdict_is_true(migration, passed=False)


async def test_a_key_that_only_the_target_has_comes_into_being_behind_the_walk_over_the_source(
    migration: Migration, walk: Walk
) -> None:
    client = await migration.client()
    await ask(client, "SADD k0 a")
    await migration.mirroring()
    migration.target.cli("SADD", "extra", "x")

    async def add() -> None:
        await looked_at(migration, 1)
        await ask(client, "SADD extra a")

    walk.scans.clear()
    # The first of the target's.
    walk.before(0, 2, add)
    await verdict_is_true(migration, passed=False)


async def test_a_difference_is_carried_while_what_was_written_is_compared_again(
    migration: Migration, walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look: what comes of other keys is copied from there on, so that it is the last."""
    client = await migration.client()
    for number in range(KEYS):
        await ask(client, f"SET k{number} v")
    await migration.mirroring()
    done, rest = parts(migration)
    migration.target.cli("SET", rest[0], "w")
    settle = verify.Verification._settle_page
    looks: list[list[bytes]] = []

    async def write() -> None:
        await looked_at(migration, len(done))
        await ask(client, f"RENAME {rest[0]} {done[0]}")

    async def held(self: verify.Verification, comparer: Any, db: int, keys: list[bytes]) -> None:
        verification = migration.controller.verification
        assert verification is not None
        if done[0].encode() in keys and len(keys) <= 2:  # Not amid a page of the walk.
            looks.append(keys)
            await ask(client, f"RENAME {done[0]} {done[1]}")
        await settle(self, comparer, db, keys)

    monkeypatch.setattr(verify.Verification, "_settle_page", held)
    walk.scans.clear()
    walk.before(0, 2, write)
    await verdict_is_true(migration, passed=True)
    assert looks


async def test_more_is_written_than_is_remembered_and_nothing_is_missed(
    migration: Migration, walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noted, "MOST", 5)
    client = await migration.client()
    for number in range(KEYS):
        await ask(client, f"SADD k{number} a")
    await migration.mirroring()
    done, rest = parts(migration)
    migration.target.cli("SADD", rest[0], "b")
    migration.target.cli("SREM", rest[0], "a")
    migration.target.cli("SADD", "extra", "x")

    async def carry() -> None:
        await looked_at(migration, len(done))
        await ask(client, f"SUNIONSTORE {done[0]} {rest[0]}")
        assert migration.proxy.mirror is not None
        # Else it is copied, since its input is about to be unproven.
        await migration.proxy.mirror.applied()
        await ask(client, *(f"SADD {key} z" for key in done[2:9]))
        # Too many by now.
        await ask(client, f"RENAME {rest[0]} {done[1]}")

    async def add() -> None:
        await looked_at(migration, KEYS - 1)
        await ask(client, "SADD extra a")

    walk.scans.clear()
    walk.before(0, 2, carry)
    count = len(await scans_of_one_walk(migration))
    walk.before(0, count + 1, add)
    result = await migration.verify()
    assert {each.split(":")[0] for each in await migration.differences()} == {
        f"db 0 {done[0].encode()!r}", "db 0 b'extra'",
    }  # fmt: skip
    assert result["mismatches"] == 2
    assert (await migration.verify(repair=True))["passed"]
    assert await migration.differences() == []


async def scans_of_one_walk(migration: Migration) -> list[bytes]:
    """The cursors of a walk over the source."""
    cursors: list[bytes] = []
    while not cursors or cursors[-1] != b"0":
        at = cursors[-1] if cursors else 0
        cursors.append(migration.source.cli("SCAN", at, "COUNT", PAGE)[0])
    return cursors


async def test_keys_are_renamed_and_joined_for_ever_and_the_verification_ends(
    migration: Migration, walk: Walk
) -> None:
    clients = [await migration.client() for _ in range(4)]
    for number in range(KEYS):
        await ask(clients[0], f"SADD k{number} a b{number}")
    await ask(clients[0], "RPUSH queue a b c", "RPUSH other d")
    await migration.mirroring()
    is_over = asyncio.Event()

    async def write(number: int) -> None:
        client = clients[number]
        at = 0
        while not is_over.is_set():
            at += 1
            mine = [f"k{number + 4 * (each % 15)}" for each in (at, at + 1, at + 7)]
            client.send("RENAME", mine[0], mine[1])
            client.send("SUNIONSTORE", mine[0], mine[1])
            client.send("COPY", mine[0], mine[2], "REPLACE")
            client.send("LMOVE", "queue", "other", "LEFT", "RIGHT")
            client.send("LMOVE", "other", "queue", "LEFT", "RIGHT")
            for _ in range(5):
                await client.reply()

    tasks = [asyncio.create_task(write(number)) for number in range(4)]
    try:
        for _ in range(2):
            result = await migration.verify()
            assert result["passed"], migration.controller.verification.progress  # type: ignore[union-attr]
    finally:
        is_over.set()
        await asyncio.gather(*tasks)
    assert migration.status()["mirror"]["divergences"] == 0
    assert await migration.differences() == []
