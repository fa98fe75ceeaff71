"""What is appended to the mirror log: effects of what the primary acknowledged, and copies of keys.

Owns what an effect becomes on the way to the secondary, its order, and the log's bound. Effects
are appended in the order of the primary's replies (design, sections 1 and 3); what goes in one
write the lane decides.
Knows nothing of how the connection comes about: that is `mirror`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from .commands import COPY_KEYS, Check, Clock
from .commands.model import Command
from .databases import Databases
from .keytable import Entry, KeyTable, Place, place_of
from .lane import Lane
from .log import Log
from .noted import Noted
from .pieces import SentPieces
from .places import hides_inputs, written_places
from .resp.encoder import encode_command
from .resp.requests import Request
from .resp.values import parse
from .sent import (
    EXEC,
    MULTI,
    Copy,
    CopyFailure,
    MirrorAway,
    SentBlock,
    SentCopies,
    SentEffect,
    SentFlush,
    SentSelect,
    SentStrings,
    SentSwap,
    joined,
    sent_effect,
)
from .sides import Side

log = logging.getLogger("keyferry.mirror")

_SAME = Check.SAME
# Bytes of a request from which on no effect is made of it: that takes two copies more of it in
# memory. Its keys are copied, large strings in pieces.
MOST_MADE_ANEW = 16 * 1024 * 1024


class AppendLog(Log):
    """The log as movers and replies see it; :class:`proxy.mirror.Mirror` is the whole of it."""

    def __init__(
        self,
        table: KeyTable,
        side: Side,
        buffer_bytes: int,
        bracket: Callable[[float], Clock],
        lacks: frozenset[str],
    ) -> None:
        super().__init__(table)
        self.side = side
        self.buffer_bytes = buffer_bytes
        self.is_connected = False
        self.lacks = lacks
        self._lacks_any = bool(lacks)
        self.copied_instead: Counter[str] = Counter()
        self.owed_flushes: list[int | None] = []
        self.refusal: str | None = None
        # Of the verification that runs.
        self.noted: Noted | None = None
        self._bracket = bracket
        self._lane: Lane | None = None
        # Effects of the step that is being appended.
        self._step: list[tuple[SentEffect | SentSelect, bytes]] | None = None
        self._db = 0
        # The log's database where the step began.
        self._db_before = 0
        self._databases = Databases()

    def record(
        self,
        db: int,
        command: Command,
        request: Request,
        places: Sequence[Place],
        frame: bytes,
        sent_at: float,
        length: int | None = None,
        at: float = 0.0,
        entry: Entry | None = None,
    ) -> None:
        """The primary answered ``request`` with ``frame``: append what it did.

        ``places`` are all that the command reads or writes, as its ticket had them;
        ``sent_at`` is on the proxy's clock; ``length`` is a probe's answer; ``entry`` is the
        table's, of its only place.
        """
        first = frame[0]
        if first in (45, 33):  # ERROR_BYTES; of constants the compiler makes a comparison.
            if command.writes_on_error:
                self._mark_written(db, command, request)
            return
        table = self.table
        if self._lacks_any and command.name in self.lacks:
            self._copy_instead(command.name)
            self._mark_written(db, command, request)
            return
        if command.moves_data and (
            table.is_everything_unproven
            or (self.noted is not None and self.noted.is_closed)
            or hides_inputs(command, request)
        ):
            self._mark_written(db, command, request)
            return
        rule = command.effect
        if rule is None or request.argc == command.verbatim_argc:
            if table.unproven and table.drops(places):
                self._mark_written(db, command, request)
                return
            if self._step is not None or command.moves_data:
                moved = written_places(db, command, request) if command.moves_data else ()
                self.append(db, request.raw, places, frame, command.name, moved, at)
            else:
                self.append_request(db, request, places, frame, command.name, at, entry)
            return
        if request.end - request.start > MOST_MADE_ANEW:
            self._mark_written(db, command, request)
            return
        value = parse(frame)
        try:
            effects = rule(
                request, value if length is None else (value, length), self._bracket(sent_at)
            )
        except Exception:
            # A reply of a shape that no rule expects must not stop the lane; what
            # the command did is found by looking.
            log.exception("the effect of %s cannot be told from its reply", command.name)
            effects = COPY_KEYS
        if effects is COPY_KEYS:
            self._mark_written(db, command, request)
            return
        if not effects:
            return
        if self.table.unproven and self.table.drops(places):
            self._mark_written(db, command, request)
            return
        moved = written_places(db, command, request) if command.moves_data else ()
        if len(effects) == 1:
            raw, check = effects[0]
            self.append(db, raw, places, _expected(check, frame), command.name, moved, at)
            return
        with self.one_step():
            for raw, check in effects:
                self.append(db, raw, places, _expected(check, frame), command.name, moved, at)

    def _copy_instead(self, name: str) -> None:
        if name not in self.copied_instead:
            log.warning("the %s does not know %s: its keys are copied", self.side.label, name)
        self.copied_instead[name] += 1

    def _mark_written(self, db: int, command: Command, request: Request) -> None:
        for place in written_places(db, command, request):
            self.table.mark_unproven(place)

    def append(
        self,
        db: int,
        raw: bytes,
        places: Sequence[Place],
        expected: bytes | None,
        name: str,
        moved: Sequence[Place] = (),
        at: float = 0.0,
    ) -> None:
        """Send one effect. ``expected``: the reply it must get; None: any but an error.

        ``moved``: which places it writes with the data of others. ``at``: now, if it is known.
        """
        size = len(raw)
        if not self._takes(db, size, places):
            return
        if moved and self.noted is not None:
            self.noted.moved(moved)
        lane = self._lane
        assert lane is not None
        self.table.appended(places)
        at = at or time.monotonic()
        effect = sent_effect(self, places, expected, name, size, at, moved)
        if self._step is None:
            lane.send(effect, raw)
        else:
            self._step.append((effect, raw))

    def append_request(
        self,
        db: int,
        request: Request,
        places: Sequence[Place],
        expected: bytes,
        name: str,
        at: float,
        entry: Entry | None,
    ) -> None:
        """Send what a client sent, as it is: most effects are this."""
        size = request.end - request.start
        if not self._takes(db, size, places):
            return
        lane = self._lane
        assert lane is not None
        if entry is None:
            self.table.appended(places)
        else:
            entry.unapplied += 1
        effect = sent_effect(self, places, expected, name, size, at or time.monotonic(), ())
        effect.entry = entry
        lane.send_request(effect, request)

    def _takes(self, db: int, size: int, places: Sequence[Place]) -> bool:
        """Whether an effect can be sent; counted then, and else its places are unproven."""
        if (
            not self.is_connected
            or self.lag_bytes + size > self.buffer_bytes
            or (db != self._db and not self._select(self._lane, db))
        ):
            for place in places:
                self.table.mark_unproven(place)
            return False
        self.lag_bytes += size
        self.lag_operations += 1
        if self.noted is not None:
            self.noted.written(places)
        return True

    @contextlib.contextmanager
    def one_step(self) -> Iterator[None]:
        """What is appended inside was one step on the primary, and will be one over there.

        Nothing may be awaited inside. Nested, it is the outer one's.
        """
        if self._step is not None:
            yield
            return
        self._step = []
        self._db_before = self._db
        try:
            yield
        finally:
            step, self._step = self._step, None
            lane = self._lane
            if step and lane is not None:
                effects = [effect for effect, _ in step]
                raw = b"".join(raw for _, raw in step)
                if len(effects) == 1:
                    lane.send(effects[0], raw)
                else:
                    lane.send_batch([SentBlock(effects)] * (len(effects) + 2), MULTI + raw + EXEC)

    def append_flush(self, db: int | None, raw: bytes) -> None:
        """Append a FLUSHDB of ``db``, or a FLUSHALL (None)."""
        self.table.unapplied_everywhere += 1
        if not self.is_connected:
            if db is None:
                self.table.unapplied_everywhere -= len(self.owed_flushes)
                self.owed_flushes.clear()
            self.owed_flushes.append(db)
            return
        assert self._lane is not None
        if db is not None and db != self._db and not self._select(self._lane, db):
            self.table.unapplied_everywhere -= 1
            self.table.mark_everything_unproven()
            return
        self.lag_operations += 1
        self._lane.send(SentFlush(self, db, time.monotonic()), raw)

    def append_swap(self, a: int, b: int, raw: bytes) -> None:
        """Append a SWAPDB of two databases, inside a barrier."""
        table = self.table
        if table.is_everything_unproven or not self.is_connected:
            # The backfill has been in one of them and not in the other, or nobody is told.
            table.mark_everything_unproven()
            return
        lane = self._lane
        assert lane is not None
        if not (self._databases.has(lane, a, self._db) and self._databases.has(lane, b, self._db)):
            table.mark_everything_unproven()
            return
        table.swap(a, b)
        if self.noted is not None:
            self.noted.swapped(a, b)
        table.unapplied_everywhere += 1
        self.lag_operations += 1
        lane.send(SentSwap(self, time.monotonic()), raw)

    def append_copies(
        self,
        db: int,
        copies: Sequence[Copy],
        plain: tuple[Sequence[bytes], bytes] = ((), b""),
        pieces: SentPieces | None = None,
    ) -> asyncio.Future[list[CopyFailure]]:
        """Send copies of keys; the future ends when the secondary answered them all.

        ``plain`` are further keys, and the wire form of one command for each of them;
        ``pieces`` went before, and the copies are right only if all of them were.
        Call it in the same step in which the lease was found untouched: an await
        between them would let a newer write be overwritten.
        Raises MirrorAway at once, or through the future.
        """
        lane = self._lane_at(db, pieces)
        keys, raw = plain
        owners = None
        if copies:
            keys, raw, owners = joined(keys, raw, copies)
        total = len(keys if owners is None else owners)
        batch = self._copies(SentCopies, db, keys, raw, owners, total)
        batch.pieces = pieces
        if not total:
            batch.future.set_result([])
            return batch.future
        lane.send_batch([batch] * total, raw)
        lane.hasten()
        return batch.future

    def append_strings(
        self, db: int, keys: Sequence[bytes], raw: bytes
    ) -> asyncio.Future[list[CopyFailure]]:
        """Send one command that makes all of ``keys``, else as :meth:`append_copies`."""
        lane = self._lane_at(db)
        batch = self._copies(SentStrings, db, keys, raw, None, 1)
        lane.send(batch, raw)
        lane.hasten()
        return batch.future

    def _copies(
        self,
        kind: type[SentCopies],
        db: int,
        keys: Sequence[bytes],
        raw: bytes,
        owners: list[int] | None,
        commands: int,
    ) -> SentCopies:
        """Copies that are about to be sent, noted and counted."""
        places = [place_of(db, key) for key in keys] if db else keys
        number = self.table.copies_appended(places)
        self.lag_bytes += len(raw)
        self.lag_operations += commands
        return kind(self, places, number, owners, len(raw), commands, time.monotonic())

    def begin_pieces(self, db: int) -> SentPieces:
        """Begin a copy in pieces, one at a time. Raises MirrorAway."""
        pieces = SentPieces(self, self._lane_at(db), db)
        pieces.begin()
        return pieces

    def append_piece(self, pieces: SentPieces, piece: bytes | None) -> None:
        """Append the next piece; None: the copy is given up. Raises MirrorAway."""
        self._lane_at(pieces.db, pieces)
        if piece is None:
            pieces.abandon()
        else:
            pieces.add(piece)

    def _lane_at(self, db: int, pieces: SentPieces | None = None) -> Lane:
        """The connection, in this database. Raises MirrorAway; also where `pieces` had another."""
        lane = self._lane
        if pieces is not None and pieces.lane is not lane:
            raise MirrorAway("the mirror's connection was lost amid a copy")
        if not self.is_connected:
            raise MirrorAway(f"the mirror to the {self.side.label} is not connected")
        assert lane is not None
        if db != self._db and not self._select(lane, db):
            raise MirrorAway(f"the {self.side.label} has no database {db}, or was not asked yet")
        return lane

    def gone_astray(self, db: int) -> None:
        """A SELECT was refused: what was sent behind it has been written in ``db``."""
        raise NotImplementedError

    def _select(self, lane: Lane | None, db: int) -> bool:
        """Change the connection's database. False: the secondary is not known to have it."""
        assert lane is not None
        # What is asked now goes in front of the step that is being made.
        current = self._db if self._step is None else self._db_before
        if not self._databases.has(lane, db, current):
            return False
        effect = SentSelect(self, self._db, time.monotonic())
        raw = encode_command(b"SELECT", b"%d" % db)
        self._db = db
        self.lag_operations += 1
        if self._step:
            self._step.append((effect, raw))
        else:
            # In front of a step: it counts even if the secondary refuses the step.
            self._db_before = db
            lane.send(effect, raw)
        return True


def _expected(check: Check | bytes, frame: bytes) -> bytes | None:
    """What the secondary must answer where the primary answered ``frame``; None: no error."""
    if isinstance(check, bytes):
        return check
    return frame if check is _SAME else None
