"""What is measured, by name: each target of the project is answered by one row of one suite.

Not the full product of commands, pipelines, clients, values and states: each suite varies what it
is about, and leaves the rest as it is in `core`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from migrator.config import OPTIONS
from migrator.servers import Server, ServerError, find_engine, free_port

from . import rounds
from .load import Cell, send
from .peers import PEERS, Envoy, Files, MirroringEnvoy, Peer
from .stage import (
    DIRECT,
    MIRRORING,
    PROXY_ONLY,
    Contender,
    Stage,
    default_engines,
    fill,
    joined,
    keyferry,
    mirrored,
    staged,
)

Json = dict[str, Any]
NO_SHIFT = "Keyferry, reads at 0%"
SHIFTED = "Keyferry, reads at 50%"
COPYING = "Keyferry, backfilling"


class Skipped(Exception):
    """A suite that cannot be run here: why."""


@dataclass
class Run:
    """How much is measured, and who is told of it. `tell` is called now and then with a text."""

    rounds: int = 5
    requests: int = 60_000
    keys: int = 1_000_000
    most_keys: int = 1_000_000
    large_bytes: int = 1 << 30
    value_bytes: int = 1 << 29
    connections: int = 10_000
    seconds: float = 6.0
    is_quick: bool = False
    with_peers: bool = True
    tell: Callable[[str], None] = lambda text: None

    @property
    def peers(self) -> Sequence[type[Peer]]:
        return PEERS if self.with_peers else ()

    @property
    def few_rounds(self) -> int:
        """For what is not a target of its own."""
        return max(1, min(3, self.rounds))


Suite = Callable[[Run], Awaitable[Json]]

# Rounds of `core` for one elsewhere, each as much shorter.
CORE_PARTS = 2
CORE = [Cell(command, depth) for command in ("SET", "GET", "mixed") for depth in (1, 16, 128)]
COMMANDS = [
    Cell(command, depth)
    for command in ("INCR", "LPUSH", "HSET", "MSET 10", "MULTI 4")
    for depth in (1, 16)
]
CLIENTS = [Cell(command, 1, clients) for clients in (1, 500) for command in ("SET", "GET")]
VALUES = [
    Cell(command, depth, 50, size)
    for size, depth in ((1024, 1), (1024, 16), (65536, 1))
    for command in ("SET", "GET")
]
STATES = [Cell(command, depth) for command in ("SET", "GET") for depth in (1, 16)]
READS = [Cell("GET", depth) for depth in (1, 16, 128)]


async def rows_of(
    run: Run,
    cells: Sequence[Cell],
    contenders: Sequence[Contender],
    times: int,
    lay: Callable[[Cell], Awaitable[None]] | None = None,
) -> list[Json]:
    rows = []
    for cell in cells:
        if lay is not None:
            await lay(cell)
        row = await rounds.measured(
            cell, contenders, times, run.requests, lambda cell=cell: run.tell(str(cell))
        )
        run.tell(line(row))
        rows.append(row)
    return rows


def line(row: Json) -> str:
    """One row as it was measured: progress for who waits."""
    found = [
        f"{name} {each['ratio']:.2f}" if "ratio" in each else f"{name} -"
        for name, each in row["contenders"].items()
        if name != DIRECT
    ]
    base = row["contenders"].get(DIRECT, {}).get("per_second", 0.0)
    return f"{row['cell']}: direct {base:,.0f}/s; {', '.join(found)}"


async def throughput(
    run: Run,
    cells: Sequence[Cell],
    times: int,
    also: Callable[[Run, Stage], Awaitable[Json]] | None = None,
) -> Json:
    """All contenders, cell by cell; `also` measures more of them at the end."""
    async with staged(peers=run.peers) as on:
        rows = []
        for cell in cells:
            if not (cell.reads and on.laid == cell.size):
                await on.clear()
            rows += await rows_of(run, [cell], on.contenders, times, on.lay)
        more = await also(run, on) if also is not None else {}
        return {"rows": rows, "missing": on.missing, "notes": await correctness(on), **more}


async def correctness(on: Stage) -> list[str]:
    """What the mirror says of itself when all is over."""
    mirror = (await on.mirroring.status())["mirror"]
    if mirror["unproven_keys"] or mirror["divergences"]:
        return [f"{mirror['divergences']} divergences, {mirror['unproven_keys']} keys owed"]
    return ["Behind all runs: no divergence, no key that awaits a copy."]


async def core(run: Run) -> Json:
    """More rounds than elsewhere, and shorter ones.

    Unpipelined the same load runs in large batches or in small ones, and stays in that for a
    second or longer: few long rounds would be a throw of dice.
    """
    short = replace(run, requests=run.requests // CORE_PARTS)
    return await throughput(short, CORE, run.rounds * CORE_PARTS)


async def commands(run: Run) -> Json:
    return await throughput(run, COMMANDS, run.few_rounds)


async def clients(run: Run) -> Json:
    return await throughput(run, CLIENTS, run.few_rounds, one_client)


async def one_client(run: Run, on: Stage) -> Json:
    """What one unpipelined client waits; redis-benchmark tells that in steps of 8 µs only."""
    found: dict[str, dict[str, list[Json]]] = {}
    for _ in range(run.rounds):
        for command in ("SET", "GET"):
            await on.lay(Cell("GET", 1))
            for each in on.contenders:
                run.tell(f"{command}, one client, {each.name}")
                said = await send(
                    each.port, mode="load", work=command, depth=1, clients=1, size=64,
                    keys=Cell(command, 1).keys, requests=run.requests // 6,
                )  # fmt: skip
                found.setdefault(each.name, {}).setdefault(command, []).append(said["latency_ms"])
                await each.settled()
    figures: Json = {
        name: {
            command: {at: statistics.median(each[at] for each in said) * 1e3 for at in said[0]}
            for command, said in of.items()
        }
        for name, of in found.items()
    }
    rows = [
        [name, *(" / ".join(f"{us:.1f}" for us in of[c].values()) for c in ("SET", "GET")),
         *(f"{of[c]['50.0'] - figures[DIRECT][c]['50.0']:+.1f}" for c in ("SET", "GET"))]
        for name, of in figures.items()
    ]  # fmt: skip
    percents = "one client, p50 / p99 / p99.9 µs"
    columns = ["", f"SET, {percents}", f"GET, {percents}", "SET, p50 over direct, µs",
               "GET, p50 over direct, µs"]  # fmt: skip
    return {"figures": figures, "table": {"columns": columns, "rows": rows}}


async def values(run: Run) -> Json:
    return await throughput(run, VALUES, run.few_rounds)


async def shift(run: Run) -> Json:
    """The same process and stores, with no reads shifted and with half of them, in turns."""
    async with staged(peers=()) as on:
        await on.mirroring.ask("verify")
        await on.mirroring.until(lambda s: not s["verify"]["running"], "the verification")

        def at(percent: int) -> Callable[[], Awaitable[object]]:
            return lambda: on.mirroring.ask("shift", percent=percent)

        direct, _, proxy = on.contenders
        shifted = [
            Contender(name, proxy.port, proxy.pid, before=at(percent), settled=proxy.settled)
            for name, percent in ((NO_SHIFT, 0), (SHIFTED, 50))
        ]
        cells = [*READS, Cell("mixed", 16)]
        rows = await rows_of(run, cells, [direct, *shifted], run.rounds, on.lay)
        return {"rows": rows, "notes": await correctness(on)}


async def backfilling(run: Run) -> Json:
    """Beside a backfill that begins anew before each load, and is not over behind it."""
    redis, valkey = default_engines()
    moved: list[float] = []
    async with staged(peers=()) as on:
        with Server(redis) as source, Server(valkey) as target:
            await fill(source.port, 3 * run.keys)
            folder = on.directory / "backfilling"
            async with keyferry(source.url, target.url, folder) as instance:

                async def begin() -> None:
                    if (await instance.status())["phase"] != "idle":
                        await instance.ask("cancel")
                    target.cli("FLUSHALL")
                    await instance.ask("start", allow=[])
                    await instance.until(lambda s: s["backfill"]["keys_done"] > 0, "a first key")

                async def over() -> float:
                    backfill = (await instance.status())["backfill"]
                    if backfill["running"]:
                        moved.append(backfill["keys_per_second"])
                    return 0.0

                direct, idle, mirroring = on.contenders
                copying = Contender(COPYING, instance.port, instance.pid, None, begin, over)
                rows = await rows_of(
                    run, STATES, [direct, idle, mirroring, copying], run.few_rounds, on.lay
                )
    tries = (run.few_rounds + 1) * len(STATES)
    rate = sorted(moved)[len(moved) // 2] if moved else 0.0
    return {
        "rows": rows,
        "figures": {"keys_per_second_beside_load": rate},
        "notes": [
            f"The backfill of {3 * run.keys:,} keys was under way behind {len(moved)} of {tries} "
            f"loads, then at {rate:,.0f} keys/s (median).",
        ],
    }


@contextlib.asynccontextmanager
async def tls_stage(run: Run) -> AsyncIterator[tuple[list[Contender], Stage]]:
    """Every connection over TLS: of the load, and to each store, which speak it themselves.

    Raises Skipped where a part of that is missing.
    """
    if not {"tls_cert", "source_tls_ca"} <= {option.name for option in OPTIONS}:
        raise Skipped("this Keyferry serves no TLS")
    if importlib.util.find_spec("trustme") is None:
        raise Skipped("trustme is not installed: it makes the certificates")
    from tests.tls import Authority, speaks_tls, tls_arguments

    try:
        redis = find_engine("redis", 7)
    except ServerError as error:
        raise Skipped(str(error)) from None
    if not speaks_tls(redis):
        raise Skipped(f"{redis} was built without TLS")
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(directory)
        files = Files(*authority.server, authority.ca)
        ports = [free_port() for _ in range(4)]
        servers = [
            stack.enter_context(Server(redis, args=tls_arguments(authority, port)))
            for port in ports
        ]
        own = ["--tls-cert", str(files.certificate), "--tls-key", str(files.key)]
        own += ["--source-tls-ca", str(files.ca), "--target-tls-ca", str(files.ca)]
        urls = [f"rediss://127.0.0.1:{port}" for port in ports]
        made = [
            await stack.enter_async_context(keyferry(first, second, directory / name, own))
            for name, first, second in (("mirroring", *urls[:2]), ("idle", *urls[2:]))
        ]
        stage = Stage(*servers, directory, *made)
        await mirrored(stage.mirroring)
        contenders = [
            Contender(DIRECT, ports[2], None, files.ca),
            Contender(PROXY_ONLY, made[1].port, made[1].pid, files.ca),
            Contender(MIRRORING, made[0].port, made[0].pid, files.ca, settled=stage.drained),
        ]
        peers = (Envoy, MirroringEnvoy) if run.with_peers else ()
        contenders += joined(stack, peers, stage, (ports[2], ports[3]), files)
        yield contenders, stage


async def tls(run: Run) -> Json:
    async with tls_stage(run) as (contenders, stage):
        # Plain ports are there as well: keys are laid past the proxies, before the mirror looks.
        for server in (stage.spare, stage.source, stage.target):
            await fill(server.port, Cell("GET", 1).keys)
        rows = await rows_of(run, STATES, contenders, run.rounds)
        notes = [f"{stage.source.engine} on both sides, certificates of 256-bit ECDSA."]
        return {"rows": rows, "missing": stage.missing, "notes": notes + await correctness(stage)}
