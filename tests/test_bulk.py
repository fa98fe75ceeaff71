"""The bulk connection: order, dbs, errors as values, and every way to lose it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from migrator.bulk import Bulk, BulkClosed, ReplyError, pack
from proxy.endpoint import Endpoint
from tests.bulks import opened
from tests.servers import REDIS_6, Server


async def test_replies_come_in_order_with_errors_among_them(source: Server) -> None:
    async with opened(source) as (bulk,):
        ok, error, value, missing = await bulk.pipeline(
            [("SET", "k", b"\x00\xff"), ("LPUSH", "k", 1), pack(("GET", "k")), ("GET", "no")]
        )
        assert (ok, value, missing) == (b"OK", b"\x00\xff", None)
        assert isinstance(error, ReplyError)
        assert error.code == "WRONGTYPE"


async def test_a_wire_form_needs_its_number_of_commands(source: Server) -> None:
    async with opened(source) as (bulk,):
        wire = pack(("INCR", "n")) * 3
        assert await bulk.pipeline(wire, 3) == [1, 2, 3]
        with pytest.raises(TypeError):
            await bulk.pipeline(wire)
        assert await bulk.pipeline([]) == []
        assert await bulk.pipeline(b"", 0) == []


async def test_call_raises_the_error(source: Server) -> None:
    async with opened(source) as (bulk,):
        with pytest.raises(ReplyError, match="unknown command"):
            await bulk.call("NONSENSE")
        assert await bulk.call("PING") == b"PONG"


async def test_batches_of_several_tasks_and_dbs_never_mix(source: Server) -> None:
    async with opened(source) as (bulk,):

        async def work(number: int) -> None:
            db = number % 4
            for i in range(20):
                values = await bulk.pipeline(
                    [("SET", f"{number}:{i}", i), ("GET", f"{number}:{i}"), ("DBSIZE",)], db=db
                )
                assert values[1] == b"%d" % i

        await asyncio.gather(*(work(number) for number in range(16)))
        for db in range(4):
            assert await bulk.call("DBSIZE", db=db) == 80


async def test_select_is_remembered_and_a_batch_elsewhere_comes_back(source: Server) -> None:
    async with opened(source) as (bulk,):
        await bulk.select(2)
        await bulk.call("SET", "k", "2")
        await bulk.call("SET", "k", "5", db=5)
        assert await bulk.call("GET", "k") == b"2"
        assert bulk.db == 2
        assert await bulk.call("GET", "k", db=5) == b"5"


async def test_a_refused_db_runs_nothing(source: Server) -> None:
    async with opened(source) as (bulk,):
        for _ in range(2):
            with pytest.raises(ReplyError, match="out of range"):
                await bulk.pipeline([("SET", "k", "v")], db=99)
        with pytest.raises(ReplyError, match="out of range"):
            await bulk.select(99)
        assert await bulk.call("DBSIZE") == 0
        assert not bulk.closed


async def test_a_db_that_is_refused_later_ends_the_connection(source: Server) -> None:
    async with opened(source) as (bulk,):
        await bulk.call("PING", db=1)
        await bulk.call("PING", db=0)
        source.cli("ACL", "SETUSER", "default", "-select")
        with pytest.raises(ReplyError, match="NOPERM"):
            await bulk.call("PING", db=1)
        assert bulk.closed
        with pytest.raises(BulkClosed):
            await bulk.call("PING")


async def test_open_authenticates_and_selects(server_factory: Callable[..., Server]) -> None:
    server = server_factory(REDIS_6, password="s3cret")
    bulk = await Bulk.open(Endpoint.parse(server.url, "--source"), db=3)
    assert b"db=3" in await bulk.call("CLIENT", "LIST")
    bulk.close()
    await bulk.wait_closed()
    for url in (f"redis://127.0.0.1:{server.port}", f"redis://:wrong@127.0.0.1:{server.port}"):
        with pytest.raises(ReplyError, match=r"NOAUTH|WRONGPASS"):
            await Bulk.open(Endpoint.parse(url, "--source"), db=1)


async def test_open_says_when_the_db_is_refused(source: Server) -> None:
    with pytest.raises(ReplyError, match="out of range"):
        await Bulk.open(Endpoint.parse(source.url, "--source"), db=16)


async def test_large_values_travel_both_ways(source: Server) -> None:
    async with opened(source) as (bulk,):
        value = bytes(range(256)) * 80_000
        replies = await bulk.pipeline([("SET", "k", value), ("GET", "k"), ("GET", "k")])
        assert replies == [b"OK", value, value]


async def test_a_killed_server_fails_what_is_in_flight_and_what_comes(
    server_factory: Callable[..., Server],
) -> None:
    server = server_factory(REDIS_6, args=())
    server.cli("SET", "k", "v")
    async with opened(server) as (bulk,):
        blocked = asyncio.create_task(bulk.call("BLPOP", "nothing", 0))
        behind = asyncio.create_task(bulk.call("PING"))
        await asyncio.sleep(0.02)
        await asyncio.to_thread(server.kill)
        for task in (blocked, behind):
            with pytest.raises(BulkClosed, match=r"127\.0\.0\.1"):
                await task
        assert bulk.closed
        with pytest.raises(BulkClosed):
            await bulk.call("PING")


async def test_close_fails_what_is_in_flight_and_may_be_called_twice(source: Server) -> None:
    async with opened(source) as (bulk,):
        blocked = asyncio.create_task(bulk.call("BLPOP", "nothing", 0))
        await asyncio.sleep(0)
        bulk.close()
        bulk.close()
        with pytest.raises(BulkClosed, match="was closed"):
            await blocked


async def test_a_cancelled_caller_takes_no_other_callers_replies(source: Server) -> None:
    async with opened(source) as (bulk,):
        first = asyncio.create_task(bulk.pipeline([("ECHO", "a"), ("ECHO", "b")]))
        second = asyncio.create_task(bulk.call("ECHO", "c"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"c"
        assert await bulk.call("ECHO", "d") == b"d"


@asynccontextmanager
async def store_that_says(answer: bytes) -> AsyncIterator[Endpoint]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield Endpoint(host=host, port=port)
    finally:
        server.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400\r\n\r\n", b"+OK\r\n+surplus\r\n"])
async def test_what_is_no_reply_ends_the_connection(answer: bytes) -> None:
    async with store_that_says(answer) as endpoint:
        bulk = await Bulk.open(endpoint)
        outcomes = await asyncio.gather(bulk.call("PING"), return_exceptions=True)
        # The first reply may be a good one; what is behind it is not.
        assert outcomes == [b"OK"] or isinstance(outcomes[0], BulkClosed)
        assert bulk.closed
        with pytest.raises(BulkClosed):
            await bulk.call("PING")
        await bulk.wait_closed()
