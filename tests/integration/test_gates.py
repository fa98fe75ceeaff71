"""What a step needs, and what is left when it is refused: by the names of the contract."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import Refused
from migrator.marker import KEY as MARKER
from migrator.phases import IllegalStep
from proxy.sides import Side
from tests.integration.clients import until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, refusal, stopped
from tests.servers import REDIS_6, VALKEY_9


async def cutover_refused(migration: Migration, *names: str) -> None:
    """Cutover and its dry run are refused for just these reasons, which the status tells too."""
    before = migration.controller.point()
    assert await refusal(migration.cutover(dry_run=True)) == set(names)
    assert await refusal(migration.cutover()) == set(names)
    status = migration.status()
    assert set(status["blockers"]) == set(names) - {"illegal_step"}
    assert not status["can_cutover"]
    assert migration.controller.point() == before
    assert not migration.proxy.table.is_closed


# -- cutover -----------------------------------------------------------------------------


async def test_in_idle(migration: Migration) -> None:
    await cutover_refused(
        migration, "illegal_step", "not_started", "backfill_incomplete", "not_verified"
    )


async def test_before_the_backfill_is_done(migration: Migration, wires: Wires) -> None:
    migration.source.cli("SET", "k", "v")
    migration.source.cli("PING")
    read = wires.hold_read(b"k")
    await migration.start()
    await read.arrived()
    await cutover_refused(migration, "illegal_step", "backfill_incomplete", "not_verified")
    assert await refusal(migration.controller.verify(None, False)) == {"illegal_step"}
    assert await refusal(migration.controller.shift(10)) == {"illegal_step"}
    read.release()
    await migration.copied()


async def test_before_the_verification(migration: Migration) -> None:
    await migration.mirroring()
    await cutover_refused(migration, "not_verified")


async def test_after_a_verification_of_a_sample(migration: Migration) -> None:
    client = await migration.client()
    for number in range(50):
        await client.call("SET", f"k{number}", "v")
    await migration.mirroring()
    assert (await migration.verify(sample=10))["passed"]
    await cutover_refused(migration, "not_verified")


async def test_after_a_verification_that_found_a_difference(migration: Migration) -> None:
    client = await migration.client()
    await migration.mirroring()
    await client.call("SET", "k", "v")
    await migration.settled()
    migration.target.cli("SET", "k", "planted")
    assert (await migration.verify())["passed"] is False
    await cutover_refused(migration, "not_verified")
    assert (await migration.verify(repair=True))["passed"]
    await migration.cutover()


async def test_with_a_key_that_the_target_cannot_hold(
    server_factory: Any, tmp_path: Path, wires: Wires
) -> None:
    """A hash with field TTLs, to an engine that has none."""
    migration = Migration(server_factory(VALKEY_9), server_factory(REDIS_6), tmp_path / "state")
    await migration.open()
    try:
        client = await migration.client()
        await migration.verified("missing_commands")
        await client.call("HSET", "h", "a", "1")
        await migration.settled()
        assert await client.call("HEXPIRE", "h", "1000", "FIELDS", "1", "a") == [1]
        await until(lambda: "unproven_keys" in migration.status()["blockers"], "it is refused")
        await cutover_refused(migration, "unproven_keys")
        await client.call("DEL", "h")
        await migration.settled()
        await migration.cutover()
        assert await migration.differences() == []
    finally:
        await migration.close()


async def test_with_the_target_down_and_up_again_without_its_data(migration: Migration) -> None:
    client = await migration.client()
    await client.call("SET", "k", "v")
    await migration.verified()
    migration.target.kill()
    await until(lambda: not migration.status()["mirror"]["connected"], "the mirror is away")
    await client.call("INCR", "n")
    with pytest.raises(Refused) as caught:
        await migration.cutover()
    assert "target_unreachable" in {blocker.name for blocker in caught.value.blockers}
    assert "target_unreachable" in migration.status()["blockers"]
    migration.target.start()
    await until(lambda: migration.status()["mirror"]["connected"], "the mirror is back")
    await migration.copied()
    await cutover_refused(migration, "not_verified")
    assert await migration.differences() == []
    assert migration.target.cli("GET", "k") == b"v"
    await migration.verify()
    await migration.cutover()


async def test_with_a_target_that_refuses_writes(migration: Migration) -> None:
    client = await migration.client()
    await migration.verified()
    await client.call("SET", "k", "old")
    await migration.settled()
    migration.target.cli("CONFIG", "SET", "maxmemory", "1")
    assert await client.call("SET", "k", "new") == b"OK"
    await until(lambda: "target_refuses" in migration.status()["blockers"], "it is refused")
    await cutover_refused(migration, "target_refuses")
    migration.target.cli("CONFIG", "SET", "maxmemory", "0")
    await migration.settled()
    assert await migration.differences() == []
    await migration.cutover()


async def test_with_a_user_that_cannot_log_in_on_the_target(migration: Migration) -> None:
    migration.source.cli("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all")
    client = await migration.client(user="app", password="secret")
    await client.call("GET", "k")
    await migration.verified()
    await cutover_refused(migration, "user_missing")
    migration.target.cli("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all")
    await migration.cutover()
    assert await client.call("SET", "k", "v") == b"OK"
    assert migration.target.cli("GET", "k") == b"v"


async def test_with_a_user_that_has_another_password_on_the_target(migration: Migration) -> None:
    migration.source.cli("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all")
    migration.target.cli("ACL", "SETUSER", "app", "on", ">other", "~*", "+@all")
    client = await migration.client(user="app", password="secret")
    await client.call("GET", "k")
    await migration.verified()
    await cutover_refused(migration, "user_missing")


async def test_with_a_writer_past_the_proxy_until_it_is_waived(migration: Migration) -> None:
    past = await migration.direct(migration.source)
    await migration.verified()

    async def is_seen() -> bool:
        await past.call("SET", "past", "the proxy")
        await migration.controller.watch.check_warnings()
        return "other_clients" in migration.status()["blockers"]

    # Stores count idle time in whole seconds: a writer may look older than the mirror is.
    async def is_refused(dry_run: bool) -> bool:
        await past.call("SET", "past", "the proxy")
        return "other_clients" in await refusal(migration.cutover(dry_run=dry_run))

    await until(is_seen, "the writer is seen")
    await until(lambda: is_refused(True), "a dry run is refused")
    await until(lambda: is_refused(False), "it is refused")
    await migration.start("other_clients")
    assert "other_clients" not in migration.status()["blockers"]
    await migration.verify(repair=True)
    await migration.cutover()
    assert await migration.differences() == []


async def test_without_the_expiry_events(migration: Migration) -> None:
    await migration.verified()
    copying = migration.controller.copying
    assert copying is not None
    await copying.feeds[Side.TARGET].close()
    await cutover_refused(migration, "expiry_events")


async def test_a_broken_event_feed_makes_the_verification_stale(migration: Migration) -> None:
    await migration.verified()
    assert migration.target.cli("CLIENT", "KILL", "TYPE", "pubsub") == 1
    await until(lambda: migration.status()["verify"]["stale"], "it is stale")
    await until(
        lambda: migration.status()["blockers"] == ["not_verified"], "the feed is connected again"
    )
    await cutover_refused(migration, "not_verified")


async def test_a_dry_run_that_would_be_done_changes_nothing(migration: Migration) -> None:
    await migration.verified()
    before = migration.controller.point()
    answer = await migration.cutover(dry_run=True)
    assert answer["dry_run"] is True
    assert answer["before"] == answer["after"] == before == migration.controller.point()
    assert migration.status()["can_cutover"]
    assert migration.state.migration.epoch == 0


# -- the fence that cannot drain ---------------------------------------------------------


async def test_a_target_that_stands_still_refuses_the_cutover_and_clients_go_on(
    migration: Migration,
) -> None:
    client = await migration.client()
    await client.call("SET", "n", "1")
    await migration.verified()
    with stopped(migration.target):
        assert await client.call("INCR", "n") == 2
        names = await refusal(migration.cutover(max_pause_ms=100))
        assert names & {"fence_timeout", "mirror_lag"}, names
        assert not migration.proxy.table.is_closed
        assert await client.call("INCR", "n") == 3
    await migration.settled()
    assert migration.status()["phase"] == "mirroring"
    assert await migration.differences() == []
    await migration.cutover()
    assert await client.call("INCR", "n") == 4
    assert await migration.differences() == []


async def test_a_source_that_stands_still_refuses_the_cutover_and_clients_only_wait(
    migration: Migration,
) -> None:
    client = await migration.client()
    await client.call("SET", "n", "1")
    await migration.verified()
    with stopped(migration.source):
        client.send("INCR", "n")
        await until(lambda: migration.is_in_flight(b"n"), "in flight")
        names = await refusal(migration.cutover(max_pause_ms=100))
        assert names <= {"fence_timeout", "source_unreachable"}, names
        assert not migration.proxy.table.is_closed
    assert await client.reply() == 2
    await migration.settled()
    await migration.cutover()
    assert await client.call("INCR", "n") == 3
    assert await migration.differences() == []


@pytest.mark.parametrize("direction", ["cutover", "rollback"])
async def test_a_command_that_is_not_answered_within_the_pause_is_waited_for_no_longer(
    migration: Migration, wires: Wires, direction: str
) -> None:
    client = await migration.client()
    others = await migration.client()
    await client.call("SET", "n", "1")
    await migration.verified()
    if direction == "rollback":
        await migration.cutover()
        assert await client.call("GET", "n") == b"1"
    step = getattr(migration, direction)
    lane = migration.lane(migration.proxy.primary)
    before = migration.controller.point()
    wires.hold_replies(lane)
    client.send("INCR", "n")
    await until(lambda: migration.is_in_flight(b"n"), "in flight")
    flip = asyncio.create_task(refusal(step(max_pause_ms=200)))
    await until(lambda: migration.proxy.table.is_closed, "the fence is closed")
    others.send("INCR", "n")
    assert await flip == {"fence_timeout"}
    assert migration.controller.point() == before
    wires.release_replies(lane)
    assert [await client.reply(), await others.reply()] == [2, 3]
    assert migration.proxy.stats.client_errors == {}
    await step()
    assert await client.call("INCR", "n") == 4
    assert await migration.differences() == []


# -- rollback ----------------------------------------------------------------------------


async def test_rollback_before_a_cutover(migration: Migration) -> None:
    assert await refusal(migration.rollback()) == {"not_cut_over"}
    await migration.verified()
    assert await refusal(migration.rollback()) == {"not_cut_over"}
    assert migration.status()["rollback_blockers"] == ["not_cut_over"]


async def test_rollback_with_the_source_down(migration: Migration) -> None:
    client = await migration.client()
    await migration.verified()
    await migration.cutover()
    await client.call("SET", "k", "v")
    migration.source.kill()
    await until(lambda: not migration.status()["mirror"]["connected"], "the mirror is away")
    assert await client.call("INCR", "n") == 1
    names = await refusal(migration.rollback())
    assert "source_unreachable" in names
    assert not migration.status()["can_rollback"]
    migration.source.start()
    await until(lambda: migration.status()["mirror"]["connected"], "the mirror is back")
    await migration.copied()
    assert (await migration.verify())["passed"]
    await migration.rollback()
    assert await client.call("INCR", "n") == 2
    assert migration.source.cli("GET", "n") == b"2"
    assert await migration.differences() == []


async def test_there_and_back_and_there_again_with_writes_between(migration: Migration) -> None:
    client = await migration.client()
    await migration.verified()
    for step, primary in (
        (migration.cutover, migration.target),
        (migration.rollback, migration.source),
        (migration.cutover, migration.target),
    ):
        answer = await step()
        assert answer["pause_ms"] > 0
        await client.call("INCR", "n")
        await client.call("LPUSH", "l", "x")
        assert primary.cli("LLEN", "l") == int(await client.call("GET", "n"))
        primary.cli("PING")
        assert await migration.differences() == []


# -- verbs twice, and out of order -------------------------------------------------------


async def test_verbs_given_twice_do_no_harm(migration: Migration) -> None:
    controller = migration.controller
    client = await migration.client()
    await controller.cancel()
    await migration.mirroring()
    assert await client.call("SET", "k", "v") == b"OK"
    repaired = controller.copying.repair.repaired  # type: ignore[union-attr]
    for step in (
        lambda: controller.start([]),
        lambda: controller.shift(30),
        lambda: controller.shift(30),
        migration.verify,
        migration.verify,
        migration.cutover,
        migration.cutover,
        migration.rollback,
        migration.rollback,
        migration.cutover,
    ):
        await step()
    epoch = migration.state.migration.epoch
    await migration.cutover()
    assert migration.state.migration.epoch == epoch == 3
    assert controller.copying.repair.repaired == repaired  # type: ignore[union-attr]
    assert await client.call("GET", "k") == b"v"
    await controller.finish()
    await controller.finish()
    assert migration.status()["phase"] == "finished"


@pytest.mark.parametrize(
    ("phase", "verb", "needed"),
    [
        ("idle", "verify", "mirroring or cutover"),
        ("idle", "shift", "mirroring or cutover"),
        ("idle", "finish", "cutover"),
        ("mirroring", "finish", "cutover"),
        ("cutover", "cancel", "copying or mirroring"),
        ("cutover", "start", "idle"),
        ("finished", "rollback", "cutover"),
        ("finished", "cutover", "mirroring"),
        ("finished", "start", "idle"),
        ("finished", "cancel", "copying or mirroring"),
    ],
)
async def test_an_illegal_step_names_the_phase_that_it_needs(
    migration: Migration, phase: str, verb: str, needed: str
) -> None:
    controller = migration.controller
    if phase != "idle":
        await migration.verified()
    if phase in ("cutover", "finished"):
        await migration.cutover()
    if phase == "finished":
        await controller.finish()
    steps = {
        "start": lambda: controller.start([]),
        "verify": lambda: controller.verify(None, False),
        "shift": lambda: controller.shift(10),
        "cutover": migration.cutover,
        "rollback": migration.rollback,
        "finish": controller.finish,
        "cancel": controller.cancel,
    }
    with pytest.raises(Refused) as caught:
        await steps[verb]()
    assert caught.value.name == "illegal_step"
    assert f"needs phase {needed}, and this is {phase}" in caught.value.message
    assert isinstance(caught.value, IllegalStep) or caught.value.blockers
    assert migration.status()["phase"] == phase


async def test_start_over_a_target_that_is_not_empty_needs_its_name(migration: Migration) -> None:
    migration.source.cli("SET", "k", "v")
    migration.source.cli("PING")
    migration.target.cli("SET", "k", "other")
    migration.target.cli("SET", "only there", "x", db=1)
    assert await refusal(migration.start()) == {"target_not_empty"}
    assert migration.status()["phase"] == "idle"
    assert migration.target.cli("EXISTS", MARKER) == 0
    await migration.mirroring("target_not_empty")
    assert await migration.differences() == []
    assert migration.target.cli("EXISTS", "only there", db=1) == 0
