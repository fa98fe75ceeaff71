"""Effects of the hash commands, field expiry (Redis 7.4, Valkey 9) included.

INCRBYFLOAT's sister HINCRBYFLOAT has no rule: an HSET of its result would take the field's TTL
away, so it is replayed, and its reply (the result) compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effect import Rule, Value
from .common import (
    COPY_KEYS,
    EXPIRY_OPTIONS,
    NOTHING,
    Check,
    Clock,
    Effect,
    Outcome,
    count,
    deadline,
    one,
    sent,
)

if TYPE_CHECKING:
    from ...resp import Request


def hsetnx(req: Request, value: Value, clock: Clock) -> Outcome:
    """HSET, if it set the field."""
    return one(b"HSET", *req.args()[1:], check=count(1)) if value else NOTHING


def _fields_at(req: Request, first: int) -> int | None:
    """Where ``FIELDS n field …`` begins, from argument ``first`` on."""
    for i in range(first, req.argc - 2):
        if req.arg(i).upper() == b"FIELDS":
            return i
    return None


def _present(fields: list[bytes], texts: Value) -> list[bytes]:
    """The fields that had a text in the reply; none if there was no hash."""
    return [field for field, text in zip(fields, texts or (), strict=False) if text is not None]


def _fields(command: bytes, key: bytes, fields: list[bytes], *time: int) -> Effect:
    return sent(command, key, *time, b"FIELDS", len(fields), *fields)


def _deleted(key: bytes, fields: list[bytes], check: Check | bytes) -> Outcome:
    fields = list(dict.fromkeys(fields))
    return one(b"HDEL", key, *fields, check=check) if fields else NOTHING


def _hexpiry(option: bytes) -> Rule:
    """HEXPIRE and its kin answer per field: 1 set, 2 deleted because past, 0 and -2 nothing."""

    def rule(req: Request, value: Value, clock: Clock) -> Outcome:
        """HPEXPIREAT of the fields whose time was set; HDEL of those whose time had passed."""
        at = _fields_at(req, 3)
        if at is None:
            return COPY_KEYS
        answers = list(zip(req.args()[at + 2 :], value or (), strict=False))
        timed = [field for field, answer in answers if answer == 1]
        gone = [field for field, answer in answers if answer == 2]
        effects: list[Effect] = []
        if timed:
            until = deadline(option, req.arg(2), clock)
            if until is None or until.is_past:
                return COPY_KEYS
            effects.append(_fields(b"HPEXPIREAT", req.arg(1), timed, until.at_ms))
        if gone:
            effects.append(sent(b"HDEL", req.arg(1), *gone))
        return effects

    return rule


hexpire = _hexpiry(b"EX")
hpexpire = _hexpiry(b"PX")
hexpireat = _hexpiry(b"EXAT")
hpexpireat = _hexpiry(b"PXAT")


def hsetex(req: Request, value: Value, clock: Clock) -> Outcome:
    """HSET and HPEXPIREAT, if it set the fields; HDEL if their time had passed.

    Redis 7.4 has these too.
    """
    if not value:
        return NOTHING
    at = _fields_at(req, 2)
    if at is None:
        return COPY_KEYS
    key, pairs = req.arg(1), req.args()[at + 2 :]
    option = amount = b""
    for i in range(2, at):
        word = req.arg(i).upper()
        if word == b"KEEPTTL":
            number = len(pairs) // 2
            return one(b"HSETEX", key, b"KEEPTTL", b"FIELDS", number, *pairs, check=count(1))
        if word in EXPIRY_OPTIONS:
            option, amount = word, req.arg(i + 1)
    hset = sent(b"HSET", key, *pairs)
    if not option:
        return [hset]
    until = deadline(option, amount, clock)
    if until is None:
        return COPY_KEYS
    names = list(dict.fromkeys(pairs[::2]))
    if until.is_past:
        return _deleted(key, names, Check.NO_ERROR)
    return [hset, _fields(b"HPEXPIREAT", key, names, until.at_ms)]


def hgetex(req: Request, value: Value, clock: Clock) -> Outcome:
    """HPEXPIREAT, HPERSIST or HDEL of the fields that were there; nothing without an option."""
    at = _fields_at(req, 2)
    if at is None:
        return COPY_KEYS
    there = _present(req.args()[at + 2 :], value)
    if not there or at == 2:
        return NOTHING
    key, option = req.arg(1), req.arg(2).upper()
    if option == b"PERSIST":
        return [_fields(b"HPERSIST", key, there)]
    if option not in EXPIRY_OPTIONS:
        return COPY_KEYS
    until = deadline(option, req.arg(3), clock)
    if until is None:
        return COPY_KEYS
    if until.is_past:
        return _deleted(key, there, Check.NO_ERROR)
    return [_fields(b"HPEXPIREAT", key, there, until.at_ms)]


def hgetdel(req: Request, value: Value, clock: Clock) -> Outcome:
    """HDEL of the fields that were there."""
    at = _fields_at(req, 2)
    if at is None:
        return COPY_KEYS
    there = _present(req.args()[at + 2 :], value)
    return _deleted(req.arg(1), there, count(len(set(there))))
