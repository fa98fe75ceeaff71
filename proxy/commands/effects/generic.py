"""Effects of the commands that take keys of any type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effect import Value
from ..keys import whole_number
from ..options import copy_db
from .common import COPY_KEYS, NOTHING, OK, Clock, Outcome, count, deadline, one, verbatim

if TYPE_CHECKING:
    from ...resp import Request


def copy(req: Request, value: Value, clock: Clock) -> Outcome:
    """COPY with REPLACE, if it copied."""
    if not value:
        return NOTHING
    db = copy_db(req)
    into = () if db is None else (b"DB", db)
    return one(b"COPY", req.arg(1), req.arg(2), *into, b"REPLACE", check=count(1))


def move(req: Request, value: Value, clock: Clock) -> Outcome:
    """MOVE, if it moved."""
    return verbatim(req) if value else NOTHING


def renamenx(req: Request, value: Value, clock: Clock) -> Outcome:
    """RENAME, if it renamed."""
    return one(b"RENAME", req.arg(1), req.arg(2), check=OK) if value else NOTHING


def restore(req: Request, value: Value, clock: Clock) -> Outcome:
    """RESTORE with the time as ABSTTL, and with REPLACE; DEL if the time had passed."""
    args = req.args()
    key, ttl, payload, options = args[1], args[2], args[3], args[4:]
    kept: list[bytes] = []
    is_absolute = False
    i = 0
    while i < len(options):
        word = options[i].upper()
        if word == b"ABSTTL":
            is_absolute = True
        elif word in (b"IDLETIME", b"FREQ"):
            kept += (word, options[i + 1])
            i += 1
        elif word != b"REPLACE":
            return COPY_KEYS
        i += 1
    if whole_number(ttl) == 0:
        return one(b"RESTORE", key, b"0", payload, b"REPLACE", *kept, check=OK)
    until = deadline(b"PXAT" if is_absolute else b"PX", ttl, clock)
    if until is None:
        return COPY_KEYS
    if until.is_past:
        return one(b"DEL", key)
    return one(b"RESTORE", key, until.at_ms, payload, b"REPLACE", b"ABSTTL", *kept, check=OK)


def sort_store(req: Request, value: Value, clock: Clock) -> Outcome:
    """As it is, if it sorts numbers; with ALPHA, BY or GET the list is copied.

    By number alone it is the same list everywhere. Not so by ALPHA, which uses the server's
    locale, nor by BY, whose ties stay in any order; nor is what the patterns read.
    """
    words = {req.arg(i).upper() for i in range(2, req.argc)}
    return COPY_KEYS if words & {b"ALPHA", b"BY", b"GET"} else verbatim(req)
