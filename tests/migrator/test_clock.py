"""Clock offsets, measured on real servers with this machine's clock set wrong."""

from __future__ import annotations

import time

import pytest

from migrator import clock
from migrator.clock import measure_offset
from tests.bulks import opened
from tests.servers import Server


@pytest.mark.parametrize("ahead_ms", [0, -5000, 86_400_000])
async def test_the_offset_is_the_stores_clock_minus_ours(
    target: Server, monkeypatch: pytest.MonkeyPatch, ahead_ms: int
) -> None:
    real = time.time
    async with opened(target) as (bulk,):
        monkeypatch.setattr(clock.time, "time", lambda: real() - ahead_ms / 1000)
        offset = await measure_offset(bulk)
    # TIME is in microseconds, rounded down; a float of Unix time is true to less than that.
    assert abs(offset.offset_ms - ahead_ms) <= offset.error_ms + 0.01
    assert 0 < offset.error_ms < 50


async def test_the_quickest_sample_is_kept(target: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.030, 1.0, 1.002, 2.0, 2.050])
    async with opened(target) as (bulk,):
        monkeypatch.setattr(clock.time, "perf_counter", lambda: next(ticks))
        offset = await measure_offset(bulk, samples=3)
    assert offset.error_ms == pytest.approx(1.0)


async def test_no_samples_are_refused(target: Server) -> None:
    async with opened(target) as (bulk,):
        with pytest.raises(ValueError, match="at least 1"):
            await measure_offset(bulk, samples=0)
