"""Effects of the list commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...resp.encoder import bulk
from ..effect import Value
from .common import NOTHING, Check, Clock, Outcome, one, strings

if TYPE_CHECKING:
    from ...resp import Request


def lpushx(req: Request, value: Value, clock: Clock) -> Outcome:
    """LPUSH, if there was a list."""
    return one(b"LPUSH", *req.args()[1:], check=Check.SAME) if value else NOTHING


def rpushx(req: Request, value: Value, clock: Clock) -> Outcome:
    """RPUSH, if there was a list."""
    return one(b"RPUSH", *req.args()[1:], check=Check.SAME) if value else NOTHING


def lmpop(req: Request, value: Value, clock: Clock) -> Outcome:
    """LPOP or RPOP of as many elements, of the key that it found."""
    return _popped(req, value, numkeys_at=1)


def blmpop(req: Request, value: Value, clock: Clock) -> Outcome:
    """LPOP or RPOP of as many elements, of the key that it found."""
    return _popped(req, value, numkeys_at=2)


def _popped(req: Request, value: Value, numkeys_at: int) -> Outcome:
    if value is None:
        return NOTHING
    key, elements = value
    end_at = numkeys_at + 1 + int(req.arg(numkeys_at))
    pop = b"LPOP" if req.arg(end_at).upper() == b"LEFT" else b"RPOP"
    return one(pop, key, len(elements), check=strings(elements))


def blpop(req: Request, value: Value, clock: Clock) -> Outcome:
    """LPOP of the key that it found."""
    return NOTHING if value is None else one(b"LPOP", value[0], check=bulk(value[1]))


def brpop(req: Request, value: Value, clock: Clock) -> Outcome:
    """RPOP of the key that it found."""
    return NOTHING if value is None else one(b"RPOP", value[0], check=bulk(value[1]))


def blmove(req: Request, value: Value, clock: Clock) -> Outcome:
    """LMOVE, if there was something to move."""
    return NOTHING if value is None else one(b"LMOVE", *req.args()[1:5], check=bulk(value))


def brpoplpush(req: Request, value: Value, clock: Clock) -> Outcome:
    """RPOPLPUSH, if there was something to move."""
    return NOTHING if value is None else one(b"RPOPLPUSH", *req.args()[1:3], check=bulk(value))
