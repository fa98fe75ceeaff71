"""Commands on strings, numbers and bitmaps, and what each must answer."""

from __future__ import annotations

from typing import Any

from .connection import Arg
from .draw import BITS, FLOAT, NUMBER, TEXT, Choice, Draw
from .model import ANY, OK, Failure, Place, Step, Value

LONGEST = 400


def one(args: tuple[Arg, ...], place: Place, apply: Any, *, renews: bool = False) -> list[Step]:
    return [Step(args, (place,), apply, renews)]


def set_plain(d: Draw) -> list[Step]:
    return _set(d, d.own(TEXT))


def _set(d: Draw, place: Place) -> list[Step]:
    value = d.word()

    def apply(_: Any) -> object:
        d.model.put(place, value)
        return OK

    return one((b"SET", place[1], value), place, apply, renews=True)


def set_expiring(d: Draw) -> list[Step]:
    place, value, ttl = d.own(TEXT), d.word(), d.ttl_ms()
    seconds = max(1, ttl // 1000)
    form = d.number(0, 4)
    args: tuple[Arg, ...] = (
        (b"SET", place[1], value, b"PX", ttl),
        (b"SET", place[1], value, b"EX", seconds),
        (b"SETEX", place[1], seconds, value),
        (b"PSETEX", place[1], ttl, value),
    )[form]

    def apply(_: Any) -> object:
        d.model.put(place, value, *d.model.expiry(ttl if form in (0, 3) else seconds * 1000))
        return OK

    return one(args, place, apply, renews=True)


def set_conditional(d: Draw) -> list[Step]:
    place, value = d.own(TEXT), d.word()
    option = d.pick((b"NX", b"XX", b"GET", b"KEEPTTL"))

    def apply(_: Any) -> object:
        old = d.model.value(place)
        if option == b"KEEPTTL":
            d.model.edit(place, value)
            return OK
        if option == b"GET":
            d.model.put(place, value)
            return None if old is None else old.data
        if (old is None) is (option == b"NX"):
            d.model.put(place, value)
            return OK
        return None

    return one((b"SET", place[1], value, option), place, apply)


def setnx(d: Draw) -> list[Step]:
    place, value = d.own(TEXT), d.word()

    def apply(_: Any) -> object:
        if d.model.value(place) is not None:
            return 0
        d.model.put(place, value)
        return 1

    return one((b"SETNX", place[1], value), place, apply)


def getset(d: Draw) -> list[Step]:
    place, value = d.own(TEXT), d.word()

    def apply(_: Any) -> object:
        old = d.model.data(place)
        d.model.put(place, value)
        return old

    return one((b"GETSET", place[1], value), place, apply)


def getdel(d: Draw) -> list[Step]:
    place = d.own(TEXT)

    def apply(_: Any) -> object:
        old = d.model.data(place)
        d.model.drop(place)
        return old

    return one((b"GETDEL", place[1]), place, apply)


def getex(d: Draw) -> list[Step]:
    place, ttl = d.own(TEXT), d.ttl_ms()
    options: tuple[Arg, ...] = d.pick(((), (b"PERSIST",), (b"PX", ttl)))

    def apply(_: Any) -> object:
        old = d.model.data(place)
        if old is not None and options:
            d.model.put(place, old, *(d.model.expiry(ttl) if options[0] == b"PX" else ()))
        return old

    return one((b"GETEX", place[1], *options), place, apply)


def append(d: Draw) -> list[Step]:
    place, value = d.own(TEXT), d.word()
    before = d.model.peek(place)
    if before is not None and len(before.data) > LONGEST:
        return set_plain(d)

    def apply(_: Any) -> object:
        data = d.model.data(place, b"") + value
        d.model.edit(place, data)
        return len(data)

    return one((b"APPEND", place[1], value), place, apply)


def setrange(d: Draw) -> list[Step]:
    place, value, offset = d.own(TEXT), d.word(), d.number(0, 60)

    def apply(_: Any) -> object:
        old = d.model.data(place, b"")
        data = old[:offset].ljust(offset, b"\0") + value + old[offset + len(value) :]
        d.model.edit(place, data)
        return len(data)

    return one((b"SETRANGE", place[1], offset, value), place, apply)


def read_text(d: Draw) -> list[Step]:
    place, low, high = d.own(TEXT), d.number(0, 20), d.number(0, 60)
    form = d.number(0, 3)

    def apply(_: Any) -> object:
        data = d.model.data(place)
        if form == 0:
            return data
        return len(data or b"") if form == 1 else (data or b"")[low : high + 1]

    args = ((b"GET", place[1]), (b"STRLEN", place[1]), (b"GETRANGE", place[1], low, high))[form]
    return one(args, place, apply)


def mset(d: Draw) -> list[Step]:
    items = {d.own(TEXT): d.word() for _ in range(d.number(2, 5))}
    name = d.pick((b"MSET", b"MSET", b"MSETNX"))

    def apply(_: Any) -> object:
        if name == b"MSETNX":
            # All are asked: one that may have expired makes the answer unsure.
            there = [place for place in items if d.model.value(place) is not None]
            if there:
                return 0
        for place, value in items.items():
            d.model.put(place, value)
        return 1 if name == b"MSETNX" else OK

    flat = [word for place, value in items.items() for word in (place[1], value)]
    return [Step((name, *flat), tuple(items), apply, name == b"MSET")]


def overwrite(d: Draw) -> list[Step]:
    """Some keys wherever they are: no reply tells what was there before."""
    return [step for _ in range(12) for step in _set(d, d.loaded(TEXT))]


def mget(d: Draw) -> list[Step]:
    places = tuple(d.own(TEXT) for _ in range(d.number(1, 6)))

    def apply(_: Any) -> object:
        return [d.model.data(place) for place in places]

    return [Step((b"MGET", *(place[1] for place in places)), places, apply)]


def count(d: Draw) -> list[Step]:
    place, by = d.own(NUMBER), d.number(1, 100)
    name = d.pick((b"INCR", b"DECR", b"INCRBY", b"DECRBY", b"INCRBY", b"GET"))

    def apply(_: Any) -> object:
        data = d.model.data(place)
        if name == b"GET":
            return data
        step = by if name.endswith(b"BY") else 1
        value = int(data or 0) + (-step if name.startswith(b"DECR") else step)
        d.model.edit(place, b"%d" % value)
        return value

    return one((name, place[1], *((by,) if name.endswith(b"BY") else ())), place, apply)


def count_on_text(d: Draw) -> list[Step]:
    place = d.own(TEXT)

    def apply(_: Any) -> object:
        data = d.model.data(place)
        if data is None:
            d.model.put(place, b"1")
            return 1
        text = data.decode(errors="replace")
        if text.isdecimal() and (text == "0" or text[0] != "0") and len(text) < 18:
            d.model.edit(place, b"%d" % (int(data) + 1))
            return int(data) + 1
        if len(text) >= 18 and text.isdecimal():
            d.model.unsure.add(place)  # Near the limits of an integer: not our subject.
            return ANY
        return Failure(b"ERR value is not an integer")

    return one((b"INCR", place[1]), place, apply)


def float_text(value: float) -> bytes:
    """As servers write a float that binary digits represent exactly."""
    return b"%d" % value if value == int(value) else repr(value).encode()


def incrbyfloat(d: Draw) -> list[Step]:
    place, by = d.own(FLOAT), d.pick((0.5, -0.25, 1.125, 3.0))

    def apply(_: Any) -> object:
        data = float_text(float(d.model.data(place, b"0")) + by)
        d.model.edit(place, data)
        return data

    return one((b"INCRBYFLOAT", place[1], by), place, apply)


def _bit(data: bytes | bytearray, at: int) -> int:
    return data[at // 8] >> (7 - at % 8) & 1 if at // 8 < len(data) else 0


def setbit(d: Draw) -> list[Step]:
    place, at, bit = d.own(BITS), d.number(0, 300), d.number(0, 2)

    def apply(_: Any) -> object:
        data = bytearray(d.model.data(place, b"").ljust(at // 8 + 1, b"\0"))
        old = _bit(data, at)
        mask = 1 << (7 - at % 8)
        data[at // 8] = data[at // 8] | mask if bit else data[at // 8] & ~mask
        d.model.edit(place, bytes(data))
        return old

    return one((b"SETBIT", place[1], at, bit), place, apply)


def bitfield(d: Draw) -> list[Step]:
    place, at, by = d.own(BITS), d.number(0, 30), d.number(1, 200)

    def apply(_: Any) -> object:
        data = bytearray(d.model.data(place, b"").ljust(at + 1, b"\0"))
        data[at] = (data[at] + by) % 256
        d.model.edit(place, bytes(data))
        return [data[at]]

    return one((b"BITFIELD", place[1], b"INCRBY", b"u8", at * 8, by), place, apply)


def read_bits(d: Draw) -> list[Step]:
    place, at = d.own(BITS), d.number(0, 300)
    is_count = d.chance(0.5)

    def apply(_: Any) -> object:
        data = d.model.data(place, b"")
        return sum(byte.bit_count() for byte in data) if is_count else _bit(data, at)

    return one((b"BITCOUNT", place[1]) if is_count else (b"GETBIT", place[1], at), place, apply)


def bitop(d: Draw) -> list[Step]:
    (a, b), to = d.two(BITS), d.own(BITS)
    name = d.pick((b"AND", b"OR", b"XOR"))

    def apply(_: Any) -> object:
        left, right = d.model.data(a, b""), d.model.data(b, b"")
        size = max(len(left), len(right))
        both = zip(left.ljust(size, b"\0"), right.ljust(size, b"\0"), strict=True)
        data = bytes(
            x & y if name == b"AND" else x | y if name == b"OR" else x ^ y for x, y in both
        )
        if size:
            d.model.put(to, data)
        else:
            d.model.drop(to)
        return size

    return [Step((b"BITOP", name, to[1], a[1], b[1]), (a, b, to), apply)]


def initial(family: str, number: int) -> Value:
    """What a key of these families holds in the beginning."""
    if family == TEXT:
        return Value(b"value %d" % number)
    if family == NUMBER:
        return Value(b"%d" % number)
    if family == FLOAT:
        return Value(float_text(number + 0.5))
    return Value(bytes((number % 255 + 1, number % 7)))


CHOICES: list[Choice] = [
    set_plain, set_plain, set_expiring, set_conditional, set_conditional, setnx, getset, getdel,
    getex, append, append, setrange, read_text, read_text, mset, overwrite, overwrite, overwrite,
    mget, count, count, count_on_text, incrbyfloat, setbit, setbit, bitfield, read_bits, bitop,
]  # fmt: skip
