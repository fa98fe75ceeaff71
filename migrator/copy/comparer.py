"""Whether keys are equal on two stores, exactly.

Owns the way to the answer; `difference` has the rule. It writes nothing. As for readers, the
caller guarantees that no client touched the keys meanwhile and that effects are applied; keys and
fields that expire meanwhile are no differences.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.bulk import Bulk, ReplyError
from migrator.slices import Slices
from proxy.resp.dumps import unequal

from .dialect import LAST_COMMON_TYPE, Reads, learn_reads
from .difference import differences, expiry_difference
from .expiry import GONE, read_dumps, time_ms
from .footer import body_of, version_of
from .snapshot import read_snapshots


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

    async def compare(self, db: int, keys: Sequence[bytes]) -> list[Difference]:
        """All differences; a key may have several. A few hundred keys a call are a good batch.

        Raises ReplyError, BulkClosed.
        """
        if self._dialects is None:
            self._dialects = (
                await learn_reads(self._stores[0]),
                await learn_reads(self._stores[1]),
            )
        found: list[Difference] = []
        unsettled: Sequence[bytes] = keys
        if self._dialects[0].can_dump and self._dialects[1].can_dump:
            unsettled = await self._compare_dumps(db, keys, found)
        if unsettled:
            await self._compare_values(db, unsettled, found)
        return found

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
