"""Streams: entries, counters, groups, consumers and what is pending, read and made again.

Pure, as `snapshot` says: the reader is a generator of commands. Owns nothing else.

Not read, because no command can set it: consumers' idle times.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from migrator.bulk import Arg

from .dialect import Writes
from .expiry import time_ms

Rounds = Generator[list[Sequence[Arg]], list[Any], "Stream"]
Args = tuple[Arg, ...]
_CLAIMED_AT_ONCE = 500


@dataclass(slots=True, frozen=True)
class Pending:
    """An entry that a consumer has been given and has not acknowledged."""

    consumer: bytes
    deliveries: int
    delivered_at_ms: int = field(compare=False)
    """Unix milliseconds by the store's clock."""


@dataclass(slots=True)
class Group:
    last_id: bytes
    entries_read: int | None
    """None where the store does not know (before Redis 7.0, or lost count)."""
    consumers: set[bytes] = field(default_factory=set)
    pending: dict[bytes, Pending] = field(default_factory=dict)
    """By id. The entry itself may have been deleted from the stream."""


@dataclass(slots=True)
class Stream:
    entries: list[tuple[bytes, list[bytes]]]
    """(id, [field, value, …]) in order."""
    last_id: bytes
    max_deleted_id: bytes | None
    entries_added: int | None
    """None before Redis 7.0, as the id above."""
    groups: dict[bytes, Group]


def _as_dict(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[0::2], flat[1::2], strict=True))


def read_stream(key: bytes, page_size: int) -> Rounds:
    """Two rounds for a small one with groups; see `snapshot.Rounds`."""
    info, groups, page = yield [
        ("XINFO", "STREAM", key),
        ("XINFO", "GROUPS", key),
        ("XRANGE", key, "-", "+", "COUNT", page_size),
    ]
    entries = [(e[0], e[1]) for e in page]
    while len(page) == page_size:
        [page] = yield [("XRANGE", key, b"(" + page[-1][0], "+", "COUNT", page_size)]
        entries += [(e[0], e[1]) for e in page]
    facts = _as_dict(info)
    stream = Stream(
        entries,
        facts[b"last-generated-id"],
        facts.get(b"max-deleted-entry-id"),
        facts.get(b"entries-added"),
        {},
    )
    for said in map(_as_dict, groups):
        group = Group(said[b"last-delivered-id"], said.get(b"entries-read"))
        stream.groups[said[b"name"]] = group
    if stream.groups:
        names = list(stream.groups)
        consumers = yield [("XINFO", "CONSUMERS", key, name) for name in names]
        for name, group_consumers in zip(names, consumers, strict=True):
            stream.groups[name].consumers = {_as_dict(c)[b"name"] for c in group_consumers}
        for name in names:
            yield from _read_pending(key, name, stream.groups[name].pending, page_size)
    return stream


def _read_pending(
    key: bytes, name: bytes, pending: dict[bytes, Pending], page_size: int
) -> Generator[list[Sequence[Arg]], list[Any], None]:
    start = b"-"
    while True:
        # XPENDING tells how long ago; the clock around it makes that a time.
        before, page, after = yield [
            ("TIME",),
            ("XPENDING", key, name, start, "+", page_size),
            ("TIME",),
        ]
        now = (time_ms(before) + time_ms(after)) // 2
        for entry_id, consumer, idle_ms, deliveries in page:
            pending[entry_id] = Pending(consumer, deliveries, now - idle_ms)
        if len(page) < page_size:
            return
        start = b"(" + page[-1][0]


def rebuild_stream(key: bytes, stream: Stream, dialect: Writes) -> Iterator[Args]:
    """The commands that make it, where there is no such key.

    XCLAIM takes only entries that are in the stream. So pending ones that were deleted are added
    as placeholders, claimed, and deleted again.
    """
    live = {entry_id for entry_id, _ in stream.entries}
    dead = {i for group in stream.groups.values() for i in group.pending} - live
    rows = stream.entries + [(entry_id, [b"", b""]) for entry_id in dead]
    for entry_id, flat in sorted(rows, key=lambda row: _order(row[0])):
        yield ("XADD", key, entry_id, *flat)
    if not rows and not stream.groups:
        # A stream without entries comes from a group only.
        yield ("XGROUP", "CREATE", key, "keyferry", "0", "MKSTREAM")
        yield ("XGROUP", "DESTROY", key, "keyferry")
    for name, group in stream.groups.items():
        yield from _rebuild_group(key, name, group, dialect)
    yield from _drop_placeholders(key, stream, dead)
    # Last, because XADD and XDEL move what it sets.
    counters: Args = ()
    if dialect.has_stream_counters and stream.entries_added is not None:
        assert stream.max_deleted_id is not None, "a store that counts knows both"
        counters = ("ENTRIESADDED", stream.entries_added, "MAXDELETEDID", stream.max_deleted_id)
    yield ("XSETID", key, stream.last_id, *counters)


def _rebuild_group(key: bytes, name: bytes, group: Group, dialect: Writes) -> Iterator[Args]:
    read: Args = ()
    if dialect.has_stream_counters and group.entries_read is not None:
        read = ("ENTRIESREAD", group.entries_read)
    yield ("XGROUP", "CREATE", key, name, group.last_id, "MKSTREAM", *read)
    for consumer in group.consumers:
        yield ("XGROUP", "CREATECONSUMER", key, name, consumer)

    def alike(entry: tuple[bytes, Pending]) -> tuple[bytes, int, int]:
        return entry[1].consumer, entry[1].delivered_at_ms, entry[1].deliveries

    for (consumer, when, deliveries), entries in groupby(
        sorted(group.pending.items(), key=alike), alike
    ):
        ids = [entry_id for entry_id, _ in entries]
        for start in range(0, len(ids), _CLAIMED_AT_ONCE):
            options: Args = ("TIME", when, "RETRYCOUNT", deliveries, "FORCE", "JUSTID")
            page = ids[start : start + _CLAIMED_AT_ONCE]
            yield ("XCLAIM", key, name, consumer, 0, *page, *options)


def _drop_placeholders(key: bytes, stream: Stream, dead: set[bytes]) -> Iterator[Args]:
    first = _order(stream.entries[0][0]) if stream.entries else None
    # Those before the first entry may have been trimmed, which leaves no mark in the highest
    # deleted id; so they are trimmed here too. XSETID can raise that id, but not take it back.
    if any(first is None or _order(entry_id) < first for entry_id in dead):
        if first is None:
            yield ("XTRIM", key, "MAXLEN", "=", 0)
            return
        yield ("XTRIM", key, "MINID", "=", stream.entries[0][0])
    within = [i for i in dead if first is not None and _order(i) > first]
    for start in range(0, len(within), _CLAIMED_AT_ONCE):
        yield ("XDEL", key, *within[start : start + _CLAIMED_AT_ONCE])


def _order(entry_id: bytes) -> tuple[int, int]:
    ms, _, seq = entry_id.partition(b"-")
    return int(ms), int(seq)
