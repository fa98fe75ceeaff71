"""What the pace makes of a histogram."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from migrator.pace import Pace, percentile
from migrator.throttle import Level, Nice

BOUNDS = (1.0, 2.0, 4.0)
NOTHING = [[SimpleNamespace(counts=[0])]]


@pytest.mark.parametrize(
    ("counts", "part", "expected"),
    [
        ([100, 0, 0, 0], 0.5, 0.5),
        ([0, 100, 0, 0], 0.99, 1.99),
        ([98, 0, 2, 0], 0.99, 3.0),
        ([0, 0, 0, 10], 0.5, 6.0),
        ([1, 1, 1, 1], 1.0, 8.0),
    ],
)
def test_a_percentile_is_read_off_a_histogram(
    counts: list[int], part: float, expected: float
) -> None:
    assert percentile(counts, BOUNDS, part) == pytest.approx(expected)


@pytest.mark.parametrize("level", [Level.NORMAL, Level.FULL])
@pytest.mark.parametrize("has_clients", [True, False])
async def test_beside_clients_one_page_is_under_way_at_a_time(
    level: Level, has_clients: bool
) -> None:
    # Of the proxy and the stores only the measuring wants to know, which is not started.
    pace = Pace(SimpleNamespace(stats=SimpleNamespace(command_seconds=NOTHING)), (), Nice(level))  # type: ignore[arg-type]
    pace.throttle.has_clients = has_clients
    under_way: list[int] = []
    most = 0

    async def mover(name: int) -> None:
        nonlocal most
        for _ in range(3):
            async with pace.page(1):
                under_way.append(name)
                most = max(most, len(under_way))
                await asyncio.sleep(0)
                under_way.remove(name)

    async with asyncio.timeout(10):
        await asyncio.gather(*(mover(name) for name in range(4)))
    assert most == (1 if has_clients and level is Level.NORMAL else 4)
