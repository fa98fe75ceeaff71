"""Sizes and durations."""

from collections.abc import Callable

import pytest

from migrator.units import duration_ms, size_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("512", 512),
        ("64mb", 64 << 20),
        ("64 MiB", 64 << 20),
        ("1.5k", 1536),
        ("1G", 2**30),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1000ms", 1000), ("1s", 1000), ("1.5s", 1500), ("2m", 120_000), ("7", 7)],
)
def test_durations(text: str, expected: float) -> None:
    assert duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "ms", "-1", "1 ms s", "1e3", "soon", "1..5s", "٣s", "1h1m"])
@pytest.mark.parametrize("parse", [size_bytes, duration_ms])
def test_what_is_neither(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse(text)
