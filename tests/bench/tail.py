"""p99.9 under load beside Envoy's, in rounds of their own: one of a thousand wants many samples.

Runs are so long that their beginning, in which all clients connect at once, is far less than a
thousandth of them. Both take turns, and what is compared is their ratio in the same round.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from . import rounds
from .load import Cell
from .peers import Envoy, MirroringEnvoy
from .stage import MIRRORING, staged
from .suites import Run

Json = dict[str, Any]
# For each round elsewhere, and for each request of a run elsewhere.
TIMES_ROUNDS = 2
TIMES_REQUESTS = 2
# A mirror beside a mirror; reads are not mirrored by either.
BESIDE = {"SET": MirroringEnvoy, "GET": Envoy, "mixed": MirroringEnvoy}


async def tail(run: Run) -> Json:
    figures: Json = {}
    table = []
    peers = (Envoy, MirroringEnvoy) if run.with_peers else ()
    async with staged(peers=peers) as on:
        for command, kind in BESIDE.items():
            cell = Cell(command, 1)
            pair = [each for each in on.contenders if each.name in (MIRRORING, kind.name)]
            if len(pair) < 2:
                continue
            await on.lay(cell)
            said: dict[str, list[float]] = {each.name: [] for each in pair}
            for at in range(TIMES_ROUNDS * run.rounds):
                run.tell(f"{cell}, p99.9")
                # Neither is always the first.
                for each in pair if at % 2 else pair[::-1]:
                    done = await rounds.once(each, cell, TIMES_REQUESTS * run.requests)
                    said[each.name].append(done.run.latencies_ms["99.9"])
            ratios = [a / b for a, b in zip(said[MIRRORING], said[kind.name], strict=True)]
            low, high = bounds_of_median(ratios)
            figures[command] = {
                "peer": kind.name, "own_ms": statistics.median(said[MIRRORING]),
                "peer_ms": statistics.median(said[kind.name]),
                "ratio": statistics.median(ratios), "low": low, "high": high,
            }  # fmt: skip
            found = figures[command]
            table.append(
                [str(cell), f"{found['own_ms']:.2f}", kind.name, f"{found['peer_ms']:.2f}",
                 f"{found['ratio']:.2f} ({low:.2f}–{high:.2f})"]
            )  # fmt: skip
        columns = ["", f"{MIRRORING}, ms", "beside", "ms", "ratio of a round"]
        return {
            "figures": figures, "table": {"columns": columns, "rows": table}, "missing": on.missing,
            "notes": [f"p99.9, 50 clients; medians of {TIMES_ROUNDS * run.rounds} rounds of "
                      f"{TIMES_REQUESTS * run.requests:,} commands. Of the ratio also the bounds "
                      "between which its true median lies, in 95% of cases."],
        }  # fmt: skip


def bounds_of_median(values: Sequence[float]) -> tuple[float, float]:
    """Between which the median lies of all that could have been measured, in 95% of cases.

    By order alone: each value is above that median or below it, like a coin. Of fewer than six
    values nothing can be said: then it is all of them.
    """
    ordered, count = sorted(values), len(values)
    at, missed = 0, 2 / 2**count
    while (missed := missed + 2 * math.comb(count, at + 1) / 2**count) <= 0.05:
        at += 1
    return ordered[at], ordered[-1 - at]
