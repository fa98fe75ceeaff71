"""What clients notice of a backfill, at half of what the proxy can serve.

Capacity and load are of one kind: `tests.bench.sender`, 50 clients, unpipelined, SET and GET
evenly. For the capacity there are several senders, each as fast as it can be, so that they have
whatever the proxy and the stores leave of the machine; half of that is then sent evenly by one,
whether replies come or not, and a latency counts from the moment at which its request was due.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from migrator.demo.instance import Instance
from migrator.servers import Server

from . import process
from .load import Cell, send
from .load import run as loaded
from .stage import fill, is_mirroring, mirrored
from .suites import Run

Json = dict[str, Any]
SHARE = 0.5
CLIENTS = 50
SENDERS = 2
CAPACITY_ROUNDS = 3
# Of a round; and of how long the throttle has to find its share.
SECONDS = 4.0
POLL_SECONDS = 0.005
MIXED = Cell("mixed", 1)


async def beside_clients(run: Run, source: Server, target: Server, instance: Instance) -> Json:
    """In turns: mirroring only, and beside a backfill that begins when the clients are there."""
    await fill(source.port, run.keys)
    await mirrored(instance)
    shape = {
        "mode": "load", "work": "mixed", "depth": 1, "clients": CLIENTS, "size": 64,
        "keys": run.keys,
    }  # fmt: skip
    found = await capacity(run, instance, shape)
    rate = SHARE * found["capacity"]
    steady = {**shape, "rate": rate, "seconds": SECONDS if not run.is_quick else run.seconds}
    without: list[Json] = []
    beside: list[Json] = []
    copied: list[float] = []
    covered: list[bool] = []
    for _ in range(run.rounds):
        run.tell(f"{rate:,.0f} commands/s, without a backfill")
        without.append(await send(instance.port, **steady))
        await instance.ask("cancel")
        target.cli("FLUSHALL")
        run.tell(f"{rate:,.0f} commands/s, beside a backfill")
        said, keys_per_second, is_whole = await beside_backfill(instance, steady)
        beside.append(said)
        copied.append(keys_per_second)
        covered.append(is_whole)
        await instance.until(is_mirroring, "the backfill")
    ratios = [
        with_["latency_ms"]["99.0"] / alone["latency_ms"]["99.0"]
        for alone, with_ in zip(without, beside, strict=True)
    ]
    run.tell("; p99 beside / without: " + ", ".join(f"{each:.2f}" for each in ratios))
    return {
        **found,
        "load": statistics.median(each["per_second"] for each in beside),
        "sender_busy": statistics.median(each["busy"] for each in without),
        "sender_late_ms": statistics.median(each["late_ms"]["99.0"] for each in without),
        "without": percentiles(without),
        "beside": percentiles(beside),
        "p99_ratio": statistics.median(ratios),
        "p99_ratios": sorted(ratios),
        "beside_keys": statistics.median(copied),
        "beside_whole": all(covered),
    }


def percentiles(said: list[Json]) -> Json:
    """The medians over the rounds, in milliseconds."""
    return {
        at: statistics.median(e["latency_ms"][at] for e in said) for at in said[0]["latency_ms"]
    }


async def capacity(run: Run, instance: Instance, shape: Json) -> Json:
    """Commands a second, of several senders at once; with what redis-benchmark finds beside it."""
    requests = run.requests // 2 // SENDERS
    each = {**shape, "clients": CLIENTS // SENDERS, "requests": requests}
    own, other, cores = [], [], []
    for _ in range(CAPACITY_ROUNDS):
        run.tell("the proxy's capacity")
        before = process.cpu_seconds(instance.pid)
        said = await asyncio.gather(*(send(instance.port, **each) for _ in range(SENDERS)))
        spent = process.cpu_seconds(instance.pid) - before
        per_second = sum(one["per_second"] for one in said)
        own.append(per_second)
        cores.append(spent * per_second / (requests * SENDERS))
        other.append((await loaded(instance.port, MIXED, run.requests)).per_second)
    return {
        "capacity": statistics.median(own),
        "capacity_cores": statistics.median(cores),
        "closed_loop": statistics.median(other),
    }


async def beside_backfill(instance: Instance, load: Json) -> tuple[Json, float, bool]:
    """What the load said, keys per second meanwhile, and whether all of the load had a backfill."""
    done = asyncio.create_task(send(instance.port, **load))
    while (await instance.status())["clients"] < load["clients"] and not done.done():
        await asyncio.sleep(POLL_SECONDS)
    await instance.ask("start", allow=[])
    began = time.perf_counter()
    # Not asked meanwhile: a status takes milliseconds, in which nobody is served.
    said = await done
    took = time.perf_counter() - began
    backfill = (await instance.status())["backfill"]
    return said, backfill["keys_done"] / took, backfill["running"]


def rows(found: Json) -> list[list[str]]:
    """Lines of the suite's table."""
    ratios = found["p99_ratios"]
    return [
        [f"the proxy's capacity, SET and GET evenly, {CLIENTS} clients of {SENDERS} of our senders",
         f"{found['capacity']:,.0f}/s, the proxy at {found['capacity_cores']:.0%} of a core"],
        ["redis-benchmark of the same, beside it", f"{found['closed_loop']:,.0f}/s"],
        ["half of the capacity, as the load came to it",
         f"{found['load']:,.0f}/s, the sender at {found['sender_busy']:.0%} of a core, "
         f"p99 of its own lateness {found['sender_late_ms']:.2f} ms"],
        ["clients' p50 / p99 / p99.9 without a backfill", latencies(found["without"])],
        ["clients' p50 / p99 / p99.9 beside one", latencies(found["beside"])],
        ["p99 beside one / without: median of rounds (lowest–highest)",
         f"{found['p99_ratio']:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"],
        ["the backfill beside them", f"{found['beside_keys']:,.0f} keys/s"
         + ("" if found["beside_whole"] else ", over before the load was")],
    ]  # fmt: skip


def latencies(of: Json) -> str:
    return " / ".join(f"{ms:.2f}" for ms in of.values()) + " ms"
