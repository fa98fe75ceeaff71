"""What a store must hold when the traffic is over, by what its clients were told.

Reads one store, when nobody writes any more, and compares with the ledger and with each client's
model. It knows nothing of the other store.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from migrator.bulk import Bulk

from .connection import Words
from .draw import BITS, FLOAT, HASH, LIST, NUMBER, SET, SKETCH, STREAM, TEXT, ZSET
from .ledger import (
    BAG,
    COUNTER,
    DOING,
    FIELD,
    OPTIMISTIC,
    PAIR,
    QUEUE,
    SCORE,
    TASKS,
    TOKEN,
    WORK,
    WORKS,
    Ledger,
    shared_key,
)  # fmt: skip
from .model import Between, Model, Place, Value, fits
from .zsets import with_scores

BATCH = 500
KEPT = 10

_READ: dict[str, Words] = {COUNTER: (), PAIR: (), OPTIMISTIC: (), FIELD: (b"n",), SCORE: (b"n",)}
_NAME = {COUNTER: b"GET", PAIR: b"GET", OPTIMISTIC: b"GET", FIELD: b"HGET", SCORE: b"ZSCORE"}


async def audit(store: Bulk, ledger: Ledger, models: Sequence[Model]) -> list[str]:
    """What is missing or too much, in words; empty: nothing is. Raises BulkClosed."""
    return [
        *await _tallies(store, ledger),
        *await _logs(store, ledger),
        *await _groups(store, ledger),
        *await _events(store, ledger),
        *await _jobs(store, ledger),
        *await _own(store, models),
    ]


async def _ask(store: Bulk, wanted: list[tuple[int, Words]]) -> list[Any]:
    """The replies to commands in their databases, in order."""
    replies: list[Any] = [None] * len(wanted)
    for db in {db for db, _ in wanted}:
        mine = [at for at, (each, _) in enumerate(wanted) if each == db]
        for start in range(0, len(mine), BATCH):
            part = mine[start : start + BATCH]
            values = await store.pipeline([wanted[at][1] for at in part], db=db)
            for at, value in zip(part, values, strict=True):
                replies[at] = value
    return replies


async def _tallies(store: Bulk, ledger: Ledger) -> list[str]:
    items = list(ledger.tallies.items())
    replies = await _ask(
        store, [(place[0], (_NAME[kind], place[1], *_READ[kind])) for (kind, place), _ in items]
    )
    return _first(
        f"counter {place[1].decode()} in db {place[0]} is {reply!r}, not "
        f"{tally.low}{f' to {tally.asked}' if tally.asked > tally.low else ''}"
        for ((_, place), tally), reply in zip(items, replies, strict=True)
        if not fits(Between(tally.low, tally.asked), reply)
    )


async def _logs(store: Bulk, ledger: Ledger) -> list[str]:
    items = list(ledger.logs.items())
    replies = await _ask(store, [(place[0], (b"GET", place[1])) for place, _ in items])
    return _first(
        words
        for (place, group), text in zip(items, replies, strict=True)
        for words in group.complaints(
            [text[at : at + TOKEN] for at in range(0, len(text or b""), TOKEN)],
            f"log {place[1].decode()} in db {place[0]}",
        )
    )


async def _groups(store: Bulk, ledger: Ledger) -> list[str]:
    words: list[str] = []
    for groups, kind, read in (
        (ledger.queues, QUEUE, lambda key: (b"LRANGE", key, 0, -1)),
        (ledger.bags, BAG, lambda key: (b"SMEMBERS", key)),
    ):
        for db, group in groups.items():
            keys = [shared_key(kind, number) for number in range(ledger.sizes.shared)]
            replies = await _ask(store, [(db, read(key)) for key in keys])
            present = [token for reply in replies for token in reply]
            words += group.complaints(present, f"shared:{kind} in db {db}")
    return words


async def _events(store: Bulk, ledger: Ledger) -> list[str]:
    places = list(ledger.maybe_added)
    replies = await _ask(store, [(place[0], (b"XLEN", place[1])) for place in places])
    return _first(
        f"stream {place[1].decode()} in db {place[0]} has {reply!r} entries, not {wanted}"
        for place, reply in zip(places, replies, strict=True)
        if not fits(wanted := Between(ledger.added[place], ledger.maybe_added[place]), reply)
    )


async def _jobs(store: Bulk, ledger: Ledger) -> list[str]:
    """Of jobs in lists and in streams: what was acknowledged was done, and nothing is left."""
    words: list[str] = []
    for db, group in ledger.work.items():
        keys = [shared_key(WORK, number) for number in range(WORKS)]
        replies = await _ask(store, [(db, (b"LRANGE", key, 0, -1)) for key in keys])
        words += group.complaints([each for reply in replies for each in reply], f"jobs in db {db}")
        (doing,) = await _ask(store, [(db, (b"KEYS", shared_key(DOING, 0)[:-1] + b"*"))])
        words += [f"{key.decode()} in db {db}: a job is not ticked off" for key in doing]
    for db, group in ledger.tasks.items():
        words += group.complaints([], f"tasks in db {db}")
        (pending,) = await _ask(store, [(db, (b"XPENDING", shared_key(TASKS, 0), b"workers"))])
        if pending[0] > group.unknown:
            words.append(f"tasks in db {db}: {pending[0]} are not acknowledged")
    return words


async def _own(store: Bulk, models: Sequence[Model]) -> list[str]:
    now = time.time() * 1000.0
    places: list[tuple[Place, Value | None]] = []
    for model in models:
        for place, value in model.values.items():
            # What is expiring about now proves nothing.
            if place not in model.unsure and (value is None or value.low > now + 60_000.0):
                places.append((place, value))
    replies = await _ask(store, [(place[0], _read(place[1])) for place, _ in places])
    return _first(
        f"{place[1].decode()} in db {place[0]} is {reply!r:.200}, "
        f"not {_wanted(place, value)!r:.200}"
        for (place, value), reply in zip(places, replies, strict=True)
        if not _holds(place, value, reply)
    )


def _family(place: Place) -> str:
    return chr(place[1][0])


def _read(key: bytes) -> Words:
    family = chr(key[0])
    if family in (TEXT, NUMBER, FLOAT, BITS):
        return (b"GET", key)
    return {
        LIST: (b"LRANGE", key, 0, -1), SET: (b"SMEMBERS", key), HASH: (b"HGETALL", key),
        ZSET: (b"ZRANGE", key, 0, -1, b"WITHSCORES"), STREAM: (b"XRANGE", key, b"-", b"+"),
        SKETCH: (b"EXISTS", key),
    }[family]  # fmt: skip


def _wanted(place: Place, value: Value | None) -> Any:
    family = _family(place)
    data = None if value is None else value.data
    if family == SKETCH:
        return int(value is not None)
    if family == STREAM:
        return [] if data is None else data.listed(list(data.entries))
    if family == LIST:
        return data or []
    if family == SET:
        return data or set()
    return data or {} if family in (HASH, ZSET) else data


def _holds(place: Place, value: Value | None, reply: Any) -> bool:
    wanted = _wanted(place, value)
    if _family(place) == ZSET:
        return bool(dict(with_scores(reply)) == wanted)
    return fits(wanted, reply)


def _first(words: Iterable[str]) -> list[str]:
    found = list(words)
    more = len(found) - KEPT
    return found[:KEPT] + ([f"… and {more} more of this kind"] if more > 0 else [])
