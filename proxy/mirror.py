"""The mirror log: what the primary acknowledged, on its way to the secondary.

Owns the connection to the secondary, the effects that are sent and not yet
answered there, and the comparison of both replies. How effects
get there is in `append`.

It never makes a client wait. While the secondary is away, or the log is past
its bound, effects are dropped and their keys become unproven, each once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from .append import AppendLog
from .commands import Clock
from .endpoint import Endpoint
from .handshake import login_of
from .keytable import KeyTable, db_and_key, place_of
from .lane import Call, Lane
from .resp.values import is_error, parse, same_reply
from .sent import (
    ERROR_BYTES,
    NOT_UNDERSTOOD,
    MirrorAway,
    SentEffect,
    SentFlush,
    is_away_error,
    sent_places,
)
from .sides import Side
from .takeover import end_predecessors, flush, run_id_of

log = logging.getLogger("keyferry.mirror")

HEARTBEAT_S = 0.5
# No client waits for what goes to the secondary: there it costs least in large batches.
GATHER_S = 0.001


class Mirror(AppendLog):
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
        super().__init__(table, side, buffer_bytes, bracket, lacks)
        self.endpoint = endpoint
        self.run_id = run_id
        self.divergences = 0
        self._name = name
        self._on_divergence = on_divergence
        self._on_connected = on_connected
        self._loop = asyncio.get_running_loop()
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

    # -- answers ------------------------------------------------------------------

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
                    self.table.mark_wherever(place)
                return
        elif effect.expected is None or same_reply(effect.expected, frame):
            return
        # While a backfill runs, a write to a key that is not copied yet answers
        # differently by right: the key is copied again, and nothing is wrong.
        # What was sent behind an effect that was refused answers otherwise, too.
        is_known = all(map(self.table.is_unproven, effect.places))
        if not self.table.is_everything_unproven and not is_known:
            self.divergences += 1
            self._on_divergence(effect.name)
            log.warning("divergence: %s answered otherwise on the %s", effect.name, self.side.label)
        for place in effect.places:
            self.table.mark_wherever(place)

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
