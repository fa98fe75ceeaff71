"""Everything that runs while a mirror runs, in one direction.

Owns the mirror's connection, both event feeds, the repair, the backfill and their pace,
and starts and stops them together. It does not know phases.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from migrator.backfill import Backfill
from migrator.feed import Feed
from migrator.mover import Mover
from migrator.pace import Pace
from migrator.repair import Repair
from migrator.state import Backfill as Position
from migrator.stores import Store
from proxy.keytable import place_of
from proxy.mirror import Mirror
from proxy.server import Proxy
from proxy.sides import Side

log = logging.getLogger("keyferry.copying")


class Copying:
    """Made when the mirror begins; :meth:`stop` ends it all.

    ``on_gap``: events of a side were missed, or a store is another one: what was
    verified is stale.
    """

    def __init__(
        self,
        proxy: Proxy,
        stores: tuple[Store, Store],
        pace: Pace,
        *,
        buffer_bytes: int,
        on_gap: Callable[[], None],
        on_primary_replaced: Callable[[], None],
    ) -> None:
        self.proxy = proxy
        self.stores = stores
        self.buffer_bytes = buffer_bytes
        self.mover = Mover(proxy, stores)
        self.pace = pace
        self.repair = Repair(proxy, self.mover, stores)
        self.backfill: Backfill | None = None
        # The generation in which the secondary was empty when the mirror began.
        self.empty_in_generation: int | None = None
        # The primary may have come back with less than it had acknowledged.
        self.is_primary_replaced = False
        self._on_gap = on_gap
        self._on_primary_replaced = on_primary_replaced
        self._backfill_task: asyncio.Task[None] | None = None
        self._run_ids: list[str | None] = [store.info.run_id or None for store in stores]
        self.feeds = (self._feed(Side.SOURCE), self._feed(Side.TARGET))
        self.repair.start()

    def _feed(self, side: Side) -> Feed:
        return Feed(
            self.stores[side],
            on_event=lambda db, key: self.proxy.table.mark_wherever(place_of(db, key)),
            on_gap=self._on_gap,
            on_run_id=lambda run_id: self._on_run_id(side, run_id),
        )

    def _on_run_id(self, side: Side, run_id: str) -> None:
        known, self._run_ids[side] = self._run_ids[side], run_id
        if known is not None and known != run_id and side is self.proxy.primary:
            # It may have come back with older data than it had acknowledged.
            log.error("the %s was restarted or replaced: everything is copied again", side.label)
            self.is_primary_replaced = True
            self.proxy.table.mark_everything_unproven()
            self._on_primary_replaced()

    def open_mirror(self, side: Side, run_id: str | None = None) -> Mirror:
        """A mirror to ``side``; the caller gives it to the proxy when the time has come."""
        proxy = self.proxy

        def diverged(command: str) -> None:
            proxy.stats.divergences[command] += 1

        return Mirror(
            proxy.table,
            proxy.endpoints[side],
            side,
            buffer_bytes=self.buffer_bytes,
            bracket=proxy.bracket,
            on_divergence=diverged,
            on_connected=proxy.scripting.copies.connected,
            lacks=proxy.commands.lacking(side),
            run_id=run_id,
            name=b"keyferry-mirror:" + proxy.tag.encode(),
        )

    def begin_backfill(
        self,
        position: Position,
        save: Callable[[Position], None],
        *,
        workers: int,
        done: Callable[[], None],
    ) -> None:
        """Copy everything; ``done`` runs when it is complete. A running one goes on."""
        if self._backfill_task is not None and not self._backfill_task.done():
            return
        backfill = self.backfill = Backfill(
            self.proxy, self.mover, self.stores, self.pace, position, save,
            workers=workers, also_secondary=self._walks_secondary,
            prepare=self.repair.end_stale_connections,
        )  # fmt: skip

        async def run() -> None:
            try:
                await backfill.run()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the backfill ended by a defect")
                raise
            done()

        self._backfill_task = asyncio.create_task(run(), name="backfill")

    def _walks_secondary(self) -> bool:
        """Whether keys that only the secondary has are removed there.

        Not if it was empty: there are none. Not if the primary lost data: then the
        secondary holds the last copy, a verification shows it, and the operator decides.
        """
        was_empty = self.empty_in_generation == self.proxy.table.generation
        return not was_empty and not self.is_primary_replaced

    @property
    def is_backfilling(self) -> bool:
        return self._backfill_task is not None and not self._backfill_task.done()

    async def stop(self) -> None:
        """End the backfill, the repair and the feeds. The mirror is the caller's."""
        if self._backfill_task is not None:
            self._backfill_task.cancel()
            await asyncio.gather(self._backfill_task, return_exceptions=True)
        await self.repair.stop()
        await self.pace.stop()
        for feed in self.feeds:
            await feed.close()

    async def feeds_drained(self) -> None:
        """Every expiry of before now was heard. Raises StoreUnreachable."""
        await asyncio.gather(*(feed.drained() for feed in self.feeds))
