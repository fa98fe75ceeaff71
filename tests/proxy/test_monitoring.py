"""MONITOR through the proxy: what the primary executes, and what its client may do meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.sides import Side
from tests.servers import Server, every_engine

from .clients import Client, Proxied, connected, until
from .test_subscribing import flip, make_user, said

Proxies = Callable[..., Awaitable[Proxied]]

CONVERSATIONS = {
    "what it may do": [
        "GET k", "SET k 1", "DEL k", "KEYS *", "DBSIZE", "SCAN 0", "PUBLISH a 1", "FLUSHALL",
        "RANDOMKEY", "ECHO x", "PING", "SELECT 1", "CONFIG GET x",
        "PUBSUB CHANNELS", "COMMAND COUNT", "WATCH k", "UNWATCH", "GET", "FOO", "MONITOR", "GET k",
    ],
    "reset": ["RESET", "GET k", "PING"],
    "subscribed, too": [
        "SUBSCRIBE a", "PING", "GET k", "MONITOR", "ECHO x", "UNSUBSCRIBE", "GET k", "ECHO x",
    ],
    "without the right": ["AUTH some x", "GET k", "MONITOR", "GET k"],
}  # fmt: skip


def is_line(frame: bytes) -> bool:
    return frame[:1] == b"+" and frame[1:2].isdigit()


@every_engine
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_a_conversation_is_answered_as_by_the_store(
    server: Server, proxies: Proxies, name: str
) -> None:
    make_user(server, "some", "-monitor")
    proxied = await proxies(server, server)
    heard = []
    for port in (server.port, proxied.port):
        async with connected(port) as client:
            if not name.startswith("without"):
                assert await client.call("MONITOR") == b"+OK\r\n"
            frames = [frame for line in CONVERSATIONS[name] for frame in await said(client, line)]
            heard.append([frame for frame in frames if not is_line(frame)])
    assert heard[1] == heard[0]


async def line_of(client: Client, command: bytes) -> bytes:
    """The next line that tells of a command; ours are between."""
    while command not in (frame := (await client.replies(1))[0]):
        assert is_line(frame)
    return frame


async def answer_of(client: Client) -> bytes:
    """The next frame that is no line: what was executed before may still come."""
    while is_line(frame := (await client.replies(1))[0]):
        pass
    return frame


@pytest.mark.parametrize("resp", [2, 3])
async def test_each_command_of_the_primary_comes_in_order_over_flips(
    proxied: Proxied, resp: int
) -> None:
    async with proxied.client(2) as (client, other):
        await client.call(f"HELLO {resp}")
        assert await client.call("MONITOR") == b"+OK\r\n"
        count = 0
        for side in (Side.TARGET, Side.SOURCE, Side.TARGET):
            for _ in range(50):
                count += 1
                other.send(f"SET k {count}")
            await other.replies(50)
            await flip(proxied, side)
        frames: list[bytes] = []
        while len(frames) < count:
            (frame,) = await client.replies(1)
            assert is_line(frame)
            if b'"SET" "k"' in frame:
                frames.append(frame)
        assert [int(frame.rsplit(b'"', 2)[1]) for frame in frames] == list(range(1, count + 1))


async def test_it_ends_with_reset_and_with_its_client(proxied: Proxied) -> None:
    async with proxied.client(2) as (client, other):
        await client.call("MONITOR")
        await other.call("SET k 1")
        await line_of(client, b'"SET"')
        client.send("RESET", "GET k")
        assert await answer_of(client) == b"+RESET\r\n"
        assert await answer_of(client) == b"$1\r\n1\r\n"
        assert not proxied.proxy._own
        await client.call("MONITOR")
    await until(lambda: not proxied.proxy._own)
    assert not proxied.proxy.subscriptions._all
