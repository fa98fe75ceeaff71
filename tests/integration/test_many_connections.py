"""Thousands of connections, and thousands that come and go: what each costs, and what is left.

KEYFERRY_CONNECTIONS=10000 is as many as one process serves unless it is told otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest

from migrator.openfiles import RESERVED
from proxy.resp import encode_command
from tests.integration.clients import Client, until
from tests.integration.keyferry import Process, differences
from tests.memory import MEGABYTE, Memory, needs_proc
from tests.servers import Server

COUNT = int(os.environ.get("KEYFERRY_CONNECTIONS", "2000"))
AT_ONCE = 250
MAX_BYTES = 10 * 1024


@pytest.fixture
def open_files() -> Iterator[None]:
    """As many as the connections of a test need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < COUNT + 2 * RESERVED:
        pytest.skip(f"only {hard} files may be open (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, COUNT + 2 * RESERVED), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def talk(sockets: list[socket.socket], first: int) -> None:
    """A SET and a GET on each, which must be answered right."""
    for at, each in enumerate(sockets, first):
        key = b"key:%d" % at
        each.sendall(encode_command(b"SET", key, b"%06d" % at) + encode_command(b"GET", key))
    for at, each in enumerate(sockets, first):
        expected = b"+OK\r\n$6\r\n%06d\r\n" % at
        got = b""
        while len(got) < len(expected):
            data = each.recv(100)
            assert data, "closed"
            got += data
        assert got == expected


def connect(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), 10.0) for _ in range(count)]


def come_and_go(port: int, count: int) -> None:
    """Connections that are made, used once, and closed."""
    for at in range(0, count, AT_ONCE):
        with contextlib.ExitStack() as stack:
            sockets = connect(port, AT_ONCE)
            for each in sockets:
                stack.enter_context(each)
            talk(sockets, at)


@needs_proc
@pytest.mark.usefixtures("open_files")
async def test_thousands_of_idle_connections_cost_ten_kilobytes_each_at_most(
    make_process: Callable[..., Process],
) -> None:
    process = make_process(**{"max-clients": str(COUNT + 100)})
    await process.start()
    with contextlib.ExitStack() as stack:
        # What the first ones cost is not theirs.
        await asyncio.to_thread(come_and_go, process.port, AT_ONCE)
        assert process._process is not None
        memory = Memory(process._process.pid)
        for first in range(0, COUNT, AT_ONCE):
            sockets = await asyncio.to_thread(connect, process.port, AT_ONCE)
            for each in sockets:
                stack.enter_context(each)
            await asyncio.to_thread(talk, sockets, first)
        assert (await process.status())["clients"] == COUNT
        print(f"{COUNT} connections: {memory.grown / COUNT / 1024:.2f} KiB each")
        assert memory.grown <= COUNT * MAX_BYTES
    await process.until(lambda s: s["clients"] == 0, "all are gone")


@needs_proc
@pytest.mark.usefixtures("open_files")
async def test_connections_that_come_and_go_leave_nothing_behind_and_disturb_nobody(
    source: Server, target: Server, make_process: Callable[..., Process]
) -> None:
    process = make_process()
    await process.start()
    await process.to("mirroring")
    stays = await Client.open(process.port)
    assert process._process is not None
    memory = Memory(process._process.pid)
    for _ in range(2):
        memory.restart()
        churn = asyncio.create_task(asyncio.to_thread(come_and_go, process.port, COUNT))
        n = 0
        while not churn.done():
            n += 1
            assert await stays.call("INCR", "n") == n
        await churn
        await stays.call("DEL", "n")
        await process.until(lambda s: s["clients"] == 1, "all others are gone")
    # The second time takes what the first has left.
    assert memory.grown <= 4 * MEGABYTE
    await process.proven()
    assert await differences(source, target) == []
    await stays.close()


async def test_more_clients_than_files_are_told_so_and_the_others_served(
    make_process: Callable[..., Process],
) -> None:
    process = make_process()
    process.prefix = ("sh", "-c", f'ulimit -n {RESERVED + 20}; exec "$@"', "sh")
    await process.start()
    assert f"only {RESERVED + 20} files may be open (ulimit -n): 20 clients at most" in process.log
    clients = [await Client.open(process.port) for _ in range(20)]
    for at, client in enumerate(clients):
        assert await client.call("INCR", "n") == at + 1
    refused = await Client.open(process.port)
    assert "max number of clients" in str(await refused.reply())
    await clients.pop().close()
    await process.until(lambda s: s["clients"] == 19, "there is room for one")
    another = await Client.open(process.port)
    assert await another.call("INCR", "n") == 21
    for client in (*clients, refused, another):
        await client.close()


async def test_a_connection_that_no_file_is_left_for_does_not_end_the_listener(
    make_process: Callable[..., Process],
) -> None:
    """The limit is lowered under the process: it cannot know, and has to accept all the same."""
    process = make_process()
    await process.start()
    assert process._process is not None
    pid = process._process.pid
    client = await Client.open(process.port)
    await client.call("SET", "k", "v")
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, limits[1]))
    refused = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(20)]
    assert await client.call("GET", "k") == b"v"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    for each in refused:
        each.close()

    async def is_served() -> bool:
        with contextlib.suppress(ConnectionError):
            another = await Client.open(process.port)
            answer = await another.call("GET", "k")
            await another.close()
            return bool(answer == b"v")
        return False

    await until(is_served, "new clients are served")
    await client.close()
