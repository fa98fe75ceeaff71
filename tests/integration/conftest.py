"""Whole migrations: in this process, and as a process of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, Process
from tests.servers import Server


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> Wires:
    return Wires(monkeypatch)


@pytest.fixture
async def migration(
    source: Server, target: Server, tmp_path: Path, wires: Wires
) -> AsyncIterator[Migration]:
    """Between clean stores, in phase idle, serving."""
    migration = Migration(source, target, tmp_path / "state")
    await migration.open()
    yield migration
    await migration.close()


@pytest.fixture
async def make_process(
    source: Server, target: Server, tmp_path: Path
) -> AsyncIterator[Callable[..., Process]]:
    """`make_process(**options)`: a process between the stores, not started yet."""
    made: list[Process] = []

    def make(**options: str) -> Process:
        made.append(Process(source, target, tmp_path / "state", **options))
        return made[-1]

    yield make
    for process in made:
        await process.close()


@pytest.fixture
def process(make_process: Callable[..., Process]) -> Process:
    return make_process()
