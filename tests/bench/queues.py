"""Queues: producers push, workers wait in BLPOP; what comes through, and how soon.

The load is `tests.bench.sender`, which needs about as long for an element as a proxy does: a ratio
is of what both can do together, on a machine of few cores.
"""

from __future__ import annotations

import statistics
from typing import Any

from . import process
from .load import send
from .stage import DIRECT, MIRRORING, PROXY_ONLY, staged
from .suites import Run

Json = dict[str, Any]
# Name, workers, producers.
SHAPES = (("workers wait", 45, 5), ("elements wait", 5, 45))


async def queues(run: Run) -> Json:
    """Without peers: Envoy and nutcracker serve no BLPOP."""
    figures: Json = {}
    requests = run.requests // 4
    async with staged(peers=()) as on:
        contenders = [e for e in on.contenders if e.name in (DIRECT, PROXY_ONLY, MIRRORING)]
        for shape, workers, producers in SHAPES:
            found: dict[str, list[Json]] = {each.name: [] for each in contenders}
            for _ in range(run.rounds):
                for each in contenders:
                    run.tell(f"{shape}, {each.name}")
                    cpu = process.cpu_seconds(each.pid)
                    said = await send(
                        each.port, mode="queue", workers=workers, producers=producers,
                        requests=requests,
                    )  # fmt: skip
                    await each.settled()
                    said["cpu_us"] = (process.cpu_seconds(each.pid) - cpu) / requests * 1e6
                    found[each.name].append(said)
            base = [each["per_second"] for each in found[DIRECT]]
            figures[shape] = {
                name: {
                    "per_second": statistics.median(e["per_second"] for e in said),
                    "ratio": statistics.median(
                        e["per_second"] / b for e, b in zip(said, base, strict=True)
                    ),
                    "cpu_us": statistics.median(e["cpu_us"] for e in said),
                    "latency_ms": {
                        at: statistics.median(e["latency_ms"][at] for e in said)
                        for at in said[0]["latency_ms"]
                    },
                }
                for name, said in found.items()
            }
    rows = [
        [f"{shape}: {workers} workers, {producers} producers; {name}",
         f"{of['per_second']:,.0f}", f"{of['ratio']:.2f}",
         " / ".join(f"{ms:.2f}" for ms in of["latency_ms"].values()),
         f"{of['cpu_us']:.1f}" if of["cpu_us"] else ""]
        for shape, workers, producers in SHAPES
        for name, of in figures[shape].items()
    ]  # fmt: skip
    columns = [
        "",
        "elements/s",
        "of direct",
        "push to arrival, p50 / p99 / p99.9 ms",
        "CPU µs each",
    ]
    return {
        "figures": figures, "table": {"columns": columns, "rows": rows},
        "notes": ["RPUSH of one element after another by each producer, BLPOP by each worker; "
                  "every element came once."],
    }  # fmt: skip
