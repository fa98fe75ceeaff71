"""Whether keys are equal on two stores, exactly.

Owns the way to the answer; `difference` has the rule. It writes nothing. As for readers, the
caller guarantees that no client touched the keys meanwhile and that effects are applied; keys and
fields that expire meanwhile are no differences. Large strings are read in pieces: neither store
stands still for one, and it is never in memory whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.bulk import Bulk, ReplyError
from migrator.slices import Slices
from proxy.resp.dumps import plain_strings, unequal

from .dialect import LAST_COMMON_TYPE, Reads, learn_reads
from .difference import differences, expiry_difference
from .expiry import GONE, read_dumps, read_expiries, time_ms
from .footer import body_of, version_of
from .reader import FEW_KEYS
from .snapshot import Snapshot, read_snapshots
from .strings import STRING_TYPE, Strings, read_strings

# Bytes of a string that is read in pieces, and of these.
LARGE_BYTES = 1024 * 1024
PIECE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Difference:
    key: bytes
    what: str
    """A few words, without names or values of the data."""


class Comparer:
    """Compares batches of keys of two stores; `labels` name them in what it says."""

    def __init__(self, a: Bulk, b: Bulk, labels: tuple[str, str] = ("source", "target")) -> None:
        self._stores = (a, b)
        self._labels = labels
        self._dialects: tuple[Reads, Reads] | None = None
        self._strings = Strings()

    async def compare(
        self, db: int, keys: Sequence[bytes], goes_on: Callable[[bytes], bool] = lambda key: True
    ) -> list[Difference]:
        """All differences; a key may have several. A few hundred keys a call are a good batch.

        `goes_on` is asked before each piece of a large string; False: somebody has touched it, and
        what is said of it does not count. Raises ReplyError, BulkClosed.
        """
        if self._dialects is None:
            self._dialects = (
                await learn_reads(self._stores[0]),
                await learn_reads(self._stores[1]),
            )
        found: list[Difference] = []
        # Where they are many they are small, or nobody else is there: to ask would cost an eighth.
        large = await self._large(db, keys) if len(keys) <= FEW_KEYS else {}
        if large:
            keys = [key for key in keys if key not in large]
        unsettled: Sequence[bytes] = keys
        if len(keys) > 1 and self._strings.are_most:
            unsettled = keys = await self._compare_strings(db, keys)
        if keys and self._dialects[0].can_dump and self._dialects[1].can_dump:
            unsettled = await self._compare_dumps(db, keys, found)
        if unsettled:
            await self._compare_values(db, unsettled, found)
        for key in large:
            found += await self._compare_large(db, key, goes_on)
        return found

    async def _compare_strings(self, db: int, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Settles strings that do not expire and are the same; returns the other keys."""
        a, b = await asyncio.gather(
            *(
                read_strings(store, db, keys, reads)
                for store, reads in zip(self._stores, self._known(), strict=True)
            )
        )
        others = [key for key, x, y in zip(keys, a, b, strict=True) if x is None or x != y]
        self._strings.saw(len(keys) - len(others), len(keys))
        return others

    async def _large(self, db: int, keys: Sequence[bytes]) -> dict[bytes, None]:
        """Strings that are large on either side."""
        ask = b"".join([b"*2\r\n$6\r\nSTRLEN\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys])
        found: dict[bytes, None] = {}
        for sizes in await asyncio.gather(
            *(store.pipeline(ask, len(keys), db=db) for store in self._stores)
        ):
            # Of another type, or not to be asked: an error, and no size.
            for key, size in zip(keys, sizes, strict=True):
                if type(size) is int and size > LARGE_BYTES:
                    found[key] = None
        return found

    async def _compare_large(
        self, db: int, key: bytes, goes_on: Callable[[bytes], bool]
    ) -> list[Difference]:
        at = 0
        is_same = True
        while is_same and goes_on(key):
            a, b = await asyncio.gather(*(_piece(store, db, key, at) for store in self._stores))
            is_same = a == b
            at += PIECE
            if a is None or b is None or len(a) < PIECE:
                break
        # Behind the value, as with all others.
        of_a, of_b = await asyncio.gather(
            *(
                _facts(store, db, key, reads.has_pexpiretime)
                for store, reads in zip(self._stores, self._known(), strict=True)
            )
        )
        a_now, b_now = await asyncio.gather(*(store.call("TIME") for store in self._stores))
        left, right = of_a[0], of_b[0]
        found = differences(left, right, self._labels, (time_ms(a_now), time_ms(b_now)))
        what = list(found)
        if left is not None and right is not None and left.kind == right.kind and not is_same:
            what.insert(0, f"value ({of_a[1]} and {of_b[1]} bytes)")
        return [Difference(key, each) for each in what]

    async def _compare_dumps(
        self, db: int, keys: Sequence[bytes], found: list[Difference]
    ) -> list[bytes]:
        """Settles what equal bytes can settle, and returns the other keys."""
        (a_payloads, a_expiries), (b_payloads, b_expiries) = await asyncio.gather(
            *(
                read_dumps(store, db, keys, reads.has_pexpiretime)
                for store, reads in zip(self._stores, self._known(), strict=True)
            )
        )
        if not self._strings.are_most:
            self._strings.saw(plain_strings(a_payloads, a_expiries, STRING_TYPE), len(keys))
        unsettled: list[bytes] = []
        for i in unequal(a_payloads, b_payloads, a_expiries, b_expiries, LAST_COMMON_TYPE):
            key, a_ms, b_ms = keys[i], a_expiries[i], b_expiries[i]
            if GONE in (a_ms, b_ms) or not _are_equal(a_payloads[i], b_payloads[i]):
                unsettled.append(key)
            elif a_ms != b_ms:
                found += (Difference(key, what) for what in expiry_difference(a_ms, b_ms))
        return unsettled

    def _known(self) -> tuple[Reads, Reads]:
        assert self._dialects is not None, "compare() learns them first"
        return self._dialects

    async def _compare_values(
        self, db: int, keys: Sequence[bytes], found: list[Difference]
    ) -> None:
        (a, b), dialects = self._stores, self._known()
        of_a, of_b = await asyncio.gather(
            read_snapshots(a, dialects[0], db, keys), read_snapshots(b, dialects[1], db, keys)
        )
        # Behind the reads: what a read has missed because it expired has an expiry before this.
        now = await asyncio.gather(a.call("TIME"), b.call("TIME"))
        now_ms = (time_ms(now[0]), time_ms(now[1]))
        slices = Slices()
        for key, left, right in zip(keys, of_a, of_b, strict=True):
            await slices.over()
            found += (
                Difference(key, what) for what in differences(left, right, self._labels, now_ms)
            )


def _are_equal(a: object, b: object) -> bool:
    """Whether two payloads surely hold the same value. False says nothing."""
    if isinstance(a, ReplyError):
        raise a
    if isinstance(b, ReplyError):
        raise b
    if not (isinstance(a, bytes) and isinstance(b, bytes)):
        return False
    if a == b:
        return True
    # Rare type bytes mean other things in other versions.
    is_common = a[0] <= LAST_COMMON_TYPE or version_of(a) == version_of(b)
    return is_common and body_of(a) == body_of(b)


async def _piece(store: Bulk, db: int, key: bytes, at: int) -> bytes | None:
    """Some of a string, as far as it goes; None: it is none."""
    try:
        piece: bytes = await store.call("GETRANGE", key, at, at + PIECE - 1, db=db)
    except ReplyError as error:
        if error.code != "WRONGTYPE":
            raise
        return None
    return piece


async def _facts(
    store: Bulk, db: int, key: bytes, has_pexpiretime: bool
) -> tuple[Snapshot | None, Any]:
    """What a key is but for its value; and the length of that, if it is a string."""
    kind, length = await store.pipeline([("TYPE", key), ("STRLEN", key)], db=db)
    if isinstance(kind, ReplyError):
        raise kind
    [expiry] = await read_expiries(store, db, [key], has_pexpiretime)
    if kind == b"none" or expiry == GONE:
        return None, 0
    return Snapshot(key, kind.decode(), b"", expiry), length
