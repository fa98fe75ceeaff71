"""Copies what is already there: SCAN of the primary, each key under watch.

Owns the walk over the keyspace and its position. A key that a client touched
while it was copied becomes unproven, and the repair copies it; so the walk never
waits for a busy key, and never visits one twice.

Where the secondary was not empty when the mirror began, a second walk over the
secondary follows: a key that is only there, or was made anew while the first walk
went past, is set right by it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from migrator.bulk import ReplyError
from migrator.mover import Copied, Mover
from migrator.pace import Pace
from migrator.state import Backfill as Position
from migrator.stores import Store
from proxy.sent import MirrorAway
from proxy.server import Proxy

log = logging.getLogger("keyferry.backfill")

# Keys a page, as long as values are small.
MAX_SCAN_COUNT = 500
# Bytes of a page, about: of twice as many pages shrink.
LARGE_PAGE = 2 * 1024 * 1024
# Pages under way for each worker: while one is read another is written.
PAGES_OF_WORKER = 2
SAVE_EVERY_S = 1.0
RETRY_S = 0.5


class _Void(Exception):
    """Everything became unproven: what was walked counts for nothing."""


class Backfill:
    """One backfill, from ``position`` on. ``save`` makes a position durable.

    ``prepare`` runs before each walk; ``also_secondary``: whether to walk the
    secondary, too, asked when the first walk is over.
    """

    def __init__(
        self,
        proxy: Proxy,
        mover: Mover,
        stores: tuple[Store, Store],
        pace: Pace,
        position: Position,
        save: Callable[[Position], None],
        *,
        workers: int = 4,
        also_secondary: Callable[[], bool],
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self.position = position
        # What the position is worth: with a later reason for everything to be unproven
        # it is worth nothing.
        self.generation = proxy.table.generation
        self.keys_total = 0
        self.keys_per_second = 0.0
        self.reason = ""
        self._proxy = proxy
        self._mover = mover
        self._stores = stores
        self._pace = pace
        self._save = save
        self._workers = workers
        self._also_secondary = also_secondary
        self._prepare = prepare
        self._keys = position.keys_done
        self._bytes = position.bytes_done
        self._saved_at = 0.0
        self._scan_count = MAX_SCAN_COUNT
        self._rate_from = (time.monotonic(), self._keys)

    async def run(self) -> None:
        """Return when every key of both sides is proven or owed by the repair.

        What is lost on the way (a store, the mirror) is waited for. A new reason
        for everything to be unproven makes it begin again.
        """
        table = self._proxy.table
        while True:
            if table.generation != self.generation:
                self._begin_again()
            try:
                await self._prepare()
                await self._walk_all(self._proxy.primary, resume=True)
                if self._also_secondary():
                    await self._walk_all(self._proxy.primary.other, resume=False)
                mirror = self._proxy.mirror
                if mirror is None:
                    raise MirrorAway("there is no mirror")
                await mirror.applied()
            except _Void:
                continue
            except (ConnectionError, MirrorAway, ReplyError) as error:
                self.reason = str(error)
                log.warning("backfill waits: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            # Nothing is awaited between this look and what follows from it.
            if table.generation == self.generation:
                break
        table.is_everything_unproven = False
        table.has_overflowed = False
        self.reason = ""
        self.position = Position(
            keys_done=self._keys, bytes_done=self._bytes, is_done=True,
            run_id=self._stores[self._proxy.primary].info.run_id,
        )  # fmt: skip
        self._save(self.position)

    def _begin_again(self) -> None:
        log.warning("everything became unproven: the backfill begins again")
        self.generation = self._proxy.table.generation
        self._keys = self._bytes = 0
        self.position = Position()
        self._save(self.position)

    async def _walk_all(self, side: int, *, resume: bool) -> None:
        """Walk all databases of one side, from the saved position if its cursors are alive."""
        store = self._stores[side]
        info = await store.refresh()
        at = self.position
        if resume:
            self.keys_total = info.keys
            if at.run_id != info.run_id:
                self._keys = self._bytes = 0
                at = replace(at, db=0, cursor=0, run_id=info.run_id)
        for db in sorted(info.keys_by_db):
            if resume and db < at.db:
                continue
            cursor = at.cursor if resume and db == at.db else 0
            await self._walk(store, db, cursor, counts=resume, run_id=info.run_id)

    async def _walk(self, store: Store, db: int, cursor: int, *, counts: bool, run_id: str) -> None:
        """SCAN one database. The next page is asked for while the last ones are copied."""
        bulk = await store.connection("scan")
        self._scan_count = min(self._scan_count, store.info.keys_of(LARGE_PAGE, MAX_SCAN_COUNT))

        def scan(cursor: int) -> asyncio.Task[Any]:
            count = min(self._scan_count, self._pace.page_keys)
            return asyncio.create_task(bulk.call("SCAN", cursor, "COUNT", count, db=db))

        coming = scan(cursor)
        pending: deque[tuple[int, asyncio.Task[Copied]]] = deque()
        lanes = [f"backfill-{number}" for number in range(self._workers)]
        number = 0
        try:
            while True:
                before = cursor
                answer = await coming
                cursor, keys = int(answer[0]), answer[1]
                if cursor:
                    # Its answer is wanted as soon as there is room for one more page.
                    coming = scan(cursor)
                if keys:
                    purpose = lanes[number % self._workers]
                    number += 1
                    task = asyncio.create_task(self._copy(db, keys, purpose), name="copy")
                    pending.append((before, task))
                if len(pending) >= PAGES_OF_WORKER * self._workers:
                    self._done(
                        await pending.popleft()[1],
                        counts,
                        store.info.keys_of(LARGE_PAGE, MAX_SCAN_COUNT),
                    )
                    oldest = pending[0][0] if pending else cursor
                    if counts:
                        self._progress(db, oldest, run_id)
                if cursor == 0:
                    break
            while pending:
                self._done(
                    await pending.popleft()[1],
                    counts,
                    store.info.keys_of(LARGE_PAGE, MAX_SCAN_COUNT),
                )
            if counts:
                self._progress(db + 1, 0, run_id)
        finally:
            tasks = [coming, *(task for _, task in pending)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _copy(self, db: int, keys: list[bytes], purpose: str) -> Copied:
        # A batch counts when the secondary has acknowledged it: a saved position may
        # not be ahead of what is there.
        async with self._pace.page(len(keys)):
            copied = await self._mover.copy(db, keys, purpose)
            for failure in await copied.acknowledged:
                if failure.is_away:  # It would refuse the rest as well: wait for it.
                    raise MirrorAway(failure.error)
        return copied

    def _done(self, copied: Copied, counts: bool, most_keys: int) -> None:
        for place in copied.touched:
            self._proxy.table.mark_unproven(place)
        self._proxy.stats.backfill_keys += copied.keys
        if copied.size > 2 * LARGE_PAGE:
            self._scan_count = max(1, self._scan_count // 2)
        elif copied.size < LARGE_PAGE:
            self._scan_count = min(most_keys, self._scan_count * 2)
        if counts:
            self._keys += copied.keys + len(copied.touched)
            self._bytes += copied.size

    def _progress(self, db: int, cursor: int, run_id: str) -> None:
        if self._proxy.table.generation != self.generation:
            raise _Void
        self.position = replace(
            self.position,
            db=db,
            cursor=cursor,
            keys_done=self._keys,
            bytes_done=self._bytes,
            run_id=run_id,
        )
        now = time.monotonic()
        since, keys = self._rate_from
        if now - since >= 0.5:
            self.keys_per_second = (self._keys - keys) / (now - since)
            self._rate_from = (now, self._keys)
        if now - self._saved_at >= SAVE_EVERY_S:
            self._saved_at = now
            self._save(self.position)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the first walk is over at the present rate; None: not known."""
        left = max(0, self.keys_total - self._keys)
        if self.position.is_done or not self.keys_per_second:
            return None
        return left / self.keys_per_second
