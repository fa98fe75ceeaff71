"""Sizes and durations as people write them. Pure.

Units of sizes are powers of 1024, as in redis.conf.
"""

from __future__ import annotations

import re

_BYTES = {"": 1, "b": 1}
_BYTES |= {"k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10}
_BYTES |= {"m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20}
_BYTES |= {"g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30}
_MILLISECONDS = {"": 1.0, "us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def size_bytes(text: str) -> int:
    """Of `67108864`, `64mb`, `64MiB`. Raises ValueError."""
    number, unit = _parse(text)
    if unit not in _BYTES:
        raise ValueError(f"{text!r} is not a size such as 64mb")
    return int(number * _BYTES[unit])


def duration_ms(text: str) -> float:
    """Of `1000ms`, `1.5s`, `1m`, `100us`; a bare number is milliseconds. Raises ValueError."""
    number, unit = _parse(text)
    if unit not in _MILLISECONDS:
        raise ValueError(f"{text!r} is not a duration such as 500ms or 2s")
    return number * _MILLISECONDS[unit]


def _parse(text: str) -> tuple[float, str | None]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower(), re.ASCII)
    return (float(match[1]), match[2]) if match else (0.0, None)
