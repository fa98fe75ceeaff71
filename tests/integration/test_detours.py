"""Something large passes on a lane: who waits for it, who does not, and that the order stays.

The rest of the large reply, or request, is kept back by a hold (see holds.py), so that it passes
for as long as a test wants.
"""

from __future__ import annotations

import asyncio

import pytest

from proxy.lane import Lane
from tests.integration.clients import Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration

LARGE = b"x" * (8 << 20)


class Passing:
    """`reader` has asked for a large value, and only its first piece has come on `lane`."""

    def __init__(self, migration: Migration, wires: Wires, lane: Lane, reader: Client) -> None:
        self.migration = migration
        self.wires = wires
        self.lane = lane
        self.reader = reader

    def end(self) -> None:
        self.wires.release_replies(self.lane)


@pytest.fixture
async def passing(migration: Migration, wires: Wires) -> Passing:
    reader = await migration.client()
    await migration.mirroring()
    await reader.call("SET", "large", LARGE)
    await reader.call("SET", "k", "old")
    await migration.settled()
    lane = migration.lane()
    wires.hold_replies_behind_one_piece(lane)
    reader.send("GET", "large")
    await until(lambda: lane.is_left, "the lane is left")
    return Passing(migration, wires, lane, reader)


async def test_a_large_reply_is_under_way_and_others_are_answered(passing: Passing) -> None:
    other = await passing.migration.client()
    assert await other.call("GET", "k") == b"old"
    assert await other.call("SET", "k", "new") == b"OK"
    assert await other.block(("INCR", "n"), ("GET", "k")) == [1, b"new"]
    passing.end()
    assert await passing.reader.reply() == LARGE
    assert await passing.reader.call("GET", "k") == b"new"
    await passing.migration.settled()
    assert await passing.migration.differences() == []


async def test_a_write_waits_behind_a_large_reply_then_another_clients_comes_second(
    passing: Passing,
) -> None:
    # Sent on the lane that is left, and executed by now; its answer is not seen.
    passing.reader.send("APPEND", "k", ",first")
    await until(lambda: passing.migration.is_in_flight(b"k"), "in flight")
    other = await passing.migration.client()
    other.send("APPEND", "k", ",second")
    await until(lambda: passing.migration.waits(b"k"), "the second waits")
    assert await (await passing.migration.client()).call("EXISTS", "k") == 1
    assert passing.migration.waits(b"k")
    passing.end()
    assert await passing.reader.reply() == LARGE
    assert await passing.reader.reply() == 9
    assert await other.reply() == 16
    await passing.migration.settled()
    assert await passing.migration.differences() == []
    assert passing.migration.target.cli("GET", "k") == b"old,first,second"
    assert passing.migration.status()["mirror"]["divergences"] == 0


async def test_who_waits_for_a_large_reply_gets_all_that_follows_in_its_order(
    passing: Passing,
) -> None:
    reader = passing.reader
    reader.send("SET", "k", "mine")
    reader.send("GET", "k")
    other = await passing.migration.client()
    assert await other.call("PING") == b"PONG"
    passing.end()
    assert [await reader.reply() for _ in range(3)] == [LARGE, b"OK", b"mine"]


async def test_a_cutover_waits_for_what_is_answered_on_a_lane_that_was_left(
    passing: Passing,
) -> None:
    migration = passing.migration
    other = await migration.client()
    assert await other.call("GET", "k") == b"old"
    await migration.verified()
    flip = asyncio.create_task(migration.cutover())
    await until(lambda: migration.proxy.is_fenced, "the fence stands")
    await asyncio.sleep(0.05)
    assert migration.status()["primary"] == "source"
    passing.end()
    assert await passing.reader.reply() == LARGE
    await flip
    assert migration.status()["primary"] == "target"
    assert await passing.reader.call("GET", "k") == b"old"


async def test_a_large_request_is_being_sent_and_others_are_answered(
    migration: Migration, wires: Wires
) -> None:
    writer = await migration.client()
    await migration.mirroring()
    await writer.call("SET", "k", "old")
    lane = migration.lane()
    wires.hold_sending(lane)
    writer.send("SET", "k", LARGE)
    await until(lambda: lane.is_left, "the lane is left")
    other = await migration.client()
    assert await other.call("INCR", "n") == 1
    # The same key: it stays behind.
    other.send("APPEND", "k", "y")
    await until(lambda: migration.waits(b"k"), "it waits")
    wires.release_sending(lane)
    assert await writer.reply() == b"OK"
    assert await other.reply() == len(LARGE) + 1
    await migration.settled()
    assert await migration.differences() == []


async def test_no_second_lane_can_be_opened_and_all_wait_as_without_one(
    migration: Migration, wires: Wires
) -> None:
    migration.source.cli("SETRANGE", "large", len(LARGE) - 1, "x")
    reader = await migration.client()
    other = await migration.client()
    await migration.mirroring()
    await other.call("SET", "k", "v")
    lane = migration.lane()
    source = await migration.direct(migration.source)
    await source.call("CONFIG", "SET", "maxclients", 1)
    wires.hold_replies_behind_one_piece(lane)
    reader.send("GET", "large")
    await until(lambda: lane._scanner.is_amid(1 << 20), "it has begun")
    other.send("GET", "k")
    await until(lambda: not lane.is_paused and len(lane.ops) == 2, "nothing better was found")
    assert not lane.is_left
    wires.release_replies(lane)
    assert len(await reader.reply()) == len(LARGE)
    assert await other.reply() == b"v"
    assert not migration.proxy.detours.taken
    await source.call("CONFIG", "SET", "maxclients", 10000)


async def test_lanes_that_were_left_are_used_again(passing: Passing) -> None:
    detours = passing.migration.proxy.detours
    passing.end()
    assert await passing.reader.reply() == LARGE
    for _ in range(5):
        assert await passing.reader.call("GET", "large") == LARGE
    assert detours.taken > 1
    assert len(detours.left) == 1
