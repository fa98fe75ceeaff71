"""What the verbs beside cutover and rollback do, and leave behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from migrator import verify
from migrator.copy import Comparer
from migrator.marker import KEY as MARKER
from tests.integration.clients import until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, refusal

# -- verification ------------------------------------------------------------------------


async def test_verify_finds_what_differs_on_either_side_and_repair_mends_it(
    migration: Migration,
) -> None:
    client = await migration.client()
    for command in (
        ("SET", "value", "a"),
        ("SET", "ttl", "a", "EX", "1000"),
        ("SET", "no ttl", "a"),
        ("SET", "lost", "a"),
        ("HSET", "h", "a", "1"),
        ("RPUSH", "order", "a", "b"),
        ("XADD", "x", "1-1", "a", "b"),
        *(("SET", f"k{number}", "same") for number in range(500)),
    ):
        await client.call(*command)
    await migration.mirroring()
    assert (await migration.verify())["passed"]
    for command in (
        ("SET", "value", "b"),
        ("PEXPIRE", "ttl", "2000000"),
        ("EXPIRE", "no ttl", "1000"),
        ("DEL", "lost"),
        ("HSET", "h", "b", "2"),
        ("LSET", "order", "0", "c"),
        ("XADD", "x", "1-2", "a", "b"),
        ("SET", "extra", "a"),
    ):
        migration.target.cli(*command)
    migration.target.cli("SADD", "extra there", "a", db=5)
    result = await migration.verify()
    assert result["passed"] is False
    assert result["mismatches"] == 9
    assert result["keys_checked"] == 509
    result = await migration.verify(repair=True)
    assert result["passed"] and result["mismatches"] == 0
    assert await migration.differences() == []
    assert (await migration.verify())["passed"]
    await migration.cutover()
    migration.source.cli("SET", "value", "planted behind")
    assert (await migration.verify())["mismatches"] == 1
    assert (await migration.verify(repair=True))["passed"]
    assert await migration.differences() == []


async def test_verify_copies_a_key_that_is_not_proven_in_time(migration: Migration) -> None:
    """As a hot key of scripts is: proven for a moment only, and then written again."""
    client = await migration.client()
    await client.call("RPUSH", "l", "b", "a")
    await migration.mirroring()
    copying = migration.controller.copying
    assert copying is not None
    await copying.repair.stop()
    await client.call("SORT", "l", "ALPHA", "STORE", "sorted")
    assert migration.is_unproven(b"sorted")
    assert (await migration.verify())["passed"]
    assert not migration.is_unproven(b"sorted")
    copying.repair.start()


async def test_verify_of_keys_that_every_write_has_copied_raises_no_false_alarm(
    migration: Migration,
) -> None:
    clients = [await migration.client() for _ in range(6)]
    await clients[0].call("RPUSH", "l", *"abcdefgh")
    await migration.mirroring()
    is_over = asyncio.Event()

    async def write(number: int) -> None:
        while not is_over.is_set():
            for _ in range(30):
                clients[number].send("SORT", "l", "ALPHA", "STORE", "sorted")
            for _ in range(30):
                await clients[number].reply()

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(write(number))
        assert (await migration.verify())["passed"]
        assert (await migration.verify(repair=True))["passed"]
        is_over.set()
    assert await migration.differences() == []


async def test_verify_under_writes_raises_no_false_alarm(migration: Migration) -> None:
    clients = [await migration.client() for _ in range(4)]
    await migration.mirroring()
    is_over = asyncio.Event()

    async def write(number: int) -> None:
        client = clients[number]
        at = 0
        while not is_over.is_set():
            at += 1
            for command in (
                ("INCR", "hot"),
                ("HINCRBY", "hot hash", at % 3, 1),
                ("SET", f"brief{at % 50}", "v", "PX", 20),
                ("SADD", f"set{at % 20}", number),
                ("DEL", f"set{(at + 7) % 20}"),
                ("XADD", "stream", "MAXLEN", "~", 100, "*", "a", at),
            ):
                client.send(*command)
            for _ in range(6):
                assert not isinstance(await client.reply(), Exception)

    tasks = [asyncio.create_task(write(number)) for number in range(4)]
    try:
        for _ in range(3):
            result = await migration.verify()
            assert result["passed"], migration.controller.verification.progress  # type: ignore[union-attr]
    finally:
        is_over.set()
        await asyncio.gather(*tasks)
    assert migration.status()["mirror"]["divergences"] == 0
    assert await migration.differences() == []


async def test_keys_whose_answers_are_late_are_not_given_up_one_after_the_other(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks under a ticket: writers that waited for one that is given up waited for nothing."""
    monkeypatch.setattr(verify, "PATIENCE", 0)
    monkeypatch.setattr(verify, "ALONE_AT_ONCE", 1)
    compare = Comparer.compare
    given_up = 0

    async def late(self: Comparer, *args: Any) -> Any:
        nonlocal given_up
        try:
            await asyncio.sleep(1.5 * verify.PATIENT_S)
        except asyncio.CancelledError:
            given_up += 1
            raise
        return await compare(self, *args)

    client = await migration.client()
    for number in range(12):
        await client.call("SET", f"k{number}", "v")
    await migration.mirroring()
    monkeypatch.setattr(Comparer, "compare", late)
    assert (await migration.verify())["passed"]
    assert 0 < given_up < 6


async def test_a_key_that_cannot_be_looked_at_is_no_difference_and_there_is_no_verdict(
    migration: Migration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(verify, "PATIENCE", 0)
    monkeypatch.setattr(verify, "ALONE_FOR_S", 0.3)
    client = await migration.client()
    await client.call("SET", "k", "v")
    await migration.mirroring()

    async def never(self: Comparer, *args: Any) -> Any:
        await asyncio.Event().wait()

    assert (await migration.verify())["passed"]
    with monkeypatch.context() as during:
        during.setattr(Comparer, "compare", never)
        result = await migration.verify()
    # Nor is it the one of before.
    assert result["passed"] is None and result["mismatches"] == 0
    assert result["error"] == "db 0 b'k': no look came to an end in 0.3 s"
    assert f"aborted: {result['error']}" in caplog.text
    result = await migration.verify()
    assert result["passed"] and result["error"] is None


async def test_a_verification_that_a_defect_ends_has_no_verdict(
    migration: Migration, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await migration.client()
    await client.call("SET", "k", "v")
    await migration.mirroring()
    assert (await migration.verify())["passed"]

    async def broken(self: Comparer, *args: Any) -> Any:
        raise RuntimeError("broken on purpose")

    with monkeypatch.context() as during:
        during.setattr(Comparer, "compare", broken)
        result = await migration.verify()
    assert result["passed"] is None
    assert result["error"] == "a defect ended it: the log has more"
    assert "broken on purpose" in caplog.text


# -- shift, finish, cancel ---------------------------------------------------------------


async def test_the_shifted_share_of_reads_goes_to_the_target_by_key(migration: Migration) -> None:
    client = await migration.client()
    keys = [f"k{number}" for number in range(400)]
    for key in keys:
        await client.call("SET", key, "v")
    await migration.mirroring()
    reader = await migration.client()
    await migration.controller.shift(100)

    async def served_by_the_target() -> int:
        migration.target.cli("CONFIG", "RESETSTAT")
        for key in keys:
            assert await reader.call("GET", key) == b"v"
        stats = migration.target.info("commandstats")
        return int(stats.get("cmdstat_get", "calls=0,")[6:].split(",")[0])

    async def is_all() -> bool:
        return await served_by_the_target() == len(keys)

    await until(is_all, "all reads are served by the target")
    await migration.controller.shift(25)
    share = await served_by_the_target()
    assert 50 < share < 150
    assert await served_by_the_target() == share, "a key's reads stay on one side"
    await migration.controller.shift(0)
    assert await served_by_the_target() == 0
    assert migration.status()["read_percent"] == 0


def events_of(migration: Migration) -> list[bytes]:
    name = "notify-keyspace-events"
    return [each.cli("CONFIG", "GET", name)[1] for each in (migration.source, migration.target)]


async def test_finish_ends_the_mirror_and_leaves_its_marker_on_the_source(
    migration: Migration,
) -> None:
    migration.source.cli("CONFIG", "SET", "notify-keyspace-events", "Kl")
    client = await migration.client()
    # What the target would not tell of is no matter here.
    await migration.verified("keyspace_events")
    assert all(b"x" in flags and b"e" in flags for flags in events_of(migration))
    assert migration.source.cli("EXISTS", MARKER) == migration.target.cli("EXISTS", MARKER) == 1
    await migration.cutover()
    await client.call("SET", "k", "1")
    await migration.settled()
    await migration.controller.finish()
    assert await client.call("INCR", "k") == 2
    assert await client.call("GET", "k") == b"2"
    assert migration.source.cli("GET", "k") == b"1"
    assert sorted(events_of(migration)[0]) == sorted(b"Kl")
    assert events_of(migration)[1] == b""
    assert b'"finished": true' in migration.source.cli("GET", MARKER)
    assert migration.target.cli("EXISTS", MARKER) == 0
    status = migration.status()
    assert (status["phase"], status["primary"], status["read_percent"]) == (
        "finished", "target", 100,
    )  # fmt: skip


async def test_cancel_leaves_the_target_what_it_has_and_a_new_start_mends_it(
    migration: Migration,
) -> None:
    client = await migration.client()
    await client.call("SET", "k", "1")
    await migration.mirroring()
    await migration.controller.shift(50)
    await migration.controller.cancel()
    assert migration.status()["phase"] == "idle"
    assert migration.status()["read_percent"] == 0
    assert await client.call("SET", "k", "2") == b"OK"
    await client.call("SET", "new", "v")
    assert migration.target.cli("GET", "k") == b"1"
    migration.target.cli("SET", "left over", "x")
    assert events_of(migration) == [b"", b""]
    assert migration.source.cli("EXISTS", MARKER) == migration.target.cli("EXISTS", MARKER) == 0
    assert await refusal(migration.start()) == {"target_not_empty"}
    await migration.mirroring("target_not_empty")
    assert await migration.differences() == []


async def test_cancel_while_copying(migration: Migration, wires: Wires) -> None:
    client = await migration.client()
    await client.call("SET", "k", "1")
    read = wires.hold_read(b"k")
    await migration.start()
    await read.arrived()
    await migration.controller.cancel()
    assert migration.status()["phase"] == "idle"
    assert await client.call("INCR", "k") == 2
    await migration.mirroring("target_not_empty")
    assert await migration.differences() == []


async def test_cancel_with_a_flush_owed_leaves_nothing_behind_for_the_next_start(
    migration: Migration,
) -> None:
    client = await migration.client()
    await client.call("SET", "k", "1")
    await migration.mirroring()
    migration.target.kill()
    await until(lambda: not migration.status()["mirror"]["connected"], "the mirror is away")
    await client.call("FLUSHALL")
    await migration.controller.cancel()
    migration.target.start()
    await client.call("SET", "k", "2")
    await migration.mirroring()
    assert migration.proxy.table.is_settled(b"k"), "its reads can be shifted"
