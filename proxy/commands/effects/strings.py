"""Effects of the string commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effect import Value
from ..keys import whole_number
from .common import (
    COPY_KEYS,
    EXPIRY_OPTIONS,
    NOTHING,
    OK,
    Clock,
    Outcome,
    count,
    deadline,
    one,
    sent,
    verbatim,
)

if TYPE_CHECKING:
    from ...resp import Request


def _set(key: bytes, value: bytes, option: bytes, amount: bytes, clock: Clock) -> Outcome:
    """SET with at most one of KEEPTTL and the four times (``option`` empty: none)."""
    if not option:
        return one(b"SET", key, value, check=OK)
    if option == b"KEEPTTL":
        return one(b"SET", key, value, b"KEEPTTL", check=OK)
    until = deadline(option, amount, clock)
    if until is None:
        return COPY_KEYS
    if until.is_past:
        return one(b"DEL", key)
    return one(b"SET", key, value, b"PXAT", until.at_ms, check=OK)


def set_(req: Request, value: Value, clock: Clock) -> Outcome:
    """SET with the time as PXAT, if it was set, whatever the condition; DEL if the time had passed.

    The conditions are NX, XX and IFEQ; with GET the reply is the old value, which tells of each of
    them whether it held (setCommand in t_string.c).
    """
    if req.argc == 3:
        return verbatim(req)
    args = req.args()
    condition = comparison = option = amount = b""
    gets = False
    i = 3
    while i < len(args):
        word = args[i].upper()
        if word in (b"NX", b"XX"):
            condition = word
        elif word == b"IFEQ":
            condition, comparison = word, args[i + 1]
            i += 1
        elif word == b"GET":
            gets = True
        elif word == b"KEEPTTL":
            option = word
        elif word in EXPIRY_OPTIONS:
            option, amount = word, args[i + 1]
            i += 1
        else:
            return COPY_KEYS  # an option of a server newer than this table
        i += 1
    if not gets:
        was_set = value is not None
    elif condition == b"NX":
        was_set = value is None
    elif condition == b"XX":
        was_set = value is not None
    elif condition == b"IFEQ":
        was_set = value == comparison
    else:
        was_set = True
    return _set(args[1], args[2], option, amount, clock) if was_set else NOTHING


def setex(req: Request, value: Value, clock: Clock) -> Outcome:
    """SET with the time as PXAT."""
    return _set(req.arg(1), req.arg(3), b"EX", req.arg(2), clock)


def psetex(req: Request, value: Value, clock: Clock) -> Outcome:
    """SET with the time as PXAT."""
    return _set(req.arg(1), req.arg(3), b"PX", req.arg(2), clock)


def setnx(req: Request, value: Value, clock: Clock) -> Outcome:
    """SET, if it was set."""
    return one(b"SET", req.arg(1), req.arg(2), check=OK) if value else NOTHING


def msetnx(req: Request, value: Value, clock: Clock) -> Outcome:
    """MSET, if they were set."""
    return one(b"MSET", *req.args()[1:], check=OK) if value else NOTHING


def msetex(req: Request, value: Value, clock: Clock) -> Outcome:
    """SET of each pair with the time as PXAT, if they were set."""
    if not value:
        return NOTHING
    args = req.args()
    number = whole_number(args[1]) or 0
    pairs, options = args[2 : 2 + 2 * number], args[2 + 2 * number :]
    option = amount = b""
    i = 0
    while i < len(options):
        word = options[i].upper()
        if word == b"KEEPTTL":
            option = word
        elif word in EXPIRY_OPTIONS:
            option, amount = word, options[i + 1]
            i += 1
        elif word not in (b"NX", b"XX"):
            return COPY_KEYS
        i += 1
    effects = []
    for key, text in zip(pairs[::2], pairs[1::2], strict=True):
        effect = _set(key, text, option, amount, clock)
        if effect is COPY_KEYS:
            return COPY_KEYS
        effects += effect
    return effects


def getdel(req: Request, value: Value, clock: Clock) -> Outcome:
    """DEL, if there was a value."""
    return one(b"DEL", req.arg(1), check=count(1)) if value is not None else NOTHING


def delifeq(req: Request, value: Value, clock: Clock) -> Outcome:
    """DEL, if it deleted."""
    return one(b"DEL", req.arg(1), check=count(1)) if value else NOTHING


def getex(req: Request, value: Value, clock: Clock) -> Outcome:
    """PEXPIREAT, PERSIST or DEL, if there was a value; nothing without an option."""
    if value is None or req.argc == 2:
        return NOTHING
    option = req.arg(2).upper()
    if option == b"PERSIST":
        return one(b"PERSIST", req.arg(1))
    if option not in EXPIRY_OPTIONS or req.argc < 4:
        return COPY_KEYS
    until = deadline(option, req.arg(3), clock)
    if until is None:
        return COPY_KEYS
    if until.is_past:
        return one(b"DEL", req.arg(1), check=count(1))
    return [sent(b"PEXPIREAT", req.arg(1), until.at_ms, check=count(1))]


def incrbyfloat(req: Request, value: Value, clock: Clock) -> Outcome:
    """SET of its result with KEEPTTL.

    Long doubles differ between machines.
    """
    return one(b"SET", req.arg(1), value, b"KEEPTTL", check=OK)
