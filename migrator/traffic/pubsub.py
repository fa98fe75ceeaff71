"""Messages that the clients publish, and subscribers who get each of them.

Owns the rule of it: each message exactly once, and those of one publisher in their order. Each
client publishes on a channel of its own, numbered; who subscribes is there before the first and
until the last.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import Any

from .client import Client, Talk
from .connection import Endpoint, Line, Lost, Words
from .counts import Counts
from .families import SEVEN
from .ledger import Ledger
from .model import ANY, Step, Wrong
from .shared import Choice, SharedDraw

PUBLISH = b"return redis.call('PUBLISH', KEYS[1], ARGV[1])"
# For the last messages, when nobody publishes any more.
PATIENCE_S = 8.0


def channel(client: int) -> bytes:
    return b"news:%d" % client


def publish(s: SharedDraw, *, by_script: bool = False) -> list[Step]:
    d = s.draw
    messages = s.ledger.messages[d.client]
    messages.last += 1
    number = messages.last

    def apply(reply: Any) -> object:
        messages.acked.add(number)
        return ANY if isinstance(reply, int) else Wrong("a number of receivers")

    words: Words = (b"PUBLISH", channel(d.client), number)
    if by_script:
        words = (b"EVAL", PUBLISH, 1, *words[1:])
    return [Step(words, (), apply, withdraw=lambda: messages.withdrawn.add(number))]


CHOICES: list[Choice] = [publish, publish]
BY_SCRIPT: list[Choice] = [partial(publish, by_script=True)]


class Subscriber:
    """One connection that is subscribed from before the first message until after the last.

    By name or by pattern; in RESP3 it sends commands meanwhile. `ready` is over when it is.
    """

    def __init__(
        self, number: int, endpoint: Endpoint, clients: int, ledger: Ledger, counts: Counts
    ) -> None:
        self.name = f"subscriber {number}"
        self.counts = counts
        self.ready = asyncio.Event()
        self._endpoint = endpoint
        self._line = Line(self.name, endpoint, counts.error, self._on_push)
        self._is_by_name = number // 4 % 2 == 0
        self._clients = clients
        self._ledger = ledger
        self._got: dict[int, set[int]] = {}
        self._last: defaultdict[int, int] = defaultdict(int)
        self._start: dict[int, int] = {}
        self._confirmed = 0
        self._is_stopping = False

    def stop(self) -> None:
        """When the last message is here."""
        self._is_stopping = True

    async def run(self) -> None:
        """One that loses its connection has lost messages, and says so."""
        self._is_stopping = False
        self._confirmed = 0
        self._got = {at: set() for at in range(self._clients)}
        self._start = {at: self._ledger.messages[at].last for at in range(self._clients)}
        try:
            if await self._line.open():
                self._subscribe()
                await self._listen()
        except Lost:
            pass  # Counted; so are the messages that are missing.
        finally:
            self.ready.set()
            self._line.close()
            self.ready.clear()
        self._judge()

    def _subscribe(self) -> None:
        if not self._is_by_name:
            self._line.send(b"PSUBSCRIBE", b"news:*")
            return
        names = [channel(at) for at in range(self._clients)]
        half = len(names) // 2
        self._line.send(b"SUBSCRIBE", *names[:half])
        self._line.send(b"SUBSCRIBE", *names[half:])

    async def _listen(self) -> None:
        beats = 0
        loop = asyncio.get_running_loop()
        until = None
        while until is None or (loop.time() < until and self._missing()):
            if self._is_stopping and until is None:
                until = loop.time() + PATIENCE_S
            await asyncio.sleep(0.02)
            beats += 1
            if beats % 10 == 0:
                wanted: object = [b"pong", b""] if self._endpoint.resp == 2 else b"PONG"
                await self._ask((b"PING",), wanted)
                if self._endpoint.resp == 3:
                    await self._ask((b"SET", b"heard:%b" % self.name.encode(), beats), b"OK")

    async def _ask(self, words: Words, wanted: object) -> None:
        (reply,) = await self._line.ask(words)
        self.counts.commands += 1
        if reply != wanted:
            self.counts.complain(self._who, words, wanted, reply)

    @property
    def _who(self) -> str:
        return f"{self.name} RESP{self._endpoint.resp}"

    def _on_push(self, frame: list[Any]) -> None:
        kind = frame[0]
        if kind in (b"subscribe", b"psubscribe"):
            self._confirmed += 1
            if self._confirmed == (self._clients if self._is_by_name else 1):
                self.ready.set()
        elif kind in (b"message", b"pmessage"):
            self._hear(frame[-2], int(frame[-1]))
        else:
            self.counts.complain(self._who, (b"SUBSCRIBE",), "messages", frame)

    def _hear(self, name: bytes, number: int) -> None:
        publisher = int(name.rpartition(b":")[2])
        messages, last = self._ledger.messages[publisher], self._last[publisher]
        if not last < number <= messages.last or number in messages.withdrawn:
            self.counts.wrong(f"{self._who}: message {number} on {name!r} behind {last}")
        self._last[publisher] = max(last, number)
        self._got[publisher].add(number)
        self.counts.messages += 1

    def _missing(self) -> dict[int, list[int]]:
        """By publisher: acknowledged since the beginning, and not heard of."""
        found = {}
        for publisher, got in self._got.items():
            acked = self._ledger.messages[publisher].acked
            start = self._start[publisher]
            if lost := sorted(number for number in acked - got if number > start):
                found[publisher] = lost
        return found

    def _judge(self) -> None:
        for publisher, numbers in self._missing().items():
            name = channel(publisher)
            self.counts.wrong(
                f"{self._who}: {len(numbers)} messages on {name!r} never came: {numbers[:9]}"
            )


async def visit(client: Client) -> None:
    """Subscribe for a while: what is published meanwhile comes, and nothing else. Raises Lost."""
    d = client.draw
    name = b"visit:%d:%d" % (client.number, d.number(0, 4))
    heard: list[Any] = []
    line = Line(f"{client.name}, visiting", client.main.endpoint, client.counts.error, heard.append)
    try:
        if not await line.open():
            return
        kind, target = d.pick(((b"", name), (b"P", b"%b*" % name[:-1]), (b"S", name)))
        if kind == b"S" and SEVEN not in client.families:
            kind = b""
        line.send(kind + b"SUBSCRIBE", target)
        await _ping(line)
        words = [b"%d" % at for at in range(d.number(1, 5))]
        send = b"SPUBLISH" if kind == b"S" else b"PUBLISH"
        await client.ask(*(((send, name, word), ANY) for word in words))
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while len(heard) <= len(words) and loop.time() < until:
            await asyncio.sleep(0.001)
        line.send(kind + b"UNSUBSCRIBE")
        await _ping(line)
        await client.ask(((send, name, b"late"), ANY))
        await _ping(line)
    finally:
        line.close()
    found = [frame[-1] for frame in heard if frame[0].endswith(b"message")]
    if found != words:
        client.complain((b"SUBSCRIBE", name), f"messages {words}", heard)


async def _ping(line: Line) -> None:
    await line.ask((b"PING",))


TALKS: list[tuple[Talk, int]] = [(visit, 5)]
