"""The data plane as a whole: listener, lanes, roles of the two sides.

Owns what all sessions share: which side is primary, the lanes, the key table, the
mirror, and the fence. It is the one public face that the control plane uses. It
never decides when to copy, verify or flip.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

from .blocking import Parking
from .commands import Clock, CommandTable, Dialect
from .commands.engine import UNKNOWN
from .detours import Detours
from .endpoint import Endpoint
from .follower import Follower
from .handshake import login_of
from .lane import Lane
from .listener import TlsListener, listen
from .login import Logins
from .mirror import Mirror
from .pinned import Pins
from .plane import Plane
from .pressure import Pressure
from .resp import LIMITS, REDIS_6, Limits
from .scripting import Scripting
from .session import Session
from .sides import Side
from .subscriptions import Subscriptions
from .tls import Renewed

log = logging.getLogger("keyferry.proxy")

User = tuple[bytes, bytes] | None

# Connections of single clients that are kept, per user, for the next one.
MAX_IDLE_LANES = 32
# A secondary that answers nothing for so long is not asked for reads.
SECONDARY_PATIENCE_S = 1.0


class StaleConnection(NamedTuple):
    """A dead upstream connection whose bytes the store may still read later."""

    side: Side
    client_id: int | None
    address: str
    """Our end of it, ``host:port``, as the store sees it if no translator stands between."""


class LaneFailure(NamedTuple):
    """A user whose lane to a side cannot be opened: the store's own words."""

    user: str
    db: int
    error: str


class Proxy(Plane):
    """See the module's docstring. ``endpoints`` are (source, target)."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, Endpoint],
        commands: CommandTable,
        *,
        primary: Side = Side.SOURCE,
        max_clients: int = 10_000,
        client_output_limit: int = 256 * 1024 * 1024,
        clients_memory_limit: int = 2 * 1024 * 1024 * 1024,
        unproven_limit: int = 1_000_000,
        tag: str = "",
        busy_poll_s: float = 0.0,
    ) -> None:
        self.endpoints = endpoints
        super().__init__(commands, primary, unproven_limit)
        commands.speak_for(primary)
        self.poll.limit_s = busy_poll_s
        self.initial_db = endpoints[0].db
        self.max_clients = max_clients
        # Ends the names of our connections that write, so that they are found on the stores.
        self.tag = tag
        self.client_output_limit = client_output_limit
        self.pressure = Pressure(self, clients_memory_limit, client_output_limit)
        self.sessions: set[Session] = set()
        self.auth_required = False
        # Whether an unknown command of a client that has to log in is answered with NOAUTH, too.
        self.asks_who_first = False
        # What the primary says to a HELLO that does not log in.
        self.stale: deque[StaleConnection] = deque(maxlen=1000)
        self.clock_offsets_ms = [0.0, 0.0]
        self.clock_errors_ms = [0.0, 0.0]
        self.engines = [UNKNOWN, UNKNOWN]
        self.on_flush: Callable[[], None] = lambda: None
        self.on_swap: Callable[[int, int], None] = lambda a, b: None
        # A script wrote keys that nobody could name or see.
        self.on_unknown_writes: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.logins = Logins(self)
        self._admins: dict[Side, Lane] = {}
        # What has to follow a flip, in this order: who tracks publishes on its own connection, and
        # scripts that last on theirs, so these are answered before subscribers are asked.
        self.subscriptions = Subscriptions(self)
        self.scripting = Scripting(self)
        self.pins = Pins(self)
        self.followers: list[Follower] = [self.pins, self.scripting.copies, self.subscriptions]
        self.parking = Parking(self)
        self._lanes: dict[tuple[Side, User, int, int], Lane] = {}
        self.detours = Detours(self._lanes, self._open_shared)
        self.is_fenced = False
        # Raised by each flip: what a client watched before it cannot be told any more.
        self.epoch = 0
        # Connections of single clients: all that live, and those that nobody uses now.
        self._own: set[Lane] = set()
        self._idle: dict[tuple[Side, User, int], list[Lane]] = {}
        self._retry_at: dict[tuple[Side, User, int, int], float] = {}
        self._server: asyncio.Server | TlsListener | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._last_client_id = 0

    # -- life ------------------------------------------------------------------

    async def listen(self, host: str, port: int, tls: Renewed | None = None) -> int:
        """Serve clients; returns the port (useful when 0 was asked for). Raises OSError."""
        await self.learn_auth()
        self._server = await listen(
            lambda: cast(asyncio.Protocol, Session(self)), host, port, tls,
            on_refused=lambda: self.stats.client_error("tls"),
        )  # fmt: skip
        self._ticking = self._loop.create_task(self._tick(), name="lanes that hang")
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, end all clients and lanes; the mirror is its owner's."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
        self.scripting.close()
        for session in list(self.sessions):
            session.close()
        for lane in (*self._shared(), *self._own):
            lane.close()
        for lane in (*self.logins.lanes, *self._admins.values()):
            lane.close()

    async def learn_auth(self) -> None:
        """Find out whether the primary wants a password of the default user, and how it says so."""
        lane = Lane(self.endpoints[self.primary], self.primary, name=b"keyferry-probe")
        try:
            reply = await lane.ready()
            if reply is None:
                async with asyncio.timeout(SECONDARY_PATIENCE_S):
                    reply = await lane.call(b"PING")
                    malformed = await lane.call(b"GET")
                self.auth_required = reply.startswith(b"-NOAUTH")
                # Valkey 9.
                self.asks_who_first = malformed.startswith(b"-NOAUTH")
        except (ConnectionError, TimeoutError):
            pass  # What cannot be asked now is what it was.
        finally:
            lane.close()

    # -- clients -----------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """What a client may announce, that has logged in."""
        return REDIS_6 if self.commands.dialect is Dialect.REDIS_6 else LIMITS

    def next_client_id(self) -> int:
        self._last_client_id += 1
        return self._last_client_id

    def admit(self, session: Session) -> bool:
        if len(self.sessions) >= self.max_clients:
            self.stats.client_error("max_clients")
            return False
        self.sessions.add(session)
        return True

    def leave(self, session: Session) -> None:
        self.sessions.discard(session)
        self.pressure.left(session)
        self.pins.left(session)

    def note_user(self, session: Session) -> None:
        """A client changed user or database: have its lane to the other side ready in time."""
        if self.mirror is not None:
            self.ready_lane(self.primary.other, session.user, session.db, session.resp)

    # -- lanes -------------------------------------------------------------------

    def lane(self, side: Side, user: User, db: int, resp: int) -> Lane:
        """The lane of these four; opened when there is none that lives."""
        key = (side, user, db, resp)
        lane = self._lanes.get(key)
        if lane is None or lane.is_lost:
            lane = self._lanes[key] = self._open_shared(key)
        return lane

    def _open_shared(self, key: tuple[Side, User, int, int]) -> Lane:
        return self._open(*key, self._on_lost, on_clogged=self.detours.begin)

    def _open(
        self, side: Side, user: User, db: int, resp: int,
        on_lost: Callable[[Lane], None],
        on_push: Callable[[bytes], None] | None = None,
        on_clogged: Callable[[Lane], None] | None = None,
    ) -> Lane:  # fmt: skip
        return Lane(
            self.endpoints[side], side, user=user, db=db, resp=resp,
            name=b"keyferry-lane:" + self.tag.encode(), after_batch=self.flush_dirty,
            on_lost=on_lost, on_push=on_push, on_clogged=on_clogged,
        )  # fmt: skip

    def ready_lane(self, side: Side, user: User, db: int, resp: int) -> Lane | None:
        """The lane if it is ready now; if not, it is opened behind the scenes."""
        key = (side, user, db, resp)
        lane = self._lanes.get(key)
        if lane is not None and not lane.is_lost:
            return lane if lane.is_ready else None
        now = self.now()
        if now >= self._retry_at.get(key, 0.0):
            self._retry_at[key] = now + 1.0
            self.lane(side, user, db, resp)
        return None

    def own_lane(self, user: User, resp: int) -> Lane:
        """A lane to the primary for one client alone, until :meth:`give_back`."""
        idle = self._idle.get((self.primary, user, resp), [])
        while idle:
            lane = idle.pop()
            if not lane.is_lost:
                return lane
        return self.open_own(self.primary, user, resp)

    def open_own(
        self,
        side: Side,
        user: User,
        resp: int,
        on_push: Callable[[bytes], None] | None = None,
        on_lost: Callable[[Lane], None] | None = None,
    ) -> Lane:
        """A new connection for one client alone; whoever opens it closes it."""

        def lost(lane: Lane) -> None:
            self._on_lost(lane)
            if on_lost is not None:
                on_lost(lane)

        lane = self._open(side, user, 0, resp, lost, on_push)
        self._own.add(lane)
        return lane

    def give_back(self, lane: Lane) -> None:
        """Its state is as new but for its database; kept for the next client, if it is of use."""
        idle = self._idle.setdefault((lane.side, lane.user, lane.resp), [])
        if lane.is_lost or lane.side is not self.primary or len(idle) >= MAX_IDLE_LANES:
            lane.close()
        else:
            idle.append(lane)

    def admin_lane(self, side: Side) -> Lane:
        """A connection with the rights of the connection string: no client's command goes there."""
        lane = self._admins.get(side)
        if lane is None or lane.is_lost:
            endpoint = self.endpoints[side]
            lane = self._admins[side] = Lane(
                endpoint,
                side,
                user=login_of(endpoint),
                name=b"keyferry-admin",
                after_batch=self.flush_dirty,
            )
        return lane

    def _shared(self) -> list[Lane]:
        """All lanes of more than one client, with those that they are about to leave."""
        return [*self._lanes.values(), *self.detours.left]

    def _on_lost(self, lane: Lane) -> None:
        self._own.discard(lane)
        self.detours.left.discard(lane)
        key = (lane.side, lane.user, lane.db, lane.resp)
        if self._lanes.get(key) is lane:
            del self._lanes[key]
        if lane.side is self.primary and lane.was_busy:
            self.stale.append(StaleConnection(lane.side, lane.client_id, lane.local_address))

    async def _tick(self) -> None:
        """End lanes to the secondary that hang: what they owe is asked of the primary."""
        seen: dict[Lane, int] = {}
        while True:
            await asyncio.sleep(SECONDARY_PATIENCE_S)
            self.detours.close_idle()
            secondary = [each for each in self._shared() if each.side is not self.primary]
            for lane in secondary:
                if lane.ops and lane.is_ready and seen.get(lane) == lane.batches:
                    log.warning("%s: no reply for a second: ended", lane)
                    lane.close()
            seen = {lane: lane.batches for lane in secondary if lane.ops}

    def local_addresses(self) -> set[str]:
        """Our ends of the lanes, as a store's CLIENT LIST shows them."""
        lanes = (
            *self._shared(), *self.logins.lanes, *self._admins.values(), *self._own,
        )  # fmt: skip
        return {lane.local_address for lane in lanes}

    def lanes_in_use(self) -> set[tuple[User, int, int]]:
        """(user, db, resp) of every client that has sent a command as what it is now."""
        return {
            (each.user, each.db, each.resp)
            for each in self.sessions
            if each.uses_lanes or each.user is not None
        }

    async def open_lanes(self, side: Side) -> list[LaneFailure]:
        """Make sure that every client's lane to ``side`` is ready; what fails is returned."""
        in_use = list(self.lanes_in_use())
        answers = await asyncio.gather(*(self._try_lane(side, *each) for each in in_use))
        failures = []
        for (user, db, _), failure in zip(in_use, answers, strict=True):
            if failure is not None:
                name = user[0].decode(errors="replace") if user else "default"
                words = failure[1:].strip().decode(errors="replace")
                failures.append(LaneFailure(name, db, words))
        return failures

    async def _try_lane(self, side: Side, user: User, db: int, resp: int) -> bytes | None:
        failure = await self.lane(side, user, db, resp).ready()
        if failure is None and user is None and not self.auth_required:
            failure = await self._no_password_works(side, db, resp)
        return failure

    def close_idle_lanes(self, side: Side) -> None:
        """End the lanes to a side that nobody is to use any more."""
        for lane in (*self._shared(), *self._own):
            if lane.side is side and not lane.ops:
                lane.close()

    async def _no_password_works(self, side: Side, db: int, resp: int) -> bytes | None:
        """A client that never logs in must not need to on the other side."""
        try:
            async with asyncio.timeout(SECONDARY_PATIENCE_S):
                reply = await self.lane(side, None, db, resp).call(b"PING")
        except (ConnectionError, TimeoutError):
            return b"-ERR Keyferry lost the connection"
        return reply if reply.startswith(b"-NOAUTH") else None

    # -- reads -------------------------------------------------------------------

    def shift(self, percent: int) -> None:
        """Let ``percent`` of the reads, by key, be served by the target."""
        self.read_percent = percent
        away_from_primary = 100 - percent if self.primary is Side.TARGET else percent
        self.splits_reads = self.mirror is not None and away_from_primary > 0
        self.table.touches.note(self.splits_reads)

    def reading_lane(self, user: User, db: int, resp: int) -> Lane | None:
        """The secondary's lane, if it may be asked for reads now."""
        mirror = self.mirror
        if mirror is None or not mirror.is_connected:
            return None
        if mirror.lag_ms > SECONDARY_PATIENCE_S * 1000.0:
            return None
        return self.ready_lane(self.primary.other, user, db, resp)

    # -- time --------------------------------------------------------------------

    def bracket(self, sent_at: float) -> Clock:
        """When the primary executed what was sent at ``sent_at`` and is answered now.

        The middle of that interval, by the primary's own clock.
        """
        half_ms = (self.now() - sent_at) * 500.0
        offset = self.clock_offsets_ms[self.primary]
        error = self.clock_errors_ms[self.primary]
        now_ms = time.time() * 1000.0 - half_ms + offset
        return Clock(now_ms, half_ms + error, self.engines[self.primary])

    # -- the fence ---------------------------------------------------------------

    async def fence(self) -> None:
        """Hold every client and wait until what was sent is answered.

        Ends with :meth:`release`. Cancelled, it has released already.
        """
        idle: asyncio.Future[None] = self._loop.create_future()
        has_entered = False

        def enter() -> None:
            # At its turn at the gate: behind it the next barrier would be there already.
            nonlocal has_entered
            if not idle.done():
                has_entered = self.is_fenced = True
                self.table.close(partial(_resolve, idle))

        if self.table.is_closed:
            self.table.when_open(enter)
        else:
            enter()
        try:
            await idle
        except asyncio.CancelledError:
            if has_entered:
                self.release()
            raise

    async def unfenced(self) -> None:
        """Wait until no fence stands. Barriers of clients come and go."""
        while self.is_fenced:
            future: asyncio.Future[None] = self._loop.create_future()
            self.table.when_open(partial(_resolve, future))
            await future

    def release(self) -> None:
        """Let everybody go on."""
        self.is_fenced = False
        self.table.open()
        self.flush_dirty()

    async def prepare_flip(self) -> list[str]:
        """Have ready on the other side what clients will need; returns what stands in the way.

        Followed by :meth:`flip`, or by :meth:`abandon_flip`.
        """
        side = self.primary.other
        found = await asyncio.gather(*(each.prepare(side) for each in self.followers))
        return [problem for problems in found for problem in problems]

    async def settle(self) -> None:
        """Inside the fence: what needs no ticket (PUBLISH, say) is answered, and has been felt.

        Raises ConnectionError.
        """
        lanes = [each for each in self._shared() if each.side is self.primary and each.ops]
        await asyncio.gather(*(lane.call(b"PING") for lane in lanes))
        for each in self.followers:
            await each.settle()

    def abandon_flip(self) -> None:
        """The flip will not be done."""
        for each in self.followers:
            each.abandoned()

    def flip(self, primary: Side, mirror: Mirror | None, read_percent: int) -> None:
        """Swap the roles. Inside the fence only, behind the durable commit."""
        assert self.table.is_closed
        self.table.touch_everything()
        for session in self.sessions:
            # The new primary's lane may be the one that a read is outstanding on: what
            # follows waits for that read, as it does at every change of upstream.
            session.forget_lanes()
        self.primary = primary
        self.commands.speak_for(primary)
        self.epoch += 1
        self.mirror = mirror
        self.shift(read_percent)
        for each in self.followers:
            each.flipped()

    def flushed(self, db: int | None) -> None:
        """A FLUSHDB of ``db``, or a FLUSHALL (None), was executed and its effect appended."""
        if not self.stale:
            self.table.forget(db)
        self.on_flush()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
