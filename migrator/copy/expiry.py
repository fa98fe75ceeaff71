"""Absolute expiry times, read in the same pipeline as what expires.

Owns how a store is asked for them: PEXPIRETIME, or for stores before Redis 7.0 PTTL between two
TIMEs. It never changes an expiry.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from migrator.bulk import Bulk, ReplyError
from proxy.resp.dumps import GONE, NO_EXPIRY, ask_dumps, replies_of, split_dumps

__all__ = ["GONE", "NO_EXPIRY", "read_dumps", "read_expiries", "time_ms"]

# Between two TIMEs. A bracket that is wider than a few milliseconds all the same (large values
# between, a busy store) is read again for single keys.
_KEYS_PER_BRACKET = 32
_MAX_BRACKET_MS = 8
_ATTEMPTS = 3

_TIME = b"*1\r\n$4\r\nTIME\r\n"


def time_ms(reply: Any) -> int:
    """TIME's reply as milliseconds, rounded down as the servers' own clock for expiry is."""
    if isinstance(reply, ReplyError):
        raise reply
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


async def read_dumps(
    bulk: Bulk, db: int, keys: Sequence[bytes], has_pexpiretime: bool
) -> tuple[list[Any], list[int]]:
    """DUMP of each key, and behind it when the key expires.

    Returns the payloads (None for no key, errors as instances) and the expiry times: Unix
    milliseconds of the store's clock, NO_EXPIRY, or GONE. GONE says that the key may have vanished
    before its DUMP, in the middle of it, or behind it. Raises ReplyError when expiry cannot be
    read, BulkClosed.
    """
    count = len(keys)
    replies = await bulk.pipeline(
        ask_dumps(keys, has_pexpiretime), replies_of(count, has_pexpiretime), db=db
    )
    payloads, expiries, unsure = split_dumps(replies, count, has_pexpiretime, _MAX_BRACKET_MS)
    for i in unsure:
        expiries[i] = await _read_single(bulk, db, keys[i])
    return payloads, expiries


async def read_expiries(
    bulk: Bulk, db: int, keys: Sequence[bytes], has_pexpiretime: bool
) -> list[int]:
    """The expiry times alone, as in `read_with_expiry`."""
    if has_pexpiretime:
        replies = await bulk.pipeline([("PEXPIRETIME", key) for key in keys], db=db)
        _raise_errors(replies)
        return replies
    return await _read_with_pttl(bulk, db, keys)


async def _read_with_pttl(bulk: Bulk, db: int, keys: Sequence[bytes]) -> list[int]:
    wire = [_TIME]
    for i, key in enumerate(keys):
        wire.append(b"*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n" % (len(key), key))
        if (i + 1) % _KEYS_PER_BRACKET == 0 or i + 1 == len(keys):
            wire.append(_TIME)
    replies = iter(await bulk.pipeline(b"".join(wire), len(wire), db=db))
    expiries: list[int] = []
    before = time_ms(next(replies))
    for start in range(0, len(keys), _KEYS_PER_BRACKET):
        group = keys[start : start + _KEYS_PER_BRACKET]
        ttls = list(islice(replies, len(group)))
        after = time_ms(next(replies))
        _raise_errors(ttls)
        for key, ttl in zip(group, ttls, strict=True):
            if ttl < 0:
                expiries.append(ttl)
            elif after - before > _MAX_BRACKET_MS:
                expiries.append(await _read_single(bulk, db, key))
            else:
                expiries.append(ttl + (before + after) // 2)
        before = after
    return expiries


async def _read_single(bulk: Bulk, db: int, key: bytes) -> int:
    best: tuple[int, int] | None = None
    for _ in range(_ATTEMPTS):
        first, ttl, last = await bulk.pipeline([_TIME, ("PTTL", key), _TIME], db=db)
        _raise_errors([ttl])
        if ttl < 0:
            return int(ttl)
        before, after = time_ms(first), time_ms(last)
        if best is None or after - before < best[0]:
            best = (after - before, ttl + (before + after) // 2)
        if best[0] <= _MAX_BRACKET_MS:
            break
    assert best is not None, "at least one attempt is made"
    return best[1]


def _raise_errors(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
