"""Many things: idle connections, connections that come and go, many keys, many clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from migrator.servers import Server

from . import process
from .load import LoadError, send
from .stage import MIRRORING, Contender, default_engines, fill, keyferry, mirrored, staged
from .suites import Run

Json = dict[str, Any]
KIB = 1024
IDLE_SECONDS = 120.0
CHURN_PER_SECOND = 1_000
# A rate that each of them serves with time left: what differs is what a command costs.
GROWTH_PER_SECOND = 10_000
KEYS = (1_000, 100_000, 1_000_000, 10_000_000)
CLIENTS = (10, 100, 1_000)
KEYS_BESIDE_CLIENTS = 100_000
# HAProxy and a store have a connection for each: the limit would be the store's.
PASS_THROUGH = ("direct", "HAProxy")


async def connections(run: Run) -> Json:
    """`run.connections` clients, each has asked once and is silent then."""
    count = run.connections
    figures: Json = {"connections": count}
    table = []
    async with staged(peers=run.peers, max_clients=count + 100) as on:
        for each in on.contenders:
            if each.name in PASS_THROUGH:
                continue
            run.tell(f"{count:,} idle connections to {each.name}")
            before = process.resident_bytes(each.pid)
            try:
                async with idle(each.port, count):
                    after = process.resident_bytes(each.pid)
            except LoadError as error:
                table.append([each.name, str(error)[-120:], "", ""])
                continue
            kib = (after - before) / KIB / count
            figures[each.name] = {"kib_each": round(kib, 2), "resident": after}
            table.append([each.name, f"{kib:.1f}", f"{before / 2**20:.1f}", f"{after / 2**20:.1f}"])
        columns = ["", "KiB each", "RSS before, MiB", "RSS with them, MiB"]
        return {
            "figures": figures, "table": {"columns": columns, "rows": table}, "missing": on.missing,
            "notes": [f"{count:,} connections, each of which has sent one SET."],
        }  # fmt: skip


@contextlib.asynccontextmanager
async def idle(port: int, count: int) -> Any:
    """That many connections, all answered, while the context holds. Raises LoadError."""
    options = json.dumps({"port": port, "mode": "idle", "clients": count})
    keeper = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.sender", options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert keeper.stdout is not None and keeper.stdin is not None and keeper.stderr is not None
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            if not await keeper.stdout.readline():
                raise LoadError((await keeper.stderr.read()).decode(errors="replace"))
        yield
    except TimeoutError:
        raise LoadError(f"they were not open after {IDLE_SECONDS:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            keeper.kill()
        keeper.stdin.close()
        # To its end: what it printed is read, and nothing of it stays open.
        await keeper.communicate()


async def churn(run: Run) -> Json:
    """Connections per second that come, ask once and go."""
    figures: Json = {"wanted_per_second": CHURN_PER_SECOND}
    table = []
    async with staged(peers=run.peers) as on:
        for each in on.contenders:
            run.tell(f"{CHURN_PER_SECOND:,} connections/s to {each.name}")
            cpu = process.cpu_seconds(each.pid)
            said = await send(each.port, mode="churn", rate=CHURN_PER_SECOND, seconds=run.seconds)
            cpu = process.cpu_seconds(each.pid) - cpu
            each_us = cpu / (CHURN_PER_SECOND * run.seconds) * 1e6
            resident = process.resident_bytes(each.pid)
            figures[each.name] = {**said, "cpu_us": round(each_us, 1), "resident": resident}
            latency = " / ".join(f"{ms:.2f}" for ms in said["latency_ms"].values())
            cost = [f"{each_us:.0f}", f"{resident / 2**20:.1f}"] if each.pid else ["", ""]
            rate = f"{said['per_second']:,.0f}"
            table.append([each.name, rate, str(said["failed"]), latency, *cost])
        columns = ["", "connections/s", "failed", "connect to reply, p50 / p99 / p99.9 ms",
                   "CPU us each", "RSS at the end, MiB"]  # fmt: skip
        return {
            "figures": figures, "table": {"columns": columns, "rows": table}, "missing": on.missing,
            "notes": [f"{CHURN_PER_SECOND:,} new connections a second for {run.seconds:g} s: "
                      "connect, one SET, its reply, close."],
        }  # fmt: skip


async def growth(run: Run) -> Json:
    """CPU per command at one rate: over more and more keys, and over more and more clients."""
    sizes = [size for size in KEYS if size <= run.most_keys]
    redis, valkey = default_engines()
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        of_size: dict[int, Contender] = {}
        for size in sorted({*sizes, KEYS_BESIDE_CLIENTS}):
            run.tell(f"a store of {size:,} keys, mirrored")
            source = stack.enter_context(Server(redis))
            target = stack.enter_context(Server(valkey))
            await fill(source.port, size)
            instance = await stack.enter_async_context(
                keyferry(source.url, target.url, directory / str(size))
            )
            await mirrored(instance)
            of_size[size] = Contender(MIRRORING, instance.port, instance.pid)
        cases = [(f"{size:,} keys", of_size[size], size, 50) for size in sizes]
        cases += [
            (f"{n:,} clients", of_size[KEYS_BESIDE_CLIENTS], KEYS_BESIDE_CLIENTS, n)
            for n in CLIENTS
        ]
        found: dict[str, list[Json]] = {name: [] for name, *_ in cases}
        # Interleaved: what differs then is the case, and not the minute.
        for _ in range(run.few_rounds):
            for name, on, keys, clients in cases:
                run.tell(name)
                said = await send(
                    on.port, mode="load", work="mixed", depth=1, clients=clients, size=64,
                    keys=keys, rate=GROWTH_PER_SECOND, seconds=run.seconds / 2, pid=on.pid,
                )  # fmt: skip
                found[name].append(said)
        resident = {name: process.resident_bytes(on.pid) for name, on, *_ in cases}
    figures: Json = {"keys": {}, "clients": {}}
    table = []
    for name, said in found.items():
        number, kind = name.split(" ")
        cpu = statistics.median(each["cpu_us"] for each in said)
        latencies = [statistics.median(each["latency_ms"][at] for each in said) for at in PERCENTS]
        figures[kind][number.replace(",", "")] = round(cpu, 3)
        table.append(
            [name, f"{cpu:.2f}", " / ".join(f"{ms:.2f}" for ms in latencies),
             f"{resident[name] / 2**20:.1f}"]
        )  # fmt: skip
    columns = ["", "CPU us per command", "p50 / p99 / p99.9 ms", "RSS, MiB"]
    return {
        "figures": figures, "table": {"columns": columns, "rows": table},
        "notes": [f"SET and GET evenly, mirrored, unpipelined, {GROWTH_PER_SECOND:,} commands a "
                  f"second in all: 50 clients over more and more keys, then more and more clients "
                  f"over {KEYS_BESIDE_CLIENTS:,} keys."],
    }  # fmt: skip


PERCENTS = ("50.0", "99.0", "99.9")
