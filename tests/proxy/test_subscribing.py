"""Subscriptions through the proxy: the store's own bytes, in either protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.servers import Server, every_engine

from .clients import Client, Proxied, connected

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


async def said(client: Client, line: str) -> list[bytes]:
    """The frames up to the answer of a PING behind it."""
    client.send(line, f"PING {MARKER.decode()}")
    frames: list[bytes] = []
    while not frames or MARKER not in frames[-1]:
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
    server.cli(
        "ACL", "SETUSER", "some", "on", "nopass", "+@all", "-get", "~*", "resetchannels", "&a"
    )
    proxied = await proxies(server, server)
    heard = []
    for port in (server.port, proxied.port):
        server.cli("FLUSHALL")
        heard.append(await conversation(port, CONVERSATIONS[name], resp))
    assert heard[1] == heard[0]
