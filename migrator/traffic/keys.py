"""Commands on keys of any type: expiry, deletion, renames, copies, moves."""

from __future__ import annotations

import copy
import time
from typing import Any

from .connection import Arg
from .draw import FAMILIES, HASH, SET, Choice, Draw
from .model import CLOCK_MS, OK, Between, Failure, OneOf, Step
from .strings import one


def delete(d: Draw) -> list[Step]:
    places = tuple({d.own(d.pick(FAMILIES)): None for _ in range(d.pick((1, 1, 1, 3)))})
    name = d.pick((b"DEL", b"UNLINK"))

    def apply(_: Any) -> object:
        return d.model.drop(*places)

    return [Step((name, *(place[1] for place in places)), places, apply)]


def expire(d: Draw) -> list[Step]:
    place, ttl = d.own(d.pick(FAMILIES)), d.ttl_ms()
    form = d.number(0, 5)
    seconds = max(1, ttl // 1000)
    now = int(time.time() * 1000)
    args: tuple[Arg, ...] = (
        (b"PEXPIRE", place[1], ttl), (b"EXPIRE", place[1], seconds),
        (b"PEXPIREAT", place[1], now + ttl), (b"EXPIREAT", place[1], now // 1000 + seconds),
        (b"EXPIRE", place[1], -1),
    )[form]  # fmt: skip

    def apply(_: Any) -> object:
        value = d.model.value(place)
        if value is None:
            return 0
        if form == 4:
            d.model.drop(place)
        elif form < 2:
            value.low, value.high = d.model.expiry((ttl, seconds * 1000)[form])
        else:
            at = (now + ttl, (now // 1000 + seconds) * 1000)[form - 2]
            value.low, value.high = at - CLOCK_MS, at + CLOCK_MS
        return 1

    return one(args, place, apply)


def persist(d: Draw) -> list[Step]:
    place = d.own(d.pick(FAMILIES))

    def apply(_: Any) -> object:
        value = d.model.value(place)
        if value is None or value.low == float("inf"):
            return 0
        value.low = value.high = float("inf")
        return 1

    return one((b"PERSIST", place[1]), place, apply)


def look(d: Draw) -> list[Step]:
    place = d.own(d.pick(FAMILIES))
    name = d.pick((b"PTTL", b"TTL", b"EXISTS"))

    def apply(_: Any) -> object:
        value = d.model.value(place)
        if name == b"EXISTS":
            return int(value is not None)
        if value is None:
            return -2
        if value.low == float("inf"):
            return -1
        unit = 1 if name == b"PTTL" else 1000
        low, high = value.low - d.model.answered, value.high - d.model.sent
        return Between(low / unit - 1, high / unit + 1)

    return one((name, place[1]), place, apply)


def rename(d: Draw) -> list[Step]:
    a, b = d.two(d.pick(FAMILIES))
    name = d.pick((b"RENAME", b"RENAMENX"))

    def apply(_: Any) -> object:
        value, other = d.model.value(a), d.model.value(b)
        if value is None:
            return Failure(b"ERR no such key")
        if name == b"RENAMENX" and other is not None:
            return 0
        d.model.drop(a)
        d.model.values[b] = value
        return OK if name == b"RENAME" else 1

    return [Step((name, a[1], b[1]), (a, b), apply)]


def add_and_rename(d: Draw) -> list[Step]:
    """What is new is in both stores; whether the rest is, no reply tells."""
    return [step for _ in range(3) for step in _add_and_rename(d, d.pick((HASH, SET)))]


def _add_and_rename(d: Draw, family: str) -> list[Step]:
    a, b = d.loaded(family), d.fresh(family)
    new = b"new%d" % d.number(0, 1 << 30)

    def add(_: Any) -> object:
        if family == SET:
            d.model.edit(a, d.model.data(a, set()) | {new})
        else:
            d.model.edit(a, d.model.data(a, {}) | {new: b"1"})
        return 1

    def rename(_: Any) -> object:
        value = d.model.value(a)
        d.model.drop(b)
        d.model.drop(a)
        d.model.values[b] = value
        return OK

    first: tuple[Arg, ...] = (b"SADD", a[1], new)
    if family == HASH:
        first = (b"HSET", a[1], new, b"1")
    return [Step(first, (a,), add), Step((b"RENAME", a[1], b[1]), (a, b), rename)]


def duplicate(d: Draw) -> list[Step]:
    a, b = d.two(d.pick(FAMILIES))
    other = d.pick(d.databases)
    b = (other, b[1])
    replaces = d.chance(0.6)
    options: tuple[Arg, ...] = (b"DB", other) if other != d.db else ()

    def apply(_: Any) -> object:
        value, old = d.model.value(a), d.model.value(b)
        if value is None or (old is not None and not replaces):
            return 0
        d.model.values[b] = copy.deepcopy(value)
        return 1

    options += (b"REPLACE",) if replaces else ()
    return [Step((b"COPY", a[1], b[1], *options), (a, b), apply)]


def move(d: Draw) -> list[Step]:
    a = d.own(d.pick(FAMILIES))
    other = d.pick([db for db in d.databases if db != d.db])
    b = (other, a[1])

    def apply(_: Any) -> object:
        value, old = d.model.value(a), d.model.value(b)
        if value is None or old is not None:
            return 0
        d.model.drop(a)
        d.model.values[b] = value
        return 1

    return [Step((b"MOVE", a[1], other), (a, b), apply)]


def touch(d: Draw) -> list[Step]:
    place = d.own(d.pick(FAMILIES))

    def apply(_: Any) -> object:
        return OneOf((0, 1))

    return one((b"TOUCH", place[1]), place, apply)


CHOICES: list[Choice] = [
    delete, delete, expire, expire, persist, look, look, rename, rename, add_and_rename,
    add_and_rename, duplicate, move, touch,
]  # fmt: skip
