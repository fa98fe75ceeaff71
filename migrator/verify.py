"""Compares both sides, key by key, exactly, while clients write.

Owns one verification. A key counts as different only when it was watched, all
effects were applied, nobody touched it, both event feeds were heard out, and a
second look says the same; so there are no false alarms (design, section 1).

Nothing is missed either. A key that was not written since the walk began was there all the while,
on one side at least, so that the walk met it. What was written is compared again at the end, unless
it was found equal since (`proxy.noted` says why that is enough). A walk follows its database where
SWAPDB brings it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from migrator.bulk import ReplyError
from migrator.copy import Comparer, Difference
from migrator.feed import Feed
from migrator.marker import KEY as MARKER
from migrator.mover import Alone, Mover
from migrator.pace import Pace
from migrator.stores import Store
from proxy.keytable import Place, db_and_key, place_of
from proxy.mirror import Mirror
from proxy.noted import MOST, Noted
from proxy.pieces import KEY as PIECES
from proxy.sent import MirrorAway
from proxy.server import Proxy
from proxy.sides import Side

log = logging.getLogger("keyferry.verify")

SCAN_COUNT = 400
# Values of a page, about, on either side.
PAGE_BYTES = 2 * 1024 * 1024
WORKERS = 3
# A key that is touched this often while it is compared is compared under a ticket.
PATIENCE = 5
# So many of a page at a time: each of its writers waits for one look.
ALONE_AT_ONCE = 16
# How long writers wait for a look that a store does not answer; more where answers are slow.
PATIENT_S = 0.1
PATIENT_AT_MOST_S = 1.0
# How long it is tried for one key.
ALONE_FOR_S = 30.0
# A mirror that is so far behind belongs to a store that hangs.
HANGS_MS = 1000.0
SAMPLES_KEPT = 20
# A SCAN that SWAPDB has come across is done again so often.
SCANS = 100

# Keys of one database, by its number when the walk began; None: there are no more.
Queue = asyncio.Queue[tuple[int, list[bytes]] | None]


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
        self._noted = Noted()
        # For a look under a ticket.
        self._patience_s = PATIENT_S
        # Counted as different already.
        self._differing: set[Place] = set()

    async def run(self) -> bool:
        """Whether all that was compared is equal. Raises VerificationAborted."""
        mirror = self._proxy.mirror
        if mirror is None:
            raise VerificationAborted("there is no mirror")
        started = time.monotonic()
        try:
            if self.sample is None:
                mirror.noted = self._noted
            await self._walk(started)
            if self._proxy.mirror is not mirror:
                raise VerificationAborted("the primary has changed")
        except (ConnectionError, ReplyError) as error:
            raise VerificationAborted(str(error)) from error
        except ExceptionGroup as group_error:
            known, others = group_error.split(ENDS)
            if known is None or others is not None:
                log.exception("a defect ended the verification")
                raise VerificationAborted("a defect ended it: the log has more") from group_error
            first: Exception = known
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            raise VerificationAborted(str(first)) from group_error
        finally:
            mirror.noted = None
        return self.progress.mismatches == 0

    async def _walk(self, started: float) -> None:
        """Every key once, and what was written meanwhile once more."""
        progress = self.progress
        primary, secondary = self._stores[self._primary], self._stores[self._primary.other]
        here, there = await primary.refresh(), await secondary.refresh()
        progress.keys_total = here.keys
        if self.sample is not None:
            progress.keys_total = min(self.sample, here.keys)
        dbs = sorted(here.keys_by_db.keys() | there.keys_by_db.keys())
        await self._settle(self._every_page(dbs), started)
        written = self._noted.close()
        if written:
            await self._settle(self._pages_of(written), None)

    async def _settle(
        self, pages: AsyncIterator[tuple[int, list[bytes]]], started: float | None
    ) -> None:
        """Compare all these. `started`: keys are counted, in a walk that began then."""
        queue: Queue = asyncio.Queue(WORKERS)
        async with asyncio.TaskGroup() as group:
            for worker in range(WORKERS):
                group.create_task(self._work(queue, worker, started), name="verify")
            group.create_task(self._feed_work(queue, pages), name="verify scan")

    async def _feed_work(self, queue: Queue, pages: AsyncIterator[tuple[int, list[bytes]]]) -> None:
        async for page in pages:
            await queue.put(page)
        for _ in range(WORKERS):
            await queue.put(None)

    async def _every_page(self, dbs: Sequence[int]) -> AsyncIterator[tuple[int, list[bytes]]]:
        handed = 0
        for db in dbs:
            async for keys in self._pages(db):
                yield db, keys
                handed += len(keys)
                if self.sample is not None and handed >= self.sample:
                    break

    async def _pages(self, first: int) -> AsyncIterator[list[bytes]]:
        """Every key of either side: all of the primary's, then those only the secondary has.

        If not all that is written is remembered any more, all of the secondary's: one that has come
        into being on the primary may have been missed there.
        """
        for side in (self._primary, self._primary.other):
            cursor = 0
            while True:
                cursor, keys = await self._scan(first, side, cursor)
                if keys:
                    yield keys
                if cursor == 0:
                    break

    async def _scan(self, first: int, side: Side, cursor: int) -> tuple[int, list[bytes]]:
        """The next cursor, and the keys of one page that are to be compared."""
        noted, table = self._noted, self._proxy.table
        for _ in range(SCANS):
            swaps, db = noted.swaps, noted.db_now(first)
            if table.unapplied_everywhere:
                await self._mirror().applied()
            bulk = await self._stores[side].connection("verify-scan")
            answer = await bulk.call("SCAN", cursor, "COUNT", self._page_keys(side), db=db)
            keys = [key for key in answer[1] if not _is_own(first, key) and not _is_own(db, key)]
            if side is not self._primary and keys and not noted.is_closed:
                bulk = await self._stores[self._primary].connection("verify-scan")
                # Most often there are all of them: that is one question.
                [count] = await bulk.pipeline([(b"EXISTS", *keys)], db=db)
                if count == len(keys):
                    keys = []
                else:
                    exist = await bulk.pipeline([(b"EXISTS", key) for key in keys], db=db)
                    keys = [key for key, has in zip(keys, exist, strict=True) if has != 1]
            if table.is_closed:
                # A SWAPDB may be executed already, and not answered.
                await self._opened()
            if noted.swaps == swaps:
                return int(answer[0]), keys
        raise VerificationAborted("databases change places all the time")

    async def _opened(self) -> None:
        """Whatever holds up everybody is done."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proxy.table.when_open(
            lambda: None if future.done() else future.set_result(None), is_first=True
        )
        await future

    async def _pages_of(self, places: Iterable[Place]) -> AsyncIterator[tuple[int, list[bytes]]]:
        left = iter(places)
        while some := list(islice(left, self._page_keys(self._primary))):
            by_db: defaultdict[int, list[bytes]] = defaultdict(list)
            for place in some:
                db, key = db_and_key(place)
                if place not in self._differing and not _is_own(db, key):
                    by_db[db].append(key)
            for db, keys in by_db.items():
                yield db, keys

    def _page_keys(self, side: Side) -> int:
        most = self._stores[side].info.keys_of(PAGE_BYTES, SCAN_COUNT)
        return min(most, self._pace.page_keys)

    async def _work(
        self,
        queue: Queue,
        worker: int,
        started: float | None,
    ) -> None:
        comparer = Comparer(
            await self._stores[0].connection(f"verify-{worker}"),
            await self._stores[1].connection(f"verify-{worker}"),
        )
        while (page := await queue.get()) is not None:
            first, keys = page
            async with self._pace.page(len(keys)):
                await self._settle_page(comparer, first, keys)
            self._proxy.stats.verify_keys += len(keys)
            if started is not None:
                progress = self.progress
                progress.keys_checked += len(keys)
                progress.keys_per_second = progress.keys_checked / (time.monotonic() - started)

    async def _settle_page(self, comparer: Comparer, first: int, keys: list[bytes]) -> None:
        """Compare until every key of the page is known to be equal, or different."""
        left = keys
        suspects: dict[bytes, str] = {}
        rounds = 0
        while left:
            rounds += 1
            self._check_roles()
            if rounds > PATIENCE:
                await self._compare_each_alone(comparer, first, left)
                return
            if rounds > 1:
                # Give the repair, and whoever writes, a moment.
                await asyncio.sleep(0.01 * rounds)
            db = self._noted.db_now(first)
            unsure, found = await self._compare(comparer, db, left)
            differing = {difference.key: difference.what for difference in found}
            again = [
                key
                for key in [key for key in differing if key in suspects]
                if self._mismatch(db, key, differing.pop(key))
            ]
            suspects = differing
            left = unsure + again + list(differing)

    def _check_roles(self) -> None:
        """That what is on the secondary is still to be what the primary has."""
        if self._proxy.primary is not self._primary:
            raise VerificationAborted("the primary has changed")
        if self._proxy.table.generation != self.generation:
            raise VerificationAborted("every key is copied anew: verify behind that")

    async def _compare(
        self, comparer: Comparer, db: int, keys: list[bytes]
    ) -> tuple[list[bytes], list[Difference]]:
        """One look: (keys that were touched or are unproven, differences of the others)."""
        table = self._proxy.table
        mirror = self._mirror()
        lease = table.watch([place_of(db, key) for key in keys])
        try:
            untouched = self._untouched(lease.touched, db, keys)
            await mirror.applied()
            found = await comparer.compare(
                db, untouched, lambda key: place_of(db, key) not in lease.touched
            )
            if found:
                await self._hear_out()
            sure = set(self._untouched(lease.touched, db, untouched))
            self._are_equal(db, sure.difference(each.key for each in found))
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

    async def _compare_each_alone(self, comparer: Comparer, first: int, keys: list[bytes]) -> None:
        """Some at once: each waits for answers most of the time, and nobody for another's."""
        left = iter(keys)

        async def work() -> None:
            for key in left:
                await self._compare_alone(comparer, first, key)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(ALONE_AT_ONCE, len(keys))):
                group.create_task(work(), name="verify alone")

    async def _compare_alone(self, comparer: Comparer, first: int, key: bytes) -> None:
        """Compare a key that is written all the time: its writers wait for one look."""
        table = self._proxy.table
        deadline = time.monotonic() + ALONE_FOR_S
        looks = 0
        patience_s = self._patience_s
        while time.monotonic() < deadline:
            self._check_roles()
            if self._proxy.is_fenced:
                await asyncio.sleep(0.02)
                continue
            db = self._noted.db_now(first)
            try:
                async with (
                    Alone(table, place_of(db, key)) as ticket,
                    asyncio.timeout(patience_s) as patience,
                ):
                    if db != self._noted.db_now(first):
                        continue  # While it waited.
                    began = time.monotonic()
                    found = await self._look_alone(
                        comparer, db, key, ticket, partial(_anew, patience, patience_s)
                    )
            except TimeoutError:
                # Clients must not wait for a store that hangs; a large value takes its time.
                mirror = self._proxy.mirror
                if mirror is not None and mirror.lag_ms > HANGS_MS:
                    raise VerificationAborted("the secondary does not answer") from None
                await asyncio.sleep(patience_s)
                patience_s = min(patience_s * 2, PATIENT_AT_MOST_S)
                continue
            # A look that is given up held up writers for nothing: the next one gets the time.
            took_s = time.monotonic() - began
            self._patience_s = min(max(2 * took_s, PATIENT_S), PATIENT_AT_MOST_S)
            if found is None:
                await asyncio.sleep(0.005)
                continue
            if not found:
                return
            looks += 1
            if looks > 1 and not self._mismatch(db, key, found[0].what):
                return
        db = self._noted.db_now(first)
        if looks < 2:
            # That is no difference, and no proof of the contrary.
            raise VerificationAborted(
                f"db {db} {key[:64]!r}: no look came to an end in {ALONE_FOR_S:g} s"
            )
        self.progress.mismatches += 1
        self.progress.examples.append(f"db {db} {key[:64]!r}: it differs though it was copied")

    async def _look_alone(
        self,
        comparer: Comparer,
        db: int,
        key: bytes,
        ticket: Alone,
        goes_on: Callable[[bytes], bool],
    ) -> list[Difference] | None:
        """Under a ticket: the differences, or None if the key was touched all the same."""
        table = self._proxy.table
        place = place_of(db, key)
        mirror = self._mirror()
        if place in table.unproven:
            # A key whose every write has it copied is never proven for long.
            copied = await self._mover.copy_held(db, key, "verify", ticket)
            for failure in copied.refused + await copied.acknowledged:
                if failure.is_away:
                    raise MirrorAway(failure.error)
                return [Difference(key, failure.error)]
            if copied.touched:
                return None
        lease = table.watch((place,), own=ticket)
        try:
            await mirror.applied()
            if place in table.unproven:
                return None
            found = await comparer.compare(db, [key], goes_on)
            if found:
                await self._hear_out()
            if place in lease.touched:
                return None
            if not found:
                self._are_equal(db, [key])
            return found
        finally:
            lease.end()

    def _are_equal(self, db: int, keys: Iterable[bytes]) -> None:
        """These were found equal, and nobody has touched them up to now."""
        if self._noted.places:
            self._noted.compared([place_of(db, key) for key in keys])

    def _mirror(self) -> Mirror:
        mirror = self._proxy.mirror
        if mirror is None:
            raise MirrorAway("there is no mirror")
        return mirror

    def _mismatch(self, db: int, key: bytes, what: str) -> bool:
        """A certain difference. True: it is being repaired, and must be looked at again."""
        progress = self.progress
        if self.repair:
            progress.repaired += 1
            self._proxy.table.mark_unproven(place_of(db, key))
            log.warning("a key of db %d differs (%s): it is copied again", db, what)
            return True
        progress.mismatches += 1
        if len(self._differing) < MOST:
            self._differing.add(self._noted.first_name(place_of(db, key)))
        if len(progress.examples) < SAMPLES_KEPT:
            progress.examples.append(f"db {db} {key[:64]!r}: {what}")
        return False


def _is_own(db: int, key: bytes) -> bool:
    """Whether it is a key of Keyferry's, which is not compared."""
    return key == PIECES or (not db and key == MARKER)


def _anew(patience: asyncio.Timeout, seconds: float, key: bytes) -> bool:
    """A store that answers does not hang, however large the value is."""
    patience.reschedule(asyncio.get_running_loop().time() + seconds)
    return True
