"""`make bench`: what the proxy costs beside its peers, and how fast keys are copied and compared.

    python -m tests.bench [SUITE...] [--rounds N] [--requests N] [--keys N] [--out FILE]

Redis 6.2 to Valkey 9. Suites: copy (backfill and verification), core (SET, GET and both mixed, 50
clients, pipelines of 1, 16 and 128), commands, clients, values. Throughput is a ratio to a direct
connection in the same round; rounds are interleaved. Without peers on this machine they are left
out by name. Figures of a machine that does something else meanwhile mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import load, rounds, stage
from .load import Cell
from .stage import Stage

DEPTHS = (1, 16, 128)
SUITES: dict[str, list[Cell]] = {
    "core": [Cell(command, depth) for command in ("SET", "GET", "mixed") for depth in DEPTHS],
    "commands": [
        Cell(command, depth)
        for command in ("INCR", "LPUSH", "HSET", "MSET 10")
        for depth in (1, 16)
    ],
    "clients": [
        Cell(command, 1, clients) for command in ("SET", "GET") for clients in (1, 500)
    ],
    "values": [
        Cell(command, 1, 50, size) for command in ("SET", "GET") for size in (1024, 65536)
    ],
}  # fmt: skip


async def copy_rates(on: Stage, keys: int) -> dict[str, float]:
    """Keys per second of a backfill and of a verification, from the verb to its end."""
    await stage.load(on.source, keys)
    began = time.perf_counter()
    await on.instance.ask("start", allow=[])
    await on.instance.until(lambda status: status["phase"] == "mirroring", "the backfill")
    backfill = keys / (time.perf_counter() - began)
    began = time.perf_counter()
    await on.instance.ask("verify")
    status = await on.instance.until(lambda s: not s["verify"]["running"], "the verification")
    assert status["verify"]["passed"], status["verify"]
    return {"backfill": backfill, "verify": keys / (time.perf_counter() - began)}


async def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    async with stage.staged(with_peers=not options.no_peers) as on:
        is_compiled = "hot path: compiled" in on.instance.log.read_text()
        result: dict[str, Any] = {
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "hot_path": "compiled" if is_compiled else "plain Python",
            "missing": on.missing,
            "keys": options.keys,
            "rounds": options.rounds,
        }
        console.print(
            f"{result['cpus']} CPUs, Python {result['python']}, hot path {result['hot_path']}"
            + (f"; not here: {', '.join(on.missing)}" if on.missing else "")
        )
        result["copy"] = await copy_rates(on, options.keys)
        console.print(
            f"backfill {result['copy']['backfill']:,.0f} keys/s, "
            f"verify {result['copy']['verify']:,.0f} keys/s ({options.keys:,} small keys)"
        )
        for name in options.suites:
            rows = result[name] = []
            for cell in SUITES.get(name, []):
                row = await rounds.measured(
                    cell, on.contenders, options.rounds, options.requests, on.settled
                )
                rows.append(row)
                console.print(line(row))
        status = await on.instance.status()
        result["unproven_keys"] = status["mirror"]["unproven_keys"]
        result["divergences"] = status["mirror"]["divergences"]
    return result


def line(row: dict[str, Any]) -> str:
    """One row as it was measured: progress for who waits."""
    found = ", ".join(
        f"{name} {each['ratio']:.2f}"
        for name, each in row["contenders"].items()
        if name != "direct"
    )
    return f"{row['cell']}: direct {row['direct_per_second']:,.0f}/s; {found}"


def tables(result: dict[str, Any]) -> list[Table]:
    """Throughput, CPU and latency of each suite."""
    made = []
    for suite in SUITES:
        rows = result.get(suite)
        if not rows:
            continue
        names = [name for name in rows[0]["contenders"] if name != "direct"]
        shown = Table(
            "", "direct/s", *names, title=f"{suite}: throughput / direct (lowest-highest)"
        )
        for row in rows:
            each = [row["contenders"][name] for name in names]
            shown.add_row(
                row["cell"],
                f"{row['direct_per_second']:,.0f}",
                *(f"{e['ratio']:.2f} ({e['lowest']:.2f}-{e['highest']:.2f})" for e in each),
            )
        made.append(shown)
        other = Table(
            "", "direct", *names, title=f"{suite}: p50 / p99 / p99.9 ms, and CPU us/command"
        )
        for row in rows:
            cells = []
            for name in ("direct", *names):
                found = row["contenders"][name]
                latency = " / ".join(f"{ms:.2f}" for ms in found["latency_ms"].values())
                cells.append(f"{latency}" + (f"  {found['cpu_us']:.1f}" if found["cpu_us"] else ""))
            other.add_row(row["cell"], *cells)
        made.append(other)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", default=["core"], metavar="SUITE")
    parser.add_argument("--keys", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--no-peers", action="store_true", help="Keyferry alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in (*SUITES, "copy")]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    console = Console(highlight=False)
    if load.program() is None:
        console.print("redis-benchmark is not on PATH: it is the load (Debian: redis-tools)")
        return 1
    result = asyncio.run(measure(options, console))
    for table in tables(result):
        console.print(table)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
