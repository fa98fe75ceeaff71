"""The mirror log as its entries know it: what every answer of the secondary changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .keytable import KeyTable

if TYPE_CHECKING:
    from .sent import SentEffect


class Log:
    """Base of the mirror. `lag_bytes` and `lag_operations` are sent and not answered."""

    def __init__(self, table: KeyTable) -> None:
        self.table = table
        self.lag_bytes = 0
        self.lag_operations = 0

    def compare(self, effect: SentEffect, frame: bytes) -> None:
        """The reply is not, byte by byte, the expected one: is it a difference?"""
        raise NotImplementedError
