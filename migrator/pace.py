"""Holds the movers back while clients need the room: measures, and makes them rest.

Owns the windows that `throttle` judges: the clients' latency, a PING of its own to either store,
and how late the event loop is. It moves nothing. A mover does each page inside `page`, and rests
there behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence

from migrator.bulk import ReplyError
from migrator.stores import Store
from migrator.throttle import CLIENTS_PER_S, Nice, Throttle, Window
from proxy.server import Proxy
from proxy.sides import Side

log = logging.getLogger("keyferry.pace")

WINDOW_S = 0.25
# How long a quiet window waits for what is under way, and then for enough commands.
SETTLE_S = 0.05
QUIET_AT_MOST_S = 1.0
TICK_S = 0.02
# So many commands where there were none end a window.
SUDDENLY = 20
PING_EVERY_S = 0.1
UNREACHABLE_S = 1.0
# A 99th percentile is of so many samples, or of as many as come in so long if they are a few.
SAMPLES = 100
FEW_SAMPLES = 20
SAMPLED_FOR_S = 2.0
# No page, however slow, makes a mover rest longer than this.
LONGEST_REST_S = 1.0
REST_SLICE_S = 0.1


def percentile(counts: Sequence[int], bounds: Sequence[float], part: float) -> float:
    """The `part` (0 to 1) quantile of a histogram, linear inside a bucket; counts are not empty."""
    wanted = part * sum(counts)
    below = 0.0
    for at, count in enumerate(counts):
        if count and below + count >= wanted:
            lower = bounds[at - 1] if at else 0.0
            upper = bounds[at] if at < len(bounds) else 2 * lower
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return 2 * bounds[-1]


class Pace:
    """One for backfill and verification. `throttle` says how fast, and why not faster."""

    def __init__(self, proxy: Proxy, stores: tuple[Store, Store], nice: Nice) -> None:
        self.throttle = Throttle(nice)
        self._proxy = proxy
        self._stores = stores
        self._under_way = 0
        self._pages = 0
        self._wishes = 0
        # When the next key may be moved, where their number is limited.
        self._due = 0.0
        self._samples = self._counts()
        self._sampled_at = time.monotonic()
        self._asked_at: dict[Side, float | None] = {}
        self._took_s: dict[Side, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, commands_per_second: float) -> None:
        """Begin to measure, beside so many commands. Started twice it goes on."""
        if not self._tasks:
            if commands_per_second >= CLIENTS_PER_S:
                self.throttle.expect_clients(time.monotonic())
            self._tasks = [
                asyncio.create_task(self._measure(), name="pace"),
                *(
                    asyncio.create_task(self._ask(store), name=f"pace {store.side.label}")
                    for store in self._stores
                ),
            ]

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        quiet = self.throttle.quiet
        self.throttle = Throttle(self.throttle.nice)
        # Better than nothing, until there is another one.
        self.throttle.quiet = quiet

    def ask(self, nice: Nice) -> None:
        """Another wish of the operator's; who rests now looks again."""
        self.throttle.ask(nice)
        self._wishes += 1
        self._due = 0.0

    @property
    def page_keys(self) -> int:
        """How many keys to move in one go."""
        return self.throttle.page_keys

    @contextlib.asynccontextmanager
    async def page(self, keys: int) -> AsyncIterator[None]:
        """Inside, a page of so many keys is moved; leaving it takes the rest that is due."""
        while self.throttle.wants_quiet:
            await asyncio.sleep(TICK_S)
        self._under_way += 1
        self._pages += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._under_way -= 1
        await self._rest(time.monotonic() - began, keys)

    async def _rest(self, took_s: float, keys: int) -> None:
        share = self.throttle.share
        limit = self.throttle.nice.keys_per_second
        now = time.monotonic()
        until = now
        if share < 1.0:
            until += min(LONGEST_REST_S, took_s * (1.0 / share - 1.0))
        if limit is not None:
            self._due = max(self._due, now) + keys / limit
            until = max(until, self._due)
        wishes = self._wishes
        while now < until and wishes == self._wishes:
            await asyncio.sleep(min(REST_SLICE_S, until - now))
            now = time.monotonic()

    # -- measuring ------------------------------------------------------------------

    async def _measure(self) -> None:
        while True:
            try:
                await self._window()
            except Exception:
                log.exception("the movers' pace cannot be measured")
                await asyncio.sleep(UNREACHABLE_S)

    async def _window(self) -> None:
        is_quiet = self.throttle.wants_quiet
        if is_quiet:
            await asyncio.sleep(SETTLE_S)
            self._sample_anew()
        self._took_s.clear()
        began = now = time.monotonic()
        pages, commands = self._pages, self._proxy.stats.total
        most = second = 0.0
        p99_s = None
        while now < began + (QUIET_AT_MOST_S if is_quiet and p99_s is None else WINDOW_S):
            await asyncio.sleep(TICK_S)
            before, now = now, time.monotonic()
            late = now - before - TICK_S
            if late > second:
                most, second = max(most, late), min(most, late)
            if now >= began + WINDOW_S and p99_s is None:
                p99_s = self._latency(now, is_quiet)
            if not self.throttle.has_clients and self._proxy.stats.total - commands >= SUDDENLY:
                # Movers are at full speed, and somebody has come.
                break
        self.throttle.look(
            Window(
                commands_per_second=(self._proxy.stats.total - commands) / (now - began),
                p99_s=p99_s,
                source_s=self._answer_s(Side.SOURCE, now),
                target_s=self._answer_s(Side.TARGET, now),
                # One hiccup says nothing.
                late_s=second,
            ),
            now,
            is_idle=pages == self._pages and not self._under_way,
        )
        if is_quiet or self.throttle.wants_quiet:
            self._sample_anew()

    def _counts(self) -> list[int]:
        """The histogram of all commands of clients."""
        histograms = [h for of_side in self._proxy.stats.command_seconds for h in of_side]
        return [sum(counts) for counts in zip(*(h.counts for h in histograms), strict=True)]

    def _sample_anew(self) -> None:
        self._samples = self._counts()
        self._sampled_at = time.monotonic()

    def _latency(self, now: float, is_quiet: bool) -> float | None:
        """The 99th percentile since the last one, once there are enough samples."""
        counts = [a - b for a, b in zip(self._counts(), self._samples, strict=True)]
        total = sum(counts)
        is_late = now - self._sampled_at >= (QUIET_AT_MOST_S if is_quiet else SAMPLED_FOR_S)
        if total < SAMPLES and not is_late:
            return None
        self._sample_anew()
        bounds = self._proxy.stats.command_seconds[0][0].bounds
        return percentile(counts, bounds, 0.99) if total >= FEW_SAMPLES else None

    async def _ask(self, store: Store) -> None:
        """PING it, again and again: what is not answered yet counts by its age."""
        while True:
            try:
                bulk = await store.connection("pace")
                began = self._asked_at[store.side] = time.monotonic()
                with contextlib.suppress(ReplyError):  # No right to: an answer all the same.
                    await bulk.call("PING")
            except ConnectionError:
                self._asked_at[store.side] = None
                await asyncio.sleep(UNREACHABLE_S)
                continue
            self._asked_at[store.side] = None
            took_s = time.monotonic() - began
            self._took_s[store.side] = max(took_s, self._took_s.get(store.side, 0.0))
            await asyncio.sleep(PING_EVERY_S)

    def _answer_s(self, side: Side, now: float) -> float | None:
        asked_at = self._asked_at.get(side)
        took_s = self._took_s.get(side)
        if asked_at is None:
            return took_s
        return max(now - asked_at, took_s or 0.0)
