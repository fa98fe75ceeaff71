"""What the hot path counts: commands of each class, and how long they took.

Plain numbers; what becomes of them is in `metrics`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence


class CommandClass(enum.IntEnum):
    """What kind of command was served; an index, as Side is."""

    READ = 0
    WRITE = 1
    OTHER = 2

    @property
    def label(self) -> str:
        return self.name.lower()


_READ, _WRITE, _ = CommandClass


class Tally:
    """Commands that one side has served, by class: `tally[CommandClass.READ]`."""

    __slots__ = ("others", "reads", "writes")

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0
        self.others = 0

    def __getitem__(self, kind: CommandClass) -> int:
        return (self.reads, self.writes, self.others)[kind]

    def add(self, kind: CommandClass, times: int) -> None:
        if kind is _WRITE:
            self.writes += times
        elif kind is _READ:
            self.reads += times
        else:
            self.others += times

    def total(self) -> int:
        return self.reads + self.writes + self.others


class Histogram:
    """Counts per bucket, the last one for all above the bounds; `total` is the sum of values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """`times` values of about the same size: one call per batch of replies is enough."""
        at = 0
        # Most values are small: the first bounds decide.
        for bound in self.bounds:
            if value <= bound:
                break
            at += 1
        self.counts[at] += times
        self.total += value * times
