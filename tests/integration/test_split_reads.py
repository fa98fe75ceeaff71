"""Reads of one client under way on both sides at once, each race named by its interleaving.

T is a key whose reads are the target's, P one whose reads are the source's. The reader is another
user than the writer, so that their commands reach the source on lanes of their own, in any order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.counts import CommandClass
from proxy.lane import Lane
from proxy.plane import Plane
from proxy.session import Session
from proxy.sides import Side
from proxy.split import MAX_SPLIT
from tests.integration.clients import Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration

USER = ("reader", "secret")


def keys_of(plane: Plane, is_shifted: bool, count: int) -> list[str]:
    """Names of keys whose reads the secondary serves, or does not."""
    names = (f"k{at}" for at in range(1000))
    return [name for name in names if plane.shifts(name.encode()) is is_shifted][:count]


class Reading:
    """A reader and a writer of a migration whose reads are shifted by half."""

    def __init__(self, migration: Migration, wires: Wires) -> None:
        self.migration = migration
        self.wires = wires
        self.proxy = migration.proxy

    async def begin(self) -> None:
        migration = self.migration
        for server in (migration.source, migration.target):
            server.cli("ACL", "SETUSER", USER[0], "on", f">{USER[1]}", "~*", "+@all")
        await migration.mirroring()
        self.proxy.shift(50)
        (self.T,) = keys_of(self.proxy, True, 1)
        (self.P,) = keys_of(self.proxy, False, 1)
        self.writer = await migration.client()
        self.reader = await migration.client(user=USER[0], password=USER[1])
        self.session: Session = max(self.proxy.sessions, key=lambda each: each.id)
        await self.writer.call("MSET", self.T, "old", self.P, "old")
        await migration.settled()
        # Both lanes are open.
        await self.proxy.lane(Side.TARGET, self.session.user, 0, 2).ready()
        assert await self.read(self.T, self.P) == [b"old", b"old"]
        assert self.shifted == 1 and self.asked_again == 0

    async def read(self, *names: str) -> list[Any]:
        self.send(*names)
        return [await self.reader.reply() for _ in names]

    def send(self, *names: str) -> None:
        for name in names:
            self.reader.send("GET", name)

    async def replies(self, count: int) -> list[Any]:
        return [await self.reader.reply() for _ in range(count)]

    async def answered(self, *which: bool) -> None:
        """The reads under way of both sides are answered, or not, in their order."""

        def so() -> bool:
            split = self.session.split
            assert split is not None
            return [read.frame is not None for read in split.reads] == list(which)

        await until(so, f"answered: {which}")

    async def write(self, value: str, *names: str) -> None:
        """In this order, each acknowledged before the next one is sent."""
        for name in names:
            assert await self.writer.call("SET", name, value) == b"OK"

    def lane(self, side: Side) -> Lane:
        return self.migration.lane(side, USER)

    @property
    def shifted(self) -> int:
        return self.proxy.stats.commands[Side.TARGET][CommandClass.READ]

    @property
    def asked_again(self) -> int:
        return self.proxy.stats.reads_asked_again

    @property
    def under_way(self) -> int:
        split = self.session.split
        return 0 if split is None else split.size


@pytest.fixture
async def reading(migration: Migration, wires: Wires) -> AsyncIterator[Reading]:
    reading = Reading(migration, wires)
    await reading.begin()
    yield reading
    await until(lambda: not reading.under_way, "no read is under way")


async def test_both_sides_are_asked_at_once_and_answered_in_order(reading: Reading) -> None:
    wires, source = reading.wires, reading.lane(Side.SOURCE)
    wires.hold_replies(source)
    reading.send(reading.P, reading.T, reading.P, reading.T)
    await until(lambda: len(source.ops) == 2 and reading.shifted == 3, "all are sent")
    await reading.answered(True, False, True)
    wires.release_replies(source)
    assert await reading.replies(4) == [b"old"] * 4
    assert reading.asked_again == 0


async def test_the_primarys_read_is_late_and_both_keys_are_written_meanwhile(
    reading: Reading,
) -> None:
    """P is read behind the writes, so T must not be read before them."""
    wires, source = reading.wires, reading.lane(Side.SOURCE)
    wires.hold_sending(source)
    reading.send(reading.P, reading.T)
    await reading.answered(True)
    await reading.write("new", reading.T, reading.P)
    wires.release_sending(source)
    assert await reading.replies(2) == [b"new", b"new"]
    assert reading.asked_again == 1


async def test_the_shifted_read_is_late_and_both_keys_are_written_meanwhile(
    reading: Reading,
) -> None:
    """T is asked again and sees its write, so P's answer from before the writes is too old."""
    wires, target = reading.wires, reading.lane(Side.TARGET)
    wires.hold_replies(target)
    reading.send(reading.T, reading.P, reading.P)
    await reading.answered(False, True, True)
    await reading.write("new", reading.P, reading.T)
    wires.release_replies(target)
    assert await reading.replies(3) == [b"new", b"new", b"new"]
    assert reading.asked_again == 3


async def test_a_write_of_another_key_changes_nothing(reading: Reading) -> None:
    wires, source = reading.wires, reading.lane(Side.SOURCE)
    wires.hold_sending(source)
    reading.send(reading.P, reading.T)
    await reading.answered(True)
    await reading.write("new", reading.P)
    wires.release_sending(source)
    assert await reading.replies(2) == [b"new", b"old"]
    assert reading.asked_again == 0


async def test_of_several_keys_one_is_written(reading: Reading) -> None:
    wires, source = reading.wires, reading.lane(Side.SOURCE)
    other = keys_of(reading.proxy, True, 2)[1]
    wires.hold_sending(source)
    reading.send(reading.P)
    reading.reader.send("MGET", reading.T, other)
    await reading.answered(True)
    await reading.write("new", other, reading.P)
    wires.release_sending(source)
    assert await reading.replies(2) == [b"new", [b"old", b"new"]]


async def test_the_secondary_answers_an_error(reading: Reading) -> None:
    target = reading.migration.target
    target.cli("DEL", reading.T)
    target.cli("LPUSH", reading.T, "x")
    assert await reading.read(reading.P, reading.T, reading.P) == [b"old"] * 3
    assert reading.asked_again == 2


async def test_the_secondarys_lane_is_lost(reading: Reading) -> None:
    wires, target = reading.wires, reading.lane(Side.TARGET)
    wires.hold_sending(target)
    reading.send(reading.P, reading.T, reading.P, reading.T)
    await reading.answered(False, True, False)
    target.close()
    assert await reading.replies(4) == [b"old"] * 4
    assert reading.asked_again == 3


async def test_the_primarys_lane_is_lost_and_so_is_the_client(reading: Reading) -> None:
    wires, target = reading.wires, reading.lane(Side.TARGET)
    wires.hold_replies(target)
    wires.hold_replies(reading.lane(Side.SOURCE))
    reading.send(reading.T, reading.P)
    await until(lambda: reading.under_way == 2, "both are sent")
    reading.lane(Side.SOURCE).close()
    with pytest.raises(ConnectionError):
        await reading.reader.reply()
    assert not reading.under_way
    # Whose reply nobody waits for any more.
    wires.release_replies(target)


async def test_the_client_hangs_up_with_reads_under_way(reading: Reading) -> None:
    wires, target = reading.wires, reading.lane(Side.TARGET)
    wires.hold_replies(target)
    reading.send(reading.T, reading.P, reading.T)
    await reading.answered(False, True, False)
    reading.session.abort()
    assert not reading.under_way
    wires.release_replies(target)


async def test_an_own_write_waits_for_a_shifted_read_before_it(reading: Reading) -> None:
    """Asked again behind it, the read would see it."""
    wires, target = reading.wires, reading.lane(Side.TARGET)
    wires.hold_replies(target)
    reading.send(reading.T)
    reading.reader.send("SET", reading.T, "own")
    reading.send(reading.T)
    await reading.answered(False)
    await reading.write("other", reading.T)
    assert reading.migration.source.cli("GET", reading.T) == b"other"
    wires.release_replies(target)
    assert await reading.replies(3) == [b"other", b"OK", b"own"]


async def test_reads_go_behind_an_own_write_that_is_not_answered(reading: Reading) -> None:
    wires, source = reading.wires, reading.lane(Side.SOURCE)
    wires.hold_sending(source)
    reading.reader.send("SET", reading.P, "own")
    reading.send(reading.T, reading.P)
    await reading.answered(True, False)
    wires.release_sending(source)
    assert await reading.replies(3) == [b"OK", b"old", b"own"]
    assert reading.asked_again == 0


async def test_a_script_of_keys_that_nobody_can_name_runs_meanwhile(reading: Reading) -> None:
    """What it writes is not told yet when the read that must not be older is delivered."""
    wires, source = reading.wires, reading.lane(Side.SOURCE)
    writers = reading.migration.lane()
    wires.hold_sending(source)
    reading.send(reading.P, reading.T)
    await reading.answered(True)
    wires.hold_replies(writers)
    body = "redis.call('SET', ARGV[1] .. '', 'new') redis.call('SET', ARGV[2] .. '', 'new')"
    reading.writer.send("EVAL", body, 0, reading.T, reading.P)
    look = await reading.migration.direct(reading.migration.source)

    async def is_executed() -> bool:
        return await look.call("GET", reading.P) == b"new"

    await until(is_executed, "the source has executed the script")
    assert reading.proxy.scripting.round.is_running
    wires.release_sending(source)
    assert await reading.replies(2) == [b"new", b"new"]
    wires.release_replies(writers)
    assert await reading.writer.reply() is None


async def test_a_flip_with_reads_under_way(reading: Reading) -> None:
    """They are asked of the new primary: the old answers are of before what was written there."""
    migration, wires, target = reading.migration, reading.wires, reading.lane(Side.TARGET)
    assert (await migration.verify())["passed"]
    wires.hold_replies(target)
    reading.send(reading.T, reading.P)
    await reading.answered(False, True)
    await migration.cutover()
    await reading.write("new", reading.P, reading.T)
    wires.release_replies(target)
    assert await reading.replies(2) == [b"new", b"new"]


async def test_reads_go_back_to_the_source_meanwhile(reading: Reading) -> None:
    wires, target = reading.wires, reading.lane(Side.TARGET)
    wires.hold_replies(target)
    reading.send(reading.T)
    await reading.answered(False)
    reading.proxy.shift(0)
    reading.send(reading.T, reading.P)
    wires.release_replies(target)
    assert await reading.replies(3) == [b"old"] * 3
    assert reading.shifted == 2


async def test_replies_that_the_client_does_not_want(reading: Reading) -> None:
    for name in (reading.T, reading.P):
        reading.reader.send("CLIENT", "REPLY", "SKIP")
        reading.send(name, reading.P, reading.T)
        reading.reader.send("ECHO", "end")
        assert await reading.replies(3) == [b"old", b"old", b"end"]
    reading.reader.send("CLIENT", "REPLY", "OFF")
    reading.send(reading.T, reading.P, reading.T)
    reading.reader.send("CLIENT", "REPLY", "ON")
    assert await reading.replies(1) == [b"OK"]


async def test_replies_that_wait_for_their_turn_are_weighed(reading: Reading) -> None:
    wires, target = reading.wires, reading.lane(Side.TARGET)
    await reading.writer.call("SET", reading.P, "x" * 100_000)
    await reading.migration.settled()
    wires.hold_replies(target)
    reading.send(reading.T, *[reading.P] * 20)
    await reading.answered(False, *[True] * 20)
    assert reading.proxy.pressure.total >= 2_000_000 - 64 * 1024
    wires.release_replies(target)
    assert len((await reading.replies(21))[20]) == 100_000
    assert reading.session.split is not None and not reading.session.split.held


async def test_only_so_many_reads_are_under_way(reading: Reading) -> None:
    wires, target = reading.wires, reading.lane(Side.TARGET)
    wires.hold_replies(target)
    reading.send(reading.T, *[reading.P] * (MAX_SPLIT + 10))
    await until(lambda: len(reading.session.backlog) == 11, "the rest waits")
    wires.release_replies(target)
    assert await reading.replies(MAX_SPLIT + 11) == [b"old"] * (MAX_SPLIT + 11)


async def test_more_reads_than_may_be_under_way(reading: Reading) -> None:
    names = [f"k{at}" for at in range(100)]
    for at, name in enumerate(names):
        reading.writer.send("SET", name, at)
    assert [await reading.writer.reply() for _ in names] == [b"OK"] * 100
    await reading.migration.settled()
    count = MAX_SPLIT // 100 + 5
    assert await reading.read(*names * count) == [b"%d" % at for at in range(100)] * count
    assert reading.asked_again == 0


async def test_a_client_of_another_protocol_and_database(reading: Reading) -> None:
    migration = reading.migration
    client = await Client.open(migration.port, db=3)
    await client.call("HELLO", "3")
    for name in (reading.P, reading.T):
        await client.call("HSET", name, "f", "3")
    await migration.settled()
    await reading.proxy.lane(Side.TARGET, None, 3, 3).ready()
    before = reading.shifted
    for name in (reading.P, reading.T, reading.P):
        client.send("HGETALL", name)
    assert [await client.reply() for _ in range(3)] == [{b"f": b"3"}] * 3
    assert reading.shifted == before + 1
    await client.close()
