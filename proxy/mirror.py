"""The mirror log: what the primary acknowledged, on its way to the secondary.

Owns the connection to the secondary, the effects that are sent and not yet
answered there, and the comparison of both replies. Effects are appended in the
order of the primary's replies and sent at once (design, sections 1 and 3).

It never makes a client wait. While the secondary is away, or the log is past
its bound, effects are dropped and their keys become unproven, each once.
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
from .endpoint import Endpoint
from .keytable import Entry, KeyTable, Place, db_and_key, place_of
from .lane import Call, Lane, login_of
from .log import Log
from .places import hides_inputs, written_places
from .resp.encoder import encode_command
from .resp.requests import Request
from .resp.values import is_error, parse, same_reply
from .sent import (
    ERROR_BYTES,
    EXEC,
    MULTI,
    NOT_UNDERSTOOD,
    Copy,
    CopyFailure,
    MirrorAway,
    SentBlock,
    SentCopies,
    SentEffect,
    SentFlush,
    SentSelect,
    SentSwap,
    is_away_error,
    joined,
    sent_effect,
    sent_places,
)
from .sides import Side
from .takeover import end_predecessors, flush, run_id_of

log = logging.getLogger("keyferry.mirror")

HEARTBEAT_S = 0.5
# No client waits for what goes to the secondary: there it costs least in large batches.
GATHER_S = 0.001
_SAME = Check.SAME


class Mirror(Log):
    """The log in one direction: to ``side``, over one connection.

    ``lacks`` are the commands whose effects the secondary does not know: their keys are
    copied instead, as are those of a form that it turns out not to understand.
    ``copied_instead`` counts both, by command.

    ``run_id`` is the secondary's when its contents were last known to be what
    was acknowledged; a different one means that acknowledged effects may be gone.
    """

    def __init__(
        self,
        table: KeyTable,
        endpoint: Endpoint,
        side: Side,
        *,
        buffer_bytes: int = 64 * 1024 * 1024,
        run_id: str | None = None,
        bracket: Callable[[float], Clock],
        on_divergence: Callable[[str], None] = lambda name: None,
        on_connected: Callable[[Side], None] = lambda side: None,
        lacks: frozenset[str] = frozenset(),
        name: bytes = b"keyferry-mirror",
    ) -> None:
        super().__init__(table)
        self.endpoint = endpoint
        self.side = side
        self.buffer_bytes = buffer_bytes
        self.run_id = run_id
        self.is_connected = False
        self.refusal: str | None = None
        self.divergences = 0
        self.lacks = lacks
        self._lacks_any = bool(lacks)
        self.copied_instead: Counter[str] = Counter()
        self.owed_flushes: list[int | None] = []
        self._bracket = bracket
        self._name = name
        self._on_divergence = on_divergence
        self._on_connected = on_connected
        self._loop = asyncio.get_running_loop()
        self._lane: Lane | None = None
        # Effects of the step that is being appended.
        self._step: list[tuple[SentEffect | SentSelect, bytes]] | None = None
        self._db = 0
        # The log's database where the step began.
        self._db_before = 0
        self._databases = Databases()
        self._has_room = asyncio.Event()
        self._lost = asyncio.Event()
        self._task = self._loop.create_task(self._stay_connected(), name=f"mirror to {side.label}")

    # -- the connection ----------------------------------------------------------

    async def _stay_connected(self) -> None:
        pause = 0.05
        while True:
            self._lost.clear()
            lane = self._lane = Lane(
                self.endpoint,
                self.side,
                user=login_of(self.endpoint),
                name=self._name,
                after_batch=self._after_batch,
                on_lost=self._on_lost,
                gather_s=GATHER_S,
            )
            try:
                if await lane.ready() is None and await self._take_over(lane):
                    pause = 0.05
                    await self._beat(lane)
            except ConnectionError:
                pass
            except Exception:
                log.exception("the mirror to the %s cannot be taken over", self.side.label)
            finally:
                if not lane.is_lost:
                    lane.close()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _beat(self, lane: Lane) -> None:
        """Until the connection is lost: have something under way, so that the lag is true."""
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._lost.wait()
            if not lane.ops:
                lane.send(Call(), b"*1\r\n$4\r\nPING\r\n")

    async def _take_over(self, lane: Lane) -> bool:
        """Make sure of what the secondary is, and of what the last connection left."""
        info = await lane.call(b"INFO", b"server")
        if is_error(info):
            self.refusal = info[1:].strip().decode(errors="replace")
            return False
        run_id = run_id_of(parse(info))
        if self.run_id is not None and self.run_id != run_id:
            log.error(
                "the %s was restarted or replaced: acknowledged writes may be gone there, "
                "so everything must be copied again",
                self.side.label,
            )
            self.table.mark_everything_unproven()
        await end_predecessors(lane, self._name)
        self.run_id = run_id
        self._db = 0
        await self._databases.learn(lane)
        self.refusal = None
        while self.owed_flushes:
            # It stays owed until it is done: a stop, or a loss, may come in between.
            db = self.owed_flushes[0]
            is_done = await flush(lane, db)
            if self.owed_flushes and self.owed_flushes[0] == db:
                self.owed_flushes.pop(0)
                self.table.unapplied_everywhere -= 1
            if not is_done:
                self.table.mark_everything_unproven()
        # Nothing is awaited between the last look at what is owed and this.
        self.is_connected = True
        log.info("the mirror to the %s is connected", self.side.label)
        self._on_connected(self.side)
        if self.table.on_owed is not None and self.table.has_owed:
            self.table.on_owed()
        return True

    def _on_lost(self, lane: Lane) -> None:
        if self.is_connected:
            log.warning("the mirror to the %s is away", self.side.label)
        self.is_connected = False
        self._lost.set()
        self._has_room.set()

    async def connected(self) -> None:
        """Wait until the mirror is connected."""
        while not self.is_connected:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """End the mirror; what is unanswered becomes unproven."""
        self.is_connected = False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._lane is not None:
            self._lane.close()
        if self.owed_flushes:
            # Nobody carries them out any more.
            self.table.unapplied_everywhere -= len(self.owed_flushes)
            self.table.mark_everything_unproven()

    # -- appending ----------------------------------------------------------------

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
        if command.moves_data and (table.is_everything_unproven or hides_inputs(command, request)):
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
        table.unapplied_everywhere += 1
        self.lag_operations += 1
        lane.send(SentSwap(self, time.monotonic()), raw)

    def append_copies(
        self, db: int, copies: Sequence[Copy], plain: tuple[Sequence[bytes], bytes] = ((), b"")
    ) -> asyncio.Future[list[CopyFailure]]:
        """Send copies of keys; the future ends when the secondary answered them all.

        ``plain`` are further keys, and the wire form of one command for each of them.
        Call it in the same step in which the lease was found untouched: an await
        between them would let a newer write be overwritten.
        Raises MirrorAway at once, or through the future.
        """
        if not self.is_connected:
            raise MirrorAway(f"the mirror to the {self.side.label} is not connected")
        assert self._lane is not None
        if db != self._db and not self._select(self._lane, db):
            raise MirrorAway(f"the {self.side.label} has no database {db}, or was not asked yet")
        keys, raw = plain
        owners = None
        if copies:
            keys, raw, owners = joined(keys, raw, copies)
        total = len(keys if owners is None else owners)
        places = [place_of(db, key) for key in keys] if db else keys
        number = self.table.copies_appended(places)
        batch = SentCopies(self, places, number, owners, len(raw), total, time.monotonic())
        if not total:
            batch.future.set_result([])
            return batch.future
        self.lag_bytes += len(raw)
        self.lag_operations += total
        self._lane.send_batch([batch] * total, raw)
        self._lane.hasten()
        return batch.future

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

    def gone_astray(self, db: int) -> None:
        """A SELECT was refused: what was sent behind it has been written in ``db``."""
        lane = self._lane
        assert lane is not None
        log.warning("the %s refused a SELECT: the mirror begins anew", self.side.label)
        self.is_connected = False
        table = self.table
        for op in lane.ops:
            if isinstance(op, SentFlush) and op.db is not None:
                table.mark_everything_unproven()
            for place in sent_places(op):
                table.mark_unproven(place)
                table.mark_unproven(place_of(db, db_and_key(place)[1]))
        # Not now: it may be amid a batch of replies.
        self._loop.call_soon(lane.close)

    # -- answers ------------------------------------------------------------------

    def compare(self, effect: SentEffect, frame: bytes) -> None:
        """The reply is not, byte by byte, the expected one: is it a difference?"""
        if frame[0] in ERROR_BYTES:
            is_away = is_away_error(frame)
            if is_away:
                self.refusal = frame[1:].strip().decode(errors="replace")
            elif frame.startswith(NOT_UNDERSTOOD):
                self._copy_instead(effect.name)
            if is_away or frame.startswith(NOT_UNDERSTOOD):
                for place in effect.places:
                    self.table.mark_unproven(place)
                return
        elif effect.expected is None or same_reply(effect.expected, frame):
            return
        # While a backfill runs, a write to a key that is not copied yet answers
        # differently by right: the key is copied again, and nothing is wrong.
        # What was sent behind an effect that was refused answers otherwise, too.
        is_known = self.table.unproven.keys() >= set(effect.places)
        if not self.table.is_everything_unproven and not is_known:
            self.divergences += 1
            self._on_divergence(effect.name)
            log.warning("divergence: %s answered otherwise on the %s", effect.name, self.side.label)
        for place in effect.places:
            self.table.mark_unproven(place)

    def _after_batch(self) -> None:
        if not self._has_room.is_set() and self.lag_bytes < self.buffer_bytes // 4:
            self._has_room.set()

    @property
    def lag_ms(self) -> float:
        """Age of the oldest effect that the secondary has not answered."""
        if self._lane is None or not self._lane.ops:
            return 0.0
        at = getattr(self._lane.ops.peek(), "at", None)
        return 0.0 if at is None else (time.monotonic() - at) * 1000.0

    async def room(self) -> None:
        """Wait until the log is short enough for movers to add to it."""
        while self.is_connected and self.lag_bytes >= self.buffer_bytes // 4:
            self._has_room.clear()
            await self._has_room.wait()

    async def applied(self) -> None:
        """Wait until all that is appended now is answered. Raises MirrorAway."""
        if not self.is_connected or self._lane is None:
            raise MirrorAway(f"the mirror to the {self.side.label} is not connected")
        try:
            await self._lane.call(b"PING")
        except ConnectionError as error:
            raise MirrorAway(f"the mirror to the {self.side.label} was lost") from error


def _expected(check: Check | bytes, frame: bytes) -> bytes | None:
    """What the secondary must answer where the primary answered ``frame``; None: no error."""
    if isinstance(check, bytes):
        return check
    return frame if check is _SAME else None
