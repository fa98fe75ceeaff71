"""Effects of the list commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    if value is None:
        return NOTHING
    key, elements = value
    number = int(req.arg(1))
    pop = b"LPOP" if req.arg(2 + number).upper() == b"LEFT" else b"RPOP"
    return one(pop, key, len(elements), check=strings(elements))
