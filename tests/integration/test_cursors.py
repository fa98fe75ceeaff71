"""SCAN and its kin over flips: what was there all along is returned, whatever comes and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.clients import Client
from tests.integration.keyferry import Migration

STAYING = 1500
PAGE = 40
SCANS = {"SCAN": (), "SSCAN": ("s",), "HSCAN": ("h",), "ZSCAN": ("z",)}


class Iteration:
    """One that goes on a page at a time."""

    def __init__(self, client: Client, command: str, *options: str | int) -> None:
        self.client = client
        self.head = (command, *SCANS[command])
        self.options = options
        self.cursor = b"0"
        self.seen: set[bytes] = set()
        self.is_done = False

    async def page(self) -> None:
        words = (*self.head, self.cursor, *self.options, "COUNT", PAGE)
        self.cursor, found = await self.client.call(*words)
        self.seen.update(found[::2] if self.head[0] in ("HSCAN", "ZSCAN") else found)
        self.is_done = self.cursor == b"0"

    def missing(self) -> set[bytes]:
        what = b"key%d" if self.head[0] == "SCAN" else b"stays%d"
        return {what % at for at in range(STAYING)} - self.seen


async def fill(client: Client) -> None:
    for at in range(STAYING):
        client.send("SET", f"key{at}", at)
        client.send("SADD", "s", f"stays{at}")
        client.send("HSET", "h", f"stays{at}", at)
        client.send("ZADD", "z", at, f"stays{at}")
    for _ in range(4 * STAYING):
        await client.reply()


async def pass_by(client: Client, ended: asyncio.Event) -> None:
    """Comes and goes, in the same collections, all the while."""
    at = 0
    while not ended.is_set():
        at += 1
        for words in (
            ("SET", f"other{at}", 1), ("DEL", f"other{at - 40}"),
            ("SADD", "s", f"passes{at}"), ("SREM", "s", f"passes{at - 40}"),
            ("HSET", "h", f"passes{at}", 1), ("HDEL", "h", f"passes{at - 40}"),
            ("ZADD", "z", -at, f"passes{at}"), ("ZREM", "z", f"passes{at - 40}"),
        ):  # fmt: skip
            client.send(*words)
        for _ in range(8):
            await client.reply()


@pytest.mark.parametrize("command", SCANS)
async def test_an_iteration_over_flips_returns_all_that_was_there_all_along(
    migration: Migration, command: str
) -> None:
    """One that was begun on each side, in each phase, and finished behind the last flip."""
    client = await migration.client()
    await fill(client)
    await migration.verified()
    ended = asyncio.Event()
    passing = asyncio.create_task(pass_by(await migration.client(), ended))
    iterations: list[Iteration] = []

    async def step() -> None:
        # Pooled clients go on with a cursor on any of their connections.
        iterations.append(Iteration(await migration.client(), command))
        other: Any = await migration.client()
        for each in iterations:
            await each.page()
            assert not each.is_done
            each.client = other

    await step()
    for flip in (migration.cutover, migration.rollback, migration.cutover):
        await flip()
        await step()
    for each in iterations:
        while not each.is_done:
            await each.page()
    ended.set()
    await passing
    assert [each.missing() for each in iterations] == [set()] * 4
    assert await migration.differences() == []


async def test_a_pattern_and_a_type_hold_over_a_flip(migration: Migration) -> None:
    client = await migration.client()
    await fill(client)
    await migration.verified()
    iteration = Iteration(client, "SCAN", "MATCH", "key*", "TYPE", "string")
    await iteration.page()
    await migration.cutover()
    while not iteration.is_done:
        await iteration.page()
    assert iteration.missing() == set()
    assert all(key.startswith(b"key") for key in iteration.seen)
