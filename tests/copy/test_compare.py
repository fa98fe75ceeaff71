"""The comparer finds each planted difference, says which key, and raises no false alarm."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from migrator.bulk import Bulk, Command, ReplyError
from migrator.copy import Comparer, comparer, make_reader
from migrator.copy.difference import differences
from migrator.copy.snapshot import Hash, Snapshot
from tests.bulks import opened
from tests.copy.dataset import BINARY, DAY_MS, fill
from tests.copy.interleaved import SplitDump
from tests.copy.test_copy import apply, copies_of
from tests.servers import DEFAULT_PAIR, VALKEY_9, Pair, Server

ULP_ABOVE_0_3 = math.nextafter(0.3, 1)
NEAR = 4102444800000  # an expiry far away, in Unix milliseconds

Commands = Sequence[Command]
# (name, the key `k` on both sides, what happens on the target alone, what is said of it)
PLANTED: list[tuple[str, Commands, Commands, str]] = [
    ("missing", [("SET", "k", "v")], [("DEL", "k")], "absent on target"),
    ("surplus", [], [("SET", "k", "v")], "absent on source"),
    ("type", [("SET", "k", "v")], [("DEL", "k"), ("SADD", "k", "v")], "type: string, set"),
    ("string", [("SET", "k", "v")], [("SET", "k", "w")], "value"),
    ("string-length", [("SET", "k", "v")], [("APPEND", "k", "\0")], "value"),
    ("bit", [("SETBIT", "k", 9000, 1)], [("SETBIT", "k", 8999, 1)], "value"),
    ("hll", [("PFADD", "k", "a")], [("PFADD", "k", "b")], "value"),
    ("no-expiry", [("SET", "k", "v", "PXAT", NEAR)], [("PERSIST", "k")], "expiry"),
    ("expiry", [("SET", "k", "v")], [("PEXPIREAT", "k", NEAR)], "expiry"),
    (
        "expiry-200ms",
        [("SET", "k", "v", "PXAT", NEAR)],
        [("PEXPIREAT", "k", NEAR + 200)],
        "expiry",
    ),
    (
        "hash-expiry-200ms",
        [("HSET", "k", "f", "v"), ("PEXPIREAT", "k", NEAR)],
        [("PEXPIREAT", "k", NEAR - 200)],
        "expiry",
    ),
    ("list-order", [("RPUSH", "k", "a", "b")], [("LPUSH", "k", "b"), ("RPOP", "k")], "element 0"),
    ("list-element", [("RPUSH", "k", *range(2000))], [("LSET", "k", 1999, "x")], "element 1999"),
    ("list-length", [("RPUSH", "k", "a", "b")], [("RPOP", "k")], "length: 2, 1"),
    ("set-missing", [("SADD", "k", "a", "b")], [("SREM", "k", "a")], "members: 1 only on source"),
    ("set-surplus", [("SADD", "k", "a")], [("SADD", "k", BINARY)], "members: 1 only on target"),
    ("intset", [("SADD", "k", 1, 2)], [("SREM", "k", 1), ("SADD", "k", 3)], "members"),
    ("zset-score", [("ZADD", "k", 1, "a")], [("ZADD", "k", 2, "a")], "scores: 1"),
    ("zset-ulp", [("ZADD", "k", 0.3, "a")], [("ZADD", "k", ULP_ABOVE_0_3, "a")], "scores: 1"),
    (
        "zset-ulp-large",
        [("ZADD", "k", *(w for i in range(1500) for w in (0.3, i)))],
        [("ZADD", "k", ULP_ABOVE_0_3, 777)],
        "scores: 1",
    ),
    ("zset-infinity", [("ZADD", "k", "inf", "a")], [("ZADD", "k", "-inf", "a")], "scores: 1"),
    ("zset-member", [("ZADD", "k", 1, "a")], [("ZADD", "k", 1, "b")], "members: 1 only on target"),
    ("hash-value", [("HSET", "k", "f", "v")], [("HSET", "k", "f", "")], "field values: 1"),
    (
        "hash-surplus",
        [("HSET", "k", "f", "v")],
        [("HSET", "k", "", "")],
        "fields: 1 only on target",
    ),
    (
        "hash-missing",
        [("HSET", "k", *(w for i in range(1500) for w in (i, i)))],
        [("HDEL", "k", 1000)],
        "fields: 1 only on source",
    ),
    ("entry-missing", [], [("XDEL", "k", "2-1")], "entries: 1 only on source"),
    ("entry-surplus", [], [("XADD", "k", "9-9", "f", "v")], "entries: 1 only on target"),
    (
        "entry-contents",
        [("XDEL", "k", "5-1")],
        [("DEL", "k"), *(("XADD", "k", f"{i}-1", "f", i % 4) for i in range(1, 5))],
        "entries: contents",
    ),
    ("last-id", [], [("XSETID", "k", "9-9")], "last id: 5-1, 9-9"),
    ("group-missing", [], [("XGROUP", "DESTROY", "k", "g")], "groups: 1 only on source"),
    ("group-surplus", [], [("XGROUP", "CREATE", "k", "h", 0)], "groups: 1 only on target"),
    ("group-position", [], [("XGROUP", "SETID", "k", "g", "2-1")], "group's last id"),
    (
        "consumer-missing",
        [("XGROUP", "CREATECONSUMER", "k", "g", "idle")],
        [("XGROUP", "DELCONSUMER", "k", "g", "idle")],
        "consumers: 1 only on source",
    ),
    (
        "consumer-surplus",
        [],
        [("XGROUP", "CREATECONSUMER", "k", "g", "idle")],
        "consumers: 1 only on target",
    ),
    ("acknowledged", [], [("XACK", "k", "g", "1-1")], "pending entries: 1 only on source"),
    (
        "acknowledged-and-deleted",
        [("XDEL", "k", "1-1")],
        [("XACK", "k", "g", "1-1")],
        "pending entries: 1 only on source",
    ),
    (
        "pending-surplus",
        [],
        [("XCLAIM", "k", "g", "c", 0, "5-1", "FORCE", "JUSTID")],
        "pending entries: 1 only on target",
    ),
    (
        "delivery-count",
        [],
        [("XCLAIM", "k", "g", "c", 0, "1-1", "RETRYCOUNT", 2, "JUSTID")],
        "deliveries of pending entries: 1",
    ),
    (
        "other-consumer",
        [("XGROUP", "CREATECONSUMER", "k", "g", "d")],
        [("XCLAIM", "k", "g", "d", 0, "1-1", "JUSTID")],
        "owners of pending entries: 1",
    ),
]
STREAM: Commands = [
    *(("XADD", "k", f"{i}-1", "f", i) for i in range(1, 6)),
    ("XGROUP", "CREATE", "k", "g", 0),
    ("XREADGROUP", "GROUP", "g", "c", "COUNT", 3, "STREAMS", "k", ">"),
]
PLANTED_FIELD_TTLS: list[tuple[str, Commands, Commands, str]] = [
    (
        "field-expiry",
        [("HSET", "k", "f", "v", "g", "v")],
        [("HPEXPIREAT", "k", NEAR, "FIELDS", 1, "f")],
        "field expiries: 1",
    ),
    (
        "field-expiry-200ms",
        [("HSET", "k", "f", "v"), ("HPEXPIREAT", "k", NEAR, "FIELDS", 1, "f")],
        [("HPEXPIREAT", "k", NEAR + 200, "FIELDS", 1, "f")],
        "field expiries: 1",
    ),
    (
        "field-persists",
        [("HSET", "k", "f", "v"), ("HPEXPIREAT", "k", NEAR, "FIELDS", 1, "f")],
        [("HPERSIST", "k", "FIELDS", 1, "f")],
        "field expiries: 1",
    ),
]
BOTH_VALKEY = Pair(VALKEY_9, VALKEY_9)
SOME_PAIRS = [DEFAULT_PAIR, BOTH_VALKEY]
CASES = [
    pytest.param(pair, *case[1:], id=f"{pair}-{case[0]}") for pair in SOME_PAIRS for case in PLANTED
] + [pytest.param(BOTH_VALKEY, *case[1:], id=case[0]) for case in PLANTED_FIELD_TTLS]


async def run(bulk: Bulk, commands: Commands) -> None:
    for command, reply in zip(commands, await bulk.pipeline(list(commands)), strict=True):
        assert not isinstance(reply, ReplyError), (command[:2], reply)


async def copy(a: Bulk, b: Bulk, keys: list[bytes]) -> None:
    await apply(b, await copies_of(await make_reader(a, b), 0, keys))


@pytest.mark.parametrize(("pair", "setup", "change", "said"), CASES, indirect=["pair"])
async def test_a_planted_difference_is_found(
    source: Server, target: Server, setup: Commands, change: Commands, said: str
) -> None:
    is_stream = any(command[0][0] == "X" for command in change)  # type: ignore[index]
    others: Commands = [("SET", "other", "v"), ("HSET", "another", "f", "v")]
    async with opened(source, target) as (a, b):
        await run(a, [*others, *(STREAM if is_stream else []), *setup])
        keys = [b"other", b"k", b"another"]
        await copy(a, b, keys)
        assert await Comparer(a, b).compare(0, keys) == []
        await run(b, change)
        found = await Comparer(a, b).compare(0, keys)
        assert {difference.key for difference in found} == {b"k"}
        assert any(difference.what.startswith(said) for difference in found), found
        # And seen from the other side.
        assert {d.key for d in await Comparer(b, a).compare(0, keys)} == {b"k"}


@pytest.mark.parametrize("off_by_ms", [-40, 40])
async def test_expiries_within_the_tolerance_are_equal(
    source: Server, target: Server, off_by_ms: int
) -> None:
    async with opened(source, target) as (a, b):
        for kind in ("SET", "HSET"):
            words = ("k", "v") if kind == "SET" else ("k", "f", "v")
            for bulk, ms in ((a, NEAR), (b, NEAR + off_by_ms)):
                await run(bulk, [("DEL", "k"), (kind, *words), ("PEXPIREAT", "k", ms)])
            assert await Comparer(a, b).compare(0, [b"k"]) == []


async def test_a_key_that_has_expired_on_one_side_only_is_no_difference(
    source: Server, target: Server
) -> None:
    # The target's clock may be ahead; here it is said to be, by an expiry that is nearer.
    async with opened(source, target) as (a, b):
        for commands in ([("SET", "k", "v")], [("SADD", "k", "m")]):
            await run(a, [("DEL", "k"), *commands, ("PEXPIRE", "k", 40)])
            assert await b.call("EXISTS", "k") == 0
            assert await Comparer(a, b).compare(0, [b"k"]) == []
            assert await Comparer(b, a).compare(0, [b"k"]) == []
        await run(a, [("SET", "k", "v", "PX", DAY_MS)])
        assert len(await Comparer(a, b).compare(0, [b"k"])) == 1


async def test_a_key_that_vanishes_behind_its_dump_is_asked_for_again(
    source: Server, target: Server
) -> None:
    async with opened(source, target) as (a, b):
        await run(a, [("SET", "k", "v", "PX", DAY_MS)])
        await copy(a, b, [b"k"])
        between: Any = SplitDump(b)
        [difference] = await Comparer(a, between).compare(0, [b"k"])
        assert difference.what == "absent on target"


def test_a_field_that_has_expired_on_one_side_only_is_no_difference() -> None:
    def snapshot(fields: dict[bytes, bytes], expiries: dict[bytes, int]) -> Snapshot:
        return Snapshot(b"k", "hash", Hash(fields, expiries), -1)

    full = snapshot({b"f": b"v", b"g": b"v"}, {b"f": 1000})
    short = snapshot({b"g": b"v"}, {})
    labels = ("source", "target")
    assert list(differences(full, short, labels, (900, 1000))) == []
    assert list(differences(short, full, labels, (1000, 900))) == []
    assert list(differences(full, short, labels, (1000, 900))) == ["fields: 1 only on source"]
    all_expiring = snapshot({b"f": b"v"}, {b"f": 1000})
    assert list(differences(all_expiring, None, labels, (900, 1000))) == []
    assert list(differences(all_expiring, None, labels, (1000, 900))) == ["absent on target"]


async def test_equal_keys_are_equal_however_they_are_encoded(
    source: Server, target: Server
) -> None:
    async with opened(source, target) as (a, b):
        keys = await fill(a)
        for name in ("hash-max-listpack-entries", "zset-max-listpack-entries"):
            await b.call("CONFIG", "SET", name, 0)
        for name in ("set-max-listpack-entries", "set-max-intset-entries"):
            await b.call("CONFIG", "SET", name, 0)
        await b.call("CONFIG", "SET", "list-max-listpack-size", 1)
        await copy(a, b, keys)
        assert await Comparer(a, b).compare(0, keys) == []


async def test_equal_scores_are_equal_however_they_are_spelled(
    source: Server, target: Server
) -> None:
    async with opened(source, target) as (a, b):
        scores = [0.1, 1.1, 1e22, 2.0**60, 5e-324, 1 / 3, struct.unpack("d", b"\x01" * 8)[0]]
        for bulk in (a, b):
            await bulk.call("ZADD", "k", "-0.0", "zero", *(w for s in scores for w in (s, s)))
        assert await Comparer(a, b).compare(0, [b"k"]) == []


async def test_what_is_said_holds_no_names_and_no_values(source: Server, target: Server) -> None:
    async with opened(source, target) as (a, b):
        await run(a, [("HSET", "k", "secret", "secret"), ("SET", "l", "secret")])
        await run(b, [("HSET", "k", "secret2", "x"), ("RPUSH", "l", "secret")])
        for difference in await Comparer(a, b).compare(0, [b"k", b"l"]):
            assert "secret" not in difference.what


async def test_no_keys_have_no_differences(source: Server, target: Server) -> None:
    async with opened(source, target) as (a, b):
        assert await Comparer(a, b).compare(0, []) == []
        reader: Any = await make_reader(a, b)
        assert await copies_of(reader, 0, []) == []


LARGE = bytes(range(256)) * 16
# (name, what happens on the target alone, what is said of it)
PLANTED_IN_LARGE: list[tuple[str, Commands, str]] = [
    ("nothing", [], ""),
    ("first byte", [("SETRANGE", "k", 0, "x")], "value (4096 and 4096 bytes)"),
    ("last byte", [("SETRANGE", "k", 4095, "x")], "value (4096 and 4096 bytes)"),
    ("longer", [("APPEND", "k", "x")], "value (4096 and 4097 bytes)"),
    ("small", [("SET", "k", "x", "PXAT", NEAR)], "value (4096 and 1 bytes)"),
    ("missing", [("DEL", "k")], "absent on target"),
    ("type", [("DEL", "k"), ("RPUSH", "k", LARGE), ("PEXPIREAT", "k", NEAR)], "type: string, list"),
    ("expiry", [("PEXPIREAT", "k", NEAR + 200)], "expiry"),
    ("no expiry", [("PERSIST", "k")], "expiry"),
    ("within the tolerance", [("PEXPIREAT", "k", NEAR + 40)], ""),
]


@pytest.mark.parametrize("piece", [1000, 1024, 4096])
@pytest.mark.parametrize(("change", "said"), [each[1:] for each in PLANTED_IN_LARGE])
async def test_large_strings_are_compared_in_pieces_and_never_dumped(
    source: Server,
    target: Server,
    change: Commands,
    said: str,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparer, "LARGE_BYTES", 4000)
    monkeypatch.setattr(comparer, "PIECE", piece)
    async with opened(source, target) as (a, b):
        for bulk in (a, b):
            await run(bulk, [("SET", "k", LARGE, "PXAT", NEAR), ("SET", "other", "v")])
            await run(bulk, [("CONFIG", "RESETSTAT")])
        await run(b, change)
        keys = [b"other", b"k"]
        for one, two in ((a, b), (b, a)):
            found = await Comparer(one, two).compare(0, keys)
            assert [difference.key for difference in found] == ([b"k"] if said else [])
        [*found] = await Comparer(a, b).compare(0, keys)
        assert not said or found[0].what.startswith(said)
    # Of the other key, and of the probe.
    for server in (source, target):
        assert "calls=6," in server.info("commandstats")["cmdstat_dump"]


async def test_a_large_string_expires_between_its_pieces_and_is_no_difference(
    source: Server, target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparer, "LARGE_BYTES", 4000)
    monkeypatch.setattr(comparer, "PIECE", 1000)
    async with opened(source, target) as (a, b):
        for bulk in (a, b):
            await run(bulk, [("SET", "k", LARGE, "PX", 40)])
        looks = 0

        def goes_on(key: bytes) -> bool:
            nonlocal looks
            looks += 1
            while looks == 2 and source.cli("EXISTS", key):
                pass
            return True

        assert await Comparer(a, b).compare(0, [b"k"], goes_on) == []
        assert looks >= 2
