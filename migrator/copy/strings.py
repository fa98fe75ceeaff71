"""Pages of strings that do not expire: one MGET, in place of DUMP and a question for each.

Owns when it is worth trying, and what makes it exact: a string is one and not another type, and
has no expiry. All others are left to DUMP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from migrator.bulk import Bulk, ReplyError, pack

from .dialect import Reads
from .expiry import NO_EXPIRY, read_expiries

STRING_TYPE = 0
# Fewer keys say nothing of those to come.
SAMPLE = 16
_INFO = b"*2\r\n$4\r\nINFO\r\n$8\r\nkeyspace\r\n"


class Strings:
    """Whether most keys of a page are strings that do not expire, by the pages before it."""

    def __init__(self) -> None:
        self.are_most = True

    def saw(self, strings: int, keys: int) -> None:
        """So many of a page's keys were."""
        if keys >= SAMPLE:
            self.are_most = 4 * strings >= 3 * keys


async def read_strings(bulk: Bulk, db: int, keys: Sequence[bytes], reads: Reads) -> list[Any]:
    """The values of all keys that are strings and do not expire; None for all others.

    That a store refuses MGET is no error here: then it is None for all. Raises BulkClosed, and
    ReplyError when expiry cannot be read.
    """
    # What expires is counted before the values are read: a key that has vanished behind its value
    # was counted.
    info, values = await bulk.pipeline([_INFO, pack((b"MGET", *keys))], db=db)
    if not isinstance(values, list) or len(values) != len(keys):
        return [None] * len(keys)
    if not (reads.counts_expiries and _expiring(info, db) == 0):
        expiries = await read_expiries(bulk, db, keys, reads.has_pexpiretime)
        for index, expiry in enumerate(expiries):
            if expiry != NO_EXPIRY:
                values[index] = None
    return values


def _expiring(info: Any, db: int) -> int | None:
    """How many keys of a database expire, as `INFO keyspace` says; None: it does not say."""
    if isinstance(info, ReplyError):
        return None
    name = b"db%d" % db
    for line in bytes(info).splitlines():
        label, _, facts = line.partition(b":")
        if label == name:
            for fact in facts.split(b","):
                what, _, number = fact.partition(b"=")
                if what == b"expires" and number.isdigit():
                    return int(number)
    return None
