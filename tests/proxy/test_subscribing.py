"""Subscriptions through the proxy: the store's own bytes, in either protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.follower import NotPrepared
from proxy.sides import Side
from tests.servers import Server, every_engine

from .clients import Client, Proxied, connected, encoded, until
from .relay import Relay

Proxies = Callable[..., Awaitable[Proxied]]
MARKER = b"marker"

# What one client says; a line of `other` is another's, who says it when the first is answered.
CONVERSATIONS = {
    "channels": [
        "SUBSCRIBE a b", "other PUBLISH a 1", "other PUBLISH c 2", "other PUBLISH b 3",
        "UNSUBSCRIBE a", "other PUBLISH a 4", "other PUBLISH b 5", "UNSUBSCRIBE b", "GET k",
    ],
    "patterns": [
        "PSUBSCRIBE a* ?b", "SUBSCRIBE ab", "other PUBLISH ab 1", "other PUBLISH ax 2",
        "PUNSUBSCRIBE a*", "other PUBLISH ab 3", "UNSUBSCRIBE ab", "PUNSUBSCRIBE ?b", "GET k",
    ],
    "shard channels": [
        "SSUBSCRIBE s", "SUBSCRIBE s", "other SPUBLISH s 1", "other PUBLISH s 2", "GET k",
        "UNSUBSCRIBE s", "GET k", "SUNSUBSCRIBE s", "other SPUBLISH s 3", "GET k", "SUNSUBSCRIBE",
    ],
    "named twice": [
        "SUBSCRIBE a a b a", "PSUBSCRIBE a* a*", "other PUBLISH a 1", "UNSUBSCRIBE b b zz",
        "UNSUBSCRIBE", "PUNSUBSCRIBE", "PING",
    ],
    "all at once": ["SUBSCRIBE a b c", "PSUBSCRIBE a b c", "UNSUBSCRIBE", "PUNSUBSCRIBE", "PING"],
    "of nothing": ["UNSUBSCRIBE", "UNSUBSCRIBE x y", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "GET k"],
    "wrongly put": [
        "SUBSCRIBE", "PSUBSCRIBE", "PUBLISH a", "SUBSCRIBE a", "SUBSCRIBE", "FOO", "FOO bar",
        "SET k", "PING a b", "XGROUP", "CLIENT", "UNSUBSCRIBE",
    ],
    "other commands, which only RESP3 allows": [
        "SUBSCRIBE a", "GET k", "SET k 1", "PING", "PING hello", "ECHO x", "SELECT 1", "GET k",
        "PUBSUB NUMSUB a b", "PUBLISH b 1", "UNSUBSCRIBE", "GET k",
    ],
    "forbidden in RESP2": [
        "SUBSCRIBE a", "GET k", "SET k 1", "PING", "PING hello", "ECHO x", "MULTI", "EXEC",
        "DISCARD", "WATCH k",
        "HELLO 3", "AUTH some x", "MONITOR", "CLIENT ID", "SELECT 1", "CONFIG GET x",
        "SHUTDOWN", "PUBSUB CHANNELS",
        "PUBSUB NUMSUB a b", "PUBLISH a 1", "OBJECT ENCODING k", "UNSUBSCRIBE", "GET k",
    ],
    "another user's rights": [
        "AUTH some x", "SUBSCRIBE b", "SUBSCRIBE a b", "PSUBSCRIBE *", "SUBSCRIBE a", "GET k",
        "SUBSCRIBE b", "PUBLISH a 1", "other PUBLISH a 2", "UNSUBSCRIBE", "GET k",
    ],
    "reset": ["SUBSCRIBE a", "RESET", "other PUBLISH a 1", "GET k", "SUBSCRIBE b", "UNSUBSCRIBE"],
    "of the store": ["SUBSCRIBE a", "other PUBSUB NUMSUB a b", "other PUBSUB CHANNELS",
                     "PSUBSCRIBE x*", "other PUBSUB NUMPAT", "UNSUBSCRIBE", "PUNSUBSCRIBE"],
    "after a watch": ["WATCH k", "SUBSCRIBE a", "UNSUBSCRIBE", "UNWATCH", "GET k"],
    "binary": ["SUBSCRIBE \x00>3", "other PUBLISH \x00>3 -ERR", "other PUBLISH \x00>3 \x00\xff"],
}  # fmt: skip


def make_user(server: Server, name: str, *rules: str) -> None:
    base = ("on", "nopass", "+@all", "~*", "resetchannels")
    server.cli("ACL", "SETUSER", name, *base, *rules)


async def said(client: Client, line: str) -> list[bytes]:
    """The frames up to the answer of a PING behind it."""
    client.send(line, f"PING {MARKER.decode()}")
    frames: list[bytes] = []
    while not frames or MARKER not in frames[-1] or frames[-1].startswith(b"+"):
        frames += await client.replies(1)
    return frames


def is_push(frame: bytes) -> bool:
    return frame.startswith(b">")


async def conversation(port: int, lines: list[str], resp: int) -> tuple[list[bytes], list[bytes]]:
    """What came: replies, and RESP3's pushes, whose order between the replies is not fixed."""
    frames: list[bytes] = []
    async with connected(port, port) as (client, other):
        if resp == 3:
            await client.call("HELLO 3")
        for line in lines:
            if line.startswith("other "):
                frames.append(await other.call(line.removeprefix("other ")))
                # In RESP2 what it has published is before the answer to this.
                frames += await said(client, "PING")
            else:
                frames += await said(client, line)
    return [f for f in frames if not is_push(f)], [f for f in frames if is_push(f)]


@every_engine
@pytest.mark.parametrize(
    ("name", "resp"),
    [(name, 2) for name in CONVERSATIONS]
    + [(name, 3) for name in CONVERSATIONS if not name.endswith("RESP2")],
)
async def test_a_conversation_is_answered_as_by_the_store(
    server: Server, proxies: Proxies, name: str, resp: int
) -> None:
    make_user(server, "some", "&a", "-get")
    proxied = await proxies(server, server)
    heard = []
    for port in (server.port, proxied.port):
        server.cli("FLUSHALL")
        heard.append(await conversation(port, CONVERSATIONS[name], resp))
    assert heard[1] == heard[0]


PIPELINES = (
    "SUBSCRIBE a b,UNSUBSCRIBE a,UNSUBSCRIBE,GET k,SUBSCRIBE c,PING,UNSUBSCRIBE,GET k,SET k 1",
    "SET k 1,PSUBSCRIBE a* b*,SUBSCRIBE,GET k,PUNSUBSCRIBE,UNSUBSCRIBE,GET k,PING,QUIT",
    "SUBSCRIBE a,RESET,GET k,SUBSCRIBE b,SUBSCRIBE c d,UNSUBSCRIBE,QUIT,GET k",
)


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("line", PIPELINES)
async def test_what_is_sent_at_once_is_answered_in_its_order(
    proxied: Proxied, line: str, resp: int
) -> None:
    heard = []
    for port in (proxied.source.port, proxied.port):
        proxied.source.cli("FLUSHALL")
        async with connected(port) as client:
            if resp == 3:
                await client.call("HELLO 3")
            client.send(*line.split(","))
            client.writer.write_eof()
            heard.append(await client.rest())
    assert heard[1] == heard[0]


async def test_hello_changes_the_form_of_messages_where_it_is_answered(proxied: Proxied) -> None:
    heard = []
    for port in (proxied.source.port, proxied.port):
        async with connected(port, port) as (client, other):
            await client.calls("HELLO 3", "SUBSCRIBE a")
            assert await other.call("PUBLISH a 1") == b":1\r\n"
            client.send("HELLO 2")
            first, hello = await client.replies(2)
            assert hello.startswith(b"*14\r\n")
            assert await other.call("PUBLISH a 2") == b":1\r\n"
            client.send("GET k", "PING", "UNSUBSCRIBE")
            heard.append([first, *await client.replies(4), await client.call("GET k")])
    assert heard[1] == heard[0]


async def test_rights_are_those_of_the_user_that_the_client_is_now(proxied: Proxied) -> None:
    make_user(proxied.source, "one", "&a")
    make_user(proxied.source, "two", "&b")
    steps = ["HELLO 3 AUTH one x", "SUBSCRIBE a", "AUTH two x", "SUBSCRIBE a", "SUBSCRIBE b"]
    heard = []
    for port in (proxied.source.port, proxied.port):
        async with connected(port, port) as (client, other):
            replies = [await client.call(step) for step in steps][1:]
            assert await other.calls("PUBLISH a 1", "PUBLISH b 2") == [b":1\r\n"] * 2
            heard.append(replies + await client.replies(2))
    assert heard[1] == heard[0]


# -- who comes, goes and does not read ------------------------------------------------------------


async def test_a_message_reaches_each_of_many_once(proxied: Proxied) -> None:
    async with proxied.client(300) as clients, proxied.client() as publisher:
        for at, client in enumerate(clients):
            if at % 2:
                await client.call("HELLO 3")
            await client.call("SUBSCRIBE a")
        assert await publisher.calls("PUBLISH a 1", "PUBLISH a 2") == [b":300\r\n"] * 2
        for at, client in enumerate(clients):
            kind = b">" if at % 2 else b"*"
            assert await client.replies(2) == [
                kind + b"3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n%d\r\n" % n for n in (1, 2)
            ]


async def test_who_does_not_read_is_closed_and_the_others_hear_everything(
    source: Server, target: Server, proxies: Proxies
) -> None:
    proxied = await proxies(source, target, client_output_limit=4_000_000)
    text = "x" * 1_000_000
    async with proxied.client(3) as (lazy, keen, publisher):
        for client in (lazy, keen):
            await client.call("SUBSCRIBE a")
        sent = 0
        while not proxied.proxy.stats.client_errors["output_limit"]:
            assert await publisher.call(f"PUBLISH a {text}") in (b":2\r\n", b":1\r\n")
            assert text.encode() in (await keen.replies(1))[0]
            sent += 1
        # What the kernel holds for a reader that does not read is a few MB, too.
        assert sent < 30
        await until(lambda: len(proxied.proxy.subscriptions._all) == 1)
        # The store may not have seen yet that the other one is gone.
        assert await publisher.call("PUBLISH a end") in (b":2\r\n", b":1\r\n")
        assert b"end" in (await keen.replies(1))[0]


async def test_a_client_that_leaves_takes_its_connection_along(proxied: Proxied) -> None:
    async with proxied.client() as client:
        await client.calls("SUBSCRIBE a", "PSUBSCRIBE b*")
        assert proxied.source.cli("PUBSUB", "NUMPAT") == 1
    await until(lambda: proxied.source.cli("PUBSUB", "NUMPAT") == 0)
    assert proxied.source.cli("PUBSUB", "NUMSUB", "a") == [b"a", 0]
    assert not proxied.proxy.subscriptions._all and not proxied.proxy._own


async def test_with_the_last_subscription_the_connection_ends(proxied: Proxied) -> None:
    async with proxied.client() as client:
        for _ in range(3):
            await client.call("SUBSCRIBE a")
            assert len(proxied.proxy._own) == 1
            await client.call("UNSUBSCRIBE a")
            assert not proxied.proxy._own and not proxied.proxy.subscriptions._all
        assert await client.call("PING") == b"+PONG\r\n"


async def test_a_subscriber_whose_store_is_gone_is_closed_and_others_are_served(
    proxied: Proxied,
) -> None:
    async with proxied.client(2) as (client, other):
        await client.call("SUBSCRIBE a")
        await other.call("PING")
        proxied.source.cli("CLIENT", "KILL", "TYPE", "pubsub")
        assert await client.rest() == b""
        assert await other.call("PUBLISH a 1") == b":0\r\n"
    assert proxied.proxy.stats.client_errors["upstream_lost"] == 1


# -- flips ----------------------------------------------------------------------------------------


async def flip(proxied: Proxied, side: Side) -> None:
    proxy = proxied.proxy
    assert await proxy.prepare_flip() == []
    await proxy.fence()
    await fenced_flip(proxied, side)


async def fenced_flip(proxied: Proxied, side: Side) -> None:
    proxy = proxied.proxy
    await proxy.settle()
    proxy.flip(side, None, 0)
    proxy.release()


def message(channel: str, text: str) -> bytes:
    return encoded(f"message {channel} {text}")


async def test_only_the_primarys_messages_are_passed_on(proxied: Proxied) -> None:
    source, target = proxied.source, proxied.target
    async with proxied.client() as client:
        await client.call("SUBSCRIBE a")
        assert await proxied.proxy.prepare_flip() == []
        assert target.cli("PUBLISH", "a", "not yet") == 1
        assert source.cli("PUBLISH", "a", "before") == 1
        await proxied.proxy.fence()
        await fenced_flip(proxied, Side.TARGET)
        assert target.cli("PUBLISH", "a", "behind") == 1
        await until(lambda: source.cli("PUBLISH", "a", "not any more") == 0)
        assert await client.replies(2) == [message("a", "before"), message("a", "behind")]
        await flip(proxied, Side.SOURCE)
        assert source.cli("PUBLISH", "a", "back") == 1
        assert await client.call("UNSUBSCRIBE") == message("a", "back")
    assert not proxied.proxy.stats.client_errors


async def test_what_is_changed_before_the_fence_is_changed_behind_it(proxied: Proxied) -> None:
    proxy, target = proxied.proxy, proxied.target
    async with proxied.client(5) as (more, less, none, gone, late):
        for client in (more, less, none, gone):
            await client.call("SUBSCRIBE a b")
            await client.replies(1)
        assert await proxy.prepare_flip() == []
        await more.calls("SUBSCRIBE c", "PSUBSCRIBE d*")
        await less.call("UNSUBSCRIBE a")
        await none.calls("RESET")
        await gone.close()
        await late.calls("HELLO 3", "SUBSCRIBE e")
        await proxy.fence()
        # Arrives inside the fence, so it is the new primary's.
        less.send("SUBSCRIBE f")
        await until(lambda: proxy.table._at_the_gate)
        await fenced_flip(proxied, Side.TARGET)
        assert await less.replies(1) == [b"*3\r\n$9\r\nsubscribe\r\n$1\r\nf\r\n:2\r\n"]
        channels = dict(zip(*[iter(target.cli("PUBSUB", "NUMSUB", *"abcdef"))] * 2, strict=True))
        assert channels == {b"a": 1, b"b": 2, b"c": 1, b"d": 0, b"e": 1, b"f": 1}
        assert target.cli("PUBSUB", "NUMPAT") == 1
        assert await none.call("GET k") == b"$-1\r\n"
        assert target.cli("PUBLISH", "e", "1") == 1
        assert await late.replies(1) == [b">" + message("e", "1")[1:]]


async def test_who_cannot_follow_refuses_the_flip_in_words(proxied: Proxied) -> None:
    proxy = proxied.proxy
    proxied.source.cli("ACL", "SETUSER", "some", "on", "nopass", "+@all", "~*", "&*")
    proxied.target.cli(
        "ACL", "SETUSER", "some", "on", "nopass", "+@all", "~*", "resetchannels", "&b"
    )
    async with proxied.client(2) as (one, other):
        await one.calls("AUTH some x", "SUBSCRIBE b")
        await other.call("SUBSCRIBE a")
        assert await proxy.prepare_flip() == []
        proxy.abandon_flip()
        await one.call("SUBSCRIBE a")
        (problem,) = await proxy.prepare_flip()
        assert problem.startswith("a subscriber cannot follow: some: NOPERM")
        proxy.abandon_flip()
        await until(lambda: proxied.target.cli("PUBSUB", "CHANNELS") == [])
        assert proxied.source.cli("PUBLISH", "a", "1") == 2
        assert await one.replies(1) == await other.replies(1) == [message("a", "1")]


async def test_who_becomes_unable_to_follow_refuses_the_flip_inside_the_fence(
    proxied: Proxied,
) -> None:
    proxy = proxied.proxy
    proxied.source.cli("ACL", "SETUSER", "some", "on", "nopass", "+@all", "~*", "&*")
    proxied.target.cli(
        "ACL", "SETUSER", "some", "on", "nopass", "+@all", "~*", "resetchannels", "&b"
    )
    async with proxied.client() as client:
        await client.calls("AUTH some x", "SUBSCRIBE b")
        assert await proxy.prepare_flip() == []
        await client.call("SUBSCRIBE a")
        await proxy.fence()
        with pytest.raises(NotPrepared, match="some: NOPERM"):
            await proxy.settle()
        proxy.release()
        proxy.abandon_flip()
        assert proxied.source.cli("PUBLISH", "a", "1") == 1
        assert await client.replies(1) == [message("a", "1")]


async def test_the_other_side_going_away_refuses_the_flip_and_no_client_notices(
    proxied: Proxied,
) -> None:
    proxy = proxied.proxy
    async with proxied.client() as client:
        await client.call("SUBSCRIBE a")
        assert await proxy.prepare_flip() == []
        proxied.target.kill()
        (subscriber,) = proxy.subscriptions._all
        receiver = subscriber._next
        assert receiver is not None
        await until(lambda: receiver.lane.is_lost)
        await proxy.fence()
        with pytest.raises((NotPrepared, ConnectionError)):
            await proxy.settle()
        proxy.release()
        proxy.abandon_flip()
        assert proxied.source.cli("PUBLISH", "a", "1") == 1
        assert await client.replies(1) == [message("a", "1")]
        proxied.target.start()


@pytest.mark.parametrize("way", ["leaves", "unsubscribes", "resets"])
async def test_who_ends_while_the_flip_is_prepared_does_not_refuse_it(
    source: Server, target: Server, proxies: Proxies, way: str
) -> None:
    async with Relay(target) as relay:
        proxied = await proxies(source, target, target_port=relay.port)
        async with proxied.client(2) as (client, other):
            for each in (client, other):
                await each.call("SUBSCRIBE a")
            relay.requests.clear()
            preparing = asyncio.create_task(proxied.proxy.prepare_flip())
            await until(lambda: b"SETNAME" in relay.seen)
            if way == "leaves":
                await client.close()
            else:
                await client.call("UNSUBSCRIBE" if way == "unsubscribes" else "RESET")
            await until(lambda: len(proxied.proxy.subscriptions._all) == 1)
            relay.requests.set()
            assert await preparing == []
            await proxied.proxy.fence()
            await fenced_flip(proxied, Side.TARGET)
            assert target.cli("PUBLISH", "a", "1") == 1
            assert await other.replies(1) == [message("a", "1")]
