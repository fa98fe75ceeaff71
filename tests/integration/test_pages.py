"""How much of the stores a page holds: bounded in bytes, whatever the values are like."""

from __future__ import annotations

import asyncio

import pytest

from migrator.backfill import LARGE_PAGE, Backfill
from migrator.mover import Copied
from migrator.stores import StoreInfo
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration
from tests.servers import Server

MIB = 1 << 20


@pytest.mark.parametrize(
    ("keys", "used", "expected"),
    [(0, 0, 500), (0, MIB, 500), (1000, 0, 500), (1000, 1000 * MIB, 2), (10**6, 100 * MIB, 500),
     (3, 4096 * MIB, 1)],
)  # fmt: skip
def test_a_page_has_fewer_keys_where_they_are_large(keys: int, used: int, expected: int) -> None:
    info = StoreInfo(keys_by_db={0: keys}, used_memory=used)
    assert info.keys_of(2 * MIB, 500) == expected


def calls(server: Server, command: str) -> int:
    """How often it was called, as the store counts."""
    stats = server.info("commandstats").get(f"cmdstat_{command}", "calls=0")
    return int(stats.split(",")[0].removeprefix("calls="))


@pytest.mark.parametrize("one_expires", [True, False])
async def test_clients_write_strings_between_the_read_and_the_copy_of_their_page(
    migration: Migration, wires: Wires, one_expires: bool
) -> None:
    source, target = migration.source, migration.target
    source.cli("MSET", *(word for n in range(400) for word in (f"k:{n}", f"old {n}")))
    if one_expires:
        source.cli("SET", "expires", "v", "PX", 10**6)
    client = await migration.client()
    read = wires.hold_read(b"k:0")
    await migration.start()
    await read.arrived()
    await client.call("SET", "k:0", "new")
    await client.call("APPEND", "k:1", " and more")
    await client.call("DEL", "k:2")
    await client.call("PEXPIRE", "k:3", "1000000")
    await client.call("RENAME", "k:4", "k:5")
    await client.call("PERSIST", "expires")
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert calls(source, "mget") and calls(target, "mset")
    assert target.cli("MGET", "k:0", "k:1", "k:2", "k:4", "k:5", "k:399") == [
        b"new", b"old 1 and more", None, None, b"old 4", b"old 399",
    ]  # fmt: skip
    assert target.cli("PTTL", "k:3") > 0
    assert target.cli("PTTL", "expires") == (-1 if one_expires else -2)
    dumps = calls(source, "dump")
    assert (await migration.verify())["passed"]
    # What does not differ was not looked at by DUMP.
    assert calls(source, "dump") - dumps < 50
    target.cli("SET", "k:200", "planted")
    target.cli("SET", "only there", "planted")
    assert (await migration.verify())["mismatches"] == 2


async def test_a_string_that_a_client_wrote_while_its_page_was_read_is_not_sent(
    migration: Migration, wires: Wires
) -> None:
    migration.source.cli("MSET", *(word for n in range(400) for word in (f"k:{n}", f"old {n}")))
    client = await migration.client()
    await migration.mirroring()
    read = wires.hold_read(b"k:0")
    assert migration.controller.copying is not None
    mover = migration.controller.copying.mover
    keys = [b"k:%d" % n for n in range(400)]
    copying = asyncio.create_task(mover.copy(0, keys, "backfill-0"))
    await read.arrived()
    await client.call("SET", "k:0", "new")
    read.release()
    copied = await copying
    assert await copied.acknowledged == []
    assert (copied.touched, copied.keys) == ([b"k:0"], 399)
    assert calls(migration.target, "mset") == 2
    assert await migration.differences() == []
    assert migration.target.cli("GET", "k:0") == b"new"


async def test_pages_of_large_values_are_small(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        migration.source.cli("SET", f"large:{number}", b"x" * (MIB // 4))
    sizes: list[int] = []
    done = Backfill._done

    def remembered(self: Backfill, copied: Copied, *more: object) -> None:
        sizes.append(copied.size)
        done(self, copied, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Backfill, "_done", remembered)
    await migration.mirroring()
    assert len(sizes) > 10
    assert max(sizes) <= 4 * LARGE_PAGE
    assert await migration.differences() == []
