"""How far a store's clock is from this machine's.

Owns the measurement. Nothing is set, and no offset is remembered here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from .bulk import Bulk


@dataclass(frozen=True, slots=True)
class Offset:
    """`offset_ms` is the store's clock minus this machine's; true to within `error_ms`."""

    offset_ms: float
    error_ms: float


async def measure_offset(bulk: Bulk, samples: int = 8) -> Offset:
    """Asks for TIME `samples` times, one after another, and keeps the quickest answer.

    The store read its clock somewhere between sending and answer: in the middle, to within half
    of the round trip. Raises ReplyError, BulkClosed.
    """
    best: Offset | None = None
    for _ in range(samples):
        sent_at = time.time()
        started = time.perf_counter()
        seconds, micros = await bulk.call("TIME")
        # Not from time.time(), which may be set while we wait.
        round_trip_ms = (time.perf_counter() - started) * 1000
        store_ms = int(seconds) * 1000 + int(micros) / 1000
        offset = Offset(store_ms - sent_at * 1000 - round_trip_ms / 2, round_trip_ms / 2)
        if best is None or offset.error_ms < best.error_ms:
            best = offset
    if best is None:
        raise ValueError("samples must be at least 1")
    return best
