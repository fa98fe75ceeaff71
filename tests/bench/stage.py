"""What is measured, set up: Keyferry before two stores, and the peers before two others.

Keyferry's mirror must have its source and target to itself: a write past the proxy is a divergence
that has to be repaired. So the direct connection, the peers, and a Keyferry that mirrors nothing
share a source of their own, and Envoy's mirror has its target; the engines are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrator.bulk import Bulk
from migrator.demo.instance import Instance
from migrator.servers import Engine, Server, find_engine
from proxy.endpoint import Endpoint

from .load import Cell
from .peers import PEERS, Files, Peer

BATCH = 5_000
BATCH_BYTES = 4 << 20
# A mirror that does not catch up in this time does not keep up.
DRAIN_SECONDS = 60.0
POLL_SECONDS = 0.005

DIRECT = "direct"
PROXY_ONLY = "Keyferry, no mirror"
MIRRORING = "Keyferry, mirroring"


async def nothing() -> float:
    return 0.0


@dataclass
class Contender:
    """Something that a load is sent to; `pid` is the process whose CPU and memory count.

    `before` is awaited before each run; `settled` returns after it when nothing of it is under way
    any more, with the milliseconds for which that held.
    """

    name: str
    port: int
    pid: int | None = None
    ca: Path | None = None
    before: Callable[[], Awaitable[object]] = nothing
    settled: Callable[[], Awaitable[float]] = nothing


@dataclass
class Stage:
    """`stores`: URLs through which values are laid down, each store pair once."""

    source: Server
    target: Server
    spare: Server
    other: Server
    directory: Path
    mirroring: Instance
    idle: Instance
    missing: dict[str, str] = field(default_factory=dict)
    contenders: list[Contender] = field(default_factory=list)
    laid: int = 0

    async def drained(self) -> float:
        """The mirror has caught up, and no key is owed. The milliseconds that it took."""
        began = time.perf_counter()
        for look in range(int(DRAIN_SECONDS / POLL_SECONDS)):
            mirror = (await self.mirroring.status())["mirror"]
            if not mirror["lag_operations"] and not mirror["unproven_keys"]:
                return (time.perf_counter() - began) * 1e3 if look else 0.0
            await asyncio.sleep(POLL_SECONDS)
        owed = {name: mirror[name] for name in ("lag_operations", "lag_bytes", "unproven_keys")}
        raise AssertionError(f"the mirror has not caught up in {DRAIN_SECONDS:g} s: {owed}")

    async def lay(self, cell: Cell) -> None:
        """All keys of a cell that reads, with its size of values, behind every contender."""
        if cell.reads and self.laid != cell.size:
            for port in (self.spare.port, self.mirroring.port):
                await fill(port, cell.keys, cell.size)
            await self.drained()
            self.laid = cell.size

    async def clear(self) -> None:
        """Empty stores again: lists and hashes do not grow from cell to cell."""
        self.laid = 0
        for port in (self.spare.port, self.other.port, self.mirroring.port):
            bulk = await Bulk.open(Endpoint.parse(f"redis://127.0.0.1:{port}", "bench"))
            await bulk.call("FLUSHALL")
            bulk.close()
            await bulk.wait_closed()
        await self.drained()


async def fill(port: int, keys: int, size: int = 64, pattern: bytes = b"key:%012d") -> None:
    """SETs that many strings, numbered from 0."""
    value = b"x" * size
    set_ = b"*3\r\n$3\r\nSET\r\n$%d\r\n" % len(pattern % 0) + pattern
    form = set_ + b"\r\n$%d\r\n%s\r\n" % (size, value)
    step = max(1, min(BATCH, BATCH_BYTES // size))
    bulk = await Bulk.open(Endpoint.parse(f"redis://127.0.0.1:{port}", "bench"))
    for at in range(0, keys, step):
        numbers = range(at, min(at + step, keys))
        await bulk.pipeline(b"".join([form % number for number in numbers]), len(numbers))
    bulk.close()
    await bulk.wait_closed()


def default_engines() -> tuple[Engine, Engine]:
    """The versions that a migration is mostly about: Redis 6.2 to Valkey 9."""
    return find_engine("redis", 6), find_engine("valkey", 9)


@contextlib.asynccontextmanager
async def keyferry(
    source: str, target: str, directory: Path, options: Sequence[str] = ()
) -> AsyncIterator[Instance]:
    """A process, started and ended; `directory` is made."""
    directory.mkdir()  # noqa: ASYNC240
    instance = Instance(source, target, directory, options=options)
    await instance.start()
    try:
        yield instance
    finally:
        # Its stores go away with it: nothing has to end in good order.
        instance.kill()


async def mirrored(instance: Instance, *, deadline_s: float = 600.0) -> None:
    """Starts the mirror, and returns when what was there is copied."""
    await instance.ask("start", allow=[])
    await instance.until(is_mirroring, "the backfill", deadline_s=deadline_s)


def is_mirroring(status: dict[str, object]) -> bool:
    return status["phase"] == "mirroring"


@contextlib.asynccontextmanager
async def staged(
    *, peers: Sequence[type[Peer]] = PEERS, max_clients: int = 10_000
) -> AsyncIterator[Stage]:
    """All contenders, ready; Keyferry twice: as a proxy only, and with its mirror on."""
    redis, valkey = default_engines()
    options = ("--max-clients", str(max_clients))
    async with contextlib.AsyncExitStack() as stack:
        servers = [stack.enter_context(Server(e)) for e in (redis, valkey, redis, valkey)]
        source, target, spare, other = servers
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = [
            await stack.enter_async_context(
                keyferry(first.url, second.url, directory / name, options)
            )
            for name, first, second in (("mirroring", source, target), ("idle", spare, other))
        ]
        stage = Stage(source, target, spare, other, directory, *made)
        await mirrored(stage.mirroring)
        stage.contenders = [
            Contender(DIRECT, spare.port),
            Contender(PROXY_ONLY, made[1].port, made[1].pid),
            Contender(MIRRORING, made[0].port, made[0].pid, settled=stage.drained),
        ]
        stage.contenders += joined(stack, peers, stage, (spare.port, other.port))
        yield stage


def joined(
    stack: contextlib.AsyncExitStack,
    peers: Sequence[type[Peer]],
    stage: Stage,
    ports: tuple[int, int],
    files: Files | None = None,
) -> list[Contender]:
    """The peers that are here, started before a source and a target; the others in `missing`."""
    found = []
    for kind in peers:
        if kind.program() is None:
            stage.missing[kind.name] = "not installed"
            continue
        peer = kind(stage.directory, *ports, files)
        stack.callback(peer.stop)
        try:
            peer.start()
        except RuntimeError as error:
            stage.missing[kind.name] = str(error)
            continue
        found.append(Contender(peer.name, peer.port, peer.pid, files.ca if files else None))
    return found
