"""What the hot path asks of the proxy, and of a client: the state that each command needs.

Owns nothing but these fields and the two steps that every reply takes. `Proxy` and
`Session` are the whole of both; they are split so that compiled code reads the fields
directly, and so that no module needs another one's class before that is made.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from zlib import crc32

from .commands.table import CommandTable
from .counts import CommandClass, Histogram, Tally
from .keytable import KeyTable, Place
from .metrics import Stats
from .op import Op
from .poll import Poll
from .sides import Side

if TYPE_CHECKING:
    from .lane import Lane
    from .mirror import Mirror
    from .resp.requests import Request
    from .waiter import Waiter


_TARGET = Side.TARGET


class Plane:
    """What all clients share. `primary` is the side that executes writes first."""

    __slots__ = (
        "commands", "dirty", "mirror", "now", "poll", "primary", "read_percent", "seconds",
        "splits_reads", "stats", "table", "tallies", "waiting",
    )  # fmt: skip

    def __init__(self, commands: CommandTable, primary: Side, unproven_limit: int) -> None:
        self.commands = commands
        self.primary = primary
        self.table = KeyTable(unproven_limit)
        self.mirror: Mirror | None = None
        self.stats = Stats()
        self.tallies: list[Tally] = self.stats.commands
        self.seconds = self.stats.command_seconds
        # Clients that have something to write, until the batch of replies is through.
        self.dirty: list[Client] = []
        # Of the reads, by key, so many are the target's; whether any are the secondary's.
        self.read_percent = 0
        self.splits_reads = False
        # How the loop waits; whoever owns the process says how long it may look.
        self.poll = Poll()
        # Who waits at a place for something to come, in order of arrival.
        self.waiting: dict[Place, dict[Waiter, None]] = {}
        # Not the loop's clock: uvloop's has milliseconds.
        self.now = time.monotonic

    def shifts(self, key: bytes) -> bool:
        """Whether reads of this key are the secondary's: by its hash, so that they stay there."""
        hashed = crc32(key)
        is_targets: bool = hashed % 100 < self.read_percent
        # Compiled, `==` compares numbers, and `is` would make objects of them.
        return is_targets == (self.primary is not _TARGET)

    def flush_dirty(self) -> None:
        """Write what a batch of upstream replies gave to the clients."""
        self.poll.stir(False)
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for client in dirty:
                client.flush()


class Client(Op):
    """One client: what has been sent for it, and what is to be written to it."""

    __slots__ = (
        "db", "is_dirty", "is_silent", "out", "outstanding", "plane", "ran_at", "sample_at",
        "sample_kind", "sample_side",
    )  # fmt: skip

    def __init__(self, plane: Plane, db: int) -> None:
        self.plane = plane
        self.db = db
        self.out: list[bytes] = []
        self.outstanding = 0
        self.is_dirty = False
        # Nothing more is to be written to it: it is closed, or has asked for silence.
        self.is_silent = False
        # When commands were last sent.
        self.ran_at = 0.0
        # Latency is sampled: one command of each batch that a client sends; 0: none is under way.
        self.sample_at = 0.0
        self.sample_side = Side.SOURCE
        self.sample_kind = CommandClass.READ

    def count(self, side: Side, kind: CommandClass, times: int = 1) -> None:
        """Commands of one kind go to ``side`` now."""
        if not self.outstanding:
            self.sample_at = self.ran_at
            self.sample_side = side
            self.sample_kind = kind
        self.outstanding += 1
        tally: Tally = self.plane.tallies[side]
        tally.add(kind, times)

    def observe(self, lane: Lane | None) -> None:
        """The sampled command is answered; its reply is most likely the last that ``lane`` got."""
        at = 0.0 if lane is None else lane.heard_at
        if at < self.sample_at:
            at = self.plane.now()
        seconds: Histogram = self.plane.seconds[self.sample_side][self.sample_kind]
        seconds.observe(at - self.sample_at)
        self.sample_at = 0.0

    def reply(self, frame: bytes) -> None:
        """The raw reply to the oldest outstanding command."""
        self.outstanding -= 1
        if self.is_silent:
            self.kept_back()
            return
        self.out.append(frame)
        if not self.is_dirty:
            self.soil()

    def soil(self) -> None:
        """Have :meth:`flush` called behind the batch of replies."""
        if not self.is_dirty:
            self.is_dirty = True
            self.plane.dirty.append(self)

    def ask_primary(self, read: Op, request: Request) -> None:
        """Send a read to the primary once more."""
        raise NotImplementedError

    def weigh(self) -> None:
        """It may hold much."""
        raise NotImplementedError

    def kept_back(self) -> None:
        """No reply is written; what it held back goes on as if it had been."""
        raise NotImplementedError

    def flush(self) -> None:
        """Behind a batch of replies: write them, and go on with what they held back."""
        raise NotImplementedError
