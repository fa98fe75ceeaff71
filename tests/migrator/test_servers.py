"""Servers: found, started, reset between tests."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hiredis
import pytest

from migrator.servers import Engine, Server
from tests.servers import DEFAULT_PAIR, ServerPool, engine_pairs, every_engine


@every_engine
def test_a_server_is_of_the_engine_it_says(server: Server, engine: Engine) -> None:
    info = server.info("server")
    field = "valkey_version" if engine.kind == "valkey" else "redis_version"
    assert info[field] == ".".join(map(str, engine.version))


def test_the_default_migration_is_redis_6_to_valkey_9(source: Server, target: Server) -> None:
    assert (source.engine.kind, source.engine.version[0]) == ("redis", 6)
    assert (target.engine.kind, target.engine.version[0]) == ("valkey", 9)


@engine_pairs
async def test_async_tests_get_running_servers(source: Server, target: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    writer.close()
    await writer.wait_closed()
    assert target.cli("PING") == b"PONG"


def test_a_reused_server_is_as_good_as_new(server_pool: ServerPool) -> None:
    first = server_pool.take(DEFAULT_PAIR.target)
    first.cli("SET", "a", 1, db=3)
    first.cli("CONFIG", "SET", "maxmemory", "5mb", "notify-keyspace-events", "KEA")
    first.cli("ACL", "SETUSER", "ann", "on", ">secret", "+@all", "~*")
    first.cli("ACL", "SETUSER", "default", "-@write")
    server_pool.give_back(first)

    again = server_pool.take(DEFAULT_PAIR.target)
    try:
        assert again is first
        assert again.cli("DBSIZE", db=3) == 0
        assert again.cli("CONFIG", "GET", "maxmemory")[1] == b"0"
        assert again.cli("CONFIG", "GET", "notify-keyspace-events")[1] == b""
        assert again.cli("ACL", "USERS") == [b"default"]
        assert again.cli("SET", "a", 1) == b"OK"
    finally:
        server_pool.give_back(again)


def test_a_restarted_server_keeps_its_port_and_loses_its_keys(source: Server) -> None:
    port, run_id = source.port, source.info("server")["run_id"]
    source.cli("SET", "a", 1)
    source.restart()
    assert source.port == port
    assert source.cli("EXISTS", "a") == 0
    assert source.info("server")["run_id"] != run_id


@every_engine
def test_a_password_is_needed_where_one_is_set(engine: Engine, server_factory) -> None:
    server = server_factory(engine, password="hush")
    assert server.cli("PING") == b"PONG"
    assert ":hush@" in server.url
    server.cli("CONFIG", "SET", "requirepass", "other")
    with pytest.raises(hiredis.ReplyError):
        server.cli("NONSENSE")


def test_a_server_that_ended_by_itself_can_be_started_again(source: Server) -> None:
    assert source.pid is not None
    os.kill(source.pid, signal.SIGKILL)
    with pytest.raises(ConnectionError):
        source.cli("PING")
    while source.is_running:
        time.sleep(0.001)
    source.start()
    assert source.cli("PING") == b"PONG"
    assert source.directory.exists()


def test_a_server_does_not_outlive_an_owner_that_was_killed() -> None:
    program = (
        "from migrator.servers import Server, find_engine\n"
        "server = Server(find_engine('redis', 6)).start()\n"
        "print(server.pid, server.directory, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        owner.kill()
    deadline = time.monotonic() + 10
    while Path(directory).exists() or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
