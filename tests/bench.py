"""`make bench`: how fast keys are copied and compared, and what the proxy costs.

    python -m tests.bench [--keys N] [--rounds N] [--requests N] [--out FILE]

Redis 6.2 to Valkey 9, the product as a process of its own. Backfill and verification without
traffic; then throughput through the proxy, mirror on, as a ratio to a direct connection in the
same round (rounds interleaved, medians). The load is redis-benchmark's where it is on PATH.
Figures of a machine that does something else meanwhile mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from migrator.bulk import Bulk, pack
from migrator.demo.instance import Instance
from migrator.servers import Server, find_engine
from proxy.endpoint import Endpoint

CLIENTS = 50
VALUE = b"x" * 64
DEPTHS = (1, 16)
COMMANDS = ("set", "get")
BATCH = 5_000


async def load(server: Server, keys: int) -> None:
    """Small strings."""
    bulk = await Bulk.open(Endpoint.parse(server.url, "bench"))
    for at in range(0, keys, BATCH):
        numbers = range(at, min(at + BATCH, keys))
        batch = b"".join(pack((b"SET", b"key:%012d" % number, VALUE)) for number in numbers)
        await bulk.pipeline(batch, len(numbers))
    bulk.close()
    await bulk.wait_closed()


@contextlib.asynccontextmanager
async def running(source: Server, target: Server) -> AsyncIterator[Instance]:
    with tempfile.TemporaryDirectory() as directory:
        instance = Instance(source.url, target.url, Path(directory))
        try:
            await instance.start()
            yield instance
        finally:
            await instance.stop()


async def copy_rates(instance: Instance, keys: int) -> tuple[float, float]:
    """Keys per second of a backfill and of a verification, from the verb to its end."""
    began = time.perf_counter()
    await instance.ask("start", allow=[])
    await instance.until(lambda status: status["phase"] == "mirroring", "the backfill")
    backfill = keys / (time.perf_counter() - began)
    began = time.perf_counter()
    await instance.ask("verify")
    status = await instance.until(lambda s: not s["verify"]["running"], "the verification")
    assert status["verify"]["passed"], status["verify"]
    return backfill, keys / (time.perf_counter() - began)


async def throughput(port: int, command: str, depth: int, requests: int) -> float:
    """Commands per second of 50 clients."""
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if program is None:
        return await own_load(port, command, depth, requests)
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(port), "-c", str(CLIENTS), "-n", str(requests), "-P", str(depth),
        "-t", command, "-d", str(len(VALUE)), "-r", "100000", "-q",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    found = re.findall(rb"([\d.]+) requests per second", output)
    assert found, output
    return float(found[-1])


async def own_load(port: int, command: str, depth: int, requests: int) -> float:
    """The same from Python, whose own cost is in both of what is compared."""
    rounds = max(1, requests // (CLIENTS * depth))

    async def client(number: int) -> None:
        bulk = await Bulk.open(Endpoint.parse(f"redis://127.0.0.1:{port}", "bench"))
        key = b"key:%012d" % number
        one = pack((b"SET", key, VALUE) if command == "set" else (b"GET", key))
        for _ in range(rounds):
            await bulk.pipeline(one * depth, depth)
        bulk.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return rounds * depth * CLIENTS / (time.perf_counter() - began)


async def ratios(
    instance: Instance, source: Server, peer: Server, rounds: int, requests: int
) -> list[dict[str, Any]]:
    """One row per command and depth: medians of the direct rate and of the ratios."""
    rows = []
    for depth in DEPTHS:
        for command in COMMANDS:
            count = requests * (4 if depth > 1 else 1)
            direct, through, other = [], [], []
            for _ in range(rounds):
                base = await throughput(source.port, command, depth, count)
                direct.append(base)
                through.append(await throughput(instance.port, command, depth, count) / base)
                other.append(await throughput(peer.port, command, depth, count) / base)
                await instance.until(lambda s: not s["mirror"]["lag_operations"], "the mirror")
            rows.append(
                {
                    "command": command.upper(), "depth": depth,
                    "direct_per_second": statistics.median(direct),
                    "proxied_ratio": statistics.median(through),
                    "lowest_ratio": min(through),
                    "peer_ratio": statistics.median(other),
                }
            )  # fmt: skip
    return rows


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    with Server(find_engine("redis", 6)) as source, Server(find_engine("valkey", 9)) as target:
        await load(source, options.keys)
        # The noise of the method: a second server of the source's kind, asked directly.
        with Server(find_engine("redis", 6)) as peer:
            async with running(source, target) as instance:
                backfill, verify = await copy_rates(instance, options.keys)
                rows = await ratios(instance, source, peer, options.rounds, options.requests)
                status = await instance.status()
                is_compiled = "hot path: compiled" in instance.log.read_text()
    return {
        "keys": options.keys,
        "backfill_keys_per_second": backfill,
        "verify_keys_per_second": verify,
        "load": "redis-benchmark" if shutil.which("redis-benchmark") else "own",
        "cpus": os.cpu_count(),
        "hot_path": "compiled" if is_compiled else "plain Python",
        "unproven_keys": status["mirror"]["unproven_keys"],
        "divergences": status["mirror"]["divergences"],
        "throughput": rows,
    }


def show(result: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(
        f"{result['cpus']} CPUs, hot path {result['hot_path']}, load by {result['load']}, "
        f"{CLIENTS} clients, {len(VALUE)}-byte values"
    )
    if result["load"] == "own":
        console.print("No redis-benchmark on PATH: the load is a small one in Python.")
    console.print(
        f"backfill {result['backfill_keys_per_second']:,.0f} keys/s, "
        f"verify {result['verify_keys_per_second']:,.0f} keys/s ({result['keys']:,} small keys)"
    )
    table = Table("", "direct/s", "proxied", "lowest", "a second server")
    for row in result["throughput"]:
        table.add_row(
            f"{row['command']} -P {row['depth']}",
            f"{row['direct_per_second']:,.0f}",
            *(f"{row[name]:.2f}" for name in ("proxied_ratio", "lowest_ratio", "peer_ratio")),
        )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    result = asyncio.run(measure(options))
    show(result)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
