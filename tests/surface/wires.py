"""A conversation with a server, whose answers are the record, and the same with a proxy before one.

Owns when an answer is complete without anybody saying how many replies there are to be. A server
has answered everything that it was sent before a PING of another connection when that PING is
answered a second time: it reads all that is there and writes all answers before it looks again.
(Where that is much, or takes long, it is waited for an answer to each command instead.)
The proxy does the same in one turn of its loop, and its second PING stands on the lane behind
what the first one had waited for.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from proxy.resp import ReplyScanner
from tests.surface.conversation import Conversation, Step, Turn, Words

DEADLINE_S = 10.0
CLOSED = b"(closed)"
# Bytes that a server surely reads in one turn of its loop.
AT_ONCE = 10_000
PING = b"*1\r\n$4\r\nPING\r\n"

Frames = dict[str, list[bytes]]
"""By client."""
Record = list[Frames]
"""What came in each turn, and at last what came when all was done."""


class _DirectClient:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._scanner = ReplyScanner()
        self._is_closed = False
        # Commands sent less frames read: none, or less than none where one has several replies.
        self.owed = 0

    def send(self, data: bytes) -> None:
        if not self._is_closed:
            self._socket.sendall(data)

    def arrived(self, *, at_least: int = 0) -> list[bytes]:
        """All whole frames; it waits only for the rest of one, and for `at_least` so many."""
        frames: list[bytes] = []
        while not self._is_closed:
            needs = self._scanner.pending or len(frames) < at_least
            if not select.select([self._socket], [], [], DEADLINE_S if needs else 0.0)[0]:
                assert not needs, f"nothing came behind {frames!r}"
                break
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionError:
                data = b""
            if data:
                frames += self._scanner.feed(data)
            else:
                self._is_closed = True
                frames.append(CLOSED)
        self.owed -= len(frames)
        return frames

    def call(self, data: bytes) -> bytes:
        assert not self._is_closed, "by the one before"
        self.send(data)
        self.owed += 1
        return self.arrived(at_least=1)[0]

    def close(self) -> None:
        self._socket.close()


class Direct:
    """Speaks with a server itself."""

    def __init__(self, port: int, words: Words) -> None:
        self._port = port
        self._words = words
        self._control = _DirectClient(port)

    def close(self) -> None:
        self._control.close()

    def record(self, conversation: Conversation, prefix: bytes) -> Record:
        clients = {name: _DirectClient(self._port) for name in conversation.clients}
        try:
            if conversation.resp == 3:
                for client in clients.values():
                    client.call(HELLO_3)
            record = [self._turn(turn, clients, prefix) for turn in conversation.turns]
            self._all_read()
            record.append({name: client.arrived() for name, client in clients.items()})
            return record
        finally:
            for client in clients.values():
                client.close()

    def _turn(self, turn: Turn, clients: dict[str, _DirectClient], prefix: bytes) -> Frames:
        sender = clients[turn.client]
        data = b"".join(self._words.encoded(step, prefix) for step in turn.steps)
        sender.send(data)
        sender.owed += len(turn.steps)
        waits = not turn.steps or len(data) > AT_ONCE or any(map(_is_flush, turn.steps))
        first = sender.arrived(at_least=sender.owed) if waits else []
        self._all_read()
        frames = {name: client.arrived() for name, client in clients.items()}
        frames[turn.client] = first + frames[turn.client]
        return frames

    def _all_read(self) -> None:
        for _ in range(2):
            self._control.call(PING)


def _is_flush(step: Step) -> bool:
    """Redis 7.4 does it behind the scenes, and its client waits meanwhile."""
    return bool(step.words) and step.words[0].upper() in (b"FLUSHALL", b"FLUSHDB")


HELLO_3 = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"


class _ProxiedClient(asyncio.Protocol):
    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self._scanner = ReplyScanner()
        self._came = asyncio.Event()
        self._is_closed = False
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, port: int) -> _ProxiedClient:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, "127.0.0.1", port))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.frames += self._scanner.feed(data)
        self._came.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closed = True
        self.frames.append(CLOSED)
        self._came.set()

    def send(self, data: bytes) -> None:
        if not self._is_closed:
            self._transport.write(data)

    async def has(self, count: int) -> bool:
        """Waits for so many frames. Whether they came: the comparison shows what did not."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while len(self.frames) < count and not self._is_closed:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pass
        return len(self.frames) >= count

    async def call(self, data: bytes) -> None:
        self.send(data)
        await self.has(1)
        self.frames.clear()

    def taken(self, count: int) -> list[bytes]:
        taken, self.frames = self.frames[:count], self.frames[count:]
        return taken

    def close(self) -> None:
        self._transport.close()


class Proxied:
    """Speaks with a proxy of this process, knowing what a server has answered."""

    def __init__(self, port: int, words: Words) -> None:
        self._port = port
        self._words = words
        self._control: _ProxiedClient

    async def open(self) -> None:
        self._control = await _ProxiedClient.open(self._port)

    def close(self) -> None:
        self._control.close()

    async def replay(
        self,
        conversation: Conversation,
        prefix: bytes,
        record: Record,
        before_turn: Callable[[int], Awaitable[None]],
    ) -> Record:
        """As many frames a turn as in the record; surplus ones are at the end. It ends early when
        some do not come."""
        clients = {name: await _ProxiedClient.open(self._port) for name in conversation.clients}
        try:
            if conversation.resp == 3:
                for client in clients.values():
                    await client.call(HELLO_3)
            answers = []
            for at, (turn, wanted) in enumerate(zip(conversation.turns, record, strict=False)):
                await before_turn(at)
                data = b"".join(self._words.encoded(step, prefix) for step in turn.steps)
                clients[turn.client].send(data)
                if len(wanted[turn.client]) < len(turn.steps):
                    # What is not answered must have been executed before anybody goes on.
                    await self._all_read()
                came = [await clients[n].has(len(frames)) for n, frames in wanted.items()]
                answers.append({n: clients[n].taken(len(frames)) for n, frames in wanted.items()})
                if not all(came):
                    return answers
            await self._all_read()
            for name, frames in record[-1].items():
                await clients[name].has(len(frames))
            answers.append({name: client.frames for name, client in clients.items()})
            return answers
        finally:
            for client in clients.values():
                client.close()

    async def _all_read(self) -> None:
        for _ in range(2):
            await self._control.call(PING)
