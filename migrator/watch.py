"""What changes by itself, looked at once in a while: stores, clocks, users, writers.

Owns the observations that gates and status read between two looks. It changes
nothing about the migration; a need to copy everything again is told to its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from migrator import analysis
from migrator.bulk import ReplyError
from migrator.clock import measure_offset
from migrator.finding import Finding
from migrator.stores import Store, StoreUnreachable
from proxy.commands import Kind
from proxy.commands.engine import Engine
from proxy.server import Proxy

log = logging.getLogger("keyferry.watch")

EVERY_S = 1.0


class Watch:
    """``commands_per_second``, ``missing_users`` and ``warnings`` are of the last look."""

    def __init__(
        self,
        proxy: Proxy,
        stores: tuple[Store, Store],
        on_look: Callable[[], None],
        on_writers: Callable[[], None],
        check_feeds: Callable[[], Awaitable[None]],
    ) -> None:
        self.proxy = proxy
        self.stores = stores
        self.commands_per_second = 0.0
        self.missing_users: list[str] = []
        self.warnings: list[Finding] = []
        self._on_look = on_look
        self._on_writers = on_writers
        self.check_feeds = check_feeds
        self._mirroring_since = 0.0
        self._checked_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def begin_mirroring(self) -> None:
        """From now on a write past the proxy is one that is missed."""
        self._mirroring_since = time.monotonic()
        self.missing_users, self.warnings = [], []

    async def _run(self) -> None:
        last_total, last_at = self.proxy.stats.total, time.monotonic()
        rounds = 0
        while True:
            await asyncio.sleep(EVERY_S)
            now, total = time.monotonic(), self.proxy.stats.total
            self.commands_per_second = (total - last_total) / (now - last_at)
            last_total, last_at = total, now
            rounds += 1
            try:
                self._on_look()
                await self._look(rounds)
            except (StoreUnreachable, ReplyError, ConnectionError) as error:
                log.debug("watching: %s", error)
            except Exception:
                log.exception("watching failed by a defect")

    async def _look(self, rounds: int) -> None:
        is_mirroring = self.proxy.mirror is not None
        for store in self.stores:
            if store.side is self.proxy.primary or is_mirroring or rounds % 5 == 1:
                with contextlib.suppress(StoreUnreachable, ReplyError):
                    await store.refresh()
        if rounds % 5 == 0:
            await self.measure_clocks()
            await self.proxy.learn_auth()
        if is_mirroring and rounds % 3 == 0:
            await self.check_feeds()
            await self.check_users()
            await self.check_warnings()

    async def measure_clocks(self) -> None:
        """How far each store's clock is from ours, and what engine it is."""
        for store in self.stores:
            if not store.is_reachable:
                continue
            with contextlib.suppress(StoreUnreachable, ReplyError, ConnectionError):
                offset = await measure_offset(await store.connection("admin"))
                self.proxy.clock_offsets_ms[store.side] = offset.offset_ms
                self.proxy.clock_errors_ms[store.side] = offset.error_ms
                if store.info.version:
                    engine = Engine.of(store.info.engine, store.info.version)
                    self.proxy.engines[store.side] = engine

    async def check_users(self) -> None:
        """Whether every user in use can log in to the secondary."""
        mirror = self.proxy.mirror
        if mirror is None or not mirror.is_connected:
            self.missing_users = []  # That it is away is a blocker of its own.
            return
        failures = await self.proxy.open_lanes(self.proxy.primary.other)
        self.missing_users = [f"{each.user} (db {each.db}): {each.error}" for each in failures]

    async def check_warnings(self) -> None:
        """Writers past the proxy, clocks, what the other side lacks.

        Raises ConnectionError, ReplyError.
        """
        within_s = time.monotonic() - self._mirroring_since - 1.0
        primary, secondary = (
            self.stores[self.proxy.primary],
            self.stores[self.proxy.primary.other],
        )
        ours = self.proxy.local_addresses()
        found = await analysis.other_writers(primary, self.is_write, within_s, ours)
        self.proxy.parking.watch_others(any(each.name == "other_clients" for each in found))
        now = time.monotonic()
        since_last_s = min(now - self._checked_at + 1.0, within_s)
        self._checked_at = now
        if found and await analysis.other_writers(primary, self.is_write, since_last_s, ours):
            self._on_writers()
        found += await analysis.standing_warnings(primary, secondary, self.proxy.commands)
        self.warnings = found

    def is_write(self, name: bytes) -> bool:
        """Whether a command, as CLIENT LIST names it, writes."""
        command = self.proxy.commands.named(name.decode(errors="replace"))
        if command is None:
            return False
        if command.kind is Kind.SCRIPT:
            # Functions are part of what is migrated, too; the memory of scripts is a cache.
            return command.spec.may_write or command.name.startswith("function|")
        return command.writes or command.kind is Kind.BARRIER
