"""Bad input of one client: a clear error, the connection as a store would treat it, nobody else."""

from __future__ import annotations

import random

import pytest

from .clients import Proxied, connected, encoded, until

PING = encoded("PING")

# What is not RESP: the store answers an error and hangs up, and so must the proxy.
BROKEN: dict[str, bytes] = {
    "a bulk of a gigabyte": b"*2\r\n$3\r\nGET\r\n$1073741824\r\n",
    "a negative bulk": b"*2\r\n$3\r\nGET\r\n$-1\r\n",
    "a bulk without length": b"*2\r\n$3\r\nGET\r\n$\r\n",
    "a length that is no number": b"*2\r\n$abc\r\nGET\r\n",
    "too many arguments": b"*1048577\r\n",
    "a count that is no number": b"*x\r\n",
    "no bulk where one must be": b"*1\r\n:1\r\n",
    "unbalanced quotes": b'SET k "v\r\n',
    "a line without end": b"x" * 70_000,
    "a header without end": b"*" + b"1" * 70_000,
}
# What is odd and legal: the store goes on, silently or with an error.
ODD: dict[str, bytes] = {
    "minus five arguments": b"*-5\r\n",
    "no arguments": b"*0\r\n",
    "empty lines": b"\r\n\r\n\n",
    "inline junk": b"what is this\r\n",
    "an inline command": b"SET k 'a b'\r\nGET k\r\n",
    "an empty name": b"*1\r\n$0\r\n\r\n",
    "binary name": b"*2\r\n$4\r\n\x00\xff\r\n\r\n$1\r\nx\r\n",
    "unknown command": encoded("NOSUCH a b"),
    "a very long unknown command": encoded("N" * 1000 + " " + "a" * 1000),
    "wrong arity": encoded("GET", "SET k", "MGET", "HSET h f"),
    "wrong password": encoded("AUTH wrong", "AUTH nobody wrong", "HELLO 3 AUTH a b"),
    "bad options": encoded("SET k v EX", "SET k v EX x", "ZADD z x m", "SELECT x", "EXPIRE k x"),
    "wrong type": encoded("SET s 1", "LPUSH s 1", "HGET s f", "EXEC", "DISCARD"),
}


async def answer(port: int, data: bytes, *, hangs_up: bool) -> bytes:
    async with connected(port) as client:
        client.writer.write(data if hangs_up else data + encoded("QUIT"))
        return await client.rest()


async def lives(proxied: Proxied) -> None:
    """Another client notices nothing, and nothing of the bad one is left."""
    async with proxied.client() as other:
        assert await other.calls("SET alive 1", "GET alive") == [b"+OK\r\n", b"$1\r\n1\r\n"]
    await until(lambda: not proxied.proxy.sessions)
    assert not proxied.proxy.table.active and not proxied.proxy.table.entries


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_frame_is_answered_as_the_store_does_and_ends_the_connection(
    proxied: Proxied, name: str
) -> None:
    async with proxied.client() as other:
        for before in (b"", encoded("SET k v", "GET k")):
            data = before + BROKEN[name]
            direct = await answer(proxied.source.port, data, hangs_up=True)
            assert await answer(proxied.port, data, hangs_up=True) == direct
            assert b"-ERR Protocol error" in direct
        assert await other.call("PING") == b"+PONG\r\n"
    await lives(proxied)


@pytest.mark.parametrize("line", [b"POST / HTTP/1.1\r\n", b"host: example.org\r\n\r\n"])
async def test_a_line_of_http_ends_the_connection_as_it_does_on_a_store(
    proxied: Proxied, line: bytes
) -> None:
    assert await answer(proxied.source.port, line, hangs_up=True) == b""
    assert await answer(proxied.port, line, hangs_up=True) == b""
    await lives(proxied)


@pytest.mark.parametrize("name", ODD)
async def test_odd_input_is_answered_as_the_store_does_and_the_client_goes_on(
    proxied: Proxied, name: str
) -> None:
    heard = []
    for port in (proxied.source.port, proxied.port):
        proxied.source.cli("FLUSHALL")
        heard.append(await answer(port, ODD[name] + PING, hangs_up=False))
    assert heard[1] == heard[0]
    assert heard[1].endswith(b"+PONG\r\n+OK\r\n")
    await lives(proxied)


@pytest.mark.parametrize("cut", range(1, 33, 3))
async def test_a_truncated_frame_and_a_hangup_do_nothing(proxied: Proxied, cut: int) -> None:
    frame = encoded("SET k truncated")
    async with proxied.client() as client:
        client.writer.write(encoded("PING") + frame[:cut])
        client.writer.write_eof()
        assert await client.rest() == b"+PONG\r\n"
    assert proxied.source.cli("EXISTS", "k") == 0
    await lives(proxied)


async def test_garbage_ends_one_connection_and_no_more(proxied: Proxied) -> None:
    dice = random.Random(7)
    async with proxied.client() as other:
        for size in (1, 10, 1000, 100_000):
            for _ in range(5):
                async with proxied.client() as client:
                    client.writer.write(dice.randbytes(size))
                    if client.writer.can_write_eof():
                        client.writer.write_eof()
                    heard = await client.rest()
                    assert heard == b"" or heard[:1] in b"-+:$*"
                assert await other.call("PING") == b"+PONG\r\n"
    await lives(proxied)


@pytest.mark.parametrize(
    "line",
    [
        "SHUTDOWN", "REPLICAOF NO ONE", "DEBUG SLEEP 0",
        "CLIENT PAUSE 1", "CONFIG SET maxmemory 1", "MIGRATE h 1 k 0 1", "SAVE", "PSYNC ? -1",
    ],
)  # fmt: skip
async def test_what_is_not_served_is_refused_by_name_and_does_nothing(
    proxied: Proxied, line: str
) -> None:
    async with proxied.client() as client:
        before, refusal, behind = await client.calls("SET k v", line, "GET k")
        name = line.split()[0].lower().encode()
        assert refusal.startswith((b"-ERR Keyferry does not support", b"-ERR Keyferry refuses"))
        assert name in refusal and len(refusal.splitlines()) == 1
        assert (before, behind) == (b"+OK\r\n", b"$1\r\nv\r\n")
    assert proxied.proxy.stats.client_errors["refused"] == 1
    await lives(proxied)


async def test_errors_between_good_commands_keep_their_place(proxied: Proxied) -> None:
    async with proxied.client() as client:
        replies = await client.calls(*["SET k v", "NOSUCH", "GET k", "GET", "SAVE"] * 50)
        starts = [each[:6] for each in replies]
        assert starts == [b"+OK\r\n", b"-ERR u", b"$1\r\nv\r", b"-ERR w", b"-ERR K"] * 50
