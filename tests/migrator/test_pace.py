"""What the pace makes of a histogram."""

from __future__ import annotations

import pytest

from migrator.pace import percentile

BOUNDS = (1.0, 2.0, 4.0)


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
