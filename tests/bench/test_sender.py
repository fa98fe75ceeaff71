"""The sender of our own, on a real store: what it sends is served, and a wrong reply ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.bench import copying, load, many, process, stage
from tests.servers import Server

SMALL = {"depth": 4, "clients": 3, "size": 16, "keys": 50}


@pytest.mark.parametrize("work", ["SET", "GET", "mixed", "MULTI 4"])
async def test_all_requests_are_sent_and_answered(source: Server, work: str) -> None:
    await stage.fill(source.port, 50, 16)
    source.cli("CONFIG", "RESETSTAT")
    said = await load.send(source.port, mode="load", work=work, requests=400, **SMALL)
    assert said["requests"] == 400
    assert said["per_second"] > 0 and 0 < said["latency_ms"]["50.0"] <= said["worst_ms"]
    stats = source.info("commandstats")
    calls = {name: int(text.split(",")[0].split("=")[1]) for name, text in stats.items()}
    sent = sum(calls.get(f"cmdstat_{name}", 0) for name in ("set", "get"))
    assert sent == (1600 if work == "MULTI 4" else 400)
    assert calls.get("cmdstat_exec", 0) == (400 if work == "MULTI 4" else 0)


async def test_a_rate_is_kept(source: Server) -> None:
    said = await load.send(
        source.port, mode="load", work="SET", rate=2000, seconds=0.5, pid=os.getpid(), **SMALL
    )
    assert said["requests"] == 1000
    assert said["cpu_us"] >= 0


async def test_a_wrong_reply_ends_a_run_and_is_told(source: Server) -> None:
    with pytest.raises(load.LoadError, match=r"WrongReply.*\$-1"):
        await load.send(source.port, mode="load", work="GET", requests=400, **SMALL)


async def test_a_reply_of_another_value_ends_a_run(source: Server) -> None:
    await stage.fill(source.port, 50, 16)
    source.cli("SET", "key:000000000007", "y" * 16)
    with pytest.raises(load.LoadError, match="WrongReply"):
        await load.send(source.port, mode="load", work="GET", requests=4000, **SMALL)


@pytest.mark.parametrize(("workers", "producers"), [(5, 2), (2, 5)])
async def test_each_element_of_a_queue_comes_once(
    source: Server, workers: int, producers: int
) -> None:
    said = await load.send(
        source.port, mode="queue", workers=workers, producers=producers, requests=300
    )
    assert said["per_second"] > 0 and said["worst_ms"] > 0
    assert source.cli("EXISTS", "queue") == 0
    source.cli("RPUSH", "queue", "of somebody else")
    with pytest.raises(load.LoadError, match="WrongReply"):
        await load.send(
            source.port, mode="queue", workers=workers, producers=producers, requests=300
        )


async def test_a_stall_shows_in_the_latency_of_all_that_was_due_meanwhile(source: Server) -> None:
    async def stall() -> None:
        async with asyncio.timeout(10):
            while int(source.info("clients")["connected_clients"]) < 1 + SMALL["clients"]:
                await asyncio.sleep(0.01)
        source.cli("DEBUG", "SLEEP", "0.3")

    options = {"mode": "load", "work": "SET", "rate": 1000, "seconds": 1.0, **SMALL, "depth": 1}
    said, _ = await asyncio.gather(load.send(source.port, **options), stall())
    assert said["requests"] == 1000
    # A third of a second, and not only what each connection had under way then.
    assert said["latency_ms"]["99.0"] > 100 and said["worst_ms"] > 250


async def test_connections_come_and_go(source: Server) -> None:
    before = int(source.info("stats")["total_connections_received"])
    said = await load.send(source.port, mode="churn", rate=400, seconds=0.25)
    assert said["failed"] == 0
    assert int(source.info("stats")["total_connections_received"]) - before == 100


async def test_a_large_value_is_written_and_read(source: Server) -> None:
    size = (5 << 20) + 3
    found = await copying.written_and_read(source.port, size)
    assert source.cli("STRLEN", "big") == size
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in found.values())
    source.cli("DEL", "big")
    with pytest.raises(load.LoadError, match=r"closed|WrongReply"):
        await load.send(source.port, mode="large", work="GET", size=size)


async def test_idle_clients_are_there_as_long_as_they_are_wanted(source: Server) -> None:
    before = int(source.info("clients")["connected_clients"])
    async with many.idle(source.port, 40):
        assert int(source.info("clients")["connected_clients"]) == before + 40
    async with asyncio.timeout(5):
        while int(source.info("clients")["connected_clients"]) != before:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def refusing() -> AsyncIterator[int]:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_connections_that_are_closed_count_as_failed() -> None:
    async with refusing() as port:
        said = await load.send(port, mode="churn", rate=200, seconds=0.1)
        assert said["failed"] == 20
        with pytest.raises(load.LoadError):
            async with many.idle(port, 3):
                pass


def test_cost_and_memory_of_a_process() -> None:
    own = os.getpid()
    before = process.cpu_seconds(own)
    spent: Any = sum(range(2_000_000))
    assert spent and process.cpu_seconds(own) > before
    assert 0 < process.resident_bytes(own) <= process.peak_bytes(own)
    assert process.cpu_seconds(None) == process.resident_bytes(None) == 0
