"""SUBSCRIBE inside MULTI: the store's own bytes, and a subscriber behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.sides import Side
from tests.servers import Server, every_engine

from .clients import Proxied, connected
from .test_subscribing import flip, make_user, message

Proxies = Callable[..., Awaitable[Proxied]]

CONVERSATIONS = (
    "MULTI,SUBSCRIBE a b,GET k,PUBLISH a 1,UNSUBSCRIBE,EXEC,GET k",
    "MULTI,SUBSCRIBE a,PUBLISH a 1,PSUBSCRIBE a*,PUBLISH a 2,LRANGE l 0 -1,EXEC,PING",
    "MULTI,SUBSCRIBE a a,SUBSCRIBE c,UNSUBSCRIBE a,EXEC,GET k,SUBSCRIBE d,UNSUBSCRIBE,GET k",
    "MULTI,SET k 1,SUBSCRIBE a,SELECT 1,SET k 2,GET k,EXEC,UNSUBSCRIBE,GET k,SELECT 0,GET k",
    "MULTI,CLIENT SETNAME x,SUBSCRIBE a,CLIENT GETNAME,EXEC,RESET,GET k",
    "MULTI,UNSUBSCRIBE,PUNSUBSCRIBE x y,EXEC,GET k,PING",
    "MULTI,SUBSCRIBE a,GET,EXEC,GET k,UNSUBSCRIBE",
    "MULTI,SUBSCRIBE a,DISCARD,GET k,UNSUBSCRIBE",
    "MULTI,SSUBSCRIBE a,EXEC,GET k",
    "MULTI,MONITOR,EXEC,GET k",
    "WATCH k,SET k 1,MULTI,SUBSCRIBE a,EXEC,GET k",
    "WATCH k,MULTI,SUBSCRIBE a,EXEC,UNSUBSCRIBE,GET k",
    "AUTH some x,MULTI,SUBSCRIBE b,GET k,EXEC,GET k",
    "AUTH some x,MULTI,SUBSCRIBE a,EXEC,SUBSCRIBE b,UNSUBSCRIBE",
)


@every_engine
@pytest.mark.parametrize("resp", [2, 3])
async def test_a_block_is_answered_as_by_the_store(
    server: Server, proxies: Proxies, resp: int
) -> None:
    make_user(server, "some", "&a")
    proxied = await proxies(server, server)
    for lines in CONVERSATIONS:
        heard = []
        for port in (server.port, proxied.port):
            server.cli("FLUSHALL")
            server.cli("RPUSH", "l", "message", "a", "1")
            async with connected(port) as client:
                if resp == 3:
                    await client.call("HELLO 3")
                client.send(*lines.split(","))
                client.writer.write_eof()
                heard.append(await client.rest())
        assert heard[1] == heard[0], lines
    assert not proxied.proxy.subscriptions._all


@pytest.mark.parametrize("resp", [2, 3])
async def test_behind_it_the_client_is_a_subscriber_who_follows_flips(
    mirrored: Proxied, resp: int
) -> None:
    kind = b"*" if resp == 2 else b">"
    async with mirrored.client(2) as (client, other):
        await client.call(f"HELLO {resp}")
        await client.calls("MULTI", "SET k 1", "SUBSCRIBE a", "INCR k", "EXEC")
        assert await other.call("PUBLISH a 1") == b":1\r\n"
        await mirrored.applied()
        assert mirrored.target.cli("GET", "k") == b"2"
        assert await client.replies(1) == [kind + message("a", "1")[1:]]
        await flip(mirrored, Side.TARGET)
        assert await other.call("PUBLISH a 2") == b":1\r\n"
        assert await client.replies(1) == [kind + message("a", "2")[1:]]


async def test_who_is_subscribed_already_is_refused_in_words(proxied: Proxied) -> None:
    async with proxied.client() as client:
        await client.calls("HELLO 3", "SUBSCRIBE a")
        replies = await client.calls("MULTI", "SUBSCRIBE b", "EXEC", "GET k")
        assert replies[1].startswith(b"-ERR Keyferry does not support 'subscribe' inside MULTI")
        assert replies[2].startswith(b"-EXECABORT") and replies[3] == b"_\r\n"


async def test_a_store_that_is_lost_at_exec_ends_the_client(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        await client.calls("MULTI", "SET k 1", "SUBSCRIBE a")
        (lane,) = mirrored.proxy._own
        mirrored.source.kill()
        client.send("EXEC")
        assert await client.rest() == b""
        assert lane.is_lost and not mirrored.proxy.subscriptions._all
    assert not mirrored.proxy.table.active
    mirrored.source.start()
