"""Readers of keys: what a key is now, as the commands that make it so on the other side.

Owns the choice between DUMP and typed reads, and both readers. It writes nothing: whoever calls
sends the commands, in an order of his own. He also guarantees that no client touched the keys
between before `read` and when its result is used; that keys may expire meanwhile is dealt with
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from migrator.bulk import Bulk, ReplyError, pack
from migrator.slices import Slices
from proxy.resp.dumps import GONE, kind_of, not_plain, plain_strings, split_strings

from .dialect import MODULE_TYPES, REWRITTEN_VERSION, Reads, Writes, learn_reads, learn_writes
from .expiry import read_dumps
from .footer import version_of, with_version
from .modules import MODULE_OF_TYPE, have_rules, is_time_series, type_name
from .rebuild import rebuild
from .snapshot import read_snapshots
from .strings import STRING_TYPE, Strings, read_strings


@dataclass(slots=True)
class KeyCopy:
    """One key as it was when it was read."""

    key: bytes
    commands: list[bytes]
    """In wire form, in order; after them the key on the other side is exactly this. Empty when it
    cannot be made there at all, then `loses` says why."""
    size: int
    """Bytes of the value as they travel."""
    absent: bool = False
    """It was not there: `commands` removes it."""
    loses: str = ""
    """What of it the other store cannot hold, for people; "" when the copy is exact."""


@dataclass(slots=True)
class Page:
    """Keys as they were when they were read; there is no order among them."""

    keys: Sequence[bytes]
    """Keys that a RESTORE of `payloads` makes, with `expiries` (`proxy.resp.dumps`)."""
    payloads: list[bytes]
    expiries: list[int]
    copies: list[KeyCopy]
    """All others."""
    large: list[bytes] = field(default_factory=list)
    """Strings that were not read: they are better copied in pieces."""
    strings: list[bytes] = field(default_factory=list)
    """Keys that one MSET of `values` makes: strings that do not expire."""
    values: list[bytes] = field(default_factory=list)


# Bytes of a string from which on DUMP costs more than a look at its size: a store compresses it,
# and goes over it once more for its checksum, as does the one that takes it.
PLAIN_BYTES = 64 * 1024
# Bytes of a string that is copied in pieces: it is not in memory whole, and stops no store.
PIECES_BYTES = 16 * 1024 * 1024
# Bytes of strings that are in memory together, whole: beyond, they go in pieces, too.
PAGE_BYTES = 8 * 1024 * 1024
# Keys of a page with large values, or beside clients, at most: SCAN may give more than it is asked
# for.
FEW_KEYS = 128


class Reader(Protocol):
    async def read(self, db: int, keys: Sequence[bytes]) -> Page:
        """What makes these keys, each once. Raises ReplyError, BulkClosed."""


async def make_reader(primary: Bulk, secondary: Bulk, *, asks_sizes: bool = True) -> Reader:
    """The best reader for copies from `primary` to `secondary`, as they are now.

    asks_sizes: of strings, whatever the size of a page; else only where keys come in few.

    Both are asked, nothing is written. Make another after either was replaced or upgraded.
    Raises BulkClosed, and ReplyError when a store is LOADING, OOM, and the like.
    """
    reads, writes = await learn_reads(primary), await learn_writes(secondary)
    typed = TypedReader(primary, reads, writes)
    if reads.can_dump and (writes.versions or writes.types):
        return DumpReader(primary, reads, writes, typed, asks_sizes)
    return typed


class DumpReader:
    """DUMP and RESTORE, in one round trip; typed for what the secondary would refuse."""

    def __init__(
        self, primary: Bulk, reads: Reads, writes: Writes, typed: TypedReader, asks_sizes: bool
    ) -> None:
        self._asks_sizes = asks_sizes
        self._primary = primary
        self._reads = reads
        self._writes = writes
        self._typed = typed
        # Payloads that are larger are looked at.
        self._most = min(writes.max_bulk, PIECES_BYTES)
        # (type byte, version, a module's type) as they are in payloads -> as it is, rewritten,
        # or None: typed.
        self._ways: dict[bytes, str | None] = {}
        # Of these kinds every payload goes as it is.
        self._plain: set[int] = set()
        self._strings = Strings()

    async def read(self, db: int, keys: Sequence[bytes]) -> Page:
        if not self._asks_sizes and len(keys) > FEW_KEYS:
            return await self._read_many(db, keys)
        sizes = await self._primary.pipeline([("STRLEN", key) for key in keys], db=db)
        # Of another type, or not to be asked: an error, and no size.
        large: list[bytes] = []
        plain: list[bytes] = []
        room = PAGE_BYTES
        for key, size in zip(keys, sizes, strict=True):
            if not isinstance(size, int) or size <= PLAIN_BYTES:
                continue
            if size > min(room, PIECES_BYTES):
                large.append(key)
            else:
                plain.append(key)
                room -= size
        # What is asked for one by one may be what a page has been refused for.
        read = self._read_dumps if self._asks_sizes else self._read_many
        if not large and not plain:
            return await read(db, keys)
        apart = {*large, *plain}
        others = [key for key in keys if key not in apart]
        page = await read(db, others) if others else Page((), [], [], [])
        if plain:
            page.copies += (await self._typed.read(db, plain)).copies
        page.large += large
        return page

    async def _read_many(self, db: int, keys: Sequence[bytes]) -> Page:
        """As strings that do not expire, as long as most of them are."""
        if not self._strings.are_most:
            return await self._read_dumps(db, keys)
        found = await read_strings(self._primary, db, keys, self._reads)
        strings, values, large, others = split_strings(keys, found, self._most)
        self._strings.saw(len(strings), len(keys))
        if self._most < PIECES_BYTES:
            # What the secondary would refuse is no matter of pieces.
            others += large
            large = []
        page = await self._read_dumps(db, others) if others else Page((), [], [], [])
        page.strings, page.values = strings, values
        page.large += large
        return page

    async def _read_dumps(self, db: int, keys: Sequence[bytes]) -> Page:
        payloads, expiries = await read_dumps(self._primary, db, keys, self._reads.has_pexpiretime)
        if not self._strings.are_most:
            self._strings.saw(plain_strings(payloads, expiries, STRING_TYPE), len(keys))
        others = not_plain(payloads, expiries, self._plain, self._most)
        if not others:
            return Page(keys, payloads, expiries, [])
        large = [
            i for i in others
            if type(payloads[i]) is bytes
            and payloads[i][0] == STRING_TYPE
            and len(payloads[i]) > PIECES_BYTES
        ]  # fmt: skip
        for i in large:
            payloads[i] = b""  # Its memory is wanted for the pieces.
        others = [i for i in others if payloads[i] != b""]
        copies, done = await self._read_others(db, keys, payloads, expiries, others)
        done.update(large)
        return Page(
            [key for i, key in enumerate(keys) if i not in done],
            [payload for i, payload in enumerate(payloads) if i not in done],
            [expiry for i, expiry in enumerate(expiries) if i not in done],
            copies,
            [keys[i] for i in large],
        )

    async def _read_others(
        self,
        db: int,
        keys: Sequence[bytes],
        payloads: list[Any],
        expiries: list[int],
        others: list[int],
    ) -> tuple[list[KeyCopy], set[int]]:
        """Copies of what does not go as it is, and their indexes. Payloads may be rewritten."""
        copies: list[KeyCopy] = []
        done: set[int] = set()
        refused: list[int] = []
        series: list[int] = []
        for i in others:
            payload = payloads[i]
            # Expired behind the DUMP: the payload has no TTL, and would live for ever.
            if payload is None or expiries[i] == GONE:
                copies.append(_absent(keys[i]))
                done.add(i)
                continue
            if isinstance(payload, ReplyError):
                raise payload
            if len(payload) > self._writes.max_bulk:
                # It would not be taken, and the connection closed. What it is made of may be.
                refused.append(i)
                continue
            kind = payload[:1] + payload[-10:-8]
            if payload[0] in MODULE_TYPES:
                kind += payload[2:10]
            way = self._ways[kind] if kind in self._ways else self._choose(kind, payload)
            if way is None:
                refused.append(i)
                continue
            if way == "rewritten":
                payloads[i] = with_version(payload, REWRITTEN_VERSION)
            elif payload[0] not in MODULE_TYPES:
                self._plain.add(kind_of(payload))
            if payload[0] in MODULE_TYPES and is_time_series(payload):
                series.append(i)
        if refused:
            copies += (await self._typed.read(db, [keys[i] for i in refused])).copies
            done.update(refused)
        if series:
            ruled = await have_rules(self._primary, db, [keys[i] for i in series])
            for i, has_rules in zip(series, ruled, strict=True):
                if has_rules:
                    loses = "compaction rules of a time series"
                    copies.append(KeyCopy(keys[i], [], len(payloads[i]), loses=loses))
                    done.add(i)
        return copies, done

    def _choose(self, kind: bytes, payload: bytes) -> str | None:
        way: str | None = None
        if kind[0] in MODULE_TYPES and not self._has_module(type_name(payload)):
            way = None
        elif self._writes.takes_as_is(version_of(payload), kind[0]):
            way = "as is"
        elif kind[0] in self._writes.types:
            way = "rewritten"
        self._ways[kind] = way
        return way

    def _has_module(self, type_: str) -> bool:
        """Whether the secondary can hold it; a type that nobody knows may be of any module."""
        module = MODULE_OF_TYPE.get(type_)
        if module is None:
            return self._reads.modules <= self._writes.modules
        return module.encode() in self._writes.modules


class TypedReader:
    """Values by the commands of their type: between any two stores, slower than DUMP."""

    def __init__(self, primary: Bulk, reads: Reads, writes: Writes) -> None:
        self._primary = primary
        self._reads = reads
        self._writes = writes

    async def read(self, db: int, keys: Sequence[bytes]) -> Page:
        copies: list[KeyCopy] = []
        snapshots = await read_snapshots(self._primary, self._reads, db, keys)
        slices = Slices()
        for key, snapshot in zip(keys, snapshots, strict=True):
            await slices.over()
            if snapshot is None:
                copies.append(_absent(key))
            else:
                commands, loses = rebuild(snapshot, self._writes)
                copies.append(KeyCopy(key, commands, sum(map(len, commands)), loses=loses))
        return Page((), [], [], copies)


def _absent(key: bytes) -> KeyCopy:
    return KeyCopy(key, [pack((b"UNLINK", key))], 0, absent=True)
