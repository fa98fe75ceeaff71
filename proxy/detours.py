"""A second lane for the same clients while something large passes on the first.

Owns which lane is the one to begin on, and those that are being left. A client changes only when
nothing of its own is under way, as at every change of upstream; writes of different lanes are
ordered by the key table. So this decides how long somebody waits, and never what is seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from .lane import Lane
from .sides import Side

log = logging.getLogger("keyferry.lane")

Key = tuple[Side, tuple[bytes, bytes] | None, int, int]

# Lanes of one key at most: beyond, who comes behind something large waits for it.
MAX_LANES = 4
# For so long nobody begins on a lane that is clogged, if another one is not ready at once.
PATIENCE_S = 0.1
# A lane that was left is kept for the next large thing.
KEPT_S = 10.0


class Detours:
    """See the module's docstring. ``current``: the lane of each key that clients begin on.

    ``left`` are all others: some are through and wait to be of use again.
    """

    def __init__(self, current: dict[Key, Lane], open_lane: Callable[[Key], Lane]) -> None:
        self.left: set[Lane] = set()
        self.taken = 0
        self._current = current
        self._open = open_lane
        self._loop = asyncio.get_running_loop()

    def begin(self, lane: Lane) -> None:
        """Something large has begun to pass on ``lane``: whoever comes now takes another one."""
        key = key_of(lane)
        if self._current.get(key) is not lane:
            return
        others = [each for each in self.left if key_of(each) == key]
        free = next((each for each in others if each.is_ready and not each.ops), None)
        if free is not None:
            self._change(lane, free)
        elif all(each.is_ready for each in others) and len(others) + 1 < MAX_LANES:
            spare = self._open(key)
            spare.is_left = True
            self.left.add(spare)
            lane.keep_back()
            self._loop.call_later(PATIENCE_S, lane.let_go)
            spare.when_settled(partial(self._opened, lane, spare))

    def _opened(self, lane: Lane, spare: Lane, failure: bytes | None) -> None:
        """If it could not be, all goes on as if there were none."""
        if failure is None and self._current.get(key_of(lane)) is lane and lane.ops:
            self._change(lane, spare)
        lane.let_go()

    def _change(self, lane: Lane, other: Lane) -> None:
        self.taken += 1
        log.debug("%s: something large passes", lane)
        self._current[key_of(lane)] = other
        self.left.discard(other)
        other.is_left = False
        self.left.add(lane)
        lane.is_left = True

    def close_idle(self) -> None:
        """End those that were of no use for long."""
        until = time.monotonic() - KEPT_S
        for lane in [each for each in self.left if not each.ops and each.heard_at < until]:
            lane.close()


def key_of(lane: Lane) -> Key:
    return lane.side, lane.user, lane.db, lane.resp
