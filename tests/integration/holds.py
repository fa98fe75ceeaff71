"""Points at which a test stops Keyferry, so that an interleaving happens each time.

The stores stay real, and so is everything that is done: it is only done later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from migrator.bulk import Bulk
from migrator.copy import Page, Reader
from migrator.mover import Mover
from proxy.endpoint import Endpoint
from proxy.lane import Lane
from tests.integration.clients import DEADLINE_S


class Hold:
    """A point that is passed once: `reached` is set there, and `release` lets it be passed."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._go = asyncio.Event()
        self._is_used = False

    async def here(self) -> None:
        if not self._is_used:
            self._is_used = True
            self.reached.set()
            await self._go.wait()

    async def arrived(self) -> None:
        """Wait until the point is reached."""
        async with asyncio.timeout(DEADLINE_S):
            await self.reached.wait()

    def release(self) -> None:
        self._go.set()


class _Held:
    """A reader that stops behind the first read of a key."""

    def __init__(self, inner: Reader, key: bytes, then: Callable[[], Any]) -> None:
        self._inner = inner
        self._key = key
        self._then = then

    async def read(self, db: int, keys: Sequence[bytes]) -> Page:
        page = await self._inner.read(db, keys)
        if self._key in keys:
            await self._then()
        return page


class _Wire:
    """Between a lane and its transport: bytes of either direction can be kept here."""

    def __init__(self, lane: Any) -> None:
        self.lane = lane
        self.transport: Any = None
        self.unsent: list[bytes] | None = None
        self.unseen: list[bytes] | None = None
        # What is kept here begins behind the next piece that comes.
        self.shows_one = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    # As the lane's protocol.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.lane.connection_made(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.lane.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self.unseen is None or self.shows_one:
            self.shows_one = False
            self.lane.data_received(data)
        else:
            self.unseen.append(data)

    def eof_received(self) -> None:
        self.lane.eof_received()

    def pause_writing(self) -> None:
        self.lane.pause_writing()

    def resume_writing(self) -> None:
        self.lane.resume_writing()

    # As its transport.

    def write(self, data: bytes) -> None:
        if self.unsent is None:
            self.transport.write(data)
        else:
            self.unsent.append(data)

    def writelines(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self.write(piece)


class Wires:
    """Installed before the first connection is made; see the fixture of this name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        connect = Endpoint.connect

        async def wired(endpoint: Endpoint, make: Callable[[], Any]) -> Any:
            def made() -> Any:
                protocol = make()
                return _Wire(protocol) if isinstance(protocol, Lane) else protocol

            return await connect(endpoint, made)

        monkeypatch.setattr(Endpoint, "connect", wired)

    def _of(self, lane: Lane) -> _Wire:
        wire = lane._transport
        assert isinstance(wire, _Wire)
        return wire

    def hold_sending(self, lane: Lane) -> None:
        """What the lane sends from now on stays here."""
        self._of(lane).unsent = []

    def release_sending(self, lane: Lane) -> None:
        wire = self._of(lane)
        held, wire.unsent = wire.unsent or [], None
        if held:
            wire.transport.write(b"".join(held))

    def hold_replies(self, lane: Lane) -> None:
        """What the lane's store answers from now on is not seen."""
        self._of(lane).unseen = []

    def hold_replies_behind_one_piece(self, lane: Lane) -> None:
        """Of what the lane's store answers only what comes in one piece with the next byte is."""
        self.hold_replies(lane)
        self._of(lane).shows_one = True

    def release_replies(self, lane: Lane) -> None:
        wire = self._of(lane)
        held, wire.unseen = wire.unseen or [], None
        for data in held:
            lane.data_received(data)

    def after_read(self, key: bytes, then: Callable[[], Any]) -> None:
        """Awaits `then` behind each read of a mover that has `key` among its keys."""
        make = Mover.reader

        async def reader(mover: Mover, purpose: str) -> Reader:
            return _Held(await make(mover, purpose), key, then)

        self._monkeypatch.setattr(Mover, "reader", reader)

    def hold_read(self, key: bytes) -> Hold:
        """A mover has read the key, and goes on only when the hold is released."""
        hold = Hold()
        self.after_read(key, hold.here)
        return hold

    def hold_scan(self) -> Hold:
        """The first page of a SCAN was answered, and nothing of it is copied yet."""
        hold = Hold()
        call = Bulk.call

        async def held_call(bulk: Bulk, *args: Any, **options: Any) -> Any:
            value = await call(bulk, *args, **options)
            if args[0] == "SCAN":
                await hold.here()
            return value

        self._monkeypatch.setattr(Bulk, "call", held_call)
        return hold
