"""Whether the event loop sleeps until something comes, or keeps looking for a while.

A process that sleeps has to be woken, and where its core sleeps with it that takes longer
than all that a proxy does for a command. So while traffic comes in quick succession the
loop looks again and again, for at most `limit_s` at a time, and lets other processes of
its core go first each time. Whether that is worth it is learnt from the times before. With
many clients it is not done: one or the other has always asked, and the stores want the cores.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

# How much one time counts among those before it, and how many must have been worth it.
SHARE = 1 / 8
WORTH = 0.75
# Clients are counted over this time, in seconds: those who ask again and again do so in less.
COUNTED_S = 0.001
FEW = 4


def _stay() -> None:
    """In place of `sched_yield` where the platform has none."""


_yield: Callable[[], None] = getattr(os, "sched_yield", _stay)


class Poll:
    """See the module's docstring. `limit_s`: seconds without traffic; 0: sleep at once."""

    __slots__ = (
        "_again", "_asked", "_counted_from", "_is_stirred", "_is_turning", "_since",
        "_stirred_at", "_was_asked", "_worth_of_clients",
        "_worth_of_stores", "clients", "epoch", "limit_s", "seen", "turns",
    )  # fmt: skip

    def __init__(self, limit_s: float = 0.0) -> None:
        self.limit_s = limit_s
        # Turns of the loop in which it would have slept.
        self.turns = 0
        # Clients that have asked within a millisecond, the last one that is over, and since.
        self.clients = 0
        self.seen = 0
        self.epoch = 0
        self._counted_from = 0.0
        self._again: Callable[[Any], object] | None = None
        self._is_turning = False
        self._is_stirred = False
        self._stirred_at = 0.0
        # When all that had come was done.
        self._since = 0.0
        # Whether what came last was a client's, and so a store's answer is what comes next. They
        # are two clocks: a near store is quick even where clients seldom ask.
        self._asked = False
        self._was_asked = False
        self._worth_of_stores = 0.0
        self._worth_of_clients = 0.0

    def stir(self, by_client: bool) -> None:
        """Something has come: from a client, or else from a store."""
        self._asked = by_client
        if self._is_stirred or not self.limit_s:
            return
        self._is_stirred = True
        self._stirred_at = time.monotonic()
        if not self._is_turning:
            self._is_turning = True
            again = self._again
            if again is None:
                again = self._again = asyncio.get_running_loop().call_soon
            again(self._turn)

    def _turn(self) -> None:
        now = time.monotonic()
        if self._is_stirred:
            self._is_stirred = False
            if now - self._counted_from > COUNTED_S:
                self._counted_from = now
                self.clients = self.seen
                self.seen = 0
                self.epoch += 1
            worth = 1.0 if self._stirred_at - self._since < self.limit_s else 0.0
            if self._was_asked:
                self._worth_of_stores += (worth - self._worth_of_stores) * SHARE
            else:
                self._worth_of_clients += (worth - self._worth_of_clients) * SHARE
            self._was_asked = self._asked
            self._since = now
            worth = self._worth_of_stores if self._asked else self._worth_of_clients
            if worth < WORTH or self.clients > FEW:
                self._is_turning = False
                return
        elif now - self._since > self.limit_s:
            self._is_turning = False
            return
        self.turns += 1
        _yield()
        again = self._again
        assert again is not None
        again(self._turn)
