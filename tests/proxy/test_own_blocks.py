"""Blocks that cannot go on a lane: in pieces, with SELECT or whole-database commands inside.

The server's own bytes for each step, whatever it is; and each effect in the database in which it
was executed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.cursors import TAG
from proxy.ops import Reaction, ignore
from proxy.sides import Side
from tests.servers import Engine, Server, every_engine

from .clients import Client, Proxied, connected, encoded, started, until

BLOCKS: dict[str, list[str]] = {
    "select": ["MULTI", "SET k 0", "SELECT 3", "SET k 3", "EXEC", "GET k", "SELECT 0", "GET k"],
    "select that fails": ["MULTI", "SELECT 999", "INCR k", "EXEC", "GET k"],
    "select that is none": ["MULTI", "SELECT x", "INCR k", "EXEC", "GET k"],
    "select, discarded": ["MULTI", "SELECT 3", "DISCARD", "SET k 1", "SELECT 0", "GET k"],
    "two databases and back": [
        "MULTI", "SELECT 3", "RPUSH l a", "SELECT 0", "RPUSH l b", "SELECT 3", "LRANGE l 0 -1",
        "EXEC", "LRANGE l 0 -1",
    ],
    "flushdb": ["SET k 1", "SET l 1", "MULTI", "INCR k", "FLUSHDB", "INCR k", "EXEC", "GET k"],
    "flushdb elsewhere": [
        "SET k 1", "MULTI", "SELECT 3", "SET k 2", "FLUSHDB", "SET m 3", "SELECT 0", "EXEC", "GET k"
    ],
    "flushall": ["SET k 1", "MULTI", "FLUSHALL", "SET l 2", "EXEC", "DBSIZE"],
    "swapdb": ["SET k 1", "MULTI", "SWAPDB 0 3", "SET l 2", "EXEC", "DBSIZE", "SELECT 3", "GET k"],
    "swapdb that fails": ["SET k 1", "MULTI", "SWAPDB 0 999", "SWAPDB a b", "EXEC", "DBSIZE"],
    "move": ["SET k 1", "MULTI", "MOVE k 3", "COPY l m DB 3", "EXEC", "EXISTS k"],
    "a pop that would wait": ["RPUSH l a", "MULTI", "LPOP l", "RPUSH l b c", "LPOP l", "EXEC"],
    "nested multi": ["MULTI", "INCR k", "MULTI", "INCR k", "EXEC", "GET k", "EXEC"],
    "watch inside": ["MULTI", "INCR k", "WATCH k", "INCR k", "EXEC", "GET k", "EXEC"],
    "unwatch inside": ["WATCH k", "MULTI", "UNWATCH", "INCR k", "EXEC", "GET k"],
    "scan": ["SET k 1", "MULTI", "SCAN 0", "SCAN x", "HSCAN h 0", "EXEC"],
    "sort by others": ["RPUSH l 2 1", "MULTI", "SORT l BY w_* STORE m", "EXEC", "LRANGE m 0 -1"],
    "names": ["MULTI", "CLIENT SETNAME me", "CLIENT GETNAME", "EXEC", "CLIENT GETNAME"],
    "exec with arguments": ["MULTI", "INCR k", "EXEC now", "EXEC", "GET k"],
    "discard with arguments": ["MULTI", "INCR k", "DISCARD now", "EXEC", "GET k"],
    "reset": ["SELECT 3", "MULTI", "INCR k", "RESET", "EXEC", "SET k 1", "GET k"],
    "wait": ["MULTI", "INCR k", "WAIT 0 0", "EXEC"],
    "no such subcommand": ["MULTI", "CLIENT NOSUCH", "INCR k", "OBJECT NOSUCH k", "EXEC", "GET k"],
    "arity": ["MULTI", "INCR", "SELECT", "CLIENT SETNAME", "EXEC", "EXEC"],
    "errors while it runs": ["MULTI", "SET k x", "INCR k", "SELECT 3", "LPUSH k a", "EXEC"],
    "as one would in resp3": ["HELLO 3", "MULTI", "SELECT 3", "HSET h a 1", "HGETALL h", "EXEC"],
}  # fmt: skip


async def conversation(port: int, lines: list[str], at_once: bool) -> list[bytes]:
    async with connected(port) as client:
        heard = (
            await client.calls(*lines) if at_once else [await client.call(line) for line in lines]
        )
    # HELLO answers with the number of the connection.
    return [reply for line, reply in zip(lines, heard, strict=True) if line[0] != "H"]


@every_engine
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "step by step"])
@pytest.mark.parametrize("name", BLOCKS)
async def test_each_step_is_answered_by_the_server_and_mirrored(
    server: Server, target: Server, engine: Engine, name: str, at_once: bool
) -> None:
    direct = await conversation(server.port, BLOCKS[name], at_once)
    server.cli("FLUSHALL")
    proxied = await started(server, target)
    await proxied.start_mirror()
    try:
        assert await conversation(proxied.port, BLOCKS[name], at_once) == direct
        await proxied.applied()
        table = proxied.proxy.table
        # Where no command says what was done, the keys are copied; here nobody does.
        copied = {b"m"} if "sort" in name else {(3, b"m")} if "move" in name else set()
        assert not table.entries and table.unproven.keys() <= copied
        for db in (0, 3):
            for key in ("k", "l", "m", "h"):
                place: object = key.encode() if not db else (db, key.encode())
                if place in copied:
                    continue
                assert server.cli("DUMP", key, db=db) is None or target.cli("EXISTS", key, db=db)
                assert (server.cli("TYPE", key, db=db)) == target.cli("TYPE", key, db=db)
        assert server.cli("GET", "k") == target.cli("GET", "k")
        assert not table.is_everything_unproven
    finally:
        await proxied.close()


@every_engine
async def test_a_user_without_multi_is_told_so_by_the_server(
    server: Server, target: Server
) -> None:
    server.cli("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-multi")
    proxied = await started(server, target)
    await proxied.start_mirror()
    lines = ["AUTH app pw", "MULTI", "INCR k", "SELECT 3", "EXEC", "GET k"]
    try:
        for at_once in (True, False):
            server.cli("FLUSHALL")
            direct = await conversation(server.port, lines, at_once)
            server.cli("FLUSHALL")
            assert await conversation(proxied.port, lines, at_once) == direct
    finally:
        await proxied.close()


@every_engine
@pytest.mark.parametrize("lines", [["MULTI", "INCR k", "EXEC"], ["MULTI", "SELECT 0", "EXEC"]])
async def test_a_user_with_multi_and_without_exec_leaves_nobody_inside_a_block(
    server: Server, target: Server, lines: list[str], proxies: Callable[..., Awaitable[Proxied]]
) -> None:
    mirrored = await proxies(server, target)
    server.cli("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-exec")
    async with mirrored.client(2) as (one, other):
        await one.call("AUTH app pw")
        assert (await one.calls(*lines))[-1].startswith(b"-EXECABORT")
        await other.call("AUTH app pw")
        assert await other.call("INCR n") == b":1\r\n"
        assert await other.calls("WATCH n", "PING", "UNWATCH") == [
            b"+OK\r\n", b"+PONG\r\n", b"+OK\r\n"
        ]  # fmt: skip


@every_engine
async def test_a_user_without_discard_leaves_no_open_block_to_the_next(
    server: Server, target: Server
) -> None:
    server.cli("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-discard", "-unwatch")
    refused = ["AUTH app pw", "WATCH k", "MULTI", "INCR k", "DISCARD", "INCR k", "UNWATCH", "EXEC"]
    next_one = ["AUTH app pw", "WAIT 0 0", "WATCH l", "MULTI", "INCR l", "EXEC", "GET k"]
    ends = ["AUTH app pw", "WATCH l", "MULTI", "INCR k", "RESET"]
    heard = []
    proxied = await started(server, target)
    await proxied.start_mirror()
    try:
        for port in (server.port, proxied.port):
            server.cli("FLUSHALL")
            heard.append([await conversation(port, each, False) for each in (refused, next_one)])
            heard[-1] += [await conversation(port, each, True) for each in (ends, next_one)]
        assert heard[1] == heard[0]
    finally:
        await proxied.close()


async def flip(proxied: Proxied, to: Side) -> None:
    await proxied.proxy.fence()
    await proxied.applied()
    proxied.proxy.flip(to, None, 100 if to is Side.TARGET else 0)
    proxied.proxy.release()


async def begun(client: Client, *lines: str) -> None:
    for line in lines:
        assert await client.call(line) in (b"+OK\r\n", b"+QUEUED\r\n")


async def test_flip_between_multi_and_exec_executes_all_of_it_on_the_new_primary(
    mirrored: Proxied,
) -> None:
    async with mirrored.client() as client:
        await begun(client, "SELECT 2", "MULTI", "INCR n", "SELECT 1", "RPUSH l a")
        await flip(mirrored, Side.TARGET)
        await begun(client, "RPUSH l b")
        assert await client.call("EXEC") == b"*4\r\n:1\r\n+OK\r\n:1\r\n:2\r\n"
        assert await client.call("LLEN l") == b":2\r\n"
    assert mirrored.target.cli("GET", "n", db=2) == b"1"
    assert mirrored.source.cli("DBSIZE") == 0


async def test_a_connection_lost_between_multi_and_exec_is_not_noticed(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        await begun(client, "MULTI", "INCR n")
        (lane,) = mirrored.proxy._own
        mirrored.source.cli("CLIENT", "KILL", "ID", lane.client_id)
        await until(lambda: lane.is_lost, "the loss")
        await begun(client, "INCR n")
        assert await client.call("EXEC") == b"*2\r\n:1\r\n:2\r\n"
    await mirrored.applied()
    assert mirrored.target.cli("GET", "n") == b"2"


async def test_an_aborted_block_stays_aborted_over_a_flip(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        await begun(client, "MULTI", "INCR n")
        assert (await client.call("INCR")).startswith(b"-ERR wrong number")
        await flip(mirrored, Side.TARGET)
        assert (await client.call("EXEC")).startswith(b"-EXECABORT")
        assert await client.call("GET n") == b"$-1\r\n"


async def test_exec_waits_for_a_write_of_another_lane_to_the_same_key(mirrored: Proxied) -> None:
    proxy = mirrored.proxy
    async with mirrored.client(2) as (one, other):
        await begun(one, "MULTI", "APPEND k a", "SELECT 1", "EXISTS x")
        await other.calls("SELECT 5", "SELECT 0", "SET k -")
        # The other's write is sent, and the store does not read it yet.
        lane = proxy.lane(Side.SOURCE, None, 0, 2)
        lane._is_scheduled = True
        other.send("APPEND k b")
        await until(lambda: proxy.table.entries, "the write is dispatched")
        one.send("EXEC")
        await until(lambda: proxy.table.entries[b"k"].queue, "EXEC waits for its turn")
        lane._is_scheduled = False
        lane.send(Reaction(ignore), encoded("PING"))
        assert await one.replies(1) == [b"*3\r\n:3\r\n+OK\r\n:0\r\n"]
        assert await other.replies(1) == [b":2\r\n"]
    await mirrored.applied()
    assert mirrored.target.cli("GET", "k") == mirrored.source.cli("GET", "k") == b"-ba"


async def test_a_database_that_is_asked_for_inside_a_step_moves_nothing_of_it(
    engine: Engine, server_factory: Callable[..., Server]
) -> None:
    source, target = (server_factory(engine, args=("--databases", "40")) for _ in range(2))
    proxied = await started(source, target)
    await proxied.start_mirror()
    try:
        async with proxied.client() as client:
            await begun(client, "MULTI", "SET a 1", "SELECT 3", "SET b 2", "SELECT 20", "SET c 3")
            assert (await client.call("EXEC")).startswith(b"*5\r\n+OK")
        await proxied.applied()
        assert target.cli("GET", "a") == b"1" and target.cli("GET", "b", db=3) == b"2"
        assert proxied.proxy.table.unproven.keys() == {(20, b"c")}
    finally:
        await proxied.close()


async def test_a_client_that_leaves_while_its_exec_is_under_way_is_mirrored_all_the_same(
    mirrored: Proxied,
) -> None:
    proxy = mirrored.proxy
    async with mirrored.client() as client:
        await begun(client, "MULTI", "INCR n", "SELECT 1", "INCR n")
        client.send("EXEC")
    await until(lambda: not proxy.sessions and not proxy.table.active, "the client has left")
    assert proxy.mirror is not None
    await mirrored.applied()
    for db in (0, 1):
        assert mirrored.target.cli("GET", "n", db=db) == mirrored.source.cli("GET", "n", db=db)


async def test_a_cursor_from_a_block_on_the_target_goes_on_there(mirrored: Proxied) -> None:
    for server in (mirrored.source, mirrored.target):
        server.cli("MSET", *(word for i in range(500) for word in (f"k{i}", "v")))
    await flip(mirrored, Side.TARGET)
    async with mirrored.client() as client:
        found: set[bytes] = set()
        cursor = "0"
        for _ in range(500):
            await begun(client, "MULTI", "SELECT 0", f"SCAN {cursor}")
            frame = await client.call("EXEC")
            lines = frame.split(b"\r\n")
            assert lines[0] == b"*2" and lines[1] == b"+OK"
            cursor = lines[4].decode()
            found |= {line for line in lines[5:] if line.startswith(b"k")}
            assert cursor == "0" or int(cursor) & TAG
            if cursor == "0":
                break
        assert len(found) == 500


async def test_a_swap_takes_along_what_is_owed(mirrored: Proxied) -> None:
    table = mirrored.proxy.table
    async with mirrored.client() as client:
        await client.calls("SET a 1", "SET b 2")
        table.mark_unproven(b"a")
        table.mark_unproven((3, b"c"))
        assert await client.calls("SWAPDB 0 3", "GET a") == [b"+OK\r\n", b"$-1\r\n"]
        await mirrored.applied()
        assert set(table.take_owed(9)) == {(3, b"a"), b"c"}
        assert mirrored.target.cli("GET", "b", db=3) == b"2"


async def test_a_swap_that_the_secondary_cannot_follow_asks_for_a_new_backfill(
    mirrored: Proxied,
) -> None:
    table = mirrored.proxy.table
    async with mirrored.client() as client:
        mirrored.target.cli("ACL", "SETUSER", "default", "-swapdb")
        assert await client.call("SWAPDB 0 3") == b"+OK\r\n"
        await until(lambda: table.is_everything_unproven, "everything is to be copied again")
    assert not table.unapplied_everywhere


async def test_wait_and_waitaof_are_answered_by_the_server(mirrored: Proxied) -> None:
    async with mirrored.client(2) as (one, other):
        assert await one.calls("SET k v", "WAIT 0 0", "GET k") == [
            b"+OK\r\n", b":0\r\n", b"$1\r\nv\r\n"
        ]  # fmt: skip
        # It waits by itself: nobody else's lane is held up.
        one.send("WAIT 1 0", "PING")
        assert await other.call("GET k") == b"$1\r\nv\r\n"
        assert not one.frames


async def test_a_watch_outlives_a_wait(mirrored: Proxied) -> None:
    async with mirrored.client(2) as (one, other):
        await one.calls("WATCH k", "WAIT 0 0")
        await other.call("SET k 1")
        assert (await one.calls("MULTI", "SET k 2", "EXEC"))[-1] == b"*-1\r\n"
