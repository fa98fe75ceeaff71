"""Effects of the geo commands that store what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effect import Value
from .common import COPY_KEYS, Clock, Outcome, verbatim

if TYPE_CHECKING:
    from ...resp import Request


def _store(req: Request, options_from: int) -> Outcome:
    """Members with their positions are the same everywhere. Distances are not, to the last bit:
    they come from the C library's trigonometry. Nor is which ones COUNT takes of equal distance."""
    words = {req.arg(i).upper() for i in range(options_from, req.argc)}
    return COPY_KEYS if words & {b"COUNT", b"STOREDIST"} else verbatim(req)


def geosearchstore(req: Request, value: Value, clock: Clock) -> Outcome:
    """As it is; with COUNT or STOREDIST what it stored is copied."""
    return _store(req, 3)


def georadius_store(req: Request, value: Value, clock: Clock) -> Outcome:
    """As it is; with COUNT or STOREDIST what it stored is copied."""
    return _store(req, 6)


def georadiusbymember_store(req: Request, value: Value, clock: Clock) -> Outcome:
    """As it is; with COUNT or STOREDIST what it stored is copied."""
    return _store(req, 5)
