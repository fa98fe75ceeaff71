"""Races, each named by its interleaving and brought about on purpose.

The order is made with holds (see holds.py) and stopped servers, never with sleeps. What was
silent is chosen on purpose: a write that answers the same on both sides while the values differ,
since a reply that differs is found by the comparison of replies anyway.
"""

from __future__ import annotations

import asyncio

import pytest

from proxy.counts import CommandClass
from proxy.sides import Side
from tests.integration.clients import until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, stopped


async def fill(migration: Migration, *commands: tuple[object, ...], db: int = 0) -> None:
    """Runs commands on the source before the migration; the last one only reads."""
    for command in (*commands, ("PING",)):
        migration.source.cli(*command, db=db)


# -- a copy and a client -----------------------------------------------------------------


async def test_backfill_reads_then_client_writes_then_restore_arrives_keeps_the_write(
    migration: Migration, wires: Wires
) -> None:
    await fill(migration, ("SET", "k", "old"), ("HSET", "h", "a", "1"))
    client = await migration.client()
    read = wires.hold_read(b"k")
    await migration.start()
    await read.arrived()
    await client.call("SET", "k", "new")
    await client.call("HSET", "h", "b", "2")
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("GET", "k") == b"new"
    assert migration.target.cli("HLEN", "h") == 2


async def test_the_copys_read_is_answered_before_an_incr_that_was_sent_earlier(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "n", "5")
    await client.call("HSET", "h", "a", "1")
    await migration.settled()
    lane = migration.lane()
    wires.hold_sending(lane)
    client.send("INCR", "n")
    # Beside it: unlike the INCR's, its reply says nothing of what is missing on the target.
    client.send("HSET", "h", "b", "2")
    await until(lambda: migration.is_in_flight(b"n") and migration.is_in_flight(b"h"), "in flight")
    read = wires.hold_read(b"n")
    copying = migration.controller.copying
    assert copying is not None
    copy = asyncio.create_task(copying.mover.copy(0, [b"n", b"h"], "test"))
    # Neither is even read: both are touched already.
    arrived = asyncio.create_task(read.arrived())
    await asyncio.wait({copy, arrived}, return_when=asyncio.FIRST_COMPLETED)
    arrived.cancel()
    wires.release_sending(lane)
    assert [await client.reply(), await client.reply()] == [6, 1]
    read.release()
    await (await copy).acknowledged
    assert await migration.differences() == []
    assert migration.target.cli("GET", "n") == b"6"
    assert migration.target.cli("HLEN", "h") == 2


async def test_delete_during_a_copy(migration: Migration, wires: Wires) -> None:
    await fill(migration, ("SET", "k", "old"), ("SADD", "emptied", "m"))
    client = await migration.client()
    read = wires.hold_read(b"k")
    await migration.start()
    await read.arrived()
    assert await client.call("DEL", "k") == 1
    assert await client.call("SPOP", "emptied") == b"m"
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("EXISTS", "k", "emptied") == 0


async def test_expiry_during_a_copy_and_the_key_is_made_anew(
    migration: Migration, wires: Wires
) -> None:
    await fill(
        migration,
        *(("HSET", "gone", "a", "1"), ("EXPIRE", "gone", "1000")),
        *(("HSET", "again", "a", "1"), ("EXPIRE", "again", "1000")),
    )
    client = await migration.client()
    read = wires.hold_read(b"gone")
    await migration.start()
    await read.arrived()
    look = await migration.direct(migration.source)
    # Not earlier: a slow machine would see them expire before the copy begins.
    for key in ("gone", "again"):
        assert await look.call("PEXPIRE", key, "1") == 1

    async def has_expired() -> bool:
        return await look.call("EXISTS", "gone", "again") == 0

    await until(has_expired, "both keys expire on the source")
    assert await client.call("HSET", "again", "b", "2") == 1
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("EXISTS", "gone") == 0
    assert migration.target.cli("HGETALL", "again") == [b"b", b"2"]


async def test_eviction_during_a_copy(migration: Migration, wires: Wires) -> None:
    """A key that vanishes on the source though nobody wrote it, while its copy is on its way."""
    await fill(migration, ("SET", "k", "old"))
    read = wires.hold_read(b"k")
    await migration.start()
    await read.arrived()
    look = await migration.direct(migration.source)
    await look.call("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    await look.call("CONFIG", "SET", "maxmemory", "1")

    async def is_evicted() -> bool:
        return await look.call("EXISTS", "k") == 0

    await until(is_evicted, "the key is evicted")
    await look.call("CONFIG", "SET", "maxmemory", "0")
    copying = migration.controller.copying
    assert copying is not None
    await copying.feeds_drained()
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("EXISTS", "k") == 0


async def test_a_block_on_a_key_that_is_being_copied(migration: Migration, wires: Wires) -> None:
    await fill(migration, ("SET", "n", "5"), ("HSET", "h", "a", "1"))
    client = await migration.client()
    read = wires.hold_read(b"n")
    await migration.start()
    await read.arrived()
    assert await client.block(("INCR", "n"), ("HSET", "h", "b", "2")) == [6, 1]
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("GET", "n") == b"6"
    assert migration.target.cli("HLEN", "h") == 2


async def test_a_write_to_a_key_whose_copy_is_appended_and_not_acknowledged(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("HSET", "h", "a", "1")
    await migration.settled()
    repair = migration.controller.copying.repair  # type: ignore[union-attr]
    before = repair.repaired
    wires.hold_sending(migration.mirror_lane)
    table = migration.proxy.table
    table.mark_unproven(b"h")
    await until(lambda: table.unproven.get(b"h", 0) > 0, "the copy is appended")
    # Mirrored behind the copy, and acknowledged to the client though the target has neither.
    assert await client.call("HSET", "h", "b", "2") == 1
    assert await client.call("RENAME", "h", "g") == b"OK"
    wires.release_sending(migration.mirror_lane)
    assert await migration.differences() == []
    assert migration.target.cli("HLEN", "g") == 2
    assert repair.repaired == before + 1, "what follows an appended copy needs no other one"


async def test_a_copy_is_appended_then_its_key_is_marked_again_before_it_is_acknowledged(
    migration: Migration, wires: Wires
) -> None:
    """The acknowledgement of the first copy proves nothing."""
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "k", "old")
    await migration.settled()
    await migration.controller.shift(100)
    table = migration.proxy.table
    lane = migration.mirror_lane
    wires.hold_sending(lane)
    table.mark_unproven(b"k")
    await until(lambda: table.unproven.get(b"k", 0) > 0, "the first copy is appended")
    read = wires.hold_read(b"k")
    # A write past the proxy, and whatever told us of it.
    past = await migration.direct(migration.source)
    await past.call("SET", "k", "new")
    await past.call("PING")
    table.mark_unproven(b"k")
    wires.release_sending(lane)
    await read.arrived()
    await migration.proxy.mirror.applied()  # type: ignore[union-attr]
    assert migration.target.cli("GET", "k") == b"old"
    assert migration.is_unproven(b"k")
    assert await client.call("GET", "k") == b"new"
    read.release()
    assert await migration.differences() == []


async def test_a_key_that_is_touched_again_and_again_is_copied_under_a_ticket(
    migration: Migration, wires: Wires
) -> None:
    await fill(migration, ("SET", "n", "0"))
    client = await migration.client()
    answers: list[asyncio.Task[int]] = []

    async def write_it() -> None:
        """Behind each read of the key an INCR, which is answered or waits for the copy's ticket."""
        client.send("INCR", "n")
        answer = asyncio.create_task(client.reply())
        answers.append(answer)
        await until(lambda: answer.done() or migration.waits(b"n"), "answered, or it waits")

    wires.after_read(b"n", write_it)
    await migration.mirroring()
    assert await asyncio.gather(*answers) == list(range(1, len(answers) + 1))
    assert await migration.differences() == []


# -- commands that carry data from one key to another ------------------------------------


async def test_rename_of_an_uncopied_key_onto_a_name_that_the_scan_has_passed(
    migration: Migration, wires: Wires
) -> None:
    await fill(migration, ("HSET", "src", "a", "1"))
    client = await migration.client()
    scan = wires.hold_scan()
    await migration.start()
    await scan.arrived()
    # On the target the HSET makes a hash of one field, so the RENAME answers OK there as well.
    assert await client.call("HSET", "src", "b", "2") == 1
    assert await client.call("RENAME", "src", "dst") == b"OK"
    scan.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("HLEN", "dst") == 2
    assert migration.target.cli("EXISTS", "src") == 0


async def test_move_and_copy_of_uncopied_keys_to_another_database(
    migration: Migration, wires: Wires
) -> None:
    await fill(migration, ("HSET", "moved", "a", "1"), ("HSET", "copied", "a", "1"))
    client = await migration.client()
    scan = wires.hold_scan()
    await migration.start()
    await scan.arrived()
    for key in ("moved", "copied"):
        assert await client.call("HSET", key, "b", "2") == 1
    assert await client.call("MOVE", "moved", "1") == 1
    assert await client.call("COPY", "copied", "dst", "DB", "2") == 1
    scan.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("HLEN", "moved", db=1) == 2
    assert migration.target.cli("HLEN", "dst", db=2) == 2
    assert migration.target.cli("EXISTS", "moved") == 0


async def test_move_and_copy_to_another_database_while_mirroring(migration: Migration) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("HSET", "moved", "a", "1")
    await client.call("SET", "k", "v", "PX", "60000")
    assert await client.call("MOVE", "moved", "3") == 1
    assert await client.call("COPY", "k", "k", "DB", "4") == 1
    other = await migration.client(db=3)
    assert await other.call("HSET", "moved", "b", "2") == 1
    assert await migration.differences() == []
    assert migration.target.cli("HLEN", "moved", db=3) == 2
    assert migration.target.cli("PTTL", "k", db=4) > 0


@pytest.fixture
def two_users(migration: Migration) -> None:
    """Users a and b on both sides: their commands travel on two lanes."""
    for server in (migration.source, migration.target):
        for user in ("a", "b"):
            server.cli("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all")


@pytest.mark.usefixtures("two_users")
async def test_sunionstore_by_one_user_while_anothers_sadd_is_in_flight(
    migration: Migration, wires: Wires
) -> None:
    a = await migration.client(user="a", password="secret")
    b = await migration.client(user="b", password="secret")
    same_lane_as_b = await migration.client(user="b", password="secret")
    await migration.mirroring()
    await a.call("SADD", "s", "old")
    await b.call("GET", "nothing")
    lane = migration.lane(user=("a", "secret"))
    wires.hold_replies(lane)
    # Executed, and its reply has not been seen. It leaves one member, as before: what comes
    # before and behind it answer alike.
    a.send("MULTI")
    a.send("SADD", "s", "new")
    a.send("SREM", "s", "old")
    a.send("EXEC")
    look = await migration.direct(migration.source)

    async def is_executed() -> bool:
        return await look.call("SMEMBERS", "s") == [b"new"]

    await until(is_executed, "the source has executed the block")
    b.send("SUNIONSTORE", "dst", "s")
    # Behind it on the lane, if it was sent.
    await same_lane_as_b.call("GET", "nothing")
    await same_lane_as_b.call("GET", "nothing")
    assert await look.call("EXISTS", "dst") == 0
    wires.release_replies(lane)
    for expected in (b"OK", b"QUEUED", b"QUEUED", [1, 1]):
        assert await a.reply() == expected
    assert await b.reply() == 1
    assert await migration.differences() == []
    assert migration.target.cli("SMEMBERS", "dst") == [b"new"]


# -- whole databases ---------------------------------------------------------------------


async def test_flushall_during_a_copy(migration: Migration, wires: Wires) -> None:
    await fill(migration, ("SET", "k", "old"))
    client = await migration.client()
    read = wires.hold_read(b"k")
    await migration.start()
    await read.arrived()
    assert await client.call("FLUSHALL") == b"OK"
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("EXISTS", "k") == 0


async def test_a_copy_begins_and_reads_while_a_flushall_is_on_its_way(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "k", "old")
    await migration.settled()
    lane = migration.lane()
    wires.hold_sending(lane)
    client.send("FLUSHALL")
    await until(lambda: migration.proxy.table.is_closed, "the FLUSHALL is on its way")
    read = wires.hold_read(b"k")
    copying = migration.controller.copying
    assert copying is not None
    copy = asyncio.create_task(copying.mover.copy(0, [b"k"], "test"))
    await read.arrived()
    wires.release_sending(lane)
    assert await client.reply() == b"OK"
    read.release()
    await (await copy).acknowledged
    assert await migration.differences() == []
    assert migration.target.cli("EXISTS", "k") == 0


async def test_flushdb_of_another_database_during_a_copy(
    migration: Migration, wires: Wires
) -> None:
    await fill(migration, ("SET", "k", "old"))
    await fill(migration, ("SET", "k", "other"), db=1)
    client = await migration.client()
    other = await migration.client(db=1)
    read = wires.hold_read(b"k")
    await migration.start()
    await read.arrived()
    await client.call("APPEND", "k", "er")
    assert await other.call("FLUSHDB") == b"OK"
    assert await other.call("HSET", "h", "a", "1") == 1
    read.release()
    await migration.copied()
    assert await migration.differences() == []
    assert migration.target.cli("GET", "k") == b"older"
    assert migration.target.cli("KEYS", "*", db=1) == [b"h"]


# -- expiry ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "write"),
    [
        (("HSET", "k", "a", "1"), ("HSET", "k", "b", "2")),
        (("SADD", "k", "a"), ("SADD", "k", "b")),
        (("SETBIT", "k", "7", "0"), ("SETBIT", "k", "3", "0")),
    ],
    ids=["hset", "sadd", "setbit"],
)
async def test_a_write_on_the_source_before_the_expiry_of_its_key_on_the_target_after_it(
    migration: Migration, make: tuple[str, ...], write: tuple[str, ...]
) -> None:
    """Both sides answer alike, and on the target it leaves a key that never expires."""
    client = await migration.client()
    await migration.mirroring()
    answered = await client.call(*make)
    await client.call("PEXPIRE", "k", "1000")
    await migration.settled()
    look = await migration.direct(migration.source)

    async def has_expired() -> bool:
        return await look.call("EXISTS", "k") == 0

    with stopped(migration.target):
        assert await client.call(*write) == answered
        await until(has_expired, "the key expires on the source")
    assert await migration.differences() == []
    assert migration.target.cli("EXISTS", "k") == 0


# -- reads -------------------------------------------------------------------------------


async def test_a_read_at_100_percent_shift_right_behind_its_own_write(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    pipelined = await migration.client()
    await migration.mirroring()
    await client.call("SET", "k", "old")
    await migration.settled()
    await migration.controller.shift(100)
    # Its lane there may still have to be opened: until then the primary is asked.
    reads = migration.proxy.stats.commands[Side.TARGET]

    async def is_shifted() -> bool:
        before = reads[CommandClass.READ]
        assert await client.call("GET", "k") == b"old"
        return reads[CommandClass.READ] > before

    await until(is_shifted, "the target serves the read")
    lane = migration.mirror_lane
    wires.hold_sending(lane)
    await client.call("SET", "k", "new")
    assert migration.target.cli("GET", "k") == b"old"
    assert await client.call("GET", "k") == b"new"
    pipelined.send("SET", "k", "newer")
    pipelined.send("GET", "k")
    pipelined.send("GET", "unrelated")
    assert [await pipelined.reply() for _ in range(3)] == [b"OK", b"newer", None]
    wires.release_sending(lane)
    await migration.settled()
    before = reads[CommandClass.READ]
    assert await client.call("GET", "k") == b"newer"
    assert reads[CommandClass.READ] == before + 1


# -- the fence ---------------------------------------------------------------------------


async def test_a_divergence_that_appears_while_the_fence_drains(
    migration: Migration, wires: Wires
) -> None:
    client = await migration.client()
    waiting = await migration.client()
    await migration.verified()
    await client.call("SET", "n", "5")
    await migration.settled()
    migration.target.cli("SET", "n", "100")
    migration.target.cli("PING")
    lane = migration.mirror_lane
    wires.hold_sending(lane)
    assert await client.call("INCR", "n") == 6
    cutover = asyncio.create_task(migration.cutover())
    await until(lambda: migration.proxy.table.is_closed, "the fence is closed")
    waiting.send("INCR", "n")
    wires.release_sending(lane)
    await cutover
    assert migration.status()["mirror"]["divergences"] == 1
    assert await waiting.reply() == 7
    assert migration.target.cli("GET", "n") == b"7"
    assert await migration.differences() == []
