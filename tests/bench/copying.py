"""How fast keys are copied and compared, what clients notice of it, and one very large value."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from migrator.bulk import Bulk, pack
from migrator.demo.instance import Instance
from migrator.servers import Server
from proxy.endpoint import Endpoint

from . import beside, process
from .beside import latencies
from .load import LoadError, send
from .stage import default_engines, fill, is_mirroring, keyferry, staged
from .suites import Run

Json = dict[str, Any]
POLL_SECONDS = 0.01
DEADLINE_SECONDS = 600.0
LARGE_VALUE = 8 << 20
# Elements of large keys, bytes; and how much of them one key has.
ELEMENT = 256
MEMBER = 64
LARGE_KEY = 4 << 20
AT_ONCE = 512
PROBES_PER_SECOND = 500


@contextlib.asynccontextmanager
async def pair(name: str) -> AsyncIterator[tuple[Server, Server, Callable[[], Any]]]:
    """A source, a target, and what gives a Keyferry between them."""
    redis, valkey = default_engines()
    with tempfile.TemporaryDirectory() as folder, Server(redis) as source, Server(valkey) as target:
        path = Path(folder) / name
        yield source, target, lambda: keyferry(source.url, target.url, path)


async def copy(run: Run) -> Json:
    figures = {**await small(run), **await large_keys(run)}
    figures["large_mb_plain"] = (await large_keys(run, compresses=False))["large_mb"]
    async with pair("beside") as (source, target, between), between() as instance:
        figures |= await beside.beside_clients(run, source, target, instance)
    f = figures
    rows = [
        [f"backfill, {run.keys:,} strings of 64 B", f"{f['backfill_keys']:,.0f} keys/s"],
        [f"verify, {run.keys:,} strings of 64 B", f"{f['verify_keys']:,.0f} keys/s"],
        [f"backfill, {f['large_bytes'] / 1e9:.2f} GB of large keys of six types",
         f"{f['large_mb']:,.0f} MB/s"],
        ["the same, with rdbcompression off on the source", f"{f['large_mb_plain']:,.0f} MB/s"],
        *beside.rows(f),
        ["RSS of Keyferry behind all copies of small keys", f"{f['resident'] / 2**20:.0f} MiB"],
    ]  # fmt: skip
    return {
        "figures": figures, "table": {"columns": ["", ""], "rows": rows},
        "notes": ["From the verb to its end; medians. The large keys hold random bytes, so that no "
                  "store compresses them: strings of 8 MiB; hashes, lists, sets, sorted sets and "
                  "streams of 4 MiB."],
    }  # fmt: skip


async def until(instance: Instance, is_true: Callable[[Json], Any]) -> Json:
    """Looks often: a copy is over in seconds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        status = await instance.status()
        if is_true(status):
            return status
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"not so after {DEADLINE_SECONDS:g} s: {status}")


async def again(instance: Instance, target: Server) -> None:
    """As before the start, with an empty target."""
    await instance.ask("cancel")
    target.cli("FLUSHALL")


async def small(run: Run) -> Json:
    copies, compares = [], []
    async with pair("small") as (source, target, between):
        await fill(source.port, run.keys)
        async with between() as instance:
            for turn in range(run.few_rounds):
                if turn:
                    await again(instance, target)
                began = time.perf_counter()
                await instance.ask("start", allow=[])
                await until(instance, is_mirroring)
                copies.append(run.keys / (time.perf_counter() - began))
                run.tell(f"backfill {copies[-1]:,.0f} keys/s")
                began = time.perf_counter()
                await instance.ask("verify")
                status = await until(instance, lambda s: not s["verify"]["running"])
                compares.append(run.keys / (time.perf_counter() - began))
                run.tell(f"verify {compares[-1]:,.0f} keys/s")
                assert status["verify"]["passed"], status["verify"]
            resident = process.resident_bytes(instance.pid)
    return {
        "backfill_keys": statistics.median(copies),
        "verify_keys": statistics.median(compares),
        "resident": resident,
    }


async def large_keys(run: Run, compresses: bool = True) -> Json:
    """`compresses`: the source compresses what it dumps, as stores do by default."""
    async with pair("large") as (source, _, between):
        run.tell("laying down large keys")
        size = await fill_large(source, run.large_bytes)
        if not compresses:
            source.cli("CONFIG", "SET", "rdbcompression", "no")
        async with between() as instance:
            process.forget_peak(instance.pid)
            began = time.perf_counter()
            await instance.ask("start", allow=[])
            await until(instance, is_mirroring)
            took = time.perf_counter() - began
            peak = process.peak_bytes(instance.pid)
            run.tell(f"large keys {size / took / 1e6:,.0f} MB/s")
    return {"large_bytes": size, "large_mb": size / took / 1e6, "large_peak": peak}


async def fill_large(server: Server, total: int) -> int:
    """Keys of six types, `total` bytes of elements about; returns how many there are."""
    bulk = await Bulk.open(Endpoint.parse(server.url, "bench"))
    done = 0
    for commands, size in large_commands(total):
        replies = await bulk.pipeline(commands)
        failed = [each for each in replies if isinstance(each, Exception)]
        assert not failed, failed
        done += size
    bulk.close()
    await bulk.wait_closed()
    return done


def large_commands(total: int) -> Iterator[tuple[list[bytes], int]]:
    """Batches of commands, each with its bytes of elements: one key of each type after another."""
    chance = random.Random(1)
    number = done = 0
    while done < total:
        number += 1
        for size, batch in _one_of_each(number, chance, min(LARGE_VALUE, max(4096, total // 8))):
            yield batch, size
            done += size


def _one_of_each(
    number: int, chance: random.Random, most: int
) -> Iterator[tuple[int, list[bytes]]]:
    yield most, [pack((b"SET", b"string:%d" % number, chance.randbytes(most)))]
    for kind in ("hash", "list", "set", "zset", "stream"):
        key = f"{kind}:{number}".encode()
        width = MEMBER if kind in ("set", "zset") else ELEMENT
        for at in range(0, min(LARGE_KEY, most) // width, AT_ONCE):
            data = chance.randbytes(width * AT_ONCE)
            elements = [data[n : n + width] for n in range(0, len(data), width)]
            yield len(data), _adding(kind, key, at, elements)


def _adding(kind: str, key: bytes, at: int, elements: list[bytes]) -> list[bytes]:
    numbered = list(enumerate(elements, at))
    if kind == "hash":
        return [pack((b"HSET", key, *(w for n, e in numbered for w in (b"f%d" % n, e))))]
    if kind == "zset":
        return [pack((b"ZADD", key, *(w for n, e in numbered for w in (b"%d" % n, e))))]
    if kind == "stream":
        return [pack((b"XADD", key, b"%d-1" % (n + 1), b"field", e)) for n, e in numbered]
    return [pack((b"RPUSH" if kind == "list" else b"SADD", key, *elements))]


async def big(run: Run) -> Json:
    """One value of half a gigabyte, written and read through the mirroring proxy."""
    size = run.value_bytes
    async with staged(peers=()) as on:
        proxy = on.mirroring
        assert proxy.pid is not None
        await fill(proxy.port, 100)
        await on.drained()
        before = process.resident_bytes(proxy.pid)
        process.forget_peak(proxy.pid)
        run.tell(f"a value of {size / 2**20:,.0f} MiB")
        said, probe = await asyncio.gather(
            written_and_read(proxy.port, size),
            send(
                proxy.port, mode="load", work="GET", depth=1, clients=5, size=64, keys=100,
                rate=PROBES_PER_SECOND, seconds=run.seconds,
            ),
        )  # fmt: skip
        mirrored_in: float | str
        try:
            mirrored_in = await on.drained() / 1e3
        except AssertionError as error:
            mirrored_in = str(error)
        else:
            on_target = on.target.cli("STRLEN", "big")
            assert on_target == size, f"the target has {on_target} of {size} bytes"
        over = process.peak_bytes(proxy.pid) - before
        after = process.resident_bytes(proxy.pid)
    figures = {**said, "over": over, "times": over / size, "mirror": mirrored_in, "probe": probe}
    rows = [
        *([work, text if isinstance(text, str) else f"{text:.2f} s, {size / text / 1e6:,.0f} MB/s"]
          for work, text in said.items()),
        ["until the target has it, behind both",
         mirrored_in if isinstance(mirrored_in, str) else f"{mirrored_in:.2f} s"],
        ["most memory of Keyferry over what it had", f"{over / 2**20:,.0f} MiB, "
         f"{over / size:.2f} times the value"],
        ["RSS behind it all", f"{after / 2**20:,.0f} MiB"],
        [f"others' GETs meanwhile ({PROBES_PER_SECOND}/s): p50 / p99 / p99.9",
         latencies(probe["latency_ms"])],
        ["others' longest wait", f"{probe['worst_ms']:.1f} ms"],
    ]  # fmt: skip
    return {
        "figures": figures, "table": {"columns": ["", ""], "rows": rows},
        "notes": [f"One value of {size / 2**20:,.0f} MiB, mirrored."],
    }  # fmt: skip


async def written_and_read(port: int, size: int) -> dict[str, float | str]:
    """The seconds of each, or why there are none."""
    found: dict[str, float | str] = {}
    for work in ("SET", "GET"):
        try:
            said = await send(port, mode="large", work=work, size=size)
        except LoadError as error:
            found[work] = str(error)
        else:
            found[work] = said["seconds"]
    return found
