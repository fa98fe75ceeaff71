"""Two databases that are one client's alone: what it knows of all their keys together.

SWAPDB, FLUSHDB, DBSIZE, KEYS, RANDOMKEY and SCAN, between the commands on keys that everybody
uses. FLUSHALL is for nobody here: it would be everybody's.
"""

from __future__ import annotations

from typing import Any

from .draw import Choice, Draw
from .model import ANY, OK, Step, Wrong

RESERVED = (14, 15)


def swap(d: Draw) -> list[Step]:
    """Seldom: during a backfill it makes it begin again."""
    if d.chance(0.7):
        return size(d)
    a, b = RESERVED if d.chance(0.5) else RESERVED[::-1]

    def apply(_: Any) -> object:
        d.model.swap(a, b)
        return OK

    return [Step((b"SWAPDB", a, b), (), apply), *size(d)]


def flush(d: Draw) -> list[Step]:
    """Seldom: it makes every cache forget, and so hides what it has missed."""
    db = d.db
    if d.chance(0.7):
        return size(d)

    def apply(_: Any) -> object:
        d.model.clear(db)
        return OK

    mode = d.pick(((), (), (b"ASYNC",), (b"SYNC",)))
    return [Step((b"FLUSHDB", *mode), (), apply), *size(d)]


def size(d: Draw) -> list[Step]:
    """A key that has expired may be counted, and one that nobody knows of."""
    db = d.db

    def apply(reply: Any) -> object:
        certain, possible = d.model.within(db)
        low, high = len(certain), len(possible)
        is_right = isinstance(reply, int) and low <= reply <= high
        return ANY if is_right else Wrong(f"{low} to {high} keys")

    return [Step((b"DBSIZE",), (), apply)]


def names(d: Draw) -> list[Step]:
    """All of them; the scan is large enough to be done at once."""
    db, scans = d.db, d.chance(0.5)

    def apply(reply: Any) -> object:
        certain, possible = d.model.within(db)
        found = reply[1] if scans and reply[0] == b"0" else reply
        is_right = certain <= set(found) <= possible
        return ANY if is_right else Wrong(f"{len(certain)} to {len(possible)} certain names")

    return [Step((b"SCAN", 0, b"COUNT", 1_000_000) if scans else (b"KEYS", b"*"), (), apply)]


def any_name(d: Draw) -> list[Step]:
    db = d.db

    def apply(reply: Any) -> object:
        certain, possible = d.model.within(db)
        is_right = reply in possible or (reply is None and not certain)
        return ANY if is_right else Wrong("the name of one of its keys")

    return [Step((b"RANDOMKEY",), (), apply)]


CHOICES: list[Choice] = [swap, swap, flush, size, size, names, any_name, any_name]
