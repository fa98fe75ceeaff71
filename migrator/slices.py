"""Long work on the event loop, in slices: clients are served between them.

Owns nothing but the time that a slice may take.
"""

from __future__ import annotations

import asyncio
import time

SLICE_S = 0.002


class Slices:
    """`await slices.over()` between small steps lets others go on once a slice is used up."""

    def __init__(self) -> None:
        self._until = time.monotonic() + SLICE_S

    async def over(self) -> None:
        if time.monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + SLICE_S

    def begin(self) -> None:
        """Others had their turn just now: something was waited for."""
        self._until = time.monotonic() + SLICE_S
