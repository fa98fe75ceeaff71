"""The two stores of a migration.

Owns the names of the sides, nothing else. *Source* and *target* never change;
*primary* and *secondary* are roles that a flip swaps.
"""

from __future__ import annotations

import enum


class Side(enum.IntEnum):
    """One of the two stores; usable as an index into a pair."""

    SOURCE = 0
    TARGET = 1

    @property
    def other(self) -> Side:
        return Side(1 - self)

    @property
    def label(self) -> str:
        """The name in status, metrics and messages: ``source`` or ``target``."""
        return self.name.lower()
