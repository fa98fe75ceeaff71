"""A copy of one large string on its way to the secondary, in pieces.

The pieces are appended to a key of Keyferry's own, and the last step renames that: so nothing is
seen of a half, and no more than some pieces are in memory. Owns the answers to the pieces. That the
string was not touched meanwhile is for the caller to know, as with every copy.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from .op import Op
from .resp.encoder import encode_command

if TYPE_CHECKING:
    from .append import AppendLog
    from .lane import Lane

# It is there while a large string is copied, in the database of that.
KEY = b"keyferry:copy"


class SentPieces(Op):
    """Stands in the FIFO of the mirror's lane once for each command."""

    __slots__ = ("_sent", "db", "failed", "lane", "length", "mirror")

    def __init__(self, mirror: AppendLog, lane: Lane, db: int) -> None:
        self.mirror = mirror
        self.lane = lane
        self.db = db
        self.length = 0
        self.failed: bytes | None = None
        """The first answer that was not the right one."""
        self._sent: deque[tuple[int, bytes | None, float]] = deque()

    @property
    def at(self) -> float:
        """When the oldest of what is not answered was sent."""
        return self._sent[0][2]

    def begin(self) -> None:
        """Nothing of an earlier copy is in the way."""
        self._send(None, b"UNLINK", KEY)

    def add(self, piece: bytes) -> None:
        self.length += len(piece)
        # If anything is missing the length says so.
        self._send(b":%d\r\n" % self.length, b"APPEND", KEY, piece)

    def abandon(self) -> None:
        self._send(None, b"UNLINK", KEY)

    def _send(self, expected: bytes | None, *words: bytes) -> None:
        raw = encode_command(*words)
        self._sent.append((len(raw), expected, time.monotonic()))
        self.mirror.lag_bytes += len(raw)
        self.mirror.lag_operations += 1
        self.lane.send(self, raw)
        self.lane.hasten()

    def reply(self, frame: bytes) -> None:
        size, expected, _ = self._sent.popleft()
        self.mirror.lag_bytes -= size
        self.mirror.lag_operations -= 1
        if expected is not None and frame != expected and self.failed is None:
            self.failed = frame if frame[0] == 45 else b"-ERR a copy in pieces is not whole\r\n"

    def lost(self) -> None:
        size, _, _ = self._sent.popleft()
        self.mirror.lag_bytes -= size
        self.mirror.lag_operations -= 1
