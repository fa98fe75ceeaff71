"""What holds the movers back, on real stores, and what an operator asks for meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tests.integration.clients import until, writers
from tests.integration.keyferry import Migration, Process, stopped

KEYS = 2000
# So few a second that a backfill of KEYS would outlast every deadline.
FEW = 10


def fill(migration: Migration) -> None:
    for first in range(0, KEYS, 500):
        words = [word for n in range(first, first + 500) for word in (f"old:{n}", "value")]
        migration.source.cli("MSET", *words)


@contextlib.asynccontextmanager
async def held_by(migration: Migration, reason: str) -> AsyncIterator[None]:
    def is_held() -> bool:
        throttle = migration.status()["backfill"]["throttle"]
        return bool(throttle["reason"] == reason and throttle["share"] < 1)

    await until(is_held, f"movers are held back by {reason}")
    yield


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_store_that_is_slow_is_named_while_clients_are_served(
    migration: Migration, side: str
) -> None:
    fill(migration)
    await migration.controller.nice("normal", FEW)
    async with writers(lambda: migration.port, ["a", "b"]):
        await migration.start()
        throttle = migration.controller.pace.throttle
        await until(lambda: throttle.has_clients and throttle.quiet is not None, "it knows them")
        with stopped(getattr(migration, side)):
            async with held_by(migration, f"{side}_slow"):
                pass
        await migration.controller.nice(None, 0)
        await migration.copied()
    assert await migration.differences() == []


async def test_nice_is_changed_while_a_backfill_runs(migration: Migration) -> None:
    fill(migration)
    answer = await migration.controller.nice("gentle", FEW)
    assert answer["before"]["nice"] == {"level": "normal", "keys_per_second": None}
    assert answer["after"]["nice"] == {"level": "gentle", "keys_per_second": FEW}
    await migration.start()
    await until(lambda: migration.status()["backfill"]["keys_done"] > 0, "it moves")
    status = migration.status()
    assert status["nice"] == {"level": "gentle", "keys_per_second": FEW}
    assert status["backfill"]["throttle"]["reason"] == "limit"
    assert not status["backfill"]["done"]
    await migration.controller.nice("full", 0)
    await migration.copied()
    assert migration.status()["backfill"]["throttle"]["reason"] == "none"
    assert await migration.differences() == []


async def test_nice_holds_for_a_verification_and_is_changed_while_it_runs(
    migration: Migration,
) -> None:
    fill(migration)
    await migration.mirroring()
    await migration.controller.nice(None, FEW)
    await migration.controller.verify(None, False)
    await until(lambda: migration.status()["verify"]["keys_checked"] > 0, "it moves")
    assert migration.status()["verify"]["running"]
    await migration.controller.nice(None, 0)
    await until(lambda: not migration.controller.is_verifying, "the verification has ended")
    assert migration.status()["verify"]["passed"]


async def test_a_cutover_does_not_wait_for_the_pace(migration: Migration) -> None:
    fill(migration)
    await migration.verified()
    await migration.controller.nice("gentle", 1)
    for n in range(100):
        migration.proxy.table.mark_unproven(b"old:%d" % n)
    await asyncio.sleep(0)
    await migration.cutover()
    assert migration.status()["primary"] == "target"


async def test_nice_holds_over_a_restart_until_the_settings_change(
    make_process: Callable[..., Process],
) -> None:
    process = make_process()
    await process.start()
    assert (await process.status())["nice"] == {"level": "normal", "keys_per_second": None}
    await process.verb("nice", level="gentle", keys_per_second=500)
    await process.terminate()
    await process.start()
    assert (await process.status())["nice"] == {"level": "gentle", "keys_per_second": 500}
    await process.terminate()
    other = make_process(nice="full")
    await other.start()
    assert (await other.status())["nice"] == {"level": "full", "keys_per_second": None}
