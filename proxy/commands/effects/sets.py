"""Effects of the set commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effect import Value
from .common import NOTHING, Clock, Outcome, count, one, verbatim

if TYPE_CHECKING:
    from ...resp import Request


def spop(req: Request, value: Value, clock: Clock) -> Outcome:
    """SREM of the members that it picked."""
    if not value and value != b"":
        return NOTHING
    members = [value] if isinstance(value, bytes) else value
    return one(b"SREM", req.arg(1), *members, check=count(len(members)))


def smove(req: Request, value: Value, clock: Clock) -> Outcome:
    """SMOVE, if it moved."""
    return verbatim(req) if value else NOTHING
