"""Effects of the stream commands: ids, lengths and deliveries as the primary made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...resp.encoder import Argument, array, bulk, encode_command
from ..effect import Value
from ..keys import xread_options
from .common import (
    COPY_KEYS,
    NOTHING,
    OK,
    Check,
    Clock,
    Effect,
    Outcome,
    count,
    one,
    sent,
    strings,
    verbatim,
)

if TYPE_CHECKING:
    from ...resp import Request


class _Trim(NamedTuple):
    """The options of XADD in front of the id, or those of XTRIM."""

    words: list[bytes]
    """MAXLEN or MINID, ``=`` and the threshold; empty: no trimming."""
    is_vague: bool
    """``~``: the server stops where it likes."""
    is_known: bool
    end: int
    """The argument behind them: XADD's id."""


def _trim(req: Request, first: int) -> _Trim:
    words: list[bytes] = []
    is_vague = False
    is_known = True
    i = first
    while i < req.argc:
        word = req.arg(i).upper()
        if word in (b"MAXLEN", b"MINID"):
            i += 1
            if i < req.argc and req.arg(i) in (b"=", b"~"):
                is_vague = req.arg(i) == b"~"
                i += 1
            words = [word, b"=", req.arg(i)] if i < req.argc else []
        elif word == b"LIMIT":
            i += 1
        elif word in (b"KEEPREF", b"DELREF", b"ACKED"):
            is_known = False  # Redis 8.2: references in groups
        elif word != b"NOMKSTREAM":
            break
        i += 1
    return _Trim(words, is_vague, is_known, i)


def _length_after(req: Request) -> bytes | None:
    return encode_command(b"XLEN", req.arg(1)) if _trim(req, 2).is_vague else None


length_after_xadd = _length_after
length_after_xtrim = _length_after


def _exact(trim: _Trim, length: int | None) -> list[Argument] | None:
    """The trim as it came out; None when nobody knows."""
    if not trim.is_vague:
        return [*trim.words]
    return None if length is None else [b"MAXLEN", b"=", length]


def _probed(value: Value) -> tuple[Value, int | None]:
    """(reply, length) of a command that had its probe; inside MULTI there is none."""
    if not isinstance(value, tuple):
        return value, None
    reply, length = value
    return reply, length if isinstance(length, int) else None


def xadd(req: Request, value: Value, clock: Clock) -> Outcome:
    """XADD with the id that it gave, trimmed to the length that it left."""
    entry_id, length = _probed(value)
    if entry_id is None:  # NOMKSTREAM, and there is none
        return NOTHING
    trim = _trim(req, 2)
    exact = _exact(trim, length)
    if exact is None or not trim.is_known:
        return COPY_KEYS
    fields = req.args()[trim.end + 1 :]
    return one(b"XADD", req.arg(1), *exact, entry_id, *fields, check=bulk(entry_id))


def xtrim(req: Request, value: Value, clock: Clock) -> Outcome:
    """XTRIM to the length that it left, if it deleted anything."""
    deleted, length = _probed(value)
    if not deleted:
        return NOTHING
    trim = _trim(req, 2)
    exact = _exact(trim, length)
    if exact is None or not trim.is_known:
        return COPY_KEYS
    return one(b"XTRIM", req.arg(1), *exact, check=Check.SAME)


def _without_entries_read(req: Request) -> Outcome:
    """ENTRIESREAD only counts, and Redis 6.2 does not know it."""
    args = req.args()
    for i in range(5, len(args) - 1):
        if args[i].upper() == b"ENTRIESREAD":
            return one(*args[:i], *args[i + 2 :], check=OK)
    return verbatim(req)


def xgroup_create(req: Request, value: Value, clock: Clock) -> Outcome:
    """As it is, without ENTRIESREAD."""
    return _without_entries_read(req)


def xgroup_setid(req: Request, value: Value, clock: Clock) -> Outcome:
    """As it is, without ENTRIESREAD."""
    return _without_entries_read(req)


def xreadgroup(req: Request, value: Value, clock: Clock) -> Outcome:
    """XCLAIM of what it delivered, by id; XGROUP SETID with NOACK; the consumer, if it made one."""
    options = xread_options(req)
    at, group_at = options.get(b"STREAMS"), options.get(b"GROUP")
    if at is None or group_at is None or b"CLAIM" in options:
        return COPY_KEYS
    args = req.args()
    group, consumer = args[group_at + 1], args[group_at + 2]
    half = (len(args) - at - 1) // 2
    keys = args[at + 1 : at + 1 + half]
    if len(set(keys)) < half:
        return COPY_KEYS  # whose entries are whose, a reply that is a map does not say
    read = _entries_by_key(value)
    effects: list[Effect] = []
    for key, start in zip(keys, args[at + 1 + half :], strict=True):
        makes = sent(b"XGROUP", b"CREATECONSUMER", key, group, consumer)
        entries = read.get(key) or []
        if start != b">":
            # A read of the history counts as one more delivery, as an XCLAIM by the owner does;
            # not of entries that are deleted, whose fields are null.
            entries = [entry for entry in entries if entry[1] is not None]
            ids = [entry[0] for entry in entries]
            effects.append(makes)
            if ids:
                effects.append(_claim(key, group, consumer, ids, clock, check=_frame(entries)))
        elif entries:
            ids = [entry[0] for entry in entries]
            if b"NOACK" in options:
                effects += (makes, sent(b"XGROUP", b"SETID", key, group, ids[-1], check=OK))
            else:
                effects.append(_delivery(key, group, consumer, ids, clock))
        elif clock.engine.makes_idle_consumers:
            effects.append(makes)
        elif clock.engine.makes_idle_consumers is None:
            return COPY_KEYS
    return effects


def _delivery(key: bytes, group: bytes, consumer: bytes, ids: list[bytes], clock: Clock) -> Effect:
    options = (b"RETRYCOUNT", 1, b"FORCE", b"JUSTID", b"LASTID", ids[-1])
    return _claim(key, group, consumer, ids, clock, *options, check=strings(ids))


def _claim(
    key: bytes,
    group: bytes,
    consumer: bytes,
    ids: list[bytes],
    clock: Clock,
    *options: Argument,
    check: Check | bytes,
) -> Effect:
    now = round(clock.now_ms)
    return sent(b"XCLAIM", key, group, consumer, 0, *ids, b"TIME", now, *options, check=check)


def _entries_by_key(value: Value) -> dict[bytes, list[list[Value]]]:
    """The reply of XREADGROUP: pairs in RESP2, a map in RESP3, null for nothing."""
    if value is None:
        return {}
    return value if isinstance(value, dict) else dict(value)


def _frame(value: Value) -> bytes:
    """Nested lists of strings, as a reply."""
    if isinstance(value, list):
        return array([_frame(element) for element in value])
    return bulk(value)


_CLAIM_OPTIONS = {b"IDLE": 2, b"TIME": 2, b"RETRYCOUNT": 2, b"LASTID": 2, b"FORCE": 1, b"JUSTID": 1}


def xclaim(req: Request, value: Value, clock: Clock) -> Outcome:
    """XCLAIM of the ids that it claimed, at that time.

    They count deliveries as it did. A null (Redis 6.2) is a deleted entry that stays pending,
    which later servers would drop. An id that is missing was too young to claim or, where deleted
    entries are dropped, dropped.
    """
    args = req.args()
    at = 5
    while at < len(args) and args[at].upper() not in _CLAIM_OPTIONS:
        at += 1
    asked, options = args[5:at], args[at:]
    is_just_id = any(word.upper() == b"JUSTID" for word in options)
    claimed = value if is_just_id else [entry and entry[0] for entry in value]
    if None in claimed:
        return COPY_KEYS
    if len(claimed) != len(asked) and clock.engine.drops_deleted_claims is not False:
        return COPY_KEYS
    kept: list[Argument] = []
    delivered = round(clock.now_ms)
    i = 0
    while i < len(options):
        word = options[i].upper()
        if word == b"IDLE":
            delivered = round(clock.now_ms) - int(options[i + 1])
        elif word == b"TIME":
            delivered = int(options[i + 1])
        elif word in (b"RETRYCOUNT", b"LASTID"):
            kept += (word, options[i + 1])
        elif word in (b"FORCE", b"JUSTID"):
            kept.append(word)
        else:
            return COPY_KEYS
        i += _CLAIM_OPTIONS[word]
    if not claimed:
        return COPY_KEYS if b"LASTID" in kept else NOTHING
    head = (b"XCLAIM", *args[1:4], 0, *claimed, b"TIME", delivered)
    return one(*head, *kept, check=Check.SAME)


def xautoclaim(req: Request, value: Value, clock: Clock) -> Outcome:
    """XCLAIM of the ids that it claimed, and XACK of the deleted entries that it dropped."""
    key, group, consumer = req.arg(1), req.arg(2), req.arg(3)
    claimed = value[1]
    deleted = value[2] if len(value) > 2 else []
    if None in claimed:
        return COPY_KEYS
    effects: list[Effect] = []
    if claimed:
        is_just_id = any(req.arg(i).upper() == b"JUSTID" for i in range(6, req.argc))
        ids = claimed if is_just_id else [entry[0] for entry in claimed]
        just_id = (b"JUSTID",) if is_just_id else ()
        effects.append(_claim(key, group, consumer, ids, clock, *just_id, check=_frame(claimed)))
    elif clock.engine.makes_idle_consumers:
        effects.append(sent(b"XGROUP", b"CREATECONSUMER", key, group, consumer))
    elif clock.engine.makes_idle_consumers is None:
        return COPY_KEYS
    if deleted:
        effects.append(sent(b"XACK", key, group, *deleted, check=count(len(deleted))))
    return effects
