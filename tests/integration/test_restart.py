"""The process ends, well or badly, and another one goes on with its state directory."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.clients import Client, until, writers
from tests.integration.keyferry import Process, differences, stopped
from tests.servers import REDIS_6, Server

COUNTERS = [f"counter{number}" for number in range(4)]
PRIMARY = {"idle": "source", "copying": "source", "mirroring": "source"}


def fill(server: Server, keys: int, *, size: int = 10) -> None:
    """Keys of a few types; the last command of the connection only reads."""
    value = "v" * size
    for first in range(0, keys, 500):
        script = "for i = ARGV[1], ARGV[1] + 499 do redis.call('SET', 'k' .. i, ARGV[2]) end"
        server.cli("EVAL", script, 0, first, value)
    server.cli("HSET", "h", "a", "1", "b", "2")
    server.cli("SET", "expires", "v", "EX", "5000")
    server.cli("PING")


def dumps(server: Server) -> int:
    """How many keys were read for a copy since CONFIG RESETSTAT."""
    return int(server.info("commandstats").get("cmdstat_dump", "calls=0,")[6:].split(",")[0])


def primary_of(process: Process, status: dict[str, object]) -> Server:
    return process.source if status["primary"] == "source" else process.target


async def lands_on(process: Process, server: Server) -> None:
    """What is written through the proxy is on this server."""
    client = await Client.open(process.port)
    value = str(random.random())
    await client.call("SET", "probe", value)
    assert server.cli("GET", "probe") == value.encode()
    server.cli("PING")
    await client.close()


async def advanced(counts: dict[str, list[int]], by: int = 50) -> None:
    """Every writer has had so many more acknowledgements."""
    wanted = {key: count[0] + by for key, count in counts.items()}
    await until(lambda: all(counts[key][0] >= wanted[key] for key in counts), "the writers go on")


def nothing_lost(server: Server, counts: dict[str, list[int]]) -> None:
    for key, (acknowledged, sent) in counts.items():
        value = int(server.cli("GET", key))
        assert acknowledged <= value <= sent, key
        # The SADD is sent first: at each broken connection one more may have been done.
        assert value <= server.cli("SCARD", f"seen:{key}") <= sent, key
    server.cli("PING")


# -- kill -9 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["idle", "copying", "mirroring", "cutover", "finished"])
async def test_kill_9_under_load_loses_nothing_that_was_acknowledged(
    process: Process, phase: str
) -> None:
    fill(process.source, 50_000 if phase == "copying" else 500)
    await process.start()
    await process.to("idle" if phase == "copying" else phase)
    async with writers(lambda: process.port, COUNTERS) as counts:
        await advanced(counts)
        if phase == "copying":
            await process.verb("start")
        await process.kill()
        await process.start()
        status = await process.status()
        assert status["primary"] == PRIMARY.get(phase, "target")
        # Everything is copied again, so that mirroring is copying once more.
        copies = phase in ("copying", "mirroring")
        assert status["phase"] in ({"copying", "mirroring"} if copies else {phase})
        await advanced(counts)
    await lands_on(process, primary_of(process, status))
    nothing_lost(primary_of(process, status), counts)
    if phase in ("idle", "finished"):
        return
    await process.proven()
    assert await differences(process.source, process.target) == []
    status = await process.status()
    assert status["verify"]["passed"] is None or status["verify"]["stale"]
    await process.verify()
    await process.flip("rollback" if phase == "cutover" else "cutover")
    nothing_lost(primary_of(process, await process.status()), counts)


@pytest.mark.timeout(400)
async def test_kill_9_around_the_flip_serves_the_side_that_the_state_names(
    process: Process,
) -> None:
    fill(process.source, 300)
    await process.start()
    await process.to("mirroring")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with writers(lambda: process.port, COUNTERS) as counts:
        for _ in range(5):
            await process.verify()
            await advanced(counts)
            before = await process.status()
            verb = "cutover" if before["primary"] == "source" else "rollback"
            flip = asyncio.create_task(process.request("POST", f"/v1/{verb}", {}))
            # Any moment will do: what is checked holds at all of them.
            await asyncio.sleep(chance.random() * 0.12)
            await process.kill()
            answer = (await asyncio.gather(flip, return_exceptions=True))[0]
            await process.start()
            after = await process.status()
            if isinstance(answer, tuple) and answer[0] == 200:
                assert after["primary"] == answer[1]["after"]["primary"], "an answer is a promise"
            assert (after["phase"], after["primary"]) in {
                ("copying", "source"), ("mirroring", "source"), ("cutover", "target"),
            }  # fmt: skip
            await lands_on(process, primary_of(process, after))
            await advanced(counts)
            await process.proven()
    nothing_lost(primary_of(process, await process.status()), counts)
    await process.proven()
    assert await differences(process.source, process.target) == []


async def test_what_the_dead_process_had_sent_is_executed_before_the_copy_or_never(
    process: Process,
) -> None:
    """Its connections' bytes wait at a source that stands still, while another process starts."""
    fill(process.source, 100)
    await process.start()
    await process.to("mirroring")
    clients = [await Client.open(process.port) for _ in range(4)]
    for number, client in enumerate(clients):
        await client.call("SET", f"n{number}", "")
    with stopped(process.source):
        for number, client in enumerate(clients):
            for _ in range(400):
                client.send("APPEND", f"n{number}", "x" * 1000)
        # They are with the proxy once all it may have under way is on its lane.
        await process.until(lambda s: s["clients"] >= 4, "the clients are there")
        await process.kill()
        process.launch()
    await until(process._is_ready, "keyferry serves")
    for client in clients:
        await client.close()
    await process.proven()
    assert await differences(process.source, process.target) == []


# -- a stop in good order ----------------------------------------------------------------


async def test_a_stop_while_mirroring_goes_on_without_another_copy(process: Process) -> None:
    fill(process.source, 500)
    await process.start()
    await process.to("mirroring")
    await process.verify()
    await process.verb("shift", percent=40)
    async with writers(lambda: process.port, COUNTERS) as counts:
        await advanced(counts)
        await process.terminate()
        process.source.cli("CONFIG", "RESETSTAT")
        await process.start()
        await advanced(counts)
    status = await process.proven()
    assert (status["phase"], status["read_percent"]) == ("mirroring", 40)
    assert status["verify"]["passed"] and not status["verify"]["stale"]
    assert dumps(process.source) < 100
    nothing_lost(process.source, counts)
    assert await differences(process.source, process.target) == []
    await process.flip("cutover")


@pytest.mark.parametrize("phase", ["idle", "cutover", "finished"])
async def test_a_stop_in_a_phase_goes_on_in_it(process: Process, phase: str) -> None:
    fill(process.source, 500)
    await process.start()
    await process.to(phase)
    before = await process.status()
    async with writers(lambda: process.port, COUNTERS) as counts:
        await advanced(counts)
        await process.terminate()
        await process.start()
        await advanced(counts)
    after = await process.status()
    for name in ("phase", "primary", "read_percent", "epoch"):
        assert after[name] == before[name], name
    await lands_on(process, primary_of(process, after))
    nothing_lost(primary_of(process, after), counts)
    if phase == "cutover":
        await process.proven()
        assert process.log.count("the backfill runs") == 1
        assert await differences(process.source, process.target) == []
        await process.flip("rollback")


async def test_a_stop_while_copying_goes_on_from_its_position(process: Process) -> None:
    keys = 30_000
    fill(process.source, keys, size=500)
    # The target takes about half of it, and the rest later.
    used = int(process.target.info("memory")["used_memory"])
    process.target.cli("CONFIG", "SET", "maxmemory", used + keys * 600 // 2)
    await process.start()
    await process.verb("start")
    await process.until(
        lambda s: s["backfill"]["waits_for"] and s["backfill"]["keys_done"] > keys // 5,
        "the backfill has come to where the target is full",
    )
    await process.terminate()
    process.target.cli("CONFIG", "SET", "maxmemory", 0)
    process.source.cli("CONFIG", "RESETSTAT")
    await process.start()
    status = await process.proven()
    assert status["phase"] == "mirroring"
    dumped = dumps(process.source)
    # Behind a restart the target's keys are walked, too: twice all keys, if from the beginning.
    assert dumped < keys * 9 // 5, "not from the beginning"
    process.source.cli("PING")
    assert await differences(process.source, process.target) == []


async def test_a_stop_keeps_the_keys_that_are_unproven(process: Process) -> None:
    fill(process.source, 500)
    await process.start()
    await process.to("mirroring")
    process.target.cli("CONFIG", "SET", "maxmemory", 1)
    client = await Client.open(process.port)
    for number in range(20):
        await client.call("APPEND", f"k{number}", "more")
    await client.close()
    await process.until(lambda s: s["mirror"]["unproven_keys"] == 20, "they are unproven")
    await process.terminate()
    await process.start()
    status = await process.status()
    assert status["mirror"]["unproven_keys"] == 20
    assert not status["can_cutover"]
    process.target.cli("CONFIG", "SET", "maxmemory", 0)
    await process.proven()
    assert process.log.count("the backfill runs") == 1
    assert await differences(process.source, process.target) == []


# -- stores that are away, or others -----------------------------------------------------


async def test_a_target_that_is_down_at_start_is_a_warning(process: Process) -> None:
    fill(process.source, 100)
    await process.start()
    await process.to("mirroring")
    await process.verify()
    await process.terminate()
    process.target.kill()
    await process.start()
    await lands_on(process, process.source)
    status = await process.status()
    assert status["target"]["reachable"] is False
    assert "target_unreachable" in status["blockers"]
    assert "WARNING" in process.log and "--target" in process.log
    process.target.start()
    await process.proven()
    assert await differences(process.source, process.target) == []
    status = await process.status()
    assert "not_verified" in status["blockers"], "it came back without what it had"


async def test_a_target_that_was_restarted_empty_is_copied_to_again(process: Process) -> None:
    fill(process.source, 500)
    await process.start()
    await process.to("mirroring")
    await process.verify()
    process.target.restart()
    await process.until(lambda s: "not_verified" in s["blockers"], "the verification is stale")
    await process.proven()
    assert await differences(process.source, process.target) == []
    await process.verify()
    await process.flip("cutover")


async def test_a_source_that_is_down_at_start_is_an_error(process: Process) -> None:
    process.source.kill()
    process.launch()
    assert await process.ended() == 1
    assert "--source" in process.log and "Traceback" not in process.log
    process.source.start()


async def test_after_a_cutover_the_source_may_be_down_at_start(process: Process) -> None:
    fill(process.source, 100)
    await process.start()
    await process.to("cutover")
    await process.terminate()
    process.source.kill()
    await process.start()
    await lands_on(process, process.target)
    assert "source_unreachable" in (await process.status())["rollback_blockers"]
    process.source.start()
    await process.proven()
    assert await differences(process.source, process.target) == []


# -- state directories -------------------------------------------------------------------


async def refused(process: Process, *words: str) -> None:
    """It does not start, and says why in one clear line."""
    process.launch()
    assert await process.ended() == 1
    [line] = [each for each in process.log.splitlines() if each.startswith("keyferry: ")]
    for word in words:
        assert word in line
    assert "Traceback" not in process.log


async def test_a_state_directory_in_use_is_refused(
    process: Process, make_process: Callable[..., Process]
) -> None:
    await process.start()
    second = make_process()
    second._log = second.state.with_name("second.log")
    await refused(second, "another keyferry uses it")
    assert process.is_running


async def test_a_state_directory_of_other_addresses_is_refused(
    process: Process, server_factory: Callable[..., Server]
) -> None:
    await process.start()
    await process.to("mirroring")
    await process.terminate()
    process.source = server_factory(REDIS_6)
    await refused(process, "it is of a migration whose source is")


@pytest.mark.parametrize("phase", ["mirroring", "cutover", "finished"])
async def test_a_lost_state_directory_is_refused(process: Process, phase: str) -> None:
    await process.start()
    await process.to(phase)
    await process.kill()
    shutil.rmtree(process.state)
    await refused(process, "retired" if phase == "finished" else "state directory is empty")


async def test_a_state_directory_from_before_the_cutover_is_refused(
    process: Process, tmp_path: Path
) -> None:
    await process.start()
    await process.to("mirroring")
    await process.terminate()
    shutil.copytree(process.state, tmp_path / "old")
    await process.start()
    await process.verify()
    await process.flip("cutover")
    await process.kill()
    shutil.rmtree(process.state)
    shutil.copytree(tmp_path / "old", process.state)
    await refused(process, "an old copy")


async def test_a_state_directory_of_another_migration_between_the_same_stores_is_refused(
    process: Process, tmp_path: Path
) -> None:
    own = process.state
    process.state = tmp_path / "another"
    await process.start()
    await process.to("mirroring")
    await process.verb("cancel")
    await process.terminate()
    process.state = own
    await process.start()
    await process.verb("start", allow=["target_not_empty"])
    await process.proven()
    await process.kill()
    process.state = tmp_path / "another"
    await refused(process, "another one")
