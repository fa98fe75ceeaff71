"""What is measured, set up: two stores, Keyferry before them, and the peers before the source.

Every contender has stores of its own kind and age: all share one source and one target, and what
one writes the others overwrite. Only Keyferry's mirror must have the target to itself, so that
Envoy's mirror has a third store.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from migrator.bulk import Bulk, pack
from migrator.demo.instance import Instance
from migrator.servers import Server, find_engine
from proxy.endpoint import Endpoint

from .peers import PEERS, Peer

BATCH = 5_000
VALUE = b"x" * 64


@dataclass
class Contender:
    """Something that a load is sent to; `pid` is the process whose CPU counts."""

    name: str
    port: int
    pid: int | None = None


@dataclass
class Stage:
    source: Server
    target: Server
    instance: Instance
    idle: Instance
    peers: list[Peer]
    missing: list[str]
    contenders: list[Contender] = field(default_factory=list)

    async def settled(self) -> None:
        """The mirror has caught up: one measurement does not pay for another's."""
        await self.instance.until(lambda s: not s["mirror"]["lag_operations"], "the mirror")


async def load(server: Server, keys: int) -> None:
    """Small strings under names of their own."""
    bulk = await Bulk.open(Endpoint.parse(server.url, "bench"))
    for at in range(0, keys, BATCH):
        numbers = range(at, min(at + BATCH, keys))
        batch = b"".join(pack((b"SET", b"old:%012d" % number, VALUE)) for number in numbers)
        await bulk.pipeline(batch, len(numbers))
    bulk.close()
    await bulk.wait_closed()


@contextlib.asynccontextmanager
async def staged(*, with_peers: bool = True) -> AsyncIterator[Stage]:
    """Keyferry twice: as a proxy only, and (not started yet) with its mirror."""
    redis, valkey = find_engine("redis", 6), find_engine("valkey", 9)
    async with contextlib.AsyncExitStack() as stack:
        source = stack.enter_context(Server(redis))
        target = stack.enter_context(Server(valkey))
        other = stack.enter_context(Server(valkey))
        spare = stack.enter_context(Server(redis))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = []
        for name, first, second in (("mirroring", source, target), ("idle", spare, other)):
            (directory / name).mkdir()
            instance = Instance(first.url, second.url, directory / name)
            stack.push_async_callback(instance.stop)
            await instance.start()
            made.append(instance)
        stage = Stage(source, target, *made, [], [])
        stage.contenders = [
            Contender("direct", source.port),
            Contender("Keyferry, no mirror", made[1].port, made[1].pid),
            Contender("Keyferry, mirroring", made[0].port, made[0].pid),
        ]
        for kind in PEERS if with_peers else ():
            if kind.program() is None:
                stage.missing.append(kind.name)
                continue
            peer = kind(directory, spare.port, other.port)
            stack.callback(peer.stop)
            peer.start()
            stage.peers.append(peer)
            stage.contenders.append(Contender(peer.name, peer.port, peer.pid))
        yield stage
