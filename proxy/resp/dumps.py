"""Pages of keys on their way from store to store: what asks for them, and what restores them.

Bytes and values in, bytes out. Owns the wire form of DUMP with its expiry, of RESTORE, and of MSET,
for many keys at once: a page has no object per key. Which payload another store takes is not known
here, it is an argument.

This module is hot: see `window` for how it is written, and `dumps.pxd` for its C types.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Any

from .encoder import _LENGTHS
from .values import ReplyError

NO_EXPIRY = -1
GONE = -2
"""No such key: what PTTL and PEXPIRETIME answer, and what they mean here."""

# Keys between two TIMEs, where a store tells no absolute expiry.
_KEYS_PER_BRACKET = 32

_TIME = b"*1\r\n$4\r\nTIME\r\n"
_FOOTER_BYTES = 10


def header(size: int) -> bytes:
    """What stands in front of an argument that is not a command's first word."""
    return _LENGTHS[size] if size < 256 else b"\r\n$%d\r\n" % size


def ask_dumps(keys: Sequence[bytes], is_absolute: bool) -> bytes:
    """DUMP and PEXPIRETIME of each key; else DUMP and PTTL, with TIMEs around some keys each."""
    dump = b"*2\r\n$4\r\nDUMP"
    expiry = b"\r\n*2\r\n$11\r\nPEXPIRETIME" if is_absolute else b"\r\n*2\r\n$4\r\nPTTL"
    pieces: list[bytes] = []
    left = 0
    for key in keys:
        if left == 0 and not is_absolute:
            pieces.append(_TIME)
            left = _KEYS_PER_BRACKET
        left -= 1
        length = header(len(key))
        pieces.append(dump)
        pieces.append(length)
        pieces.append(key)
        pieces.append(expiry)
        pieces.append(length)
        pieces.append(key)
        pieces.append(b"\r\n")
    if not is_absolute:
        pieces.append(_TIME)
    return b"".join(pieces)


def replies_of(keys: int, is_absolute: bool) -> int:
    """How many replies `ask_dumps` of so many keys gets."""
    return 2 * keys + (0 if is_absolute else 1 + -(-keys // _KEYS_PER_BRACKET))


def split_dumps(
    replies: list[Any], keys: int, is_absolute: bool, max_bracket_ms: int
) -> tuple[list[Any], list[int], list[int]]:
    """The replies as (payloads, expiries, unsure).

    Expiries are Unix milliseconds of the store's clock, NO_EXPIRY or GONE; those at the indexes
    `unsure` are of a bracket wider than `max_bracket_ms`, to be asked for again. Errors among the
    payloads stay as they are; raises ReplyError where expiry or time cannot be read.
    """
    payloads: list[Any] = []
    expiries: list[int] = []
    unsure: list[int] = []
    at = 0
    index = 0
    now = 0
    after = 0
    width = 0
    while index < keys:
        if is_absolute:
            upto = keys
        else:
            upto = index + _KEYS_PER_BRACKET
            if upto > keys:
                upto = keys
            now = _milliseconds(replies[at])
            at += 1
            after = _milliseconds(replies[at + 2 * (upto - index)])
            width = after - now
            now = (now + after) // 2
        while index < upto:
            payloads.append(replies[at])
            expiry = replies[at + 1]
            at += 2
            if type(expiry) is not int:
                raise expiry if isinstance(expiry, ReplyError) else TypeError("no expiry")
            if not is_absolute and expiry >= 0:
                expiry = expiry + now
                if width > max_bracket_ms:
                    unsure.append(index)
            expiries.append(expiry)
            index += 1
    return payloads, expiries, unsure


def _milliseconds(reply: Any) -> int:
    if isinstance(reply, ReplyError):
        raise reply
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def kind_of(payload: bytes) -> int:
    """Type byte and RDB version of a DUMP payload, as one number."""
    size = len(payload)
    if size <= _FOOTER_BYTES:
        return -1
    view = payload
    return view[0] << 16 | view[size - 9] << 8 | view[size - 10]


def not_plain(
    payloads: list[Any], expiries: list[int], plain: Container[int], max_bytes: int
) -> list[int]:
    """The indexes of what is not simply restored.

    No key, an error, a kind not among `plain`, more than `max_bytes`.
    """
    found: list[int] = []
    last = -2  # no kind at all
    for index, payload in enumerate(payloads):
        if type(payload) is bytes and expiries[index] != GONE:
            kind = kind_of(payload)
            if len(payload) > max_bytes:
                found.append(index)
            elif kind != last:
                if kind in plain:
                    last = kind
                else:
                    found.append(index)
        else:
            found.append(index)
    return found


def restores(
    keys: Sequence[bytes],
    payloads: list[bytes],
    expiries: list[int],
    touched: Collection[Any],
) -> tuple[list[bytes], bytes, int]:
    """RESTORE with REPLACE and ABSTTL of all keys that are not `touched`.

    Returns (those keys, the commands' wire form, the payloads' bytes).
    """
    kept: list[bytes] = []
    pieces: list[bytes] = []
    total = 0
    index = 0
    is_touched = bool(touched)
    for key in keys:
        payload = payloads[index]
        expiry = expiries[index]
        index += 1
        if is_touched and key in touched:
            continue
        kept.append(key)
        size = len(payload)
        total += size
        pieces.append(b"*6\r\n$7\r\nRESTORE")
        pieces.append(header(len(key)))
        pieces.append(key)
        if expiry < 0:
            pieces.append(b"\r\n$1\r\n0")
        else:
            when = b"%d" % expiry
            pieces.append(header(len(when)))
            pieces.append(when)
        pieces.append(header(size))
        pieces.append(payload)
        pieces.append(b"\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n")
    return kept, b"".join(pieces), total


def plain_strings(payloads: list[Any], expiries: list[int], type_byte: int) -> int:
    """How many of a page of dumps are strings, by their `type_byte`, that do not expire."""
    count = 0
    for index, payload in enumerate(payloads):
        if type(payload) is bytes and expiries[index] == NO_EXPIRY:
            view = payload
            if view[0] == type_byte:
                count += 1
    return count


def split_strings(
    keys: Sequence[bytes], values: list[Any], max_bytes: int
) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]]:
    """What MGET answered, as (keys of strings, their values, larger ones, keys without a value)."""
    strings: list[bytes] = []
    kept: list[bytes] = []
    larger: list[bytes] = []
    others: list[bytes] = []
    for index, key in enumerate(keys):
        value = values[index]
        if type(value) is not bytes:
            others.append(key)
        elif len(value) > max_bytes:
            larger.append(key)
        else:
            strings.append(key)
            kept.append(value)
    return strings, kept, larger, others


def sets(
    keys: Sequence[bytes], values: list[bytes], touched: Collection[Any]
) -> tuple[list[bytes], bytes, int]:
    """One MSET of all keys that are not `touched`.

    Returns (those keys, the command's wire form, the values' bytes).
    """
    kept: list[bytes] = []
    pieces: list[bytes] = [b""]
    total = 0
    index = 0
    is_touched = bool(touched)
    for key in keys:
        value = values[index]
        index += 1
        if is_touched and key in touched:
            continue
        kept.append(key)
        pieces.append(header(len(key)))
        pieces.append(key)
        size = len(value)
        total += size
        pieces.append(header(size))
        pieces.append(value)
    if not kept:
        return kept, b"", 0
    pieces[0] = b"*%d\r\n$4\r\nMSET" % (2 * len(kept) + 1)
    pieces.append(b"\r\n")
    return kept, b"".join(pieces), total


def unequal(
    left: list[Any],
    right: list[Any],
    left_expiries: list[int],
    right_expiries: list[int],
    last_common_type: int,
) -> list[int]:
    """The indexes at which equal bytes do not settle that two pages of dumps hold the same.

    Payloads are compared without their footers: those of a type byte above `last_common_type`,
    whose meaning is a version's, only if the versions are the same. No key on either side is the
    same, too.
    """
    found: list[int] = []
    for index, a in enumerate(left):
        b = right[index]
        if type(a) is bytes and type(b) is bytes:
            if left_expiries[index] != right_expiries[index] or not _are_equal(
                a, b, last_common_type
            ):
                found.append(index)
        elif a is not None or b is not None:
            found.append(index)
    return found


def _are_equal(a: bytes, b: bytes, last_common_type: int) -> bool:
    size = len(a)
    if size != len(b) or size <= _FOOTER_BYTES:
        return False
    view = a
    other = b
    if view[0] > last_common_type and (
        view[size - 10] != other[size - 10] or view[size - 9] != other[size - 9]
    ):
        return False
    if a == b:
        return True
    body = view[: size - _FOOTER_BYTES]
    other_body = other[: size - _FOOTER_BYTES]
    return body == other_body
