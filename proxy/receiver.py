"""A connection of one client's own that messages come on.

Owns what is subscribed on it, and which of its frames are messages, confirmations and answers.
It speaks the client's protocol, so that all of them are passed on as they come; and since in
RESP2 only their contents tell messages from answers, nothing of it is in the lane's own FIFO.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from .lane import PUSH, Lane
from .resp import encode_command, is_error, parse
from .resp.encoder import bulk

if TYPE_CHECKING:
    from .server import User

PLUS = 43  # ord("+")
# Behind the header of a frame, which is 4 bytes long for each of them.
HEADER = 4
MESSAGES = tuple(map(bulk, (b"message", b"pmessage", b"smessage", b"invalidate")))
# What undoes what.
UNDONE = {
    b"unsubscribe": b"subscribe",
    b"punsubscribe": b"psubscribe",
    b"sunsubscribe": b"ssubscribe",
}
CONFIRMATIONS = tuple(map(bulk, (*UNDONE, *UNDONE.values())))
# Channels of one command when a client's subscriptions are made again.
BATCH = 1000


class Awaited(Protocol):
    """Who waits for the answer to one command."""

    def confirmed(self, frame: bytes, is_last: bool) -> None:
        """One channel, of those that the command names."""

    def answered(self, frame: bytes) -> None:
        """The whole answer: an error, or of a command that does not subscribe."""

    def lost(self) -> None:
        """The connection ended first."""


class Asked:
    """An operation of our own: a future of the error, or of None when all is confirmed."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[bytes | None] = loop.create_future()

    def confirmed(self, frame: bytes, is_last: bool) -> None:
        if is_last:
            self._set(None)

    def answered(self, frame: bytes) -> None:
        self._set(frame if is_error(frame) else None)

    def _set(self, error: bytes | None) -> None:
        if not self.future.done():
            self.future.set_result(error)

    def lost(self) -> None:
        if not self.future.done():
            self.future.set_exception(ConnectionResetError("a subscriber's connection was lost"))
            self.future.exception()  # Whoever is gone need not look.


class Receiver:
    """See the module's docstring.

    ``on_message`` gets the messages, and what MONITOR prints; None: nobody is to have them yet,
    or any more.
    ``on_lost`` runs once when the connection has ended, unless :meth:`close` ended it.
    """

    __slots__ = (
        "_awaited", "_block", "is_monitor", "lane", "on_lost", "on_message", "resp", "subscribed",
        "user",
    )  # fmt: skip

    def __init__(self, lane: Lane, user: User) -> None:
        self.lane = lane
        self.user = user
        self.resp: int = lane.resp
        self.on_message: Callable[[bytes], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        # By the command that subscribes, the names.
        self.subscribed: dict[bytes, set[bytes]] = {each: set() for each in UNDONE.values()}
        self.is_monitor = False
        # Who waits, and for how many confirmations.
        self._awaited: deque[tuple[Awaited, int]] = deque()
        # What has come of a block, what is in the answer behind it, and who gets it.
        self._block: tuple[list[bytes], bytes, Callable[[list[bytes] | None], None]] | None = None
        lane.divert(self._received, self._lost)

    @property
    def is_asked(self) -> bool:
        """Something of what was sent is not answered."""
        return bool(self._awaited)

    @property
    def is_idle(self) -> bool:
        """Nothing is asked, and nothing would come."""
        return not (self._awaited or self.is_monitor or any(self.subscribed.values()))

    def ask(self, awaited: Awaited, raw: bytes, confirmations: int = 1) -> None:
        """Send a command that is confirmed so many times, or answered once."""
        if self.lane.is_lost:
            awaited.lost()
            return
        self._awaited.append((awaited, confirmations))
        self.lane.write(raw)

    def call(self, *words: bytes, confirmations: int = 1) -> asyncio.Future[bytes | None]:
        """A command of our own: its error, or None. The future raises ConnectionError."""
        asked = Asked()
        self.ask(asked, encode_command(*words), confirmations)
        return asked.future

    async def become(self, other: Receiver) -> bytes | None:
        """Subscribe to what the other one is, and to nothing else; returns the first error.

        Raises ConnectionError.
        """
        error = await self.lane.ready()
        if error is not None:
            return error
        sent = []
        for undo, do in UNDONE.items():
            has, wants = self.subscribed[do], other.subscribed[do]
            for command, missing in ((do, list(wants - has)), (undo, list(has - wants))):
                for at in range(0, len(missing), BATCH):
                    names = missing[at : at + BATCH]
                    sent.append(self.call(command, *names, confirmations=len(names)))
        if other.is_monitor and not self.is_monitor:
            sent.append(self.call(b"MONITOR"))
        errors = [await each for each in sent]
        self.is_monitor = other.is_monitor
        return next(filter(None, errors), None)

    def is_same(self, other: Receiver) -> bool:
        """Whether it is ready, for the same client, and subscribed to the same."""
        return (
            self.lane.is_ready
            and not self._awaited
            and (self.user, self.resp) == (other.user, other.resp)
            and self.is_monitor is other.is_monitor
            and self.subscribed == other.subscribed
        )

    def retire(self) -> None:
        """Nobody wants its messages any more; it has still to be closed."""
        self.on_message = self.on_lost = None

    def close(self) -> None:
        self.retire()
        self.lane.close()

    def _lost(self, lane: Lane) -> None:
        awaited, self._awaited = self._awaited, deque()
        for each, _ in awaited:
            each.lost()
        block, self._block = self._block, None
        if block is not None:
            block[2](None)
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def execute(self, raw: bytes, then: Callable[[list[bytes] | None], None]) -> None:
        """Send the EXEC of a block that subscribes; ``then`` gets all that comes, None: it is lost.

        The array that it is answered by announces one element per command, but there is one
        per channel, and with messages among them (Redis up to 7.0). So where it ends is told by
        the answer to a command that no store knows; that needs no rights.
        """
        if self.lane.is_lost:
            then(None)
            return
        name = b"keyferry:" + secrets.token_hex(8).encode()
        self._block = ([], name, then)
        self.lane.write(raw + encode_command(name))

    def _received(self, frame: bytes) -> None:
        if self._block is not None:
            frames, end, then = self._block
            if is_error(frame) and end in frame:
                self._block = None
                then(frames)
            else:
                frames.append(frame)
            return
        is_message = frame.startswith(MESSAGES, HEADER)
        is_confirmation = not is_message and frame.startswith(CONFIRMATIONS, HEADER)
        if not is_message and not is_confirmation:
            # MONITOR prints the time first, as a status; no other begins with a digit.
            is_message = frame[0] == PUSH or (frame[0] == PLUS and frame[1:2].isdigit())
        if is_message:
            if self.on_message is not None:
                self.on_message(frame)
            return
        if not self._awaited:
            raise AssertionError(f"{self.lane}: an answer to nothing: {frame[:40]!r}")
        awaited, left = self._awaited[0]
        if not is_confirmation:
            self._awaited.popleft()
            awaited.answered(frame)
            return
        note(frame, self.subscribed)
        if left == 1:
            self._awaited.popleft()
        else:
            self._awaited[0] = (awaited, left - 1)
        awaited.confirmed(frame, left == 1)


def note(frame: bytes, names: dict[bytes, set[bytes]]) -> None:
    """One channel is confirmed: what is subscribed now, by the command that does it."""
    word, name, _ = parse(frame)
    undone = UNDONE.get(word)
    if undone is None:
        names[word].add(name)
    else:
        names[undone].discard(name)
