"""Copies the keys that a copy is owed for, for as long as the mirror runs.

Owns the way from *unproven* to *proven*, and the reasons of those that will not
go. Not the set itself (that is the key table's).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable

from migrator.bulk import ReplyError
from migrator.mover import Copied, Mover
from migrator.stores import Store, clients_of
from proxy.keytable import Place, db_and_key, place_of
from proxy.sent import CopyFailure, MirrorAway
from proxy.server import Proxy

log = logging.getLogger("keyferry.repair")

BATCH = 500
# The first batch; and bytes of one, by the mean size of the keys in the last.
FIRST_BATCH = 32
BATCH_BYTES = 8 * 1024 * 1024
# A key that was touched this often during a copy is copied under a ticket.
PATIENCE = 2
RETRY_S = 1.0
# Copies under tickets, each of one key, that are under way together.
ALONE_AT_ONCE = 32


class Repair:
    """One task. ``failing`` holds why a key's last copy was refused."""

    def __init__(self, proxy: Proxy, mover: Mover, stores: tuple[Store, Store]) -> None:
        self.failing: dict[Place, str] = {}
        self.repaired = 0
        self._proxy = proxy
        self._mover = mover
        self._stores = stores
        self._touched: dict[Place, int] = {}
        self._batch = FIRST_BATCH
        self._wake = asyncio.Event()
        # The fence settles while a round may be under way.
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._proxy.table.on_owed = self._wake.set
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name="repair")

    async def stop(self) -> None:
        self._proxy.table.on_owed = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._proxy.unfenced()
            places = self._proxy.table.take_owed(self._batch)
            if not places:
                continue
            try:
                # Never paced: clients go on marking keys, and whoever rests here loses to them, so
                # that a flip is refused for ever.
                async with self._turn:
                    retry = await self._repair(places)
            except (ConnectionError, MirrorAway, ReplyError) as error:
                log.warning("repair waits: %s", error)
                self._proxy.table.owe_again(places)
                await asyncio.sleep(RETRY_S / 4)
            except Exception:
                log.exception("a repair failed by a defect")
                self._proxy.table.owe_again(places)
                await asyncio.sleep(RETRY_S)
            else:
                if retry:
                    # What was refused is refused again at once: the others go on meanwhile.
                    asyncio.get_running_loop().call_later(RETRY_S, self._again, retry)
            if self._proxy.table.has_owed:
                self._wake.set()

    def _again(self, places: list[Place]) -> None:
        self._proxy.table.owe_again(places)
        self._wake.set()

    async def settle(self) -> None:
        """Inside the fence: copy all that is owed, but for what the secondary refuses.

        Whether any is left is for the gates. Raises ConnectionError, MirrorAway, ReplyError.
        """
        table = self._proxy.table
        # A verification that looks at the same key makes it touched: until the deadline.
        while table.unproven:
            places = list(table.unproven)
            if all(place in self.failing for place in places):
                return
            async with self._turn:
                while places:
                    batch, places = places[: self._batch], places[self._batch :]
                    await self._repair(batch)
            mirror = self._proxy.mirror
            assert mirror is not None, "a fence of this kind stands between two mirrored sides"
            await mirror.applied()
            await asyncio.sleep(0.001)

    async def _repair(self, places: Iterable[Place]) -> list[Place]:
        """Copy these; returns those that the secondary refused. Raises as Mover.copy."""
        await self.end_stale_connections()
        by_db: defaultdict[int, list[bytes]] = defaultdict(list)
        for place in places:
            db, key = db_and_key(place)
            by_db[db].append(key)
        refused: list[Place] = []
        for db, keys in by_db.items():
            try:
                copied = await self._mover.copy(db, keys, "repair", is_repair=True)
            except MirrorAway as error:
                mirror = self._proxy.mirror
                if mirror is None or not mirror.is_connected:
                    raise
                # A database that the secondary has not: the others go on.
                away = [place_of(db, key) for key in keys]
                self.failing.update(dict.fromkeys(away, str(error)))
                self._proxy.table.set_aside(away)
                refused += away
                continue
            self._learn_size(copied)
            refused += await self._done(copied)
            for at in range(0, len(copied.touched), ALONE_AT_ONCE):
                some = copied.touched[at : at + ALONE_AT_ONCE]
                for more in await asyncio.gather(*map(self._touched_again, some)):
                    refused += more
        return refused

    def _learn_size(self, copied: Copied) -> None:
        """Keep what a batch takes in memory bounded: nobody knows how large the next keys are."""
        if copied.keys:
            fit = BATCH_BYTES * copied.keys // max(copied.size, 1)
            self._batch = max(1, min(BATCH, 2 * self._batch, fit))

    async def _touched_again(self, place: Place) -> list[Place]:
        table = self._proxy.table
        count = self._touched[place] = self._touched.get(place, 0) + 1
        if count < PATIENCE:
            table.owe_again((place,))
            return []
        copied = await self._mover.copy_alone(*db_and_key(place), "repair")
        if copied.touched:
            table.owe_again(copied.touched)
        return await self._done(copied)

    async def _done(self, copied: Copied) -> list[Place]:
        failures: list[CopyFailure] = copied.refused + await copied.acknowledged
        refused = [failure.place for failure in failures]
        for failure in failures:
            self.failing[failure.place] = failure.error
        self.repaired += copied.keys
        if len(self._touched) > 10_000:
            self._touched.clear()
        unproven = self._proxy.table.unproven
        for place in [p for p in self.failing if p not in unproven]:
            del self.failing[place]
        # Taken off the list of what is owed, so that the next round is not theirs.
        self._proxy.table.set_aside(refused)
        return refused

    async def end_stale_connections(self) -> None:
        """Bytes of a dead connection may still be read by the store: end it there first.

        Its number may mean another client by now, if the store was restarted: what is
        ended must be of our address, or bear our name. Raises ConnectionError.
        """
        stale = self._proxy.stale
        while stale:
            dead = stale[0]
            alive = self._proxy.local_addresses()
            bulk = await self._stores[dead.side].connection("admin")
            try:
                for facts in await clients_of(bulk):
                    if facts.get("addr") in alive:
                        continue
                    is_same = facts.get("id") == str(dead.client_id)
                    is_ours = facts.get("name", "").startswith("keyferry-lane")
                    if facts.get("addr") == dead.address or (is_same and is_ours):
                        await bulk.call("CLIENT", "KILL", "ID", facts["id"])
            except ReplyError as error:
                log.warning("a dead connection cannot be ended on the store: %s", error)
            if stale and stale[0] is dead:
                stale.popleft()
