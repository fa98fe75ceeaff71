"""MULTI and EXEC: whole, in pieces, with errors inside, and what reaches the secondary."""

from __future__ import annotations

import asyncio

import pytest

from .clients import Proxied, connected

# Of one client, each on a clean store; the store's own answers are what is right.
BLOCKS: dict[str, list[str]] = {
    "whole": ["MULTI", "SET k v", "INCR n", "GET k", "LPUSH l 1 2", "EXEC", "GET n"],
    "empty": ["MULTI", "EXEC", "PING"],
    "of reads": ["MULTI", "GET k", "HGETALL h", "EXEC"],
    "an error while it runs": ["MULTI", "SET k v", "LPUSH k 1", "INCR n", "EXEC", "GET n"],
    "an unknown command": ["MULTI", "SET k v", "NOSUCH a", "INCR n", "EXEC", "GET k"],
    "wrong number of arguments": ["MULTI", "SET k", "INCR n", "EXEC", "GET n"],
    "discarded": ["MULTI", "SET k v", "DISCARD", "GET k", "EXEC", "DISCARD"],
    "discarded behind an error": ["MULTI", "SET k", "DISCARD", "SET k v", "GET k"],
    "exec without multi": ["EXEC", "SET k v", "EXEC", "DISCARD", "MULTI", "EXEC", "EXEC"],
    "two in a row": ["MULTI", "INCR n", "EXEC", "MULTI", "INCR n", "EXEC"],
    "commands around it": ["INCR n", "MULTI", "INCR n", "EXEC", "INCR n", "SELECT 1", "GET n"],
}


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("at_once", [True, False], ids=["whole", "in pieces"])
@pytest.mark.parametrize("name", BLOCKS)
async def test_a_block_answers_as_the_store_does(
    mirrored: Proxied, name: str, at_once: bool, resp: int
) -> None:
    heard = []
    for port in (mirrored.source.port, mirrored.port):
        mirrored.source.cli("FLUSHALL")
        async with connected(port) as client:
            if resp == 3:
                await client.call("HELLO 3")
            if at_once:
                heard.append(await client.calls(*BLOCKS[name]))
            else:
                heard.append([await client.call(line) for line in BLOCKS[name]])
    assert heard[1] == heard[0]
    await mirrored.applied()
    for key in ("k", "n"):
        assert mirrored.source.cli("GET", key) == mirrored.target.cli("GET", key)
    assert mirrored.source.cli("LRANGE", "l", 0, -1) == mirrored.target.cli("LRANGE", "l", 0, -1)
    assert not mirrored.proxy.table.entries and not mirrored.proxy.table.unproven


@pytest.mark.parametrize(
    "line",
    [
        "MULTI",
        "EXEC now",
        "DISCARD now",
    ],
)
async def test_a_misplaced_step_of_a_block_answers_as_the_store_does(
    proxied: Proxied, line: str
) -> None:
    lines = ["MULTI", "SET k v", line, "EXEC", "GET k"]
    async with connected(proxied.source.port, proxied.port) as (direct, client):
        assert await client.calls(*lines) == await direct.calls(*lines)


async def test_what_cannot_be_in_a_block_is_refused_by_name_and_aborts_it(
    proxied: Proxied,
) -> None:
    refused = [
        "CLIENT LIST",
        "CLIENT TRACKING ON REDIRECT 1",
        "CLIENT REPLY OFF",
        "SHUTDOWN",
        "CONFIG SET maxmemory 1",
    ]
    async with proxied.client() as client:
        for line in refused:
            replies = await client.calls("MULTI", "SET k v", line, "EXEC", "GET k")
            name = line.split()[0].lower().encode()
            assert replies[2].startswith(b"-ERR Keyferry ") and name in replies[2].lower(), line
            assert replies[3].startswith(b"-EXECABORT") and replies[4] == b"$-1\r\n"


async def test_a_block_is_one_step_for_everybody(mirrored: Proxied) -> None:
    async with mirrored.client(3) as (one, two, reader):
        for _ in range(200):
            one.send("MULTI", "INCR a", "INCR b", "EXEC")
            two.send("MULTI", "INCR b", "INCR a", "EXEC")
            reader.send("MGET a b")
        await asyncio.gather(one.replies(800), two.replies(800))
        for reply in (await reader.replies(200))[1:]:
            fields = reply.split(b"\r\n")
            assert len(set(fields[2::2])) <= 2 and fields[2] == fields[4], reply
    await mirrored.applied()
    assert mirrored.source.cli("MGET", "a", "b") == mirrored.target.cli("MGET", "a", "b")
    assert mirrored.source.cli("GET", "a") == b"400"


async def test_a_client_that_leaves_before_exec_has_done_nothing(proxied: Proxied) -> None:
    async with proxied.client() as client:
        await client.call("MULTI")
        await client.call("SET k v")
    async with proxied.client() as client:
        assert await client.call("GET k") == b"$-1\r\n"


async def test_a_block_past_the_limit_is_refused_and_aborted(proxied: Proxied) -> None:
    proxied.proxy.client_output_limit = 1000
    async with proxied.client() as client:
        replies = await client.calls("MULTI", f"SET k {'x' * 2000}", "SET k2 v", "EXEC", "GET k2")
        assert replies[1].startswith(b"-ERR the transaction is larger")
        assert replies[3].startswith(b"-EXECABORT") and replies[4] == b"$-1\r\n"
