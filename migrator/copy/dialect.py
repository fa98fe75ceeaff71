"""What one store can say and take, found out by asking it; no probe writes anything.

Owns the probes and the RDB type bytes. Not INFO's version: managed stores report others' versions
and forbid commands, and forks know each other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from migrator.bulk import Arg, Bulk, ReplyError
from proxy.resp import LIMITS

from .footer import seal

# Rewritten payloads carry the oldest version in use (Redis 6.2's): every engine takes it.
REWRITTEN_VERSION = 9
# Valkey numbers its RDB versions from here since it went its own way: the same type byte means
# one thing below and another above.
FIRST_VALKEY_VERSION = 80
# The last type byte that means the same in all engines. Above it are hashes with field TTLs (22 in
# Valkey 9, 25 in Redis 7.4, which has an older 22) and what is to come.
LAST_COMMON_TYPE = 21
MODULE_TYPES = frozenset((6, 7))

# One small value per type byte, as the servers write it: what a store takes of these (restored
# with an expiry in the past, so that nothing is made) it takes of larger ones.
_SAMPLES = tuple(
    bytes.fromhex(text)
    for text in (
        "000178",  # string
        "02010161",  # set
        "0401016601 76",  # hash
        "05010161000000000000f03f",  # sorted set
        "0b0a020000000100000001 00",  # intset
        "0c10100000000d000000020000016103f2ff",  # sorted set, ziplist
        "0d11110000000d0000000200000166030176ff",  # hash, ziplist
        "0e010e0e0000000a0000000100000161ff",  # list of ziplists
        "0f011000000000000000010000000000000001"  # stream, Redis 6
        "1d1d0000000a000101000101018166020001020100010001817602 0401ff01010100",
        "100d0d000000020081660281 7602ff",  # hash, listpack
        "110c0c0000000200816102 0101ff",  # sorted set, listpack
        "1201020a0a0000000100816102ff",  # list of listpacks
        "13011000000000000000010000000000000001"  # stream, Redis 7
        "1d1d0000000a000101000101018166020001020100010001817602 0401ff01010101010000 0100",
        "140a0a0000000100816102ff",  # set, listpack
        "15011000000000000000010000000000000001"  # stream, Redis 7.2
        "1d1d0000000a000101000101018166020001020100010001817602 0401ff01010101010000 0100",
    )
)
_VERSIONS = (*range(6, 16), *range(FIRST_VALKEY_VERSION, FIRST_VALKEY_VERSION + 10))
_NO_KEY = b"keyferry:probe"
# A type byte that no engine has: refused as bad data, once the footer has been accepted.
_NO_TYPE = b"\xff\x00"


@dataclass(frozen=True)
class Reads:
    """How a store's keys can be read."""

    has_pexpiretime: bool
    has_field_ttl: bool
    can_dump: bool
    modules: frozenset[bytes]
    """Names of what is loaded: types of their own need the same modules on both sides."""
    counts_expiries: bool
    """`expires` in its `INFO keyspace` is exact at that moment: it is Redis or Valkey itself."""


@dataclass(frozen=True)
class Writes:
    """How keys can be made on a store. Where RESTORE is unknown or forbidden it takes nothing."""

    has_field_ttl: bool
    has_stream_counters: bool
    """XSETID … ENTRIESADDED, XGROUP CREATE … ENTRIESREAD (Redis 7.0)."""
    modules: frozenset[bytes]
    versions: frozenset[int]
    """RDB versions of payloads that it restores as they are."""
    types: frozenset[int]
    """Type bytes, of LAST_COMMON_TYPE and below, that it restores at REWRITTEN_VERSION."""
    max_bulk: int = LIMITS.max_bulk
    """Bytes of one argument (`proto-max-bulk-len`). The payload of the largest value is more."""

    def takes_as_is(self, version: int, type_byte: int) -> bool:
        """Whether it restores another store's payload unchanged, with the same meaning."""
        if version not in self.versions:
            return False
        if type_byte <= LAST_COMMON_TYPE:
            return True
        # A Valkey told to be relaxed about versions accepts footers of Redis, not its types.
        is_valkey = FIRST_VALKEY_VERSION in self.versions
        return is_valkey == (version >= FIRST_VALKEY_VERSION)


async def learn_reads(store: Bulk) -> Reads:
    """Asks in one round trip, with commands that a full or read-only store answers too.

    Unknown commands and missing rights are answers. Raises BulkClosed, and ReplyError when the
    store is not itself (LOADING and the like).
    """
    pexpiretime, hpexpiretime, dump, modules, info = await _ask(
        store,
        [("PEXPIRETIME", _NO_KEY), _HPEXPIRETIME, ("DUMP", _NO_KEY), _MODULES, ("INFO", "server")],
    )
    return Reads(
        has_pexpiretime=not isinstance(pexpiretime, ReplyError),
        has_field_ttl=not isinstance(hpexpiretime, ReplyError),
        can_dump=not isinstance(dump, ReplyError),
        modules=_names(modules),
        counts_expiries=not isinstance(info, ReplyError) and not _other_versions(info),
    )


async def learn_writes(store: Bulk) -> Writes:
    """As `learn_reads`; raises ReplyError also when it takes no writes now (OOM, READONLY, …)."""
    footers: list[_Ask] = [("RESTORE", _NO_KEY, 0, seal(_NO_TYPE, v)) for v in _VERSIONS]
    # Never REPLACE: should somebody have a key of that name, BUSYKEY it is.
    samples: list[_Ask] = [
        ("RESTORE", _NO_KEY, 1, seal(sample, REWRITTEN_VERSION), "ABSTTL") for sample in _SAMPLES
    ]
    # No number: whoever knows the option refuses that, and the others the count of words.
    counters = ("XSETID", _NO_KEY, "1-1", "ENTRIESADDED", "x", "MAXDELETEDID", "0-0")
    hpexpiretime, xsetid, modules, max_bulk, *restored = await _ask(
        store, [_HPEXPIRETIME, counters, _MODULES, _MAX_BULK, *footers, *samples]
    )
    return Writes(
        has_field_ttl=not isinstance(hpexpiretime, ReplyError),
        has_stream_counters="not an integer" in str(xsetid),
        modules=_names(modules),
        versions=frozenset(
            version
            for version, reply in zip(_VERSIONS, restored, strict=False)
            if "Bad data" in str(reply)
        ),
        types=frozenset(
            sample[0]
            for sample, reply in zip(_SAMPLES, restored[len(_VERSIONS) :], strict=True)
            if not isinstance(reply, ReplyError)
        ),
        # Where CONFIG is forbidden it is what nobody changes.
        max_bulk=int(max_bulk[1]) if isinstance(max_bulk, list) and max_bulk else LIMITS.max_bulk,
    )


_Ask = tuple[Arg, ...]
_HPEXPIRETIME: _Ask = ("HPEXPIRETIME", _NO_KEY, "FIELDS", 1, "f")
_MODULES: _Ask = ("MODULE", "LIST")
_MAX_BULK: _Ask = ("CONFIG", "GET", "proto-max-bulk-len")


async def _ask(store: Bulk, asks: list[_Ask]) -> list[Any]:
    replies = await store.pipeline(asks)
    for reply in replies:
        if isinstance(reply, ReplyError) and reply.code not in ("ERR", "NOPERM"):
            raise reply
    return replies


def _other_versions(info: bytes) -> set[bytes]:
    """Versions by which other engines tell themselves from the Redis they are compatible with."""
    names = {line.partition(b":")[0] for line in info.splitlines()}
    known = (b"redis_version", b"valkey_version", b"gcc_version")
    return {name for name in names if name.endswith(b"_version")}.difference(known)


def _names(modules: Any) -> frozenset[bytes]:
    if isinstance(modules, ReplyError):
        return frozenset()
    return frozenset(module[module.index(b"name") + 1] for module in modules)
