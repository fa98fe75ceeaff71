"""Keys of every type and encoding, for stores of any engine.

Owns what "everything" means in the tests of copying; asks the store what it knows, never its name.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from migrator.bulk import Bulk, Command, ReplyError
from migrator.copy.dialect import Reads, learn_reads

BINARY = bytes(range(256))
DAY_MS = 24 * 3600 * 1000


async def fill(bulk: Bulk, db: int = 0) -> list[bytes]:
    """Writes the data set and returns all its keys."""
    dialect = await learn_reads(bulk)
    commands = [*_strings(), *_lists(), *_sets(), *_sorted_sets(), *_hashes(dialect), *_streams()]
    commands += _expiries(int(time.time() * 1000))
    for command, reply in zip(commands, await bulk.pipeline(commands, db=db), strict=True):
        assert not isinstance(reply, ReplyError), (command[:2], reply)
    keys: list[bytes] = sorted(await bulk.call("KEYS", "*", db=db))
    return keys


def _strings() -> Iterator[Command]:
    yield "SET", "string:int", 12345
    yield "SET", "string:negative", -(2**63)
    yield "SET", "string:leading-zero", "007"
    yield "SET", "string:embstr", "x" * 44
    yield "SET", "string:raw", "x" * 45
    yield "SET", "string:compressible", "a" * 5000
    yield "SET", "string:random", random.Random(1).randbytes(200_000)
    yield "SET", "string:empty", ""
    yield "SET", "string:binary", BINARY
    yield "SET", BINARY, "binary key"
    yield "SET", "", "empty key"
    yield "SET", "string:crlf\r\n$3\r\nkey", "\r\n*1\r\n"
    yield "SETBIT", "string:bitmap", 10_000, 1
    yield "PFADD", "string:hll", *range(300)


def _lists() -> Iterator[Command]:
    yield "RPUSH", "list:one", ""
    yield "RPUSH", "list:small", "a", "b", "a", 5, -7, 2**62, BINARY
    yield "RPUSH", "list:many", *(f"element {i}" for i in range(2500))
    yield "RPUSH", "list:big-elements", *(random.Random(i).randbytes(50_000) for i in range(30))


def _sets() -> Iterator[Command]:
    yield "SADD", "set:int16", 1, 2, -3
    yield "SADD", "set:int64", 1, 2**62, -(2**63)
    yield "SADD", "set:small", "a", "", BINARY, 7
    yield "SADD", "set:many", *(f"member {i}" for i in range(2500))
    yield "SADD", "set:long-member", "x" * 3000


def _sorted_sets() -> Iterator[Command]:
    special = ("inf", "-inf", "-0.0", 0, 1.1, 0.1 + 0.2, 1e308, -1e308, 5e-324, 2**53 + 1, 3)
    rows = [word for i, score in enumerate(special) for word in (score, f"m{i}")]
    yield "ZADD", "zset:small", *rows, 1, BINARY, 2, ""
    yield "ZADD", "zset:skiplist", *rows, *(x for i in range(2500) for x in (i / 3, f"member {i}"))
    yield "GEOADD", "zset:geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"


def _hashes(dialect: Reads) -> Iterator[Command]:
    yield "HSET", "hash:small", "f", "v", "", "", BINARY, BINARY, "n", 12
    yield "HSET", "hash:many", *(x for i in range(2500) for x in (f"field {i}", i))
    yield "HSET", "hash:long-value", "f", "x" * 3000
    if dialect.has_field_ttl:
        for key, count in (("hash:field-ttl", 5), ("hash:field-ttl:many", 2500)):
            fields = [f"f{i}" for i in range(count)]
            yield "HSET", key, *(x for f in fields for x in (f, "v"))
            yield "HPEXPIRE", key, DAY_MS, "FIELDS", 2, *fields[:2]
            yield "HPEXPIRE", key, 2 * DAY_MS, "FIELDS", count - 3, *fields[3:]


def _streams() -> Iterator[Command]:
    for key, count in (("stream:plain", 5), ("stream:many", 2500), ("stream:full", 30)):
        for i in range(1, count + 1):
            yield "XADD", key, f"{i}-{i % 3}", "f", i, BINARY, ""
    yield "XADD", "stream:empty", "5-1", "f", "v"
    yield "XDEL", "stream:empty", "5-1"
    yield "XGROUP", "CREATE", "stream:empty:groups", "g", "$", "MKSTREAM"
    yield "XGROUP", "CREATE", "stream:never", "g", "$", "MKSTREAM"
    yield "XGROUP", "DESTROY", "stream:never", "g"
    key = "stream:full"
    yield "XGROUP", "CREATE", key, "g", "0"
    yield "XGROUP", "CREATE", key, "behind", "3-0"
    yield "XGROUP", "CREATE", key, BINARY, "$"
    yield "XREADGROUP", "GROUP", "g", "alice", "COUNT", 8, "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "g", "bob", "COUNT", 8, "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "g", "bob", "COUNT", 3, "STREAMS", key, "0"
    yield "XGROUP", "CREATECONSUMER", key, "g", "nothing pending"
    yield "XREADGROUP", "GROUP", "behind", BINARY, "COUNT", 4, "STREAMS", key, ">"
    yield "XACK", key, "g", "1-1", "9-0"
    # Pending entries that are gone: within, at the end, and trimmed from the front.
    yield "XDEL", key, "7-1", "11-2", "30-0"
    yield "XTRIM", key, "MINID", "=", "5"
    key = "stream:trimmed"  # without a deleted id, where such are counted
    for i in range(1, 6):
        yield "XADD", key, f"{i}-0", "f", "v"
    yield "XGROUP", "CREATE", key, "g", "0"
    yield "XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"
    yield "XTRIM", key, "MINID", "=", "3"
    key = "stream:drained"
    yield "XADD", key, "1-1", "f", "v"
    yield "XADD", key, "2-1", "f", "v"
    yield "XGROUP", "CREATE", key, "g", "0"
    yield "XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"
    yield "XTRIM", key, "MAXLEN", "=", 0
    yield "XADD", "stream:many-pending", "1-1", "f", "v"
    key = "stream:many-pending"
    yield "XTRIM", key, "MAXLEN", "=", 0
    for i in range(2, 1500):
        yield "XADD", key, f"{i}-0", "f", "v"
    yield "XGROUP", "CREATE", key, "g", "0"
    yield "XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"
    yield "XSETID", "stream:plain", "99999-7"


def _expiries(now_ms: int) -> Iterator[Command]:
    for i, after_ms in enumerate((60_000, DAY_MS + 123, 400 * DAY_MS, 10**14)):
        yield "SET", f"ttl:string:{i}", "v"
        yield "PEXPIREAT", f"ttl:string:{i}", now_ms + after_ms
    for kind in ("list:small", "set:small", "zset:small", "hash:small", "stream:full"):
        yield "COPY", kind, f"ttl:{kind}"
        yield "PEXPIREAT", f"ttl:{kind}", now_ms + DAY_MS
