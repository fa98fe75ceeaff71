"""The load of a measurement: what is sent, one run of it, and what it said.

redis-benchmark is the load wherever it can be: what it costs is the same for a direct connection
and for each proxy, and it is faster than all of them. `tests.bench.sender` is the other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What stands in for a key and a value of its commands.
KEY = "key:__rand_int__"
VALUE = "{value}"
# redis-benchmark tries for ever where nobody listens.
RUN_SECONDS = 120.0

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
# What redis-benchmark cannot send.
OWN = ("MULTI 4",)
# Bytes of all keys together, so that a store holds the large values, and a read finds them.
KEYS_BYTES = 100 * 1024 * 1024
MOST_KEYS = 100_000


class LoadError(Exception):
    """A load did not come through: what it said last."""


@dataclass(frozen=True)
class Cell:
    """What is sent: one cell of the table. A command of 10 or 4 counts as one."""

    command: str
    depth: int
    clients: int = 50
    size: int = 64

    def __str__(self) -> str:
        size = {64: "", 1024: ", 1 KiB", 65536: ", 64 KiB"}.get(self.size, f", {self.size} B")
        clients = {50: "", 1: ", 1 client"}.get(self.clients, f", {self.clients} clients")
        return f"{self.command} -P {self.depth}{clients}{size}"

    @property
    def keys(self) -> int:
        """How many there are, for all kinds of values and commands."""
        return max(100, min(MOST_KEYS, KEYS_BYTES // self.size))

    @property
    def reads(self) -> bool:
        return self.command in ("GET", "mixed")


@dataclass(frozen=True)
class Run:
    """What came of it. `latencies_ms`: percentile ("50.0") -> milliseconds."""

    per_second: float
    latencies_ms: dict[str, float]


def program() -> str | None:
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


async def run(port: int, cell: Cell, requests: int, *, ca: Path | None = None) -> Run:
    """Raises LoadError. With `ca`, over TLS."""
    if cell.command in OWN:
        said = await send(
            port, mode="load", work=cell.command, depth=cell.depth, clients=cell.clients,
            size=cell.size, keys=cell.keys, requests=requests,
        )  # fmt: skip
        return Run(said["per_second"], said["latency_ms"])
    if cell.command != "mixed":
        return await _benchmark(port, cell.command, cell, requests, ca)
    half = Cell("", cell.depth, max(1, cell.clients // 2), cell.size)
    runs = await asyncio.gather(*(_benchmark(port, c, half, requests // 2, ca) for c in MIXED))
    worst = {at: max(each.latencies_ms[at] for each in runs) for at in runs[0].latencies_ms}
    # Both began together: the slower one's end is the end of both.
    took = max(requests // 2 / each.per_second for each in runs)
    return Run(requests // 2 * 2 / took, worst)


async def _benchmark(port: int, command: str, cell: Cell, requests: int, ca: Path | None) -> Run:
    binary = program()
    assert binary is not None, "looked for at start"
    words = [word.replace(VALUE, "x" * cell.size) for word in COMMANDS[command]]
    output = await _output(
        binary, "-p", str(port), "-c", str(cell.clients), "-n", str(requests),
        "-P", str(cell.depth), "-r", str(cell.keys), "--precision", "3",
        *(("--tls", "--cacert", str(ca)) if ca else ()), *words,
    )  # fmt: skip
    return understood(output.decode(errors="replace"))


def understood(output: str) -> Run:
    """What redis-benchmark printed. Raises LoadError where that is no result."""
    rate = re.search(r"throughput summary: ([\d.]+) requests per second", output)
    columns = r"\s+([\d.]+)" * 6
    exact = re.search(rf"avg\s+min\s+p50\s+p95\s+p99\s+max{columns}", output)
    if rate is None or exact is None or "Error" in output:
        raise LoadError(output.strip()[-300:])
    # The summary has no p99.9; the distribution has it in steps, the first one past it is 99.902%.
    steps = re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", output)
    ordered = sorted((float(percent), float(ms)) for percent, ms in steps)
    last = next((ms for percent, ms in ordered if percent >= 99.9), ordered[-1][1])
    return Run(float(rate[1]), {"50.0": float(exact[3]), "99.0": float(exact[5]), "99.9": last})


async def send(port: int, **options: Any) -> dict[str, Any]:
    """What `tests.bench.sender` says of these options. Raises LoadError."""
    words = json.dumps({"port": port, **options})
    output = await _output(sys.executable, "-m", "tests.bench.sender", words)
    said: dict[str, Any] = json.loads(output)
    return said


async def _output(*words: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(RUN_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise LoadError(f"{Path(words[0]).name} did not end in {RUN_SECONDS:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.returncode:
        raise LoadError(output.decode(errors="replace").strip()[-300:])
    return output
