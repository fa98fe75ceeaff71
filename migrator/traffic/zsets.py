"""Commands on sorted sets, and what each must answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .connection import Arg
from .draw import ZSET, Choice, Draw
from .model import ANY, Step, Value, Wrong
from .strings import one

Scores = dict[bytes, float]


def ranked(data: Scores) -> list[bytes]:
    return sorted(data, key=lambda member: (data[member], member))


def with_scores(reply: Any) -> list[tuple[bytes, float]]:
    """A WITHSCORES reply: flat in RESP2, and where there is no count; else pairs."""
    if reply and isinstance(reply[0], list):
        return [(member, float(score)) for member, score in reply]
    return [(m, float(s)) for m, s in zip(reply[::2], reply[1::2], strict=True)]


def _same(reply: Any, data: Scores, members: Iterable[bytes]) -> object:
    wanted = [(member, data[member]) for member in members]
    return ANY if with_scores(reply) == wanted else Wrong(f"{wanted}")


def score(d: Draw) -> float:
    return d.number(-40, 40) / 4


def zadd(d: Draw) -> list[Step]:
    place = d.own(ZSET)
    items = {d.member(): score(d) for _ in range(d.number(1, 4))}
    option: bytes = d.pick((b"", b"", b"NX", b"XX", b"GT", b"LT"))
    counts_changes = d.chance(0.4)
    flat = [word for member, number in items.items() for word in (number, member)]

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        changed = dict(data)
        for member, number in items.items():
            old = data.get(member)
            if old is None:
                if option != b"XX":
                    changed[member] = number
            elif not (
                option == b"NX" or (option == b"GT" and number <= old)
                or (option == b"LT" and number >= old)
            ):  # fmt: skip
                changed[member] = number
        d.model.edit(place, changed)
        if counts_changes:
            return sum(data.get(member) != number for member, number in changed.items())
        return len(changed) - len(data)

    options = [word for word in (option, b"CH" if counts_changes else b"") if word]
    return one((b"ZADD", place[1], *options, *flat), place, apply)


def zincrby(d: Draw) -> list[Step]:
    place, member, by = d.own(ZSET), d.member(), score(d)
    form = d.number(0, 3)
    args: tuple[Arg, ...] = (
        (b"ZINCRBY", place[1], by, member), (b"ZADD", place[1], b"INCR", by, member),
        (b"ZADD", place[1], b"XX", b"INCR", by, member),
    )[form]  # fmt: skip

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        if form == 2 and member not in data:
            return None
        value = data.get(member, 0.0) + by
        d.model.edit(place, data | {member: value})
        return value

    return one(args, place, apply)


def zrem(d: Draw) -> list[Step]:
    place, members = d.own(ZSET), {d.member() for _ in range(d.number(1, 4))}

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        left = {member: value for member, value in data.items() if member not in members}
        d.model.edit(place, left)
        return len(data) - len(left)

    return one((b"ZREM", place[1], *sorted(members)), place, apply)


def zpop(d: Draw) -> list[Step]:
    place, count = d.own(ZSET), d.pick((0, 1, 2))
    is_min = d.chance(0.5)

    def apply(reply: Any) -> object:
        data = d.model.data(place, {})
        order = ranked(data) if is_min else ranked(data)[::-1]
        taken = order[: count or 1]
        d.model.edit(place, {m: value for m, value in data.items() if m not in taken})
        return _same(reply, data, taken)

    name = b"ZPOPMIN" if is_min else b"ZPOPMAX"
    return one((name, place[1], *((count,) if count else ())), place, apply)


def zremrange(d: Draw) -> list[Step]:
    place, by_rank, low = d.own(ZSET), d.chance(0.5), score(d)

    def apply(_: Any) -> object:
        data = d.model.data(place, {})
        order = ranked(data)
        gone = order[:2] if by_rank else [m for m in order if low <= data[m] <= low + 1]
        d.model.edit(place, {m: value for m, value in data.items() if m not in gone})
        return len(gone)

    args: tuple[Arg, ...] = (b"ZREMRANGEBYSCORE", place[1], low, low + 1)
    return one((b"ZREMRANGEBYRANK", place[1], 0, 1) if by_rank else args, place, apply)


def combine(d: Draw) -> list[Step]:
    (a, b), to = d.two(ZSET), d.own(ZSET)
    name = d.pick((b"ZUNIONSTORE", b"ZINTERSTORE", b"ZDIFFSTORE"))
    best = name != b"ZDIFFSTORE" and d.chance(0.4)

    def apply(_: Any) -> object:
        left, right = d.model.data(a, {}), d.model.data(b, {})
        both = {m: max(left[m], right[m]) if best else left[m] + right[m]
                for m in left if m in right}  # fmt: skip
        if name == b"ZINTERSTORE":
            data = both
        elif name == b"ZUNIONSTORE":
            data = left | right | both
        else:
            data = {m: value for m, value in left.items() if m not in right}
        d.model.value(to)
        d.model.put(to, data)
        return len(data)

    options = (b"AGGREGATE", b"MAX") if best else ()
    return [Step((name, to[1], 2, a[1], b[1], *options), (a, b, to), apply)]


def zrangestore(d: Draw) -> list[Step]:
    a, to = d.two(ZSET)

    def apply(_: Any) -> object:
        data = d.model.data(a, {})
        d.model.value(to)
        d.model.put(to, {member: data[member] for member in ranked(data)[:3]})
        return min(3, len(data))

    return [Step((b"ZRANGESTORE", to[1], a[1], 0, 2), (a, to), apply)]


def read(d: Draw) -> list[Step]:
    place, member = d.own(ZSET), d.member()
    form = d.number(0, 5)
    args: tuple[Arg, ...] = (
        (b"ZRANGE", place[1], 0, -1, b"WITHSCORES"), (b"ZSCORE", place[1], member),
        (b"ZRANK", place[1], member), (b"ZCARD", place[1]), (b"ZCOUNT", place[1], -2, 2),
    )[form]  # fmt: skip

    def apply(reply: Any) -> object:
        data = d.model.data(place, {})
        if form == 0:
            return _same(reply, data, ranked(data))
        if form in (1, 2):
            if member not in data:
                return None
            return data[member] if form == 1 else ranked(data).index(member)
        return len(data) if form == 3 else sum(-2 <= value <= 2 for value in data.values())

    return one(args, place, apply)


def initial(number: int) -> Value:
    """What a sorted set holds in the beginning."""
    return Value({b"m%d" % at: number % 10 + at / 4 for at in range(number % 4 + 1)})


CHOICES: list[Choice] = [
    zadd, zadd, zadd, zincrby, zincrby, zrem, zpop, zpop, zremrange, combine, combine, zrangestore,
    read, read,
]  # fmt: skip
