"""What all subscribers of a proxy do at a flip.

Owns the order of it. Everybody is subscribed on the new primary beforehand. Inside the fence
nobody publishes; an answer on each old connection tells that all its messages have come. From
the commit on the messages of the new connections are passed on, and nobody has published there
before: each message comes once, and each publisher's in their order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .follower import NotPrepared
from .own import PING

if TYPE_CHECKING:
    from .receiver import Receiver
    from .server import Proxy
    from .sides import Side
    from .subscribing import Subscriber

# Connections that are opened or closed at a time, so that nobody else waits for long.
AT_A_TIME = 100
# How many refusals are told of.
SHOWN = 5


class Everybody:
    """Waits for an answer on each of several connections."""

    __slots__ = ("future", "left")

    def __init__(self, receivers: list[Receiver]) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = loop.create_future()
        self.left = len(receivers) + 1
        for each in receivers:
            each.ask(self, PING)
        self._one_less()

    def confirmed(self, frame: bytes, is_last: bool) -> None:
        raise AssertionError("it was no subscription")

    def answered(self, frame: bytes) -> None:
        self._one_less()

    def lost(self) -> None:
        # It has ended its client, too: nobody misses its messages.
        self._one_less()

    def _one_less(self) -> None:
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)


class Subscriptions:
    """All subscribers of a proxy: what follows a flip."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._all: set[Subscriber] = set()
        # The side that is being prepared.
        self._side: Side | None = None
        self._closing: asyncio.Task[None] | None = None

    def enter(self, subscriber: Subscriber) -> None:
        self._all.add(subscriber)
        if self._side is not None:
            # So that inside the fence it is open.
            subscriber.open_next(self._side)

    def leave(self, subscriber: Subscriber) -> None:
        self._all.discard(subscriber)

    async def prepare(self, side: Side) -> list[str]:
        self._side = side
        return await self._prepare(side)

    async def settle(self) -> None:
        side = self._side
        assert side is not None, "settled without being prepared"
        receivers = [each.receiver for each in self._all]
        # Who is subscribed publishes on that connection.
        await Everybody([each for each in receivers if each.is_asked]).future
        # All that was published is answered now, so it is before these answers.
        await Everybody(receivers).future
        problems = await self._prepare(side)
        if problems:
            raise NotPrepared("; ".join(problems))

    async def _prepare(self, side: Side) -> list[str]:
        problems: dict[str, None] = {}
        waiting = [each for each in self._all if not each.is_prepared(side)]
        for at in range(0, len(waiting), AT_A_TIME):
            batch = waiting[at : at + AT_A_TIME]
            found = await asyncio.gather(*(each.prepare(side) for each in batch))
            problems.update(dict.fromkeys(filter(None, found)))
            if len(problems) >= SHOWN:
                break
        return [f"a subscriber cannot follow: {each}" for each in list(problems)[:SHOWN]]

    def flipped(self) -> None:
        self._side = None
        old = [each.flipped() for each in list(self._all)]
        if old:
            self._closing = asyncio.create_task(_close(old), name="old subscriptions")

    def abandoned(self) -> None:
        self._side = None
        for each in self._all:
            each.abandoned()


async def _close(receivers: list[Receiver]) -> None:
    for at, each in enumerate(receivers):
        each.close()
        if not at % AT_A_TIME:
            await asyncio.sleep(0)
