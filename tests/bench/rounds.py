"""Interleaved rounds, and what is made of them: medians of ratios to the direct run beside them.

A machine is noisy over minutes and less so over seconds, so that every contender is measured once
in each round, beside a direct connection of the same round. Where the mirror is behind when a load
has ended, the time until it has caught up is part of that run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import process
from .load import OWN, Cell, LoadError, Run, run
from .stage import Contender

# Requests for each step of a pipeline, up to a few: about a second each on a small machine.
MOST_STEPS = 8
FEWEST = 1_000


@dataclass
class Measured:
    """One run of one contender: `per_second` with the drain, `cpu_us` of the proxy per command."""

    run: Run
    per_second: float
    cpu_us: float
    resident: int
    drain_ms: float
    ratio: float = 1.0


@dataclass
class Row:
    """What one cell came to, contender by contender; `skipped` says why one could not."""

    cell: Cell
    runs: dict[str, list[Measured]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def requests_of(cell: Cell, requests: int) -> int:
    """How many of a cell take about as long as `requests` plain ones."""
    wanted = requests * min(cell.depth, MOST_STEPS)
    if cell.clients == 1:
        wanted //= 3
    if cell.command == "MSET 10" or cell.command in OWN:
        wanted //= 6
    if cell.size > 10_000:
        wanted //= 8
    return max(FEWEST, wanted)


async def once(contender: Contender, cell: Cell, requests: int) -> Measured:
    """Raises LoadError."""
    await contender.before()
    before = process.cpu_seconds(contender.pid)
    done = await run(contender.port, cell, requests, ca=contender.ca)
    drain_ms = await contender.settled()
    cpu = process.cpu_seconds(contender.pid) - before
    seconds = requests / done.per_second + drain_ms / 1e3
    resident = process.resident_bytes(contender.pid)
    return Measured(done, requests / seconds, cpu / requests * 1e6, resident, drain_ms)


async def measured(
    cell: Cell,
    contenders: Sequence[Contender],
    rounds: int,
    requests: int,
    tell: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """One row as `summarized` makes it. The first contender is the direct connection.

    Each is tried shortly first: one that cannot serve the cell is skipped with what it said.
    `tell` is called behind each run.
    """
    row = Row(cell)
    able = []
    for each in contenders:
        try:
            await once(each, cell, max(cell.depth * cell.clients, FEWEST))
        except LoadError as error:
            row.skipped[each.name] = str(error).splitlines()[-1][:100]
        else:
            able.append(each)
    count = requests_of(cell, requests)
    for _ in range(rounds):
        base = 0.0
        for each in able:
            done = await once(each, cell, count)
            base = base or done.per_second
            done.ratio = done.per_second / base
            row.runs.setdefault(each.name, []).append(done)
            tell()
    return summarized(row)


def summarized(row: Row) -> dict[str, Any]:
    """Medians over the rounds, and the spread of the ratio; plain JSON."""
    found: dict[str, Any] = {name: {"skipped": why} for name, why in row.skipped.items()}
    for name, runs in row.runs.items():
        ratios = [each.ratio for each in runs]
        found[name] = {
            "ratio": round(statistics.median(ratios), 4),
            "lowest": round(min(ratios), 4),
            "highest": round(max(ratios), 4),
            "per_second": round(statistics.median(each.per_second for each in runs), 1),
            "cpu_us": round(statistics.median(each.cpu_us for each in runs), 3),
            "resident": runs[-1].resident,
            "drain_ms": round(statistics.median(each.drain_ms for each in runs), 1),
            "latency_ms": {
                at: round(statistics.median(each.run.latencies_ms[at] for each in runs), 4)
                for at in runs[0].run.latencies_ms
            },
        }
    return {"cell": str(row.cell), "contenders": found}
