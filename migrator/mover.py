"""Copies keys from the primary to the secondary, exactly, while clients write them.

Owns one step: watch, read, and append what was read if nobody touched the key
(design, section 1). What was touched becomes unproven, and the repair takes it
from there; when that is touched too it copies under a ticket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.copy import Page, Reader, make_reader
from migrator.marker import KEY as MARKER
from migrator.stores import Store
from proxy.keytable import KeyTable, Lease, Place, Ticket, db_and_key, place_of
from proxy.mirror import Mirror
from proxy.resp.dumps import restores
from proxy.sent import CopyFailure, MirrorAway
from proxy.server import Proxy


@dataclass
class Copied:
    """What became of one batch. ``acknowledged`` ends when the secondary has answered."""

    acknowledged: asyncio.Future[list[CopyFailure]]
    touched: list[Place]
    refused: list[CopyFailure]
    """Keys that the secondary cannot hold at all, and why."""
    keys: int
    size: int


class Alone(Ticket):
    """A ticket of a mover: nothing else goes on with the key inside ``async with``.

    The caller has seen that no fence stands; before one that comes it has its turn.
    """

    __slots__ = ("granted", "table")

    def __init__(self, table: KeyTable, place: Place) -> None:
        self.table = table
        self.places = (place,)
        self.lane = self
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Alone:
        if self.table.is_closed:
            self.table.when_open(self._enter, is_first=True)
        else:
            self._enter()
        try:
            await self.granted
        except asyncio.CancelledError:
            # Cancelled while it waited, it gives its place up when that is reached.
            if not self.granted.cancelled():
                self.table.release(self)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.table.release(self)

    def _enter(self) -> None:
        if not self.granted.cancelled() and self.table.acquire(self):
            self.granted.set_result(None)

    def go(self) -> None:
        if self.granted.cancelled():  # Nobody waits any more: the next may go.
            self.table.release(self)
        else:
            self.granted.set_result(None)


class Mover:
    """Copies for one direction: from the proxy's primary to its secondary as they are now."""

    def __init__(self, proxy: Proxy, stores: Sequence[Store]) -> None:
        self.proxy = proxy
        self.stores = stores
        self._readers: dict[str, tuple[object, Reader]] = {}

    async def reader(self, purpose: str) -> Reader:
        """The primary's reader, on its own connection. Raises StoreUnreachable, ReplyError."""
        primary = await self.stores[self.proxy.primary].connection(purpose)
        secondary = await self.stores[self.proxy.primary.other].connection(purpose)
        known = self._readers.get(purpose)
        if known is None or known[0] != (primary, secondary):
            known = ((primary, secondary), await make_reader(primary, secondary))
            self._readers[purpose] = known
        return known[1]

    async def copy(
        self, db: int, keys: Sequence[bytes], purpose: str, *, is_repair: bool = False
    ) -> Copied:
        """Copy keys that nobody is expected to touch.

        Keys that a repair owes are left to it, unless this is the repair.
        Raises ConnectionError, MirrorAway, ReplyError; then nothing was appended.
        """
        proxy = self.proxy
        table = proxy.table
        mirror = self._mirror()
        reader = await self.reader(purpose)
        await mirror.room()
        if not db and MARKER in keys:
            # Each side has its own: there is nothing to copy, and so nothing to prove.
            table.copy_applied(MARKER, table.copy_appended(MARKER))
        unproven = table.unproven
        wanted = list(dict.fromkeys(keys))
        if not db and MARKER in wanted:
            wanted.remove(MARKER)
        if unproven and not is_repair:
            wanted = [key for key in wanted if unproven.get(place_of(db, key)) != 0]
        lease = table.watch([place_of(db, key) for key in wanted] if db else wanted)
        try:
            if lease.touched:
                wanted = [key for key in wanted if place_of(db, key) not in lease.touched]
            page = await reader.read(db, wanted)
            # From here to the append nothing may be awaited: the lease is only as
            # good as this one step.
            return self._append(mirror, db, page, lease)
        finally:
            lease.end()

    async def copy_alone(self, db: int, key: bytes, purpose: str) -> Copied:
        """Copy a key that is written all the time: its writers wait for one read.

        While a fence stands the key comes back as touched: it may be waiting for the caller.
        """
        table = self.proxy.table
        # Before the reader: behind a flip that comes between them, the append refuses it.
        mirror = self._mirror()
        reader = await self.reader(purpose)
        place = place_of(db, key)
        if self.proxy.is_fenced:
            nothing: asyncio.Future[list[CopyFailure]] = asyncio.get_running_loop().create_future()
            nothing.set_result([])
            return Copied(nothing, [place], [], 0, 0)
        async with Alone(table, place) as ticket:
            return await self._copy_held(db, key, ticket, mirror, reader)

    async def copy_held(self, db: int, key: bytes, purpose: str, ticket: Alone) -> Copied:
        """Copy a key of which the caller has a ticket. Raises as :meth:`copy`."""
        mirror = self._mirror()
        return await self._copy_held(db, key, ticket, mirror, await self.reader(purpose))

    async def _copy_held(
        self, db: int, key: bytes, ticket: Alone, mirror: Mirror, reader: Reader
    ) -> Copied:
        lease = self.proxy.table.watch((place_of(db, key),), own=ticket)
        try:
            page = await reader.read(db, [key])
            return self._append(mirror, db, page, lease)
        finally:
            lease.end()

    def _mirror(self) -> Mirror:
        mirror = self.proxy.mirror
        if mirror is None:
            raise MirrorAway("there is no mirror in this phase")
        return mirror

    def _append(self, mirror: Mirror, db: int, page: Page, lease: Lease) -> Copied:
        touched = lease.touched
        keys: Collection[Any] = {db_and_key(p)[1] for p in touched} if db else touched
        usable = []
        refused = []
        kept, raw, size = restores(page.keys, page.payloads, page.expiries, keys)
        for copy in page.copies:
            if copy.key in keys:
                continue
            if copy.loses:
                words = f"the {mirror.side.label} cannot hold it: {copy.loses}"
                refused.append(CopyFailure(place_of(db, copy.key), words, False))
                continue
            usable.append(copy)
            size += copy.size
        if mirror is not self.proxy.mirror:
            raise MirrorAway("the mirror has changed its direction")
        future = mirror.append_copies(db, usable, (kept, raw))
        for failure in refused:
            self.proxy.table.mark_unproven(failure.place)
        return Copied(future, list(touched), refused, len(kept) + len(usable), size)
