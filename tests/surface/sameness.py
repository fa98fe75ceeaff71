"""Whether two raw frames are as equal as chance, clock and process let them be."""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.resp import ReplyScanner

Same = Callable[[bytes, bytes], bool]

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def is_aggregate(frame: bytes) -> bool:
    return frame[:1] in b"*~%>" and frame[1:2] != b"-"


def elements(frame: bytes) -> list[bytes]:
    """The frames within an array, a set, a map or a push."""
    return ReplyScanner().feed(frame.partition(b"\r\n")[2]) if is_aggregate(frame) else []


def in_any_order(a: bytes, b: bytes) -> bool:
    """The same elements, and the same elements in them."""
    return _sorted(a) == _sorted(b)


def in_any_order_without(name: bytes) -> Same:
    """The same elements, but for those that have this in them."""

    def same(a: bytes, b: bytes) -> bool:
        x, y = ([each for each in elements(frame) if name not in each] for frame in (a, b))
        return a[:1] == b[:1] and sorted(x) == sorted(y)

    return same


def _sorted(frame: bytes) -> bytes:
    if not is_aggregate(frame):
        return frame
    return frame.partition(b"\r\n")[0] + b"".join(sorted(map(_sorted, elements(frame))))


def pairs_in_any_order(a: bytes, b: bytes) -> bool:
    """Names and values in a flat list or a map, which may be an element (HSCAN)."""
    return _sorted_pairs(a) == _sorted_pairs(b)


def _sorted_pairs(frame: bytes) -> bytes:
    if not is_aggregate(frame):
        return frame
    head, flat = frame.partition(b"\r\n")[0], elements(frame)
    if any(map(is_aggregate, flat)) or len(flat) % 2:
        return head + b"".join(map(_sorted_pairs, flat))
    pairs = sorted(zip(flat[::2], flat[1::2], strict=True))
    return head + b"".join(name + value for name, value in pairs)


def words_in_any_order(a: bytes, b: bytes) -> bool:
    return sorted(a.split()) == sorted(b.split())


def near(tolerance: float) -> Same:
    """The same but for numbers, which are not far from each other."""

    def same(a: bytes, b: bytes) -> bool:
        # What a string's length is follows from the numbers in it.
        if a[:1] == b[:1] == b"-" or _NUMBER.sub(b"", a) != _NUMBER.sub(b"", b):
            return False
        numbers = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
        return all(abs(float(x) - float(y)) <= tolerance for x, y in numbers)

    return same


def same_shape(a: bytes, b: bytes) -> bool:
    """The same types all the way down, the same number of elements, and nulls where nulls are."""
    if a[:1] != b[:1] or a[:1] == b"-":
        return False
    if not is_aggregate(a):
        return (a == b"$-1\r\n") == (b == b"$-1\r\n")
    x, y = elements(a), elements(b)
    return len(x) == len(y) and all(
        one == other or same_shape(one, other) for one, other in zip(x, y, strict=True)
    )


def same_type(a: bytes, b: bytes) -> bool:
    """Both are, say, a text; no error is like another."""
    return a[:1] == b[:1] and a[:1] != b"-"


def fields_but(*names: bytes) -> Same:
    """The same map but for the values of these fields, which have the same type."""

    def same(a: bytes, b: bytes) -> bool:
        x, y = elements(a), elements(b)
        if a.partition(b"\r\n")[0] != b.partition(b"\r\n")[0] or len(x) != len(y):
            return False
        for at in range(0, len(x), 2):
            is_free = x[at].split(b"\r\n")[-2] in names
            if x[at] != y[at]:
                return False
            if x[at + 1] != y[at + 1] and not (is_free and same_type(x[at + 1], y[at + 1])):
                return False
        return bool(x)

    return same


_FIELD = re.compile(rb"([a-z-]+)=(\S*)")


def clients_but(*names: bytes) -> Same:
    """Lines of CLIENT LIST: the same fields, and the same values but of these."""

    def same(a: bytes, b: bytes) -> bool:
        x, y = _FIELD.findall(a), _FIELD.findall(b)
        return (
            a[:1] == b[:1]
            and a[:1] != b"-"
            and [(name, b"" if name in names else value) for name, value in x]
            == [(name, b"" if name in names else value) for name, value in y]
        )

    return same


def clients_alike(a: bytes, b: bytes) -> bool:
    """Each of any number of lines has the same fields."""
    shapes = [
        {tuple(name for name, _ in _FIELD.findall(line)) for line in each.split(b"\n")}
        for each in (a, b)
    ]
    return a[:1] == b[:1] and a[:1] != b"-" and shapes[0] - {()} == shapes[1] - {()}


def same_but_for_order_of_channels(a: list[bytes], b: list[bytes]) -> bool:
    """Confirmations of having left all channels: the same channels, and counted down alike."""
    x, y = ([elements(frame) for frame in frames] for frames in (a, b))
    return (
        [(len(e), e[0], e[-1]) for e in x if e] == [(len(e), e[0], e[-1]) for e in y if e]
        and len(a) == len(b)
        and sorted(e[1] for e in x if e) == sorted(e[1] for e in y if e)
    )
