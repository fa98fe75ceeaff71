"""A MULTI … EXEC with SUBSCRIBE inside, which leaves its connection subscribed.

Owns how the answer to such an EXEC is taken apart, and that its connection is the subscriber's
from then on: no message is lost in between.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .block import Exec, Item, mark_written
from .commands import Kind
from .receiver import CONFIRMATIONS, HEADER, MESSAGES, UNDONE, Receiver, note
from .resp import ReplyScanner, is_error
from .subscribing import Subscriber

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger("keyferry.session")

ELSEWHERE = (
    b"-ERR Keyferry does not support '%b' inside MULTI of a client that is subscribed or tracks"
    b" keys already; send it outside of MULTI\r\n"
)


def subscribes(items: Sequence[Item]) -> bool:
    return any(item.command.kind is Kind.SUBSCRIBE for item in items)


def refusal(session: Session, name: bytes) -> bytes | None:
    """Its messages would come on two connections, each with its own counts."""
    is_free = session.subscriber is None and session.pinned is None
    return None if is_free else ELSEWHERE % name


class Unreadable(Exception):
    """It cannot have come like this."""


class Reading:
    """The answer to such an EXEC, taken apart: one channel after the other is confirmed.

    skips: messages are between the answers (Redis up to 7.0), and not behind them all. In RESP2
    only that tells a message from an array of a list's elements that looks like one.
    """

    def __init__(
        self, items: Sequence[Item], frames: Sequence[bytes], resp: int, *, skips: bool
    ) -> None:
        self.names: dict[bytes, set[bytes]] = {each: set() for each in UNDONE.values()}
        self._frames = deque(frames)
        self._kind = b">" if resp == 3 else b"*"
        self._skips = skips
        # Before each answer, and behind the last one: the messages that came there.
        self.between: list[list[bytes]] = []
        self.answers = [self._answer(item, len(items) - at) for at, item in enumerate(items)]
        self.between.append(list(self._frames))
        if not all(map(self._is_message, self._frames)):
            raise Unreadable

    def _answer(self, item: Item, due: int) -> bytes:
        messages: list[bytes] = []
        self.between.append(messages)
        frame = self._next()
        # As long as what is left is enough for the commands that are left.
        while self._skips and self._is_message(frame) and len(self._frames) >= due:
            messages.append(frame)
            frame = self._next()
        name = item.request.name.lower()
        if item.command.kind is not Kind.SUBSCRIBE or is_error(frame):
            return frame
        left = item.request.argc - 1 or max(len(self.names[UNDONE[name]]), 1)
        frames = [frame, *(self._next() for _ in range(left - 1))]
        for each in frames:
            if not each.startswith(CONFIRMATIONS, HEADER):
                raise Unreadable
            note(each, self.names)
        return b"".join(frames)

    def _next(self) -> bytes:
        if not self._frames:
            raise Unreadable
        return self._frames.popleft()

    def _is_message(self, frame: bytes) -> bool:
        return frame.startswith(self._kind) and frame.startswith(MESSAGES, HEADER)


def read(items: Sequence[Item], frames: Sequence[bytes], resp: int) -> Reading:
    try:
        return Reading(items, frames, resp, skips=False)
    except Unreadable:
        return Reading(items, frames, resp, skips=True)


class SubscribingExec(Exec):
    """Its connection becomes the subscriber's when it is sent."""

    __slots__ = ("_between", "_head", "_receiver")

    def _send(self) -> None:
        session = self.session
        self.sent_at = session.proxy.now()
        self._receiver = Receiver(self.lane, session.user)
        self._receiver.execute(self.raw, self._answered)

    def _answered(self, frames: list[bytes] | None) -> None:
        if frames is None:
            self.lost()
        else:
            self.reply(b"".join(frames))

    def _executed(self, frame: bytes) -> bytes:
        session = self.session
        try:
            answer = super()._executed(frame)
        except Unreadable:
            log.error("client %d: the answer to its EXEC cannot be read: closed", session.id)
            mark_written(session.proxy, self.db, self.items)
            session.close()
            return frame
        if self._receiver.resp == 2 and any(self._between[:-1]):
            # One of these may have been a list.
            mark_written(session.proxy, self.db, self.items)
        return answer

    def split(self, frame: bytes) -> list[bytes]:
        self._head, _, rest = frame.partition(b"\r\n")
        reading = read(self.items, ReplyScanner().feed(rest), self._receiver.resp)
        self._receiver.subscribed = reading.names
        self._between = reading.between
        return reading.answers

    def joined(self, answers: Sequence[bytes]) -> bytes:
        pieces = [self._head + b"\r\n"]
        for messages, answer in zip(self._between, [*answers, b""], strict=True):
            pieces += [*messages, answer]
        return b"".join(pieces)

    def _give_back(self) -> None:
        receiver = self._receiver
        if receiver.is_idle or self.session.is_closed:
            receiver.close()
        else:
            Subscriber(self.session, receiver)
