"""What a copy has to know of a module's values.

Owns the names of their types, as payloads carry them, and what payloads do not carry: TimeSeries
leaves the rules by which a series is aggregated into others (TS.CREATERULE) out of DUMP, and no
command makes a rule that goes on in the middle of a bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from migrator.bulk import Bulk, ReplyError

from .dialect import MODULE_TYPES

# Of Redis Stack: which module has a type, as TYPE names it.
MODULE_OF_TYPE = {
    "CMSk-TYPE": "bf",
    "MBbloom--": "bf",
    "MBbloomCF": "bf",
    "TDIS-TYPE": "bf",
    "TopK-TYPE": "bf",
    "ReJSON-RL": "ReJSON",
    "TSDB-TYPE": "timeseries",
    "trietype0": "search",
}

# What shows a value of a type whose DUMP differs from server to server: TopK's has addresses.
SHOWN_BY: dict[str, tuple[tuple[str, ...], ...]] = {
    "TopK-TYPE": (("TOPK.INFO",), ("TOPK.LIST", "WITHCOUNT")),
}

# Nine letters of this alphabet, 6 bits each, and 10 bits of version (moduleTypeEncodeId).
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LENGTH_OF_64_BITS = 0x81


def type_name(payload: bytes) -> str:
    """The type of a module's value, as TYPE says it; "" of any other payload of DUMP."""
    if payload[0] not in MODULE_TYPES or payload[1] != _LENGTH_OF_64_BITS:
        return ""
    number = int.from_bytes(payload[2:10], "big") >> 10
    return "".join(_ALPHABET[number >> shift & 63] for shift in range(48, -1, -6))


def is_time_series(payload: bytes) -> bool:
    return type_name(payload) == "TSDB-TYPE"


async def have_rules(store: Bulk, db: int, keys: Sequence[bytes]) -> list[bool]:
    """Of each series: whether it has compaction rules. A key that is gone has none.

    Raises BulkClosed.
    """
    replies = await store.pipeline([(b"TS.INFO", key) for key in keys], db=db)
    return [not isinstance(reply, ReplyError) and _has_rules(reply) for reply in replies]


def _has_rules(info: list[Any]) -> bool:
    return bool(dict(zip(info[::2], info[1::2], strict=True)).get(b"rules"))
