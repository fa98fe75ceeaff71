"""A client that waits in the store, on a connection of its own.

Owns that connection while it waits, and how it is called back: with CLIENT UNBLOCK, which answers
1 where the client was waiting and has been answered nil, and 0 where it had been served, or is not
there yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from .lane import Lane
from .op import Op
from .ops import Reaction, ignore
from .own import Borrowed, select
from .resp import Request, encode_command
from .waiter import Waiter

if TYPE_CHECKING:
    from .blocking import Parking

log = logging.getLogger("keyferry.blocking")

# Not executed while clients are paused, and of no effect: a CLIENT UNBLOCK behind it never meets
# a client that is held by a pause, which ends Redis 6.2 to 7.4 and Valkey 8.0 (measured).
_NOT_PAUSED = encode_command(b"PFCOUNT", b"keyferry:nothing")
_UNBLOCKED = b":1\r\n"
_PAUSE_S = 0.001
NULLS = (b"*-1\r\n", b"$-1\r\n", b"_\r\n")


class Blocked(Op):
    """See the module's docstring."""

    __slots__ = ("_borrowed", "_is_recalled", "_parking", "_reply", "_unblocking", "waiter")

    def __init__(self, parking: Parking, waiter: Waiter) -> None:
        self.waiter = waiter
        self._parking = parking
        self._borrowed = Borrowed(waiter.session, pinned=False)
        self._is_recalled = False
        self._reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        # A CLIENT UNBLOCK of a client's.
        self._unblocking: asyncio.Task[None] | None = None

    @property
    def lane(self) -> Lane:
        return self._borrowed.lane

    def send(self, request: Request) -> None:
        """Let it wait."""
        lane = self.lane
        self.waiter.session.once = self._borrowed
        select(lane, self.waiter.db)
        lane.send(self, request.raw)

    def reply(self, frame: bytes) -> None:
        self._leave()
        self._reply.set_result(frame)
        if not self._is_recalled and not self.waiter.is_over:
            self._deliver(frame)

    def lost(self) -> None:
        self._leave()
        if not self._reply.done():
            self._reply.set_result(b"")
        self.waiter.lost()

    def _leave(self) -> None:
        session = self.waiter.session
        if session.once is self._borrowed:
            session.once = None
            if self._unblocking is None:
                self._borrowed.give_back(session)
            else:
                # One that is on its way would end the next client's wait there.
                self._borrowed.discard()
        self._parking.blocked.pop(self.waiter, None)

    def _deliver(self, frame: bytes) -> None:
        self.waiter.finish()
        self.waiter.answer(frame)

    async def recall(self) -> None:
        """Back from the store, or with what that has given it."""
        self._is_recalled = True
        answer = await self._called_back(b"TIMEOUT")
        if answer.startswith(b"-"):
            log.error("a client that waits in the store cannot be called back: closed")
            self.waiter.session.close()
            self._borrowed.discard()
        frame = await self._reply
        if not self.waiter.is_over and not (answer == _UNBLOCKED and frame in NULLS):
            self._deliver(frame)

    def unblock(self, is_error: bool, then: Callable[[bool], None]) -> None:
        """A client's CLIENT UNBLOCK: what the store says is the answer of both."""

        async def unblock() -> None:
            answer = await self._called_back(b"ERROR" if is_error else b"TIMEOUT")
            then(answer == _UNBLOCKED)

        if self._unblocking is not None:
            then(False)  # Somebody else has, a moment ago.
            return
        loop = asyncio.get_running_loop()
        self._unblocking = loop.create_task(unblock(), name="CLIENT UNBLOCK in the store")

    async def _called_back(self, how: bytes) -> bytes:
        """The store's answer: that it was waiting, or an error; or 0 when it has its reply."""
        lane = self.lane
        await lane.ready()
        while not self._reply.done():
            answer = await self._ask(how)
            if answer != b":0\r\n":
                return answer
            # It has been served, and that is on its way; or it is not there yet.
            await asyncio.sleep(_PAUSE_S)
        return b":0\r\n"

    async def _ask(self, how: bytes) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answered(frame: bytes | None) -> None:
            if not answer.done():
                answer.set_result(frame if frame is not None else b"-lost\r\n")

        number = b"%d" % (self.lane.client_id or 0)
        unblock = encode_command(b"CLIENT", b"UNBLOCK", number, how)
        admin = self._parking.proxy.admin_lane(self.lane.side)
        admin.send_batch([Reaction(ignore), Reaction(answered)], _NOT_PAUSED + unblock)
        return await answer
