"""Strings that are copied in pieces, and what may happen between two pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from migrator import mover, verify
from migrator.bulk import Bulk
from migrator.copy import comparer, reader
from proxy.pieces import KEY
from tests.integration.clients import until
from tests.integration.keyferry import Migration

VALUE = bytes(range(256)) * 400
PIECE = 10_000


class Pieces:
    """`before[n]` is awaited before the n-th piece is read, counted over all copies from 1."""

    def __init__(self) -> None:
        self.before: dict[int, Callable[[], Awaitable[Any]]] = {}
        self.read = 0


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> Pieces:
    monkeypatch.setattr(reader, "PLAIN_BYTES", 1_000)
    monkeypatch.setattr(reader, "PIECES_BYTES", 20_000)
    monkeypatch.setattr(mover, "PIECE", PIECE)
    pieces = Pieces()
    call = Bulk.call

    async def counted(bulk: Bulk, *args: Any, **options: Any) -> Any:
        if args[0] == "GETRANGE":
            pieces.read += 1
            then = pieces.before.pop(pieces.read, None)
            if then is not None:
                await then()
        return await call(bulk, *args, **options)

    monkeypatch.setattr(Bulk, "call", counted)
    return pieces


async def equal(migration: Migration) -> None:
    """Both sides hold the same, and nothing of a copy is left."""
    await migration.copied()
    assert await migration.differences() == []
    for db in (0, 3):
        assert migration.target.cli("EXISTS", KEY, db=db) == 0
    assert migration.status()["mirror"]["divergences"] == 0


async def test_a_large_string_is_copied_in_pieces_with_its_expiry(
    migration: Migration, pieces: Pieces
) -> None:
    migration.source.cli("SET", "k", VALUE, "EX", 1000)
    migration.source.cli("SET", "other", VALUE, db=3)
    migration.source.cli("SET", "plain", VALUE[:5_000], "EX", 1000)
    migration.source.cli("SET", "whole pieces", VALUE[: 3 * PIECE])
    # What is there is replaced, whatever it is.
    migration.target.cli("HSET", "k", "f", "v")
    await migration.start("target_not_empty")
    await equal(migration)
    # Once for each walk: the target was not empty.
    assert pieces.read == 2 * (11 + 11 + 4)
    assert migration.target.cli("GET", "k") == VALUE
    assert migration.target.cli("GET", "other", db=3) == VALUE
    assert (await migration.verify())["passed"]


async def test_a_client_writes_between_two_pieces_and_the_copy_begins_again(
    migration: Migration, pieces: Pieces
) -> None:
    migration.source.cli("SET", "k", VALUE)
    client = await migration.client()

    async def write() -> None:
        await client.call("SETRANGE", "k", 5, "written")

    pieces.before[4] = write
    await migration.start()
    await equal(migration)
    assert pieces.read == 4 + 11
    assert migration.target.cli("GETRANGE", "k", 5, 11) == b"written"


async def test_a_client_writes_at_each_copy_and_the_last_one_is_alone(
    migration: Migration, pieces: Pieces
) -> None:
    migration.source.cli("SET", "k", VALUE)
    client = await migration.client()
    last = await migration.client()

    async def write() -> None:
        await client.call("APPEND", "k", "x")

    async def send() -> None:
        last.send("APPEND", "k", "waits")
        await until(lambda: migration.waits(b"k"), "it waits for the copy")

    pieces.before.update({2: write, 4: write, 6: write, 8: send})
    await migration.start()
    assert await last.reply() == len(VALUE) + 3 + 5
    await equal(migration)
    assert migration.target.cli("GET", "k") == VALUE + b"xxxwaits"


@pytest.mark.parametrize("meant", [3, 11])
async def test_a_piece_is_missing_on_the_target_and_the_copy_does_not_count(
    migration: Migration, pieces: Pieces, meant: int
) -> None:
    migration.source.cli("SET", "k", VALUE)
    direct = await migration.direct(migration.target)

    async def lose() -> None:
        await until(lambda: not migration.mirror_lane.ops, "the pieces have come")
        await direct.call("DEL", KEY)

    pieces.before[meant] = lose
    await migration.start()
    await equal(migration)
    assert migration.target.cli("GET", "k") == VALUE


async def test_the_mirror_is_lost_between_two_pieces_and_nothing_is_left_of_them(
    migration: Migration, pieces: Pieces
) -> None:
    client = await migration.client()
    await migration.mirroring()

    async def lose() -> None:
        await until(lambda: not migration.mirror_lane.ops, "the pieces have come")
        # Whatever comes next is a copy of something small.
        await client.call("SET", "k", "small")
        migration.mirror_lane.close()

    pieces.before[5] = lose
    migration.proxy.table.mark_unproven(b"k")
    await client.call("SET", "k", VALUE)
    await until(lambda: pieces.read >= 5, "some pieces were read")
    await equal(migration)
    assert migration.target.cli("GET", "k") == b"small"


@pytest.mark.parametrize("is_deleted", [False, True], ids=["", "and it is deleted"])
async def test_databases_are_swapped_between_two_pieces_and_nothing_is_left_of_the_copy(
    migration: Migration, pieces: Pieces, is_deleted: bool
) -> None:
    await migration.mirroring()
    client = await migration.client()
    migration.source.cli("SET", "k", VALUE)

    async def swap() -> None:
        await client.call("SWAPDB", 0, 3)
        if is_deleted:
            # Else the next copy there would remove it.
            await client.call("SELECT", 3)
            await client.call("DEL", "k")

    pieces.before[4] = swap
    migration.proxy.table.mark_unproven(b"k")
    await equal(migration)
    assert migration.target.cli("STRLEN", "k", db=3) == (0 if is_deleted else len(VALUE))


async def test_the_string_expires_between_two_pieces_and_is_gone(
    migration: Migration, pieces: Pieces
) -> None:
    migration.source.cli("SET", "k", VALUE)
    migration.target.cli("SET", "k", "old")

    async def expire() -> None:
        # Past the proxy, as an expiry is.
        migration.source.cli("PEXPIRE", "k", 1)
        await until(lambda: not migration.source.cli("EXISTS", "k"), "it is gone")

    pieces.before[3] = expire
    await migration.start("target_not_empty")
    await equal(migration)
    assert migration.target.cli("EXISTS", "k") == 0


async def test_another_type_has_come_since_the_size_was_asked_for(
    migration: Migration, pieces: Pieces
) -> None:
    migration.source.cli("SET", "k", VALUE)

    async def replace() -> None:
        migration.source.cli("DEL", "k")
        migration.source.cli("RPUSH", "k", "a", "b")

    pieces.before[1] = replace
    await migration.start()
    await equal(migration)
    assert migration.target.cli("LRANGE", "k", 0, -1) == [b"a", b"b"]


async def test_a_copy_waits_for_another_ones_pieces_and_its_writers_do_not(
    migration: Migration, pieces: Pieces
) -> None:
    for key in ("k", "hot"):
        migration.source.cli("SET", key, VALUE)
    client = await migration.client()
    await migration.mirroring()
    copying = migration.controller.copying
    assert copying is not None
    its = copying.mover
    copies: list[asyncio.Task[mover.Copied]] = []

    async def write() -> None:
        copies.append(asyncio.create_task(its.copy_alone(0, b"hot", "test")))
        await until(lambda: its._piecewise._waiters, "it waits for its turn")
        assert await client.call("APPEND", "hot", "x") == len(VALUE) + 1

    pieces.before[pieces.read + 3] = write
    await (await its.copy_alone(0, b"k", "test")).acknowledged
    copied = await copies[0]
    assert await copied.acknowledged == [] and copied.keys == 1
    await equal(migration)


@pytest.fixture
def compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparer, "LARGE_BYTES", 20_000)
    monkeypatch.setattr(comparer, "PIECE", PIECE)


# Of both sides, for one look.
LOOK = 2 * 11


@pytest.mark.usefixtures("compared_in_pieces")
async def test_a_client_writes_between_two_pieces_of_a_comparison_and_it_begins_again(
    migration: Migration, pieces: Pieces
) -> None:
    migration.source.cli("SET", "k", VALUE)
    client = await migration.client()
    await migration.mirroring()
    pieces.read = 0

    async def write() -> None:
        await client.call("APPEND", "k", "x")

    pieces.before[5] = write
    assert (await migration.verify())["passed"]
    # The first look, as far as it came, the next, and once more at the end: it was written.
    assert LOOK < pieces.read <= 6 + LOOK


@pytest.mark.usefixtures("compared_in_pieces")
async def test_a_large_string_that_differs_is_found_and_mended(
    migration: Migration, pieces: Pieces
) -> None:
    migration.source.cli("SET", "k", VALUE)
    await migration.mirroring()
    migration.target.cli("SETRANGE", "k", len(VALUE) - 1, "x")
    result = await migration.verify()
    assert result["passed"] is False and result["mismatches"] == 1
    assert (await migration.verify(repair=True))["passed"]
    await equal(migration)


@pytest.mark.usefixtures("compared_in_pieces")
async def test_a_large_string_is_compared_alone_for_as_long_as_its_pieces_come(
    migration: Migration, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than clients would wait for a store that answers nothing."""
    monkeypatch.setattr(verify, "PATIENCE", 0)
    migration.source.cli("SET", "k", VALUE)
    await migration.mirroring()
    pieces.read = 0

    async def late() -> None:
        await asyncio.sleep(0.03)

    pieces.before.update(dict.fromkeys(range(1, LOOK + 1, 2), late))
    assert (await migration.verify())["passed"]
    assert pieces.read == LOOK
