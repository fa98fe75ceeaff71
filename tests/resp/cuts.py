"""Ways to cut a stream of bytes into chunks."""

from __future__ import annotations

from collections.abc import Iterator


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in two at every place (every 97th of a long stream)."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data), 1 if len(data) < 500 else 97):
        yield [data[:at], data[at:]]
