"""What the mirror has sent and the secondary has not answered yet.

Owns the moment of the secondary's reply: the comparison of an effect, the proof of
a copy, and what is unproven when the connection is lost first. Stands in the
FIFO of the mirror's lane.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .keytable import Entry, Place
from .log import Log
from .op import Op
from .resp import ReplyScanner
from .resp.values import is_error

if TYPE_CHECKING:
    from .append import AppendLog
    from .pieces import SentPieces

log = logging.getLogger("keyferry.mirror")

MULTI = b"*1\r\n$5\r\nMULTI\r\n"
EXEC = b"*1\r\n$4\r\nEXEC\r\n"
ERROR_BYTES = (45, 33)  # ord("-"), ord("!")

# The secondary answers, and refuses whatever it is sent: it counts as away, not
# as diverged (design, section 2).
AWAY = (
    b"-OOM", b"-LOADING", b"-READONLY", b"-MISCONF", b"-NOPERM", b"-NOAUTH", b"-BUSY ",
    b"-MASTERDOWN", b"-CLUSTERDOWN", b"-NOREPLICAS",
)  # fmt: skip


# It does not know the command, or this form of it, or the payload of a RESTORE: an older one.
NOT_UNDERSTOOD = (
    b"-ERR unknown command", b"-ERR unknown subcommand", b"-ERR Unknown subcommand",
    b"-ERR wrong number of arguments", b"-ERR syntax error", b"-ERR DUMP payload version",
    b"-ERR Bad data format",
)  # fmt: skip


class MirrorAway(Exception):
    """The secondary cannot be reached, or was lost while something was under way."""


class Copy(Protocol):
    """What makes one key on the secondary: encoded commands, in order, at least one."""

    key: bytes
    commands: list[bytes]


class CopyFailure(NamedTuple):
    """A copy that the secondary refused: its own words."""

    place: Place
    error: str
    is_away: bool


def as_one_step(commands: list[bytes]) -> list[bytes]:
    """Commands that nobody may see the half of."""
    return commands if len(commands) == 1 else [MULTI, *commands, EXEC]


def joined(
    keys: Sequence[bytes], raw: bytes, copies: Sequence[Copy]
) -> tuple[list[bytes], bytes, list[int]]:
    """Keys with one command each, and copies behind them: all keys, all commands, whose each is."""
    owners = list(range(len(keys)))
    commands = [raw]
    for at, copy in enumerate(copies, len(keys)):
        steps = as_one_step(copy.commands)
        commands += steps
        owners += [at] * len(steps)
    return [*keys, *(copy.key for copy in copies)], b"".join(commands), owners


def split_array(frame: bytes) -> list[bytes]:
    """The raw frames of an array's elements."""
    return ReplyScanner().feed(frame[frame.index(b"\r\n") + 2 :])


def is_executed(frame: bytes) -> bool:
    """Whether an EXEC was carried out: not refused, and no watched key has changed."""
    return frame.startswith(b"*") and not frame.startswith(b"*-")


def is_away_error(frame: bytes) -> bool:
    return frame.startswith(AWAY)


class SentEffect(Op):
    """One effect that waits for the secondary's reply."""

    __slots__ = ("at", "entry", "expected", "mirror", "moved", "name", "places", "size")

    mirror: Log
    places: Sequence[Place]
    expected: bytes | None
    moved: Sequence[Place]
    """What it made of other keys: no better than those were."""
    name: str
    size: int
    at: float
    entry: Entry | None
    """The table's, of its only place, if it is known."""

    def reply(self, frame: bytes) -> None:
        mirror = self.mirror
        table = mirror.table
        mirror.lag_bytes -= self.size
        mirror.lag_operations -= 1
        if frame != self.expected:
            mirror.compare(self, frame)
        # An input may have turned out to differ since this was sent behind it.
        if self.moved and table.unproven and any(map(table.is_unproven, self.places)):
            for place in self.moved:
                table.mark_wherever(place)
        entry = self.entry
        if entry is not None:
            table.applied_one(self.places[0], entry)
        else:
            table.applied(self.places)

    def lost(self) -> None:
        mirror = self.mirror
        mirror.lag_bytes -= self.size
        mirror.lag_operations -= 1
        for place in self.places:
            mirror.table.mark_unproven(place)
        mirror.table.applied(self.places)


def sent_effect(
    mirror: Log,
    places: Sequence[Place],
    expected: bytes | None,
    name: str,
    size: int,
    at: float,
    moved: Sequence[Place] = (),
) -> SentEffect:
    """A constructor, compiled far cheaper than one; for every write there is one of these."""
    effect = SentEffect.__new__(SentEffect)
    effect.mirror = mirror
    effect.places = places
    effect.expected = expected
    effect.moved = moved
    effect.name = name
    effect.size = size
    effect.at = at
    effect.entry = None
    return effect


class SentSelect(Op):
    """A SELECT on its way. ``db``: where the connection stays if it is refused."""

    __slots__ = ("at", "db", "mirror")

    def __init__(self, mirror: AppendLog, db: int, at: float) -> None:
        self.mirror = mirror
        self.db = db
        self.at = at

    def reply(self, frame: bytes) -> None:
        self.mirror.lag_operations -= 1
        if is_error(frame):
            self.mirror.gone_astray(self.db)

    def lost(self) -> None:
        self.mirror.lag_operations -= 1


class SentBlock(Op):
    """Effects of one step of the primary: one step on the secondary, too.

    Else a read there could see half of it. Stands in the FIFO once for MULTI, for each
    effect, and for EXEC.
    """

    __slots__ = ("at", "effects", "index", "refusal")

    def __init__(self, effects: Sequence[SentEffect | SentSelect]) -> None:
        self.effects = effects
        self.at = effects[0].at
        self.index = 0
        self.refusal: bytes | None = None

    def reply(self, frame: bytes) -> None:
        self.index += 1
        if self.index < len(self.effects) + 2:
            if frame[0] in ERROR_BYTES:
                self.refusal = self.refusal or frame
            return
        if frame.startswith(b"*") and not frame.startswith(b"*-"):
            answers = split_array(frame)
        else:
            # What was wrong is said where it was queued; EXEC only says that it was.
            answers = [self.refusal or frame] * len(self.effects)
        for effect, answer in zip(self.effects, answers, strict=True):
            effect.reply(answer)

    def lost(self) -> None:
        if self.index <= len(self.effects) + 1:
            self.index = len(self.effects) + 2
            for effect in self.effects:
                effect.lost()


class SentFlush(Op):
    """A FLUSHDB or FLUSHALL on its way; lost or refused, it is owed."""

    __slots__ = ("at", "db", "mirror")

    def __init__(self, mirror: AppendLog, db: int | None, at: float) -> None:
        self.mirror = mirror
        self.db = db
        self.at = at

    def reply(self, frame: bytes) -> None:
        self.mirror.lag_operations -= 1
        if is_error(frame):
            log.warning("the %s refused a flush: %r", self.mirror.side.label, frame)
            self.mirror.table.unapplied_everywhere -= 1
            self.mirror.table.mark_everything_unproven()
        else:
            self.mirror.table.unapplied_everywhere -= 1

    def lost(self) -> None:
        self.mirror.lag_operations -= 1
        self.mirror.owed_flushes.append(self.db)


class SentSwap(Op):
    """A SWAPDB on its way; lost or refused, every key may be in the wrong database."""

    __slots__ = ("at", "mirror")

    def __init__(self, mirror: AppendLog, at: float) -> None:
        self.mirror = mirror
        self.at = at

    def reply(self, frame: bytes) -> None:
        self.mirror.lag_operations -= 1
        self.mirror.table.unapplied_everywhere -= 1
        if is_error(frame):
            log.warning("the %s refused SWAPDB: %r", self.mirror.side.label, frame)
            self.mirror.table.mark_everything_unproven()

    def lost(self) -> None:
        self.reply(b"-lost\r\n")


class SentCopies(Op):
    """Copies of several keys; stands in the lane's FIFO once per command.

    ``number`` is the table's for all of ``places``; ``owners`` says by its index whose each
    command is, None: each place has one.
    """

    __slots__ = (
        "at", "errors", "future", "index", "mirror", "number", "owners", "pieces", "places", "size",
        "total",
    )  # fmt: skip

    def __init__(
        self,
        mirror: AppendLog,
        places: Sequence[Place],
        number: int,
        owners: list[int] | None,
        size: int,
        total: int,
        at: float,
    ) -> None:
        self.mirror = mirror
        self.places = places
        self.number = number
        self.owners = owners
        self.size = size
        self.total = total
        self.index = 0
        self.at = at
        self.errors: list[tuple[int, bytes]] = []
        # What went before them, of a copy in pieces.
        self.pieces: SentPieces | None = None
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[CopyFailure]] = loop.create_future()

    def reply(self, frame: bytes) -> None:
        if frame[0] == 45:
            self.errors.append((self.index, frame))
        elif frame[0] == 42 and b"\r\n-" in frame:
            # The EXEC around a copy of several commands, of which one has failed.
            at = frame.index(b"\r\n-") + 2
            self.errors.append((self.index, frame[at : frame.index(b"\r\n", at)]))
        self.index += 1
        if self.index == self.total:
            self._finish()

    def _finish(self) -> None:
        mirror = self.mirror
        table = mirror.table
        mirror.lag_bytes -= self.size
        mirror.lag_operations -= self.total
        if self.pieces is not None and self.pieces.failed is not None:
            self.errors.insert(0, (0, self.pieces.failed))
        failures = self._failures() if self.errors else []
        for failure in failures:
            table.mark_unproven(failure.place)
        table.copies_applied(self.places, self.number)
        if failures and any(failure.is_away for failure in failures):
            mirror.refusal = failures[0].error
        elif not failures:
            mirror.refusal = None
        if not self.future.done():
            self.future.set_result(failures)

    def _failures(self) -> list[CopyFailure]:
        owners = self.owners
        failed: dict[int, bytes] = {}
        for index, frame in self.errors:
            failed.setdefault(index if owners is None else owners[index], frame)
        return [self._failure(self.places[at], frame) for at, frame in failed.items()]

    def _failure(self, place: Place, frame: bytes) -> CopyFailure:
        return CopyFailure(place, frame[1:].strip().decode(errors="replace"), is_away_error(frame))

    def lost(self) -> None:
        if self.index == self.total:
            return
        self.index = self.total
        self.mirror.lag_bytes -= self.size
        self.mirror.lag_operations -= self.total
        for place in self.places:
            self.mirror.table.mark_unproven(place)
        if not self.future.done():
            self.future.set_exception(MirrorAway("the mirror's connection was lost"))
            self.future.exception()


class SentStrings(SentCopies):
    """Copies of several keys by one command: if it is refused, none of them was made."""

    __slots__ = ()

    def _failures(self) -> list[CopyFailure]:
        [(_, frame)] = self.errors
        return [self._failure(place, frame) for place in self.places]


def sent_places(op: Op) -> list[Place]:
    """The places that something in the FIFO of the mirror's lane writes."""
    if isinstance(op, SentEffect):
        return list(op.places)
    if isinstance(op, SentBlock):
        return [place for effect in op.effects for place in sent_places(effect)]
    return list(op.places) if isinstance(op, SentCopies) else []
