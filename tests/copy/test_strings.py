"""Pages of strings by MGET and MSET: as exact as DUMP and RESTORE, and left where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from migrator.bulk import Bulk, ReplyError, pack
from migrator.copy import Comparer, make_reader
from migrator.copy.dialect import learn_reads
from migrator.copy.reader import PIECES_BYTES, DumpReader, Page
from migrator.copy.strings import read_strings
from proxy.resp.dumps import restores, sets
from tests.bulks import opened
from tests.copy.dataset import DAY_MS
from tests.copy.test_copy import asked_plainly
from tests.servers import DEFAULT_PAIR, Server, every_engine, every_pair

VALUES = (b"", b"12345", b"007", bytes(range(256)), b"x" * 44, b"x" * 45, b"a" * 5000, b"y" * 70000)


async def done(bulk: Bulk, commands: list[Any], db: int = 0) -> None:
    for command, reply in zip(commands, await bulk.pipeline(commands, db=db), strict=True):
        assert not isinstance(reply, ReplyError), (command[:80], reply)


async def laid_down(bulk: Bulk, db: int = 0) -> tuple[list[bytes], list[bytes]]:
    """(Names of keys, those of strings that do not expire): four fifths, and some are no keys."""
    strings = [b"string:%d" % at for at in range(240)]
    others = [b"other:%d" % at for at in range(60)]
    commands: list[Any] = [("SET", key, VALUES[at % len(VALUES)]) for at, key in enumerate(strings)]
    for at in range(0, len(others), 4):
        commands += [
            ("SET", others[at], "v", "PX", DAY_MS),
            ("RPUSH", others[at + 1], "a", "b"),
            ("HSET", others[at + 2], "f", "v"),
            ("PEXPIRE", others[at + 2], DAY_MS),
        ]
    await done(bulk, commands, db)
    return [*others[:30], *strings, *others[30:]], strings


async def reader_of_pages(a: Bulk, b: Bulk) -> DumpReader:
    reader = await make_reader(a, b, asks_sizes=False)
    assert isinstance(reader, DumpReader)
    return reader


async def make(bulk: Bulk, page: Page, db: int = 0) -> None:
    commands: list[Any] = [
        restores([key], [payload], [expiry], ())[1]
        for key, payload, expiry in zip(page.keys, page.payloads, page.expiries, strict=True)
    ]
    if page.strings:
        commands.append(sets(page.strings, page.values, ())[1])
    await done(bulk, commands + [each for copy in page.copies for each in copy.commands], db)


def assert_same(source: Server, target: Server, keys: list[bytes]) -> None:
    for key in keys:
        assert asked_plainly(source, key) == asked_plainly(target, key), key
        assert abs(source.cli("PTTL", key) - target.cli("PTTL", key)) <= 50, key


@pytest.mark.parametrize("is_counted", [True, False])
@every_pair
async def test_a_page_of_strings_is_copied_exactly(
    source: Server, target: Server, is_counted: bool
) -> None:
    """`is_counted`: the source is believed how many keys expire."""
    async with opened(source, target) as (a, b):
        keys, strings = await laid_down(a)
        # What is there already must not shine through.
        await done(b, [("RPUSH", key, "old") for key in keys])
        await done(b, [("PEXPIRE", key, DAY_MS // 2) for key in keys])
        reader = await reader_of_pages(a, b)
        assert reader._reads.counts_expiries
        reader._reads = replace(reader._reads, counts_expiries=is_counted)
        page = await reader.read(0, keys)
        assert page.strings == strings
        await make(b, page)
        assert_same(source, target, keys)
        # Without anything that expires.
        await done(a, [("PERSIST", key) for key in keys])
        page = await reader.read(0, keys)
        assert len(page.strings) == len(strings) + 15
        await make(b, page)
        assert_same(source, target, keys)


async def test_expiries_are_counted_for_each_database(source: Server, target: Server) -> None:
    async with opened(source, target) as (a, b):
        keys, strings = await laid_down(a, 3)
        await done(a, [("SET", key, "other") for key in keys], 0)
        reader = await reader_of_pages(a, b)
        for db, expected in ((0, keys), (3, strings)):
            page = await reader.read(db, keys)
            assert page.strings == expected
            await make(b, page, db)
        for db in (0, 3):
            assert await Comparer(a, b).compare(db, keys) == []
        assert target.cli("PTTL", "other:0", db=3) > 0


class VanishesBehindValues:
    """A Bulk on which a key that expires is gone behind the MGET, before anything else is asked."""

    def __init__(self, bulk: Bulk, key: bytes) -> None:
        self._bulk = bulk
        self._key = key

    async def pipeline(self, commands: Any, *args: Any, **options: Any) -> list[Any]:
        at = [b"MGET" in bytes(command[:20]) for command in commands if isinstance(command, bytes)]
        if not any(at):
            return await self._bulk.pipeline(commands, *args, **options)
        behind = at.index(True) + 1
        commands = [*commands[:behind], pack((b"DEL", self._key)), *commands[behind:]]
        replies = await self._bulk.pipeline(commands, *args, **options)
        assert replies.pop(behind) == 1
        return replies


@every_engine
async def test_the_only_key_that_expires_does_so_behind_its_value_is_read(server: Server) -> None:
    async with opened(server) as (a,):
        reads = await learn_reads(a)
        await done(a, [("SET", "k", "v", "PX", DAY_MS), ("SET", "other", "v")])
        bulk: Any = VanishesBehindValues(a, b"k")
        assert await read_strings(bulk, 0, [b"k", b"other"], reads) == [None, b"v"]


@pytest.mark.parametrize("denied", ["-mget", "-info"])
async def test_pages_are_exact_where_mget_or_info_is_forbidden(
    server_factory: Callable[..., Server], target: Server, denied: str
) -> None:
    source = server_factory(DEFAULT_PAIR.source)
    async with opened(source, target) as (a, b):
        keys, _ = await laid_down(a)
        source.cli("ACL", "SETUSER", "default", denied)
        reader = await reader_of_pages(a, b)
        page = await reader.read(0, keys)
        assert bool(page.strings) is (denied == "-info")
        await make(b, page)
        assert_same(source, target, keys)
        assert await Comparer(a, b).compare(0, keys) == []


async def test_what_most_keys_are_decides_how_the_next_page_is_read(
    source: Server, target: Server
) -> None:
    async with opened(source, target) as (a, b):
        keys, strings = await laid_down(a)
        lists = [b"list:%d" % at for at in range(200)]
        await done(a, [("RPUSH", key, "x") for key in lists])
        reader = await reader_of_pages(a, b)
        assert (await reader.read(0, lists)).strings == []
        # It learns from a page that is read by DUMP.
        assert (await reader.read(0, keys)).strings == []
        assert (await reader.read(0, keys)).strings == strings


async def test_large_strings_of_a_page_go_in_pieces_and_what_is_refused_goes_typed(
    server_factory: Callable[..., Server], source: Server
) -> None:
    target = server_factory(DEFAULT_PAIR.target)
    async with opened(source, target) as (a, b):
        keys, strings = await laid_down(a)
        await a.call("SET", strings[7], b"x" * (PIECES_BYTES + 1))
        page = await (await reader_of_pages(a, b)).read(0, keys)
        assert page.large == [strings[7]] and strings[7] not in page.strings
        await a.call("SET", strings[7], b"x" * ((1 << 20) + 1))
        target.cli("CONFIG", "SET", "proto-max-bulk-len", 1 << 20)
        page = await (await reader_of_pages(a, b)).read(0, keys)
        assert page.large == [] and strings[7] not in page.strings
        await make(b, page)
        assert_same(source, target, keys)


@every_pair
async def test_a_page_of_strings_is_compared_exactly(source: Server, target: Server) -> None:
    async with opened(source, target) as (a, b):
        keys, strings = await laid_down(a)
        await make(b, await (await reader_of_pages(a, b)).read(0, keys))
        comparer = Comparer(a, b)
        assert await comparer.compare(0, keys) == []
        assert comparer._strings.are_most
        await done(b, [
            ("SET", strings[0], "another value"),
            ("APPEND", strings[1], "x"),
            ("PEXPIRE", strings[2], DAY_MS),
            ("DEL", strings[3], strings[4]),
            ("RPUSH", strings[4], "a list"),
            ("PERSIST", keys[0]),
            ("RPUSH", "other:1", "c"),
            ("SET", b"other:3", "only here"),
        ])  # fmt: skip
        expected = {*strings[:5], keys[0], b"other:1", b"other:3"}
        await a.call("PEXPIRE", strings[5], DAY_MS)
        expected.add(strings[5])
        for each in (comparer, Comparer(b, a)):
            assert {found.key for found in await each.compare(0, keys)} == expected


@every_engine
async def test_the_engines_themselves_are_believed_how_many_keys_expire(server: Server) -> None:
    async with opened(server) as (a,):
        assert (await learn_reads(a)).counts_expiries
