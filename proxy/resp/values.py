"""Whether two raw replies say the same; and, from `parser`, what one says.

Owns what counts as equal between RESP2 and RESP3 and between engines. Never knows the command:
an array is compared in order, also where the command promises none.

Not compiled: comparing is recursive, and plain Python knows where its stack ends.
"""

from __future__ import annotations

from typing import Any

from .parser import PushReply, ReplyError, SetReply, is_error, parse

__all__ = ["PushReply", "ReplyError", "SetReply", "is_error", "parse", "same_reply"]


def same_reply(a: bytes, b: bytes) -> bool:
    """Whether two replies say the same, be they RESP2 or RESP3 and of whichever engine.

    Nulls are equal; a double equals a string of the same number; a set is unordered; a map
    equals the flat array, or the array of pairs, that RESP2 has for it; errors are equal when
    their codes are, since engines differ in their texts. What is in doubt is different.
    """
    if a == b:
        return True
    try:
        return _same(parse(a), parse(b))
    except RecursionError:
        return False


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, ReplyError) or isinstance(b, ReplyError):
        return isinstance(a, ReplyError) and isinstance(b, ReplyError) and a.code == b.code
    if isinstance(a, dict) or isinstance(b, dict):
        return _same_map(a, b)
    if isinstance(a, list) or isinstance(b, list):
        return isinstance(a, list) and isinstance(b, list) and _same_list(a, b)
    if isinstance(a, bytes) and isinstance(b, bytes):
        return a == b or _is_one_score(a, b)
    if isinstance(a, bytes) or isinstance(b, bytes):
        return _same_number(a, b)
    return bool(a == b) or (a != a and b != b)


def _same_number(a: Any, b: Any) -> bool:
    """A string and a number: equal when the other side is a double or a big number."""
    try:
        if isinstance(a, int) or isinstance(b, int):
            return int(a) == int(b)
        x, y = float(a), float(b)
    except ValueError:
        return False
    return x == y or (x != x and y != y)


def _is_one_score(a: bytes, b: bytes) -> bool:
    """Two spellings of one double: `%.17g` (up to Redis 7.0) and the shortest (7.2 and later)."""
    if len(a) > 32 or len(b) > 32:
        return False
    try:
        number = float(a)
    except ValueError:
        return False
    long = b"%.17g" % number
    short = repr(number).removesuffix(".0").encode()
    return (a == long and b == short) or (a == short and b == long)


def _same_list(a: list[Any], b: list[Any]) -> bool:
    if len(a) != len(b):
        # RESP3 has pairs where RESP2 has member, score, member, score.
        return _same_list(*_flattened(a, b)) if _are_pairs(a, b) or _are_pairs(b, a) else False
    if isinstance(a, SetReply) or isinstance(b, SetReply):
        return _same_unordered(a, b)
    return all(map(_same, a, b))


def _are_pairs(pairs: list[Any], flat: list[Any]) -> bool:
    return 2 * len(pairs) == len(flat) and all(isinstance(p, list) and len(p) == 2 for p in pairs)


def _flattened(a: list[Any], b: list[Any]) -> tuple[list[Any], list[Any]]:
    if len(a) > len(b):
        return a, [x for pair in b for x in pair]
    return [x for pair in a for x in pair], b


def _same_unordered(a: list[Any], b: list[Any]) -> bool:
    try:
        if set(a) == set(b):
            return True
    except TypeError:
        pass
    rest = list(b)
    for x in a:
        for at, y in enumerate(rest):
            if _same(x, y):
                del rest[at]
                break
        else:
            return False
    return True


def _same_map(a: Any, b: Any) -> bool:
    x, y = _pairs(a), _pairs(b)
    return x is not None and y is not None and _same_unordered(x, y)


def _pairs(value: Any) -> list[Any] | None:
    """Key and value of each entry of a map, however it was sent; None for what is no map."""
    if isinstance(value, dict):
        return [list(item) for item in value.items()]
    if not isinstance(value, list):
        return None
    if all(isinstance(item, list) and len(item) == 2 for item in value):
        return value
    if len(value) % 2:
        return None
    return [value[at : at + 2] for at in range(0, len(value), 2)]
