"""A comparison of both stores from outside, when nobody writes: the demo's own judge.

It asks the stores, not the process that moved the keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from migrator.bulk import Bulk
from migrator.copy import Comparer
from migrator.marker import KEY as MARKER

BATCH = 400
KEPT = 20


@dataclass
class Comparison:
    """`differing` counts keys; `first` says what is wrong with some of them."""

    keys: int = 0
    differing: int = 0
    first: list[str] = field(default_factory=list)


async def compare(source: Bulk, target: Bulk) -> Comparison:
    """All keys of either side in every database, TTLs to within 50 ms."""
    result = Comparison()
    comparer = Comparer(source, target)
    for db in sorted(await _databases(source) | await _databases(target)):
        keys = sorted(await _keys(source, db) | await _keys(target, db))
        for at in range(0, len(keys), BATCH):
            part = keys[at : at + BATCH]
            found = await comparer.compare(db, part)
            result.differing += len({each.key for each in found})
            result.first += (f"{each.key!r:.80} in db {db}: {each.what}" for each in found)
            del result.first[KEPT:]
        result.keys += len(keys)
    return result


async def _databases(store: Bulk) -> set[int]:
    info: bytes = await store.call("INFO", "keyspace")
    return {int(number) for number in re.findall(rb"^db(\d+):", info, re.MULTILINE)}


async def _keys(store: Bulk, db: int) -> set[bytes]:
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, page = await store.call("SCAN", cursor, "COUNT", 1000, db=db)
        found.update(page)
        if cursor == b"0":
            return found - {MARKER} if db == 0 else found
