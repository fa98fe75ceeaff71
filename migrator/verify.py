"""Compares both sides, key by key, exactly, while clients write.

Owns one verification. A key counts as different only when it was watched, all
effects were applied, nobody touched it, both event feeds were heard out, and a
second look says the same; so there are no false alarms (design, section 1).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from migrator.bulk import ReplyError
from migrator.copy import Comparer, Difference
from migrator.feed import Feed
from migrator.marker import KEY as MARKER
from migrator.mover import Alone, Mover
from migrator.pace import Pace
from migrator.stores import Store
from proxy.keytable import Place, place_of
from proxy.pieces import KEY as PIECES
from proxy.sent import MirrorAway
from proxy.server import Proxy

log = logging.getLogger("keyferry.verify")

SCAN_COUNT = 400
# Values of a page, about, on either side.
PAGE_BYTES = 2 * 1024 * 1024
WORKERS = 3
# A key that is touched this often while it is compared is compared under a ticket.
PATIENCE = 5
# So many of a page at a time: each of its writers waits for one look.
ALONE_AT_ONCE = 16
# A mirror that is so far behind belongs to a store that hangs.
HANGS_MS = 1000.0
SAMPLES_KEPT = 20


@dataclass
class Progress:
    """How far a verification is, and what it found."""

    keys_checked: int = 0
    keys_total: int = 0
    mismatches: int = 0
    repaired: int = 0
    examples: list[str] = field(default_factory=list)
    keys_per_second: float = 0.0


class VerificationAborted(Exception):
    """A store or the mirror was lost, or the roles changed: nothing is known."""


# What ends a verification without a verdict.
ENDS = (ConnectionError, MirrorAway, ReplyError, VerificationAborted)


class Verification:
    """One run. ``sample``: stop after about so many keys. ``repair``: copy what differs."""

    def __init__(
        self,
        proxy: Proxy,
        stores: tuple[Store, Store],
        feeds: tuple[Feed, Feed],
        mover: Mover,
        pace: Pace,
        *,
        sample: int | None = None,
        repair: bool = False,
    ) -> None:
        self.progress = Progress()
        self.sample = sample
        self.repair = repair
        self.generation = proxy.table.generation
        self._proxy = proxy
        self._stores = stores
        self._feeds = feeds
        self._mover = mover
        self._pace = pace
        self._primary = proxy.primary

    async def run(self) -> bool:
        """Whether all that was compared is equal. Raises VerificationAborted."""
        started = time.monotonic()
        primary, secondary = self._stores[self._primary], self._stores[self._primary.other]
        try:
            here, there = await primary.refresh(), await secondary.refresh()
            self.progress.keys_total = here.keys
            if self.sample is not None:
                self.progress.keys_total = min(self.sample, here.keys)
            dbs = sorted(here.keys_by_db.keys() | there.keys_by_db.keys())
            queue: asyncio.Queue[tuple[int, list[bytes]] | None] = asyncio.Queue(WORKERS)
            async with asyncio.TaskGroup() as group:
                for worker in range(WORKERS):
                    group.create_task(self._work(queue, worker, started), name="verify")
                group.create_task(self._feed_work(queue, dbs), name="verify scan")
        except (ConnectionError, ReplyError) as error:
            raise VerificationAborted(str(error)) from error
        except ExceptionGroup as group_error:
            known, others = group_error.split(ENDS)
            if known is None or others is not None:
                raise
            first: Exception = known
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            raise VerificationAborted(str(first)) from group_error
        return self.progress.mismatches == 0

    async def _feed_work(
        self, queue: asyncio.Queue[tuple[int, list[bytes]] | None], dbs: Sequence[int]
    ) -> None:
        handed = 0
        for db in dbs:
            async for keys in self._pages(db):
                await queue.put((db, keys))
                handed += len(keys)
                if self.sample is not None and handed >= self.sample:
                    break
        for _ in range(WORKERS):
            await queue.put(None)

    async def _pages(self, db: int) -> AsyncIterator[list[bytes]]:
        """Every key of either side: all of the primary's, then those only the secondary has."""
        for side in (self._primary, self._primary.other):
            bulk = await self._stores[side].connection("verify-scan")
            other = await self._stores[self._primary].connection("verify-scan")
            cursor = 0
            while True:
                most = self._stores[side].info.keys_of(PAGE_BYTES, SCAN_COUNT)
                count = min(most, self._pace.page_keys)
                answer = await bulk.call("SCAN", cursor, "COUNT", count, db=db)
                cursor = int(answer[0])
                keys = [k for k in answer[1] if k != PIECES and (db or k != MARKER)]
                if side is not self._primary and keys:
                    exist = await other.pipeline([(b"EXISTS", key) for key in keys], db=db)
                    keys = [key for key, has in zip(keys, exist, strict=True) if has != 1]
                if keys:
                    yield keys
                if cursor == 0:
                    break

    async def _work(
        self,
        queue: asyncio.Queue[tuple[int, list[bytes]] | None],
        worker: int,
        started: float,
    ) -> None:
        comparer = Comparer(
            await self._stores[0].connection(f"verify-{worker}"),
            await self._stores[1].connection(f"verify-{worker}"),
        )
        while (page := await queue.get()) is not None:
            db, keys = page
            async with self._pace.page(len(keys)):
                await self._settle_page(comparer, db, keys)
            progress = self.progress
            progress.keys_checked += len(keys)
            self._proxy.stats.verify_keys += len(keys)
            progress.keys_per_second = progress.keys_checked / (time.monotonic() - started)

    async def _settle_page(self, comparer: Comparer, db: int, keys: list[bytes]) -> None:
        """Compare until every key of the page is known to be equal, or different."""
        left = keys
        suspects: dict[bytes, str] = {}
        rounds = 0
        while left:
            rounds += 1
            if self._proxy.primary is not self._primary:
                raise VerificationAborted("the primary has changed")
            if rounds > PATIENCE:
                await self._compare_each_alone(comparer, db, left)
                return
            if rounds > 1:
                # Give the repair, and whoever writes, a moment.
                await asyncio.sleep(0.01 * rounds)
            unsure, found = await self._compare(comparer, db, left)
            differing = {difference.key: difference.what for difference in found}
            again = [
                key
                for key in [key for key in differing if key in suspects]
                if self._mismatch(db, key, differing.pop(key))
            ]
            suspects = differing
            left = unsure + again + list(differing)

    async def _compare(
        self, comparer: Comparer, db: int, keys: list[bytes]
    ) -> tuple[list[bytes], list[Difference]]:
        """One look: (keys that were touched or are unproven, differences of the others)."""
        table = self._proxy.table
        mirror = self._proxy.mirror
        if mirror is None:
            raise MirrorAway("there is no mirror")
        lease = table.watch([place_of(db, key) for key in keys])
        try:
            untouched = self._untouched(lease.touched, db, keys)
            await mirror.applied()
            found = await comparer.compare(db, untouched)
            if found:
                await self._hear_out()
            sure = set(self._untouched(lease.touched, db, untouched))
        finally:
            lease.end()
        unsure = [key for key in keys if key not in sure]
        return unsure, [each for each in found if each.key in sure]

    async def _hear_out(self) -> None:
        """An expiry, or the write of a script, that we have not heard of yet is no difference."""
        for feed in self._feeds:
            await feed.drained()
        await self._proxy.scripting.witness.told()

    def _untouched(self, touched: set[Place], db: int, keys: list[bytes]) -> list[bytes]:
        unproven = self._proxy.table.unproven
        places = ((key, place_of(db, key)) for key in keys)
        return [key for key, place in places if place not in touched and place not in unproven]

    async def _compare_each_alone(self, comparer: Comparer, db: int, keys: list[bytes]) -> None:
        """Some at once: each waits for answers most of the time, and nobody for another's."""
        left = iter(keys)

        async def work() -> None:
            for key in left:
                await self._compare_alone(comparer, db, key)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(ALONE_AT_ONCE, len(keys))):
                group.create_task(work(), name="verify alone")

    async def _compare_alone(self, comparer: Comparer, db: int, key: bytes) -> None:
        """Compare a key that is written all the time: its writers wait for one look."""
        table = self._proxy.table
        place = place_of(db, key)
        deadline = time.monotonic() + 30.0
        looks = 0
        patience_s = 0.1
        while time.monotonic() < deadline:
            if self._proxy.is_fenced:
                await asyncio.sleep(0.02)
                continue
            try:
                async with Alone(table, place) as ticket, asyncio.timeout(patience_s):
                    found = await self._look_alone(comparer, db, key, ticket)
            except TimeoutError:
                # Clients must not wait for a store that hangs; a large value takes its time.
                mirror = self._proxy.mirror
                if mirror is not None and mirror.lag_ms > HANGS_MS:
                    raise VerificationAborted("the secondary does not answer") from None
                await asyncio.sleep(patience_s)
                patience_s = min(patience_s * 2, 1.0)
                continue
            if found is None:
                continue
            if not found:
                return
            looks += 1
            if looks > 1 and not self._mismatch(db, key, found[0].what):
                return
        self.progress.mismatches += 1
        self.progress.examples.append(f"db {db} {key[:64]!r}: it cannot be copied")

    async def _look_alone(
        self, comparer: Comparer, db: int, key: bytes, ticket: Alone
    ) -> list[Difference] | None:
        """Under a ticket: the differences, or None if the key was touched all the same."""
        table = self._proxy.table
        place = place_of(db, key)
        mirror = self._proxy.mirror
        if mirror is None:
            raise MirrorAway("there is no mirror")
        if place in table.unproven:
            # A key whose every write has it copied is never proven for long.
            copied = await self._mover.copy_held(db, key, "verify", ticket)
            for failure in copied.refused + await copied.acknowledged:
                if failure.is_away:
                    raise MirrorAway(failure.error)
                return [Difference(key, failure.error)]
        lease = table.watch((place,), own=ticket)
        try:
            await mirror.applied()
            if place in table.unproven:
                return None
            found = await comparer.compare(db, [key])
            if found:
                await self._hear_out()
            return None if place in lease.touched else found
        finally:
            lease.end()

    def _mismatch(self, db: int, key: bytes, what: str) -> bool:
        """A certain difference. True: it is being repaired, and must be looked at again."""
        progress = self.progress
        if self.repair:
            progress.repaired += 1
            self._proxy.table.mark_unproven(place_of(db, key))
            log.warning("a key of db %d differs (%s): it is copied again", db, what)
            return True
        progress.mismatches += 1
        if len(progress.examples) < SAMPLES_KEPT:
            progress.examples.append(f"db {db} {key[:64]!r}: {what}")
        return False
