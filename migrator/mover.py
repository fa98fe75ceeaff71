"""Copies keys from the primary to the secondary, exactly, while clients write them.

Owns one step: watch, read, and append what was read if nobody touched the key
(design, section 1). What was touched becomes unproven, and the repair takes it
from there; when that is touched too it copies under a ticket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migrator.bulk import Bulk, ReplyError, pack
from migrator.copy import Page, Reader, make_reader
from migrator.copy.expiry import GONE, NO_EXPIRY, read_expiries
from migrator.copy.reader import KeyCopy
from migrator.marker import KEY as MARKER
from migrator.stores import Store
from proxy.keytable import KeyTable, Lease, Place, Ticket, db_and_key, place_of
from proxy.mirror import Mirror
from proxy.pieces import KEY as PIECES
from proxy.pieces import SentPieces
from proxy.resp.dumps import restores, sets
from proxy.sent import CopyFailure, MirrorAway
from proxy.server import Proxy

# Bytes of a large string that are read at once.
PIECE = 4 * 1024 * 1024
# Seconds for which a copy in pieces lets clients wait for the secondary, in all.
PATIENCE_S = 1.0


@dataclass
class Copied:
    """What became of one batch. ``acknowledged`` ends when the secondary has answered."""

    acknowledged: asyncio.Future[list[CopyFailure]]
    touched: list[Place]
    refused: list[CopyFailure]
    """Keys that the secondary cannot hold at all, and why."""
    keys: int
    size: int


def both(one: Copied, other: Copied) -> Copied:
    """What became of two batches, as if they were one."""

    async def all_failures() -> list[CopyFailure]:
        return [*await one.acknowledged, *await other.acknowledged]

    return Copied(
        asyncio.create_task(all_failures(), name="copies acknowledged"),
        one.touched + other.touched,
        one.refused + other.refused,
        one.keys + other.keys,
        one.size + other.size,
    )


def _nothing_of(place: Place) -> Copied:
    """A copy that was not made, of a key that was touched."""
    nothing: asyncio.Future[list[CopyFailure]] = asyncio.get_running_loop().create_future()
    nothing.set_result([])
    return Copied(nothing, [place], [], 0, 0)


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
        # Copies in pieces are made one at a time: they share a key on the secondary.
        self._piecewise = asyncio.Lock()

    async def reader(self, purpose: str) -> Reader:
        """The primary's reader, on its own connection. Raises StoreUnreachable, ReplyError."""
        primary = await self.stores[self.proxy.primary].connection(purpose)
        secondary = await self.stores[self.proxy.primary.other].connection(purpose)
        known = self._readers.get(purpose)
        if known is None or known[0] != (primary, secondary):
            asks_sizes = not purpose.startswith("backfill")
            reader = await make_reader(primary, secondary, asks_sizes=asks_sizes)
            known = ((primary, secondary), reader)
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
            table.copies_applied((MARKER,), table.copies_appended((MARKER,)))
        unproven = table.unproven
        wanted = list(dict.fromkeys(keys))
        if not db and MARKER in wanted:
            wanted.remove(MARKER)
        if PIECES in wanted and self._piecewise.locked():
            # What is left of an earlier one is removed behind this one.
            async with self._piecewise:
                pass
        if unproven and not is_repair:
            wanted = [key for key in wanted if unproven.get(place_of(db, key)) != 0]
        lease = table.watch([place_of(db, key) for key in wanted] if db else wanted)
        try:
            if lease.touched:
                wanted = [key for key in wanted if place_of(db, key) not in lease.touched]
            page = await reader.read(db, wanted)
            # From here to the append nothing may be awaited: the lease is only as
            # good as this one step.
            copied = self._append(mirror, db, page, lease)
        finally:
            lease.end()
        for key in page.large:
            bulk = await self._primary(purpose)
            async with self._piecewise:
                copied = both(copied, await self._copy_pieces(db, key, mirror, bulk))
        return copied

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
            return _nothing_of(place)
        async with Alone(table, place) as ticket:
            copied = await self._copy_held(db, key, ticket, mirror, reader)
        if copied is not None:
            return copied
        bulk = await self._primary(purpose)
        # The turn first, the ticket then: writers of this string wait for no other one's copy.
        async with self._piecewise:
            if self.proxy.is_fenced:
                return _nothing_of(place)
            async with Alone(table, place) as ticket:
                return await self._copy_pieces(db, key, mirror, bulk, ticket)

    async def copy_held(self, db: int, key: bytes, purpose: str, ticket: Alone) -> Copied:
        """Copy a key of which the caller has a ticket. Raises as :meth:`copy`.

        It comes back as touched if it goes in pieces, and another one's are under way.
        """
        mirror = self._mirror()
        reader = await self.reader(purpose)
        copied = await self._copy_held(db, key, ticket, mirror, reader)
        if copied is not None:
            return copied
        bulk = await self._primary(purpose)
        # Whoever has the turn may be waiting for this ticket.
        if self._piecewise.locked():
            return _nothing_of(place_of(db, key))
        async with self._piecewise:
            return await self._copy_pieces(db, key, mirror, bulk, ticket)

    async def _copy_held(
        self, db: int, key: bytes, ticket: Alone, mirror: Mirror, reader: Reader
    ) -> Copied | None:
        """None: it is better copied in pieces."""
        lease = self.proxy.table.watch((place_of(db, key),), own=ticket)
        try:
            page = await reader.read(db, [key])
            return None if page.large else self._append(mirror, db, page, lease)
        finally:
            lease.end()

    async def _primary(self, purpose: str) -> Bulk:
        return await self.stores[self.proxy.primary].connection(purpose)

    async def _copy_pieces(
        self, db: int, key: bytes, mirror: Mirror, bulk: Bulk, ticket: Alone | None = None
    ) -> Copied:
        """Copy a string in pieces, in its turn. Its writers wait only where ``ticket`` is given.

        As exact as any copy: the step that makes it the key is appended if nobody touched it from
        before the first piece was read. Raises as :meth:`copy`.
        """
        table = self.proxy.table
        place = place_of(db, key)
        lease = table.watch((place,), own=ticket)
        try:
            pieces = mirror.begin_pieces(db)
            try:
                await self._send_pieces(db, key, mirror, bulk, pieces, lease, ticket is None)
                has_pexpiretime = not isinstance(
                    (await bulk.pipeline([("PEXPIRETIME", key)], db=db))[0], Exception
                )
                [expiry] = await read_expiries(bulk, db, [key], has_pexpiretime)
                # From here to the append nothing is awaited.
                if mirror is not self.proxy.mirror:
                    raise MirrorAway("the mirror has changed its direction")
                if lease.touched:
                    mirror.append_piece(pieces, None)
                    if len(table.names(place)) > 1:
                        # A SWAPDB may have taken along what is there of it.
                        table.mark_wherever(place_of(db, PIECES))
                    return _nothing_of(place)
                if expiry == GONE:
                    mirror.append_piece(pieces, None)
                    commands = [pack((b"UNLINK", key))]
                else:
                    commands = [pack((b"RENAME", PIECES, key))]
                    if expiry != NO_EXPIRY:
                        commands.append(pack((b"PEXPIREAT", key, expiry)))
                copy = KeyCopy(key, commands, pieces.length)
                future = mirror.append_copies(db, [copy], pieces=pieces)
                return Copied(future, [], [], 1, pieces.length)
            except BaseException:
                # What is there of it is removed by the repair: the primary has no such key.
                table.mark_wherever(place_of(db, PIECES))
                raise
        finally:
            lease.end()

    async def _send_pieces(
        self,
        db: int,
        key: bytes,
        mirror: Mirror,
        bulk: Bulk,
        pieces: SentPieces,
        lease: Lease,
        may_wait: bool,
    ) -> None:
        """Until the end of the string, or until somebody touched it."""
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while not lease.touched:
            at = pieces.length
            try:
                piece = await bulk.call("GETRANGE", key, at, at + PIECE - 1, db=db)
            except ReplyError as error:
                if error.code != "WRONGTYPE":
                    raise
                # Another key has come in its place since its size was asked for.
                lease.touched.update(lease.places)
                return
            if piece:
                mirror.append_piece(pieces, piece)
            if len(piece) < PIECE:
                return
            if may_wait:
                await mirror.room()
            else:
                # Writers wait for the primary, and for a secondary that hangs not for long.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await mirror.room()

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
        copied = Copied(future, list(touched), refused, len(kept) + len(usable), size)
        if page.strings:
            kept, raw, size = sets(page.strings, page.values, keys)
            if kept:
                made = mirror.append_strings(db, kept, raw)
                strings = Copied(made, [], [], len(kept), size)
                # Most pages hold nothing else.
                copied = (
                    both(copied, strings)
                    if copied.keys
                    else replace(strings, touched=copied.touched, refused=refused)
                )
        return copied
