"""Writes around the end of a key: nobody comes by afterwards to set it right."""

from __future__ import annotations

import time

from .client import Client
from .connection import Words
from .model import ANY, Step

# Short enough to come by often, long enough to be set before it ends.
BRINK_MS = (15, 40)


async def brink(client: Client) -> None:
    """Write a key while it expires, and leave it."""
    draw = client.draw
    number = client.kept["brinks"] = client.kept.get("brinks", 0) + 1
    key = b"brink:%d:%d" % (client.number, number)
    ttl = draw.number(*BRINK_MS)
    form = draw.number(0, 4)
    write: tuple[Words, ...] = (
        (b"HSET", key, b"%d", b"1"), (b"SADD", key, b"%d"), (b"ZADD", key, 1, b"%d"),
        (b"APPEND", key, b"%d,"),
    )  # fmt: skip
    await client.perform(_write(write[form], 0), _step((b"PEXPIRE", key, ttl)))
    until = time.monotonic() + (ttl + 3) / 1000.0
    at = 1
    while time.monotonic() < until:
        await client.perform(_write(write[form], at))
        at += 1


def _step(words: Words) -> Step:
    return Step(words, (), lambda _: ANY)


def _write(words: Words, at: int) -> Step:
    return _step(
        tuple(word % at if isinstance(word, bytes) and b"%d" in word else word for word in words)
    )
