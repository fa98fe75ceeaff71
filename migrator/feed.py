"""Expiry and eviction: writes that nobody sends, heard of through keyspace events.

Owns one subscriber per side. An event is a trigger, never an order (design,
section 1): it makes the key unproven. Both sides are listened to, for a write
that reaches the secondary behind the key's expiry there leaves a key without
TTL, while the primary may not have noticed the expiry yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable

import hiredis

from migrator.bulk import ReplyError
from migrator.stores import Store, StoreUnreachable
from proxy.handshake import handshake_commands, login_of
from proxy.resp import encode_command

log = logging.getLogger("keyferry.feed")

# E: __keyevent@<db>__ channels; x: expired; e: evicted.
FLAGS = "Exe"
# What ``A`` stands for.
ALL = "g$lshzxetd"
PATTERNS = (b"__keyevent@*__:expired", b"__keyevent@*__:evicted")
EVENT = b"__keyevent@"


class EventsRefused(Exception):
    """The store does not let us switch its keyspace events on."""


def merged(flags: str) -> str:
    """``notify-keyspace-events`` with what we need; ``A`` stands for all event classes."""
    missing = [flag for flag in FLAGS if flag not in flags and not (flag in "xe" and "A" in flags)]
    return flags + "".join(missing)


def untold(source: str, target: str) -> str:
    """Flags of events that the source tells of and the target does not; empty if it tells of none.

    They are ``notify-keyspace-events`` of both.
    """
    here, there = (set(flags.replace("A", ALL)) for flags in (source, target))
    return "".join(sorted(here - there)) if here & {"K", "E"} else ""


async def switch_on(store: Store) -> str | None:
    """Switch expired and evicted events on; returns the setting before, None if it did.

    Raises EventsRefused, StoreUnreachable.
    """
    bulk = await store.connection("admin")
    try:
        reply = await bulk.call("CONFIG", "GET", "notify-keyspace-events")
        flags = reply[1].decode()
        wanted = merged(flags)
        if wanted == flags:
            return None
        await bulk.call("CONFIG", "SET", "notify-keyspace-events", wanted)
    except (ReplyError, IndexError) as error:
        raise EventsRefused(f"{store.side.label}: no expiry events: {error}") from error
    return str(flags)


async def switch_back(store: Store, flags: str) -> None:
    """Restore what :func:`switch_on` returned; a store that is away keeps our setting."""
    with contextlib.suppress(StoreUnreachable, ReplyError, ConnectionError):
        bulk = await store.connection("admin")
        await bulk.call("CONFIG", "SET", "notify-keyspace-events", flags)


class Feed(asyncio.Protocol):
    """The subscriber of one side.

    ``on_event(db, key)`` runs per event; ``on_gap`` when events may have been missed;
    ``on_run_id`` with the store's run id, each time it was connected.
    """

    def __init__(
        self,
        store: Store,
        on_event: Callable[[int, bytes], None],
        on_gap: Callable[[], None],
        on_run_id: Callable[[str], None],
    ) -> None:
        self._store = store
        self._on_event = on_event
        self._on_gap = on_gap
        self._on_run_id = on_run_id
        self.is_connected = False
        self._was_connected = False
        self._channel = b"keyferry:marker:" + secrets.token_hex(8).encode()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._markers: dict[bytes, asyncio.Future[None]] = {}
        self._next_marker = 0
        self._task = asyncio.create_task(self._run(), name=f"events of the {store.side.label}")

    async def _run(self) -> None:
        while True:
            self._lost.clear()
            self._subscribed.clear()
            self._reader = hiredis.Reader()
            try:
                async with asyncio.timeout(5.0):
                    transport, _ = await self._store.endpoint.connect(lambda: self)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.5)
                continue
            try:
                await self._subscribe(transport)
                await self._lost.wait()
            except (TimeoutError, EventsRefused, ReplyError, ConnectionError) as error:
                log.warning("events of the %s: %s", self._store.side.label, error)
            except Exception:
                log.exception("events of the %s", self._store.side.label)
            finally:
                transport.abort()
                self._end()
            await asyncio.sleep(0.2)

    async def _subscribe(self, transport: asyncio.Transport) -> None:
        steps = handshake_commands(login_of(self._store.endpoint), 0, 2, b"keyferry-events")
        transport.write(b"".join(raw for raw, _ in steps))
        transport.write(encode_command(b"PSUBSCRIBE", *PATTERNS))
        transport.write(encode_command(b"SUBSCRIBE", self._channel))
        async with asyncio.timeout(5.0):
            await self._subscribed.wait()
        # A store that was restarted has forgotten that it shall tell.
        await switch_on(self._store)
        self._on_run_id((await self._store.refresh()).run_id)
        if self._was_connected:
            self._on_gap()
        self.is_connected = self._was_connected = True

    def _end(self) -> None:
        if self.is_connected:
            self.is_connected = False
            log.warning("events of the %s: the feed broke", self._store.side.label)
            self._on_gap()
        markers, self._markers = self._markers, {}
        for future in markers.values():
            if not future.done():
                future.set_exception(StoreUnreachable(f"{self._store.side.label}: the feed broke"))

    def connection_lost(self, error: Exception | None) -> None:
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            if not isinstance(message, list):
                continue
            if message[0] == b"pmessage":
                channel = message[2]
                # "expired" and "evicted" are of one length.
                db = channel[len(EVENT) : -len(b"__:expired")]
                if db.isdigit():  # Anybody may publish to such a channel.
                    self._on_event(int(db), message[3])
            elif message[0] == b"message" and message[1] == self._channel:
                future = self._markers.pop(message[2], None)
                if future is not None and not future.done():
                    future.set_result(None)
            elif message[0] == b"subscribe" and message[1] == self._channel:
                self._subscribed.set()

    async def drained(self) -> None:
        """Wait until every event of before now was heard. Raises StoreUnreachable."""
        if not self.is_connected:
            raise StoreUnreachable(f"{self._store.side.label}: the event feed is not connected")
        bulk = await self._store.connection("admin")
        self._next_marker += 1
        nonce = b"%d" % self._next_marker
        future = self._markers[nonce] = asyncio.get_running_loop().create_future()
        try:
            heard = await bulk.call("PUBLISH", self._channel, nonce)
            if heard == 0:
                raise StoreUnreachable(f"{self._store.side.label}: the event feed is gone")
            async with asyncio.timeout(5.0):
                await future
        except (TimeoutError, ReplyError) as error:
            raise StoreUnreachable(f"{self._store.side.label}: the event feed is stuck") from error
        finally:
            self._markers.pop(nonce, None)

    async def check(self) -> None:
        """Whether the store still tells; if not, it is told to, and events were missed.

        Raises EventsRefused, StoreUnreachable.
        """
        if self.is_connected and await switch_on(self._store) is not None:
            log.warning("events of the %s had been switched off", self._store.side.label)
            self._on_gap()

    def expect(self) -> None:
        """From now on events count: a feed that connects later has missed some."""
        self._was_connected = True

    async def close(self) -> None:
        self._was_connected = self.is_connected = False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
