"""A key's value and expiry, read by the commands of its type: equal snapshots are equal keys.

Owns the model and the reading. Every type's reader is a generator that never sees a connection:
it yields commands and is sent their replies, so that the rounds of a whole batch of keys travel
in one pipeline.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from migrator.bulk import Arg, Bulk, ReplyError
from migrator.slices import Slices

from .dialect import Reads
from .expiry import GONE, read_expiries
from .modules import SHOWN_BY
from .streams import Stream, read_stream

# Elements of one reply: large values are read in pieces, so that the store serves others between.
PAGE = 1000
_ATTEMPTS = 3


@dataclass(slots=True)
class Hash:
    fields: dict[bytes, bytes]
    expiries: dict[bytes, int] = field(default_factory=dict)
    """Field -> Unix milliseconds, of those that expire."""


@dataclass(slots=True)
class SortedSet:
    scores: dict[bytes, bytes]
    """Member -> score as the store wrote it: exact, but not always the shortest spelling."""


@dataclass(slots=True)
class Foreign:
    """A type that only a module knows.

    shown: what the module's own commands say of it, where that is all there is to compare.
    """

    shown: list[Any] | None = None


Value = bytes | list[bytes] | set[bytes] | SortedSet | Hash | Stream | Foreign
Rounds = Generator[list[Sequence[Arg]], list[Any], Value]


@dataclass(slots=True)
class Snapshot:
    key: bytes
    kind: str
    """TYPE's word."""
    value: Value
    expires_at_ms: int
    """Unix milliseconds by the store's clock, or NO_EXPIRY."""


async def read_snapshots(
    bulk: Bulk, dialect: Reads, db: int, keys: Sequence[bytes]
) -> list[Snapshot | None]:
    """One snapshot per key, None for absent ones; a key that expires on the way is absent.

    Three round trips for small values. Raises ReplyError, BulkClosed.
    """
    found: list[Snapshot | None] = [None] * len(keys)
    wanted = list(range(len(keys)))
    for attempt in range(1, _ATTEMPTS + 1):
        wanted = await _read_into(found, bulk, dialect, db, keys, wanted, attempt == _ATTEMPTS)
        if not wanted:
            break
    return found


async def _read_into(
    found: list[Snapshot | None],
    bulk: Bulk,
    dialect: Reads,
    db: int,
    keys: Sequence[bytes],
    wanted: list[int],
    is_last: bool,
) -> list[int]:
    """Fills `found` and returns the indexes of keys that changed their type on the way."""
    kinds = await bulk.pipeline([("TYPE", keys[i]) for i in wanted], db=db)
    rounds: dict[int, Rounds] = {}
    kind_of: dict[int, str] = {}
    for i, kind in zip(wanted, kinds, strict=True):
        if isinstance(kind, ReplyError):
            raise kind
        if kind != b"none":
            kind_of[i] = kind.decode()
            rounds[i] = _reader(kind_of[i], keys[i], dialect)
    values, changed = await _run(rounds, bulk, db, is_last)
    # Behind the values: a key that has expired by now may have been read in part.
    complete = list(values)
    if complete:
        expiries = await read_expiries(
            bulk, db, [keys[i] for i in complete], dialect.has_pexpiretime
        )
        for i, expires_at in zip(complete, expiries, strict=True):
            value = values[i]
            if expires_at != GONE and not (isinstance(value, Hash) and not value.fields):
                found[i] = Snapshot(keys[i], kind_of[i], value, expires_at)
    return changed


async def _run(
    rounds: dict[int, Rounds], bulk: Bulk, db: int, is_last: bool
) -> tuple[dict[int, Value], list[int]]:
    values: dict[int, Value] = {}
    changed: list[int] = []
    asks: dict[int, list[Sequence[Arg]]] = {}
    slices = Slices()

    def advance(i: int, replies: list[Any] | None) -> None:
        try:
            asks[i] = next(rounds[i]) if replies is None else rounds[i].send(replies)
        except StopIteration as done:
            values[i] = done.value
            asks.pop(i, None)

    for i in rounds:
        advance(i, None)
    while asks:
        replies = await bulk.pipeline([c for ask in asks.values() for c in ask], db=db)
        slices.begin()
        at = 0
        for i, ask in list(asks.items()):
            await slices.over()
            mine = replies[at : at + len(ask)]
            at += len(ask)
            error = next((r for r in mine if isinstance(r, ReplyError)), None)
            if error is None:
                advance(i, mine)
            elif is_last or not _says_changed(error):
                raise error
            else:
                del asks[i]
                changed.append(i)
    return values, changed


def _says_changed(error: ReplyError) -> bool:
    # It expired behind TYPE, and perhaps somebody who does not go through the proxy wrote it.
    text = str(error)
    is_gone = "no such key" in text or "key does not exist" in text
    return is_gone or text.startswith(("WRONGTYPE", "NOGROUP"))


def _reader(kind: str, key: bytes, dialect: Reads) -> Rounds:
    match kind:
        case "string":
            return _read_string(key)
        case "list":
            return _read_list(key)
        case "set":
            return _read_set(key)
        case "zset":
            return _read_sorted_set(key)
        case "hash":
            return _read_hash(key, dialect.has_field_ttl)
        case "stream":
            return read_stream(key, PAGE)
        case _:
            return _read_foreign(kind, key)


def _read_foreign(kind: str, key: bytes) -> Rounds:
    if kind not in SHOWN_BY:
        return Foreign()
    replies = yield [(command, key, *more) for command, *more in SHOWN_BY[kind]]
    return Foreign(replies)


def _read_string(key: bytes) -> Rounds:
    [value] = yield [("GET", key)]
    return b"" if value is None else bytes(value)  # None: it expired, which its expiry will say


def _read_list(key: bytes) -> Rounds:
    elements: list[bytes] = []
    while True:
        [page] = yield [("LRANGE", key, len(elements), len(elements) + PAGE - 1)]
        elements += page
        if len(page) < PAGE:
            return elements


def _scan(command: str, key: bytes) -> Generator[list[Sequence[Arg]], list[Any], list[bytes]]:
    # What is there from beginning to end is reported at least once; perhaps twice.
    found: list[bytes] = []
    cursor = b"0"
    while True:
        [[cursor, page]] = yield [(command, key, cursor, "COUNT", PAGE)]
        found += page
        if cursor == b"0":
            return found


def _read_set(key: bytes) -> Rounds:
    return set((yield from _scan("SSCAN", key)))


def _read_sorted_set(key: bytes) -> Rounds:
    flat = yield from _scan("ZSCAN", key)
    return SortedSet(dict(zip(flat[0::2], flat[1::2], strict=True)))


def _read_hash(key: bytes, has_field_ttl: bool) -> Rounds:
    flat = yield from _scan("HSCAN", key)
    read = Hash(dict(zip(flat[0::2], flat[1::2], strict=True)))
    if not has_field_ttl:
        return read
    fields = list(read.fields)
    for start in range(0, len(fields), PAGE):
        page = fields[start : start + PAGE]
        [expiries] = yield [("HPEXPIRETIME", key, "FIELDS", len(page), *page)]
        for name, expires_at in zip(page, expiries or [], strict=False):
            if expires_at == GONE:
                del read.fields[name]
            elif expires_at >= 0:
                read.expiries[name] = expires_at
    return read
