"""Interleaved rounds, and what is made of them: medians of ratios to the direct run beside them.

A machine is noisy over minutes and less so over seconds, so that every contender is measured
once in each round, beside a direct connection of the same round.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .load import Cell, Run, run
from .stage import Contender

# Requests for each step of a pipeline, up to a few: about a second each on a small machine.
MOST_STEPS = 8


def requests_of(cell: Cell, requests: int) -> int:
    large = max(1, cell.size // 1024)
    return max(
        1_000,
        requests * min(cell.depth, MOST_STEPS) // large // (10 if "10" in cell.command else 1),
    )


async def measured(
    cell: Cell,
    contenders: Sequence[Contender],
    rounds: int,
    requests: int,
    settled: Callable[[], Awaitable[None]],
) -> dict[str, Any]:
    """One row: per contender the ratios to direct of each round, and their medians.

    The first contender is the direct connection.
    """
    count = requests_of(cell, requests)
    direct, *others = contenders
    ratios: dict[str, list[float]] = defaultdict(list)
    runs: dict[str, list[Run]] = defaultdict(list)
    for _ in range(rounds):
        base = await run(direct.port, cell, count)
        runs[direct.name].append(base)
        for each in others:
            done = await run(each.port, cell, count, each.pid)
            runs[each.name].append(done)
            ratios[each.name].append(done.per_second / base.per_second)
            await settled()
    return {
        "cell": str(cell),
        "direct_per_second": statistics.median(r.per_second for r in runs[direct.name]),
        "contenders": {
            name: {
                "ratio": statistics.median(ratios[name]) if name in ratios else 1.0,
                "lowest": min(ratios[name]) if name in ratios else 1.0,
                "highest": max(ratios[name]) if name in ratios else 1.0,
                "cpu_us": statistics.median(r.cpu_us for r in done),
                "latency_ms": {
                    str(at): statistics.median(r.latencies_ms[at] for r in done)
                    for at in done[0].latencies_ms
                },
            }
            for name, done in runs.items()
        },
    }
