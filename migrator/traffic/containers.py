"""Commands on lists, sets and hashes, and what each must answer."""

from __future__ import annotations

from typing import Any

from .connection import Arg
from .draw import HASH, LIST, SET, Choice, Draw
from .model import OK, Failure, Step, Value, Wrong
from .strings import float_text, one

LONGEST = 60


# -- lists ------------------------------------------------------------------------------


def push(d: Draw) -> list[Step]:
    place = d.own(LIST)
    name = d.pick((b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX"))
    words = [d.word() for _ in range(d.number(1, 4))]
    before = d.model.peek(place)
    if before is not None and len(before.data) > LONGEST:
        return ltrim(d)

    def apply(_: Any) -> object:
        data = d.model.data(place, [])
        if not data and name.endswith(b"X"):
            return 0
        data = words[::-1] + data if name[:1] == b"L" else data + words
        d.model.edit(place, data)
        return len(data)

    return one((name, place[1], *words), place, apply)


def pop(d: Draw) -> list[Step]:
    place, count = d.own(LIST), d.pick((0, 0, 1, 2, 3))
    is_left = d.chance(0.5)

    def apply(_: Any) -> object:
        data = d.model.data(place)
        if data is None:
            return None
        taken = data[: count or 1] if is_left else data[-(count or 1) :][::-1]
        d.model.edit(place, data[len(taken) :] if is_left else data[: -len(taken)])
        return taken if count else taken[0]

    args: tuple[Arg, ...] = (b"LPOP" if is_left else b"RPOP", place[1])
    return one((*args, count) if count else args, place, apply)


def linsert(d: Draw) -> list[Step]:
    place, word, number = d.own(LIST), d.word(), d.number(0, 8)
    where = d.pick((b"BEFORE", b"AFTER"))
    before = d.model.peek(place)
    pivot = before.data[number % len(before.data)] if before is not None else b"?"

    def apply(_: Any) -> object:
        data = list(d.model.data(place, []))
        if not data:
            return 0
        if pivot not in data:
            return -1
        data.insert(data.index(pivot) + (where == b"AFTER"), word)
        d.model.edit(place, data)
        return len(data)

    return one((b"LINSERT", place[1], where, pivot, word), place, apply)


def ltrim(d: Draw) -> list[Step]:
    place, low, high = d.own(LIST), d.number(0, 2), d.number(3, 20)

    def apply(_: Any) -> object:
        d.model.edit(place, d.model.data(place, [])[low : high + 1])
        return OK

    return one((b"LTRIM", place[1], low, high), place, apply)


def lset(d: Draw) -> list[Step]:
    place, word, at = d.own(LIST), d.word(), d.number(0, 6)

    def apply(_: Any) -> object:
        data = list(d.model.data(place, []))
        if not data:
            return Failure(b"ERR no such key")
        if at >= len(data):
            return Failure(b"ERR index out of range")
        data[at] = word
        d.model.edit(place, data)
        return OK

    return one((b"LSET", place[1], at, word), place, apply)


def lrem(d: Draw) -> list[Step]:
    place, number = d.own(LIST), d.number(0, 8)
    before = d.model.peek(place)
    word = before.data[number % len(before.data)] if before is not None else b"?"

    def apply(_: Any) -> object:
        data = d.model.data(place, [])
        left = [each for each in data if each != word]
        d.model.edit(place, left)
        return len(data) - len(left)

    return one((b"LREM", place[1], 0, word), place, apply)


def lmove(d: Draw) -> list[Step]:
    a, b = d.two(LIST)
    is_left, to_left = d.chance(0.5), d.chance(0.5)
    args: tuple[Arg, ...] = (
        b"LMOVE", a[1], b[1], b"LEFT" if is_left else b"RIGHT", b"LEFT" if to_left else b"RIGHT",
    )  # fmt: skip
    if to_left and not is_left:
        args = (b"RPOPLPUSH", a[1], b[1])

    def apply(_: Any) -> object:
        data, other = d.model.data(a), d.model.data(b, [])
        if data is None:
            return None
        word = data[0 if is_left else -1]
        d.model.edit(a, data[1:] if is_left else data[:-1])
        d.model.edit(b, [word, *other] if to_left else [*other, word])
        return word

    return [Step(args, (a, b), apply)]


def read_list(d: Draw) -> list[Step]:
    place = d.own(LIST)
    form = d.number(0, 3)
    args: tuple[Arg, ...] = ((b"LRANGE", place[1], 0, -1), (b"LLEN", place[1]),
                             (b"LINDEX", place[1], -1))[form]  # fmt: skip

    def apply(_: Any) -> object:
        data = d.model.data(place, [])
        return (data, len(data), data[-1] if data else None)[form]

    return one(args, place, apply)


# -- sets -------------------------------------------------------------------------------


def sadd(d: Draw) -> list[Step]:
    place = d.own(SET)
    members = {d.member() for _ in range(d.number(1, 5))}
    is_adding = d.chance(0.65)

    def apply(_: Any) -> object:
        data = d.model.data(place, set())
        changed = data | members if is_adding else data - members
        d.model.edit(place, changed)
        return abs(len(changed) - len(data))

    return one((b"SADD" if is_adding else b"SREM", place[1], *sorted(members)), place, apply)


def spop(d: Draw) -> list[Step]:
    place, count = d.own(SET), d.pick((0, 0, 1, 3))

    def apply(reply: Any) -> object:
        data = d.model.data(place)
        if data is None:
            return set() if count else None
        if not count:
            reply = [reply]
        taken = set(reply) if isinstance(reply, list | set) else set()
        if not taken <= data or len(taken) != min(count or 1, len(data)):
            return Wrong("some of its members")
        d.model.edit(place, data - taken)
        return taken if count else next(iter(taken))

    return one((b"SPOP", place[1], *((count,) if count else ())), place, apply)


def smove(d: Draw) -> list[Step]:
    (a, b), member = d.two(SET), d.member()

    def apply(_: Any) -> object:
        data, other = d.model.data(a, set()), d.model.data(b, set())
        if member not in data:
            return 0
        d.model.edit(a, data - {member})
        d.model.edit(b, other | {member})
        return 1

    return [Step((b"SMOVE", a[1], b[1], member), (a, b), apply)]


def combine(d: Draw) -> list[Step]:
    (a, b), to = d.two(SET), d.own(SET)
    name = d.pick((b"SUNIONSTORE", b"SUNIONSTORE", b"SINTERSTORE", b"SDIFFSTORE"))

    def apply(_: Any) -> object:
        left, right = d.model.data(a, set()), d.model.data(b, set())
        data = left | right if name[1:2] == b"U" else left & right if name[1:2] == b"I" else (
            left - right)  # fmt: skip
        d.model.value(to)
        d.model.put(to, data)
        return len(data)

    return [Step((name, to[1], a[1], b[1]), (a, b, to), apply)]


def read_set(d: Draw) -> list[Step]:
    place, member = d.own(SET), d.member()
    form = d.number(0, 3)
    args: tuple[Arg, ...] = ((b"SMEMBERS", place[1]), (b"SCARD", place[1]),
                             (b"SISMEMBER", place[1], member))[form]  # fmt: skip

    def apply(_: Any) -> object:
        data = d.model.data(place, set())
        return (data, len(data), int(member in data))[form]

    return one(args, place, apply)


# -- hashes -----------------------------------------------------------------------------


def hset(d: Draw) -> list[Step]:
    place = d.own(HASH)
    items = {d.member(): d.word() for _ in range(d.number(1, 4))}
    flat = [word for item in items.items() for word in item]

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        d.model.edit(place, data | items)
        return len(items.keys() - data.keys())

    return one((b"HSET", place[1], *flat), place, apply)


def hsetnx(d: Draw) -> list[Step]:
    place, member, word = d.own(HASH), d.member(), d.word()

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        d.model.edit(place, {member: word} | data)
        return int(member not in data)

    return one((b"HSETNX", place[1], member, word), place, apply)


def hdel(d: Draw) -> list[Step]:
    place, members = d.own(HASH), {d.member() for _ in range(d.number(1, 4))}

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        left = {key: value for key, value in data.items() if key not in members}
        d.model.edit(place, left)
        return len(data) - len(left)

    return one((b"HDEL", place[1], *sorted(members)), place, apply)


def hincrby(d: Draw) -> list[Step]:
    place, number = d.own(HASH), d.number(0, 3)
    by: float = d.pick((0.5, 2.25)) if d.chance(0.4) else d.number(1, 50)
    is_float = isinstance(by, float)
    field = b"%b%d" % (b"f" if is_float else b"n", number)

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        value = float(data.get(field, b"0")) + by
        d.model.edit(place, data | {field: float_text(value)})
        return float_text(value) if is_float else int(value)

    name = b"HINCRBYFLOAT" if is_float else b"HINCRBY"
    return one((name, place[1], field, by), place, apply)


def read_hash(d: Draw) -> list[Step]:
    place, member, other = d.own(HASH), d.member(), d.member()
    form = d.number(0, 4)
    args: tuple[Arg, ...] = (
        (b"HGETALL", place[1]), (b"HGET", place[1], member), (b"HMGET", place[1], member, other),
        (b"HLEN", place[1]),
    )[form]  # fmt: skip

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        return (data, data.get(member), [data.get(member), data.get(other)], len(data))[form]

    return one(args, place, apply)


def initial(family: str, number: int) -> Value:
    """What a key of these families holds in the beginning."""
    if family == LIST:
        return Value([b"e%d" % at for at in range(number % 4 + 1)])
    if family == SET:
        return Value({b"m%d" % at for at in range(number % 5 + 1)})
    return Value({b"m%d" % at: b"v%d" % number for at in range(number % 4 + 1)})


CHOICES: list[Choice] = [
    push, push, push, pop, pop, linsert, ltrim, lset, lrem, lmove, lmove, read_list,
    sadd, sadd, sadd, spop, spop, smove, combine, read_set,
    hset, hset, hsetnx, hdel, hincrby, hincrby, read_hash,
]  # fmt: skip
