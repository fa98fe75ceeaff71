"""The keys that are there before the traffic begins: every type, some of them expiring.

Owns what each one holds, as values for the clients' models and as commands that make them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from migrator.bulk import Bulk

from . import containers, cursors, streams, strings, zsets
from .connection import Words, pack
from .databases import RESERVED
from .draw import (
    BITS,
    DATABASES,
    FAMILIES,
    FLOAT,
    HASH,
    LIST,
    NUMBER,
    SET,
    SKETCH,
    STREAM,
    TEXT,
    ZSET,
    Sizes,
    own_key,
)  # fmt: skip
from .families import QUICK, RESIDENT, SCRIPTS, SEVEN
from .ledger import (
    BAG,
    CHAOS,
    COUNTER,
    EVENTS,
    FIELD,
    LOG,
    OPTIMISTIC,
    PAIR,
    QUEUE,
    SCORE,
    TASKS,
    TRIPLE,
    initial_token,
    shared_key,
)  # fmt: skip
from .model import CLOCK_MS, NEVER, Place, Value
from .scripts import LIBRARY
from .shared import SPREAD
from .streams import GROUP

BATCH = 2_000


@dataclass(frozen=True)
class World:
    """`base_ms`: the moment that expiry times are counted from (ms since the epoch)."""

    clients: int
    sizes: Sizes
    families: frozenset[str] = QUICK
    base_ms: int = field(default_factory=lambda: int(time.time() * 1000))

    @classmethod
    def of_keys(
        cls, clients: int, keys: int, shared: int = 400, families: frozenset[str] = QUICK
    ) -> World:
        """A world of `keys` keys or a few more; own ones are also in databases 1 and 3."""
        # Database 0 holds all of them, each other one every fourth.
        per_own = clients * len(FAMILIES) * (1 + (len(DATABASES) - 1) / 4)
        shared = max(SPREAD, min(shared, keys // 100))
        rest = keys - shared * 12 * len(DATABASES)
        return cls(clients, Sizes(own=max(16, int(rest / per_own) + 1), shared=shared), families)

    # -- own keys ------------------------------------------------------------------

    def initial(self, place: Place) -> Value | None:
        """What an own key of a client is in the beginning."""
        db, key = place
        name, _, number = key.decode().split(":")
        return self._value(db, name, int(number))

    def reserved(self) -> dict[Place, Value]:
        """All that is in the beginning where one client is alone: client number `clients`."""
        return {
            (db, own_key(family, self.clients, number)): value
            for db in RESERVED
            for family in FAMILIES
            for number in range(self.sizes.own)
            if (value := self._value(db, family, number)) is not None
        }

    def _value(self, db: int, family: str, number: int) -> Value | None:
        if number >= self.sizes.own or (db and number % 4):
            return None
        if family in (LIST, SET, HASH):
            value = containers.initial(family, number)
        elif family == ZSET:
            value = zsets.initial(number)
        elif family in (STREAM, SKETCH):
            value = streams.initial(family, number)
        else:
            value = strings.initial(family, number)
        if (at := self._expires_at(number)) is not None:
            value.low, value.high = at - CLOCK_MS, at + CLOCK_MS
        return value

    def _expires_at(self, number: int) -> int | None:
        if number % 29 == 5:  # While the run goes on.
            return self.base_ms + 8_000 + number * 997 % 60_000
        return self.base_ms + 3_600_000 + number * 100 if number % 7 == 3 else None

    # -- making them -----------------------------------------------------------------

    async def load(self, store: Bulk) -> int:
        """Make all keys; returns how many. Raises ReplyError, BulkClosed."""
        if {SCRIPTS, SEVEN} <= self.families:
            await store.call("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        count = 0
        for db in (*DATABASES, *(RESERVED if RESIDENT in self.families else ())):
            batch: list[bytes] = []
            for words in self._commands(db):
                batch.append(pack(words))
                if len(batch) >= BATCH:
                    await _send(store, db, batch)
                    batch = []
            await _send(store, db, batch)
            count += int(await store.call("DBSIZE", db=db))
        return count

    def _commands(self, db: int) -> Iterator[Words]:
        if db in RESERVED:
            for (at, key), value in self.reserved().items():
                if at == db:
                    yield from _make(key, chr(key[0]), value)
            return
        for family in FAMILIES:
            for number in range(self.sizes.own):
                own = self._value(db, family, number)
                if own is None:
                    continue
                for client in range(self.clients):
                    yield from _make(own_key(family, client, number), family, own)
        for number in range(self.sizes.shared):
            yield from _make_shared(number)


async def _send(store: Bulk, db: int, batch: list[bytes]) -> None:
    for reply in await store.pipeline(batch, db=db):
        if isinstance(reply, Exception):
            raise reply


def _make(key: bytes, family: str, value: Value) -> Iterator[Words]:
    data = value.data
    if family in (TEXT, NUMBER, FLOAT, BITS):
        yield (b"SET", key, data)
    elif family == LIST:
        yield (b"RPUSH", key, *data)
    elif family == SET:
        yield (b"SADD", key, *sorted(data))
    elif family == HASH:
        yield (b"HSET", key, *(word for item in data.items() for word in item))
    elif family == ZSET:
        yield (b"ZADD", key, *(word for member, score in data.items() for word in (score, member)))
    elif family == SKETCH:
        yield (b"PFADD", key, *sorted(data))
    else:
        assert family == STREAM
        for entry, fields in data.entries.items():
            yield (b"XADD", key, streams.write_id(entry), *fields)
        if data.pending is not None:
            yield (b"XGROUP", b"CREATE", key, GROUP, b"0")
            reader = streams.CONSUMERS[0]
            yield (b"XREADGROUP", b"GROUP", GROUP, reader, b"COUNT", 1, b"STREAMS", key, b">")
    if value.low != NEVER:
        yield (b"PEXPIREAT", key, int(value.low + CLOCK_MS))


def _make_shared(number: int) -> Iterator[Words]:
    yield (b"SET", shared_key(COUNTER, number), number)
    yield (b"HSET", shared_key(FIELD, number), b"n", number, b"other", b"x")
    yield (b"ZADD", shared_key(SCORE, number), number, b"n", 1, b"other")
    yield (b"SET", shared_key(LOG, number), initial_token(LOG, 0, 0))
    yield (b"RPUSH", shared_key(QUEUE, number), *(initial_token(QUEUE, number, a) for a in (0, 1)))
    yield (b"SADD", shared_key(BAG, number), *(initial_token(BAG, number, a) for a in (0, 1)))
    yield (b"SADD", shared_key(CHAOS, number), b"1", b"x%d" % number, b"y%d" % (number % 5))
    for part in ("a", "b"):
        yield (b"SET", shared_key(PAIR, number, part), number)
    for part in ("a", "b", "c"):
        yield (b"SET", shared_key(TRIPLE, number, part), b"beginning")
    if number == 0:
        yield (b"XGROUP", b"CREATE", shared_key(TASKS, 0), b"workers", b"$", b"MKSTREAM")
    if number < cursors.COLLECTIONS:
        yield from cursors.make(number)
    if number < SPREAD:
        yield (b"SET", shared_key(OPTIMISTIC, number), 0)
        key = shared_key(EVENTS, number)
        yield (b"XGROUP", b"CREATE", key, b"g", b"$", b"MKSTREAM")
