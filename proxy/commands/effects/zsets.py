"""Effects of the sorted set commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effect import Value
from .common import COPY_KEYS, NOTHING, Clock, Outcome, count, one, verbatim

if TYPE_CHECKING:
    from ...resp import Request


def _removed(key: bytes, members: list[bytes]) -> Outcome:
    return one(b"ZREM", key, *members, check=count(len(members))) if members else NOTHING


def zpop(req: Request, value: Value, clock: Clock) -> Outcome:
    """ZREM of the members that it took.

    By name, so it does not matter whether the rest of a key that is being copied is there already.
    """
    if not value:
        return NOTHING
    if isinstance(value[0], list):  # RESP3 with a count: pairs
        return _removed(req.arg(1), [member for member, _score in value])
    return _removed(req.arg(1), value[::2])


def zmpop(req: Request, value: Value, clock: Clock) -> Outcome:
    """ZREM of the members that it took, of the key that it found."""
    if value is None:
        return NOTHING
    key, pairs = value
    return _removed(key, [member for member, _score in pairs])


def bzpop(req: Request, value: Value, clock: Clock) -> Outcome:
    """ZREM of the member that it took, of the key that it found."""
    return NOTHING if value is None else _removed(value[0], [value[1]])


def aggregate_store(req: Request, value: Value, clock: Clock) -> Outcome:
    """As it is; of more than two inputs, added up, what it stored is copied.

    The sum of three doubles depends on their order, which is the order that the server's sort
    leaves keys of one size in.
    """
    adds = not any(
        req.arg(i).upper() == b"AGGREGATE" and req.arg(i + 1).upper() != b"SUM"
        for i in range(3, req.argc - 1)
    )
    return COPY_KEYS if adds and int(req.arg(2)) > 2 else verbatim(req)
