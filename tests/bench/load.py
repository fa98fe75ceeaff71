"""The load of a measurement: redis-benchmark's, and what it said of it.

Owns one run against one port. redis-benchmark is the load everywhere: what it costs is the same
for a direct connection and for each proxy.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# What stands in for a key and a value of its commands.
KEY = "key:__rand_int__"
VALUE = "{value}"

COMMANDS: dict[str, tuple[str, ...]] = {
    "SET": ("SET", KEY, VALUE),
    "GET": ("GET", KEY),
    "INCR": ("INCR", "n:__rand_int__"),
    "LPUSH": ("LPUSH", "l:__rand_int__", VALUE),
    "HSET": ("HSET", "h:__rand_int__", "field", VALUE),
    "MSET 10": ("MSET", *(word for _ in range(10) for word in (KEY, VALUE))),
}
# Two loads at once, half the clients each.
MIXED = ("SET", "GET")


@dataclass(frozen=True)
class Cell:
    """What is sent: one cell of the table."""

    command: str
    depth: int
    clients: int = 50
    size: int = 64

    def __str__(self) -> str:
        size = "" if self.size == 64 else f", {self.size} B"
        clients = "" if self.clients == 50 else f", {self.clients} clients"
        return f"{self.command} -P {self.depth}{clients}{size}"


@dataclass(frozen=True)
class Run:
    """What came of it. `latencies_ms`: percentile -> milliseconds. `cpu_us`: of the proxy."""

    per_second: float
    latencies_ms: dict[float, float]
    cpu_us: float = 0.0


def program() -> str | None:
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


async def run(port: int, cell: Cell, requests: int, pid: int | None = None) -> Run:
    """Raises RuntimeError with what it printed when it failed."""
    before = cpu_seconds(pid)
    if cell.command == "mixed":
        half = Cell("", cell.depth, max(1, cell.clients // 2), cell.size)
        runs = await asyncio.gather(*(_run(port, each, half, requests // 2) for each in MIXED))
        per_second = sum(each.per_second for each in runs)
        worst = {at: max(run.latencies_ms[at] for run in runs) for at in runs[0].latencies_ms}
    else:
        done = await _run(port, cell.command, cell, requests)
        per_second, worst = done.per_second, done.latencies_ms
    return Run(per_second, worst, (cpu_seconds(pid) - before) / requests * 1e6)


async def _run(port: int, command: str, cell: Cell, requests: int) -> Run:
    binary = program()
    assert binary is not None
    words = [word.replace(VALUE, "x" * cell.size) for word in COMMANDS[command]]
    process = await asyncio.create_subprocess_exec(
        binary, "-p", str(port), "-c", str(cell.clients), "-n", str(requests),
        "-P", str(cell.depth), "-r", "100000", "--precision", "3", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    rate = re.findall(rb"throughput summary: ([\d.]+) requests per second", output)
    if process.returncode or not rate or b"Error" in output:
        raise RuntimeError(f"{cell} on port {port}: {output[-500:].decode(errors='replace')}")
    steps = re.findall(rb"([\d.]+)% <= ([\d.]+) milliseconds", output)
    return Run(float(rate[-1]), percentiles([(float(p), float(ms)) for p, ms in steps]))


def percentiles(steps: list[tuple[float, float]]) -> dict[float, float]:
    """The first step at or past each percentile."""
    ordered = sorted(steps)
    return {
        wanted: next((ms for percent, ms in ordered if percent >= wanted), ordered[-1][1])
        for wanted in (50.0, 99.0, 99.9)
    }


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process so far; 0 without one, or where there is no /proc."""
    if pid is None:
        return 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    """0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
