"""Copies between every pair of engines, judged by plain commands and by the comparer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from migrator.bulk import Bulk, ReplyError
from migrator.copy import Comparer, KeyCopy, Reader, make_reader
from migrator.copy.dialect import learn_reads, learn_writes
from migrator.copy.reader import TypedReader
from proxy.resp.dumps import restores
from tests.bulks import opened
from tests.copy.dataset import DAY_MS, fill
from tests.copy.interleaved import Interleaved, SplitDump
from tests.servers import DEFAULT_PAIR, Pair, Server, every_engine, every_pair

FIELD_TTL_PREFIX = b"hash:field-ttl"


async def apply(bulk: Bulk, copies: Sequence[KeyCopy], db: int = 0) -> None:
    commands = [command for copy in copies for command in copy.commands]
    for command, reply in zip(commands, await bulk.pipeline(commands, db=db), strict=True):
        assert not isinstance(reply, ReplyError), (command[:80], reply)


async def copies_of(reader: Reader, db: int, keys: Sequence[bytes]) -> list[KeyCopy]:
    """What is read, key by key."""
    page = await reader.read(db, keys)
    plain = [
        KeyCopy(key, [restores([key], [payload], [expiry], ())[1]], len(payload))
        for key, payload, expiry in zip(page.keys, page.payloads, page.expiries, strict=True)
    ]
    return [*plain, *page.copies]


async def make(kind: str, a: Bulk, b: Bulk) -> Reader:
    return (
        await make_reader(a, b)
        if kind == "best"
        else TypedReader(a, await learn_reads(a), await learn_writes(b))
    )


def asked_plainly(server: Server, key: bytes) -> Any:
    """The key as plain commands tell it, in a form that is equal between engines."""
    kind = server.cli("TYPE", key)
    match kind:
        case b"string":
            value: Any = server.cli("GET", key)
        case b"list":
            value = server.cli("LRANGE", key, 0, -1)
        case b"set":
            value = sorted(server.cli("SMEMBERS", key))
        case b"zset":
            flat = server.cli("ZRANGE", key, 0, -1, "WITHSCORES")
            value = list(zip(flat[0::2], map(float, flat[1::2]), strict=True))
        case b"hash":
            flat = server.cli("HGETALL", key)
            value = dict(zip(flat[0::2], flat[1::2], strict=True))
        case b"stream":
            value = _asked_stream(server, key)
        case _:
            value = None
    return kind, value


def _asked_stream(server: Server, key: bytes) -> Any:
    def table(flat: list[Any]) -> dict[bytes, Any]:
        return dict(zip(flat[0::2], flat[1::2], strict=True))

    groups = {}
    for group in map(table, server.cli("XINFO", "GROUPS", key)):
        name = group[b"name"]
        consumers = map(table, server.cli("XINFO", "CONSUMERS", key, name))
        pending = server.cli("XPENDING", key, name, "-", "+", 100_000)
        groups[name] = (
            group[b"last-delivered-id"],
            sorted((c[b"name"], c[b"pending"]) for c in consumers),
            [(entry, consumer, count) for entry, consumer, _, count in pending],
        )
    info = table(server.cli("XINFO", "STREAM", key))
    return server.cli("XRANGE", key, "-", "+"), info[b"last-generated-id"], groups


@pytest.mark.parametrize("kind", ["best", "typed"])
@every_pair
async def test_everything_is_copied_exactly(source: Server, target: Server, kind: str) -> None:
    async with opened(source, target) as (a, b):
        keys = await fill(a)
        # What is there already must not shine through.
        await b.pipeline([("RPUSH", key, "old") for key in keys])
        reader = await make(kind, a, b)
        copies = await copies_of(reader, 0, keys)
        await apply(b, copies)
        keeps_field_ttls = (await learn_writes(b)).has_field_ttl
        for copy in copies:
            assert copy.loses == "" or (
                copy.key.startswith(FIELD_TTL_PREFIX) and not keeps_field_ttls
            )
        for key in keys:
            assert asked_plainly(source, key) == asked_plainly(target, key), key
            if key.startswith(b"ttl:"):
                assert abs(source.cli("PTTL", key) - target.cli("PTTL", key)) <= 50
            else:
                assert source.cli("PTTL", key) == target.cli("PTTL", key) == -1
        for comparer in (Comparer(a, b), Comparer(b, a)):
            differing = {difference.key for difference in await comparer.compare(0, keys)}
            if keeps_field_ttls:
                assert differing == set()
            else:
                assert all(key.startswith(FIELD_TTL_PREFIX) for key in differing)
                assert differing or not (await learn_reads(a)).has_field_ttl


@pytest.mark.parametrize("kind", ["best", "typed"])
@every_pair
async def test_stream_counters_and_delivery_times_are_copied_where_both_know_them(
    source: Server, target: Server, kind: str
) -> None:
    async with opened(source, target) as (a, b):
        keys = [key for key in await fill(a) if b"stream" in key]
        await apply(b, await copies_of(await make(kind, a, b), 0, keys))
        both_know = all([(await learn_writes(bulk)).has_stream_counters for bulk in (a, b)])
        for key in keys:
            names = [row[1] for row in source.cli("XINFO", "GROUPS", key)]
            for name in names:
                theirs = source.cli("XPENDING", key, name, "-", "+", 2000)
                ours = target.cli("XPENDING", key, name, "-", "+", 2000)
                for (_, _, idle, _), (_, _, copied_idle, _) in zip(theirs, ours, strict=True):
                    assert abs(idle - copied_idle) < 1000
            if both_know:
                said = []
                for server in (source, target):
                    flat = server.cli("XINFO", "STREAM", key)
                    info = dict(zip(flat[0::2], flat[1::2], strict=True))
                    groups = server.cli("XINFO", "GROUPS", key)
                    said.append(
                        (
                            info[b"entries-added"],
                            info[b"max-deleted-entry-id"],
                            sorted((g[1], g[g.index(b"entries-read") + 1]) for g in groups),
                        )
                    )
                assert said[0] == said[1], key


@every_pair
async def test_expiry_times_are_exact_to_a_few_milliseconds(source: Server, target: Server) -> None:
    async with opened(source, target) as (a, b):
        now = int((await a.call("TIME"))[0]) * 1000
        wanted = {b"key:%d" % i: now + DAY_MS + i * 7 for i in range(400)}
        await a.pipeline([("SET", k, "v", "PXAT", ms) for k, ms in wanted.items()])
        copies = await copies_of(await make_reader(a, b), 0, list(wanted))
        for copy in copies:
            [command] = copy.commands
            assert abs(int(command.split(b"\r\n")[6]) - wanted[copy.key]) <= 5


@pytest.mark.parametrize("kind", ["best", "typed"])
@every_engine
async def test_absent_keys_are_removed_on_the_other_side(server: Server, kind: str) -> None:
    async with opened(server, server) as (a, b):
        await b.call("SET", "gone", "v", db=1)
        [copy] = await copies_of(await make(kind, a, b), 0, [b"gone"])
        assert copy.absent
        await apply(b, [copy], db=1)
        assert await b.call("EXISTS", "gone", db=1) == 0


async def test_a_key_whose_time_has_passed_before_its_copy_arrives_is_gone(
    source: Server, target: Server
) -> None:
    async with opened(source, target) as (a, b):
        for kind in ("best", "typed"):
            await a.pipeline([("SET", "s", "v"), ("RPUSH", "l", "x"), ("HSET", "h", "f", "v")])
            await b.pipeline([("SET", key, "old") for key in ("s", "l", "h")])
            await a.pipeline([("PEXPIRE", key, 60) for key in ("s", "l", "h")])
            copies = await copies_of(await make(kind, a, b), 0, [b"s", b"l", b"h"])
            assert not any(copy.absent for copy in copies)
            while await a.call("EXISTS", "s", "l", "h"):
                pass
            await apply(b, copies)
            assert await b.call("EXISTS", "s", "l", "h") == 0


@pytest.mark.parametrize("batch", [2, 3, 4], ids=["before value", "between pages", "before TTL"])
@pytest.mark.parametrize("key", ["set", "stream"])
@every_engine
async def test_a_key_that_vanishes_in_the_middle_of_typed_reads_is_absent(
    server: Server, key: str, batch: int
) -> None:
    async with opened(server) as (a,):
        reads, writes = await learn_reads(a), await learn_writes(a)
        await a.call("SADD", "set", *range(10**6, 10**6 + 1500))
        await a.pipeline([("XADD", "stream", "*", "f", "v")] * 1500)
        between: Any = Interleaved(a, batch, ("DEL", key))
        [copy] = await copies_of(TypedReader(between, reads, writes), 0, [key.encode()])
        assert copy.absent


async def test_a_key_that_changes_its_type_in_the_middle_is_read_again(source: Server) -> None:
    async with opened(source) as (a,):
        reads, writes = await learn_reads(a), await learn_writes(a)
        await a.pipeline([("SET", "k", "v"), ("SADD", "other", "x")])
        between: Any = Interleaved(a, 2, ("RENAME", "other", "k"))
        [copy] = await copies_of(TypedReader(between, reads, writes), 0, [b"k"])
        assert b"SADD" in copy.commands[1]


@every_engine
async def test_a_key_that_expires_behind_its_dump_is_absent_not_everlasting(server: Server) -> None:
    async with opened(server) as (a,):
        reader: Any = await make_reader(a, a)
        await a.call("SET", "k", "v", "EX", 100)
        reader._primary = SplitDump(a)
        [copy] = await copies_of(reader, 0, [b"k"])
        assert copy.absent


async def test_dbs_are_kept_apart(source: Server, target: Server) -> None:
    async with opened(source, target) as (a, b):
        await a.pipeline([("SET", "k", "in 3"), ("LPUSH", "l", "x")], db=3)
        await a.call("SET", "k", "in 0")
        for kind in ("best", "typed"):
            await b.call("FLUSHALL")
            await apply(b, await copies_of(await make(kind, a, b), 3, [b"k", b"l"]), db=3)
            assert await b.call("GET", "k", db=3) == b"in 3"
            assert await b.call("DBSIZE", db=0) == 0
            assert await Comparer(a, b).compare(3, [b"k", b"l"]) == []
            assert len(await Comparer(a, b).compare(0, [b"k"])) == 1


async def test_a_value_whose_payload_is_larger_than_any_argument_is_copied(
    source: Server, target: Server
) -> None:
    """At 512 MB by default; a page has others beside it, read before it and after."""
    target.cli("CONFIG", "SET", "proto-max-bulk-len", 1 << 20)
    value = random.Random(1).randbytes(1 << 20)
    for key in ("a", "z"):
        source.cli("SET", key, "small")
    source.cli("SET", "largest", value, "PX", DAY_MS)
    source.cli("HSET", "hash", *[part for i in range(20) for part in (f"f{i}", value[:100_000])])
    async with opened(source, target) as (a, b):
        reader = await make_reader(a, b)
        for _ in range(2):  # The kind is unknown, and then known.
            await apply(b, await copies_of(reader, 0, [b"a", b"largest", b"hash", b"z"]))
            for key in (b"a", b"largest", b"hash", b"z"):
                assert asked_plainly(source, key) == asked_plainly(target, key), key
            assert abs(source.cli("PTTL", "largest") - target.cli("PTTL", "largest")) <= 50
            target.cli("FLUSHALL")


@pytest.mark.parametrize(("denied_on", "denied"), [(0, "-dump"), (1, "-restore")])
async def test_copies_are_exact_where_dump_or_restore_is_forbidden(
    server_factory: Callable[..., Server], denied_on: int, denied: str
) -> None:
    servers = [server_factory(DEFAULT_PAIR.source), server_factory(DEFAULT_PAIR.target)]
    async with opened(*servers) as (a, b):
        keys = await fill(a)
        servers[denied_on].cli("ACL", "SETUSER", "default", denied)
        await apply(b, await copies_of(await make_reader(a, b), 0, keys))
        assert await Comparer(a, b).compare(0, keys) == []


async def test_copying_twice_is_copying_once(source: Server, target: Server, pair: Pair) -> None:
    async with opened(source, target) as (a, b):
        keys = await fill(a)
        for kind in ("best", "typed", "best"):
            await apply(b, await copies_of(await make(kind, a, b), 0, keys))
            assert await Comparer(a, b).compare(0, keys) == []
        assert await b.call("DBSIZE") == len(keys)


@every_engine
async def test_a_full_store_can_be_copied_and_compared(
    server: Server, server_factory: Callable[..., Server]
) -> None:
    other = server_factory(DEFAULT_PAIR.target)
    async with opened(server, other) as (a, b):
        await a.pipeline([("SET", "s", "v"), ("RPUSH", "l", "x")])
        server.cli("CONFIG", "SET", "maxmemory", 1)
        for kind in ("best", "typed"):
            await apply(b, await copies_of(await make(kind, a, b), 0, [b"s", b"l"]))
            assert await Comparer(a, b).compare(0, [b"s", b"l"]) == []
