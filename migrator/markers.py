"""Keeps the markers where they belong: written at each step, and again when clients move them.

Owns when. What a marker says and who may serve is in marker.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from migrator import marker
from migrator.bulk import ReplyError
from migrator.state import State
from migrator.stores import Store, StoreUnreachable
from proxy.keytable import place_of
from proxy.sent import MirrorAway
from proxy.server import Proxy

Spawn = Callable[[Coroutine[Any, Any, None], str], None]


class Markers:
    """Those of one migration. ``spawn(work, name)`` runs what must not be waited for."""

    def __init__(
        self, proxy: Proxy, stores: tuple[Store, Store], state: State, spawn: Spawn
    ) -> None:
        self._proxy = proxy
        self._stores = stores
        self._state = state
        self._spawn = spawn
        # Databases that a SWAPDB may have taken them to.
        self._dbs = {0}
        proxy.on_flush = self._flushed
        proxy.on_swap = self._swapped

    async def write(self) -> None:
        """What each store should carry now, as far as it can be reached."""
        mirror = self._proxy.mirror
        with contextlib.suppress(StoreUnreachable, ReplyError, ConnectionError, MirrorAway):
            if mirror is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await mirror.applied()
            for store in self._stores:
                mark = marker.of(self._state.migration, store.side)
                await marker.write(await store.connection("admin"), mark)

    def _flushed(self) -> None:
        self._spawn(self.write(), "markers")

    def _swapped(self, a: int, b: int) -> None:
        """A SWAPDB of database 0 takes them along, as if they were somebody's keys."""
        names = {a: b, b: a}
        self._dbs = {names.get(db, db) for db in self._dbs}
        astray = self._dbs - {0}
        self._dbs.add(0)
        for db in astray:
            self._proxy.table.mark_unproven(place_of(db, marker.KEY))
        if astray:
            self._spawn(self._fetch(), "markers")

    async def _fetch(self) -> None:
        """Remove those that are astray; the secondary's go as any key that the primary lacks."""
        with contextlib.suppress(StoreUnreachable, ReplyError, ConnectionError):
            while astray := self._dbs - {0}:
                db = min(astray)
                bulk = await self._stores[self._proxy.primary].connection("admin")
                await marker.remove(bulk, self._state.migration.migration_id, db=db)
                self._proxy.table.mark_unproven(place_of(db, marker.KEY))
                if self._dbs - {0} == astray:  # None went on while we were looking.
                    self._dbs.discard(db)
        await self.write()
