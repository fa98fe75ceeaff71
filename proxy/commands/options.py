"""What options of a request change about the command: its kind, its keys, its database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .keys import after_last, whole_number, xread_options

if TYPE_CHECKING:
    from ..resp import Request

_STORE = {
    b"SORT": after_last(b"STORE", first=2),
    b"GEORADIUS": after_last(b"STORE", b"STOREDIST", first=6),
    b"GEORADIUSBYMEMBER": after_last(b"STORE", b"STOREDIST", first=5),
}


def stores(req: Request) -> bool:
    """SORT, GEORADIUS and GEORADIUSBYMEMBER write only with STORE."""
    return bool(_STORE[req.name](req))


def is_of_one_key(req: Request) -> bool:
    """PFCOUNT of one key may write the count that it caches in the value; of several it reads."""
    return req.argc == 2


def changes_bits(req: Request) -> bool:
    """BITFIELD only reads with nothing but GET and OVERFLOW."""
    return any(req.arg(i).upper() in (b"SET", b"INCRBY") for i in range(2, req.argc))


def blocks(req: Request) -> bool:
    """XREAD or XREADGROUP with BLOCK."""
    return b"BLOCK" in xread_options(req)


def sort_follows_patterns(req: Request) -> bool:
    """BY or GET with a ``*`` reads keys whose names are made of the elements."""
    return any(
        req.arg(i).upper() in (b"BY", b"GET") and b"*" in req.arg(i + 1)
        for i in range(2, req.argc - 1)
    )


def stralgo_keys(req: Request) -> Sequence[int]:
    """STRALGO LCS … KEYS a b (Redis 6.2; with STRINGS it reads no key)."""
    for i in range(2, req.argc - 2):
        if req.arg(i).upper() == b"KEYS":
            return (i + 1, i + 2)
    return ()


def copy_db(req: Request) -> int | None:
    """COPY source destination [DB n] [REPLACE]."""
    for i in range(3, req.argc - 1):
        if req.arg(i).upper() == b"DB":
            return whole_number(req.arg(i + 1))
    return None


def move_db(req: Request) -> int | None:
    """MOVE key db."""
    return whole_number(req.arg(2)) if req.argc > 2 else None
