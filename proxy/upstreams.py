"""Which upstream each command of a client goes to.

Owns the rule that keeps a client's own order (design, section 4): it changes upstream only when its
outstanding replies are in. Reads are the exception: they may be under way on both sides at once,
and :mod:`proxy.split` has their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from .commands.model import Command
from .counts import CommandClass
from .keytable import Place, db_and_key
from .lane import Lane
from .op import Op
from .places import places_of
from .plane import Client
from .resp.requests import Request
from .split import Split

if TYPE_CHECKING:
    from .pinned import Pinned
    from .server import Proxy
    from .session import Session

_READS = CommandClass.READ


class Upstreams(Client):
    """A client, as far as its lanes are concerned; :class:`proxy.session.Session` is all of it."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy, proxy.initial_db)
        self.proxy = proxy
        self.user: tuple[bytes, bytes] | None = None
        self.resp = 2
        # The client's own connection for all that it sends.
        self.pinned: Pinned | None = None
        # Its reads on the secondary, with those behind them; None: there were none yet.
        self.split: Split | None = None
        self.uses_lanes = False
        self._holds = 0
        # What is outstanding, but for shifted reads, is on this one.
        self._lane: Lane | None = None
        self._primary: Lane | None = None
        # The lane that shifted reads may go on, and the `ran_at` that this was found for.
        self._secondary: Lane | None = None
        self._secondary_at = -1.0

    def hold(self) -> None:
        """Stop dispatching until :meth:`unhold`."""
        self._holds += 1

    def unhold(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """End the connection behind what is written."""
        raise NotImplementedError

    def primary_lane(self) -> Lane:
        lane = self._primary
        if (
            lane is None
            or lane.is_lost
            or lane.side is not self.plane.primary
            or (lane.is_left and not self.outstanding)
        ):
            if self.pinned is not None:
                lane = self.pinned.lane(cast("Session", self))
            else:
                lane = self.proxy.lane(self.proxy.primary, self.user, self.db, self.resp)
            self._primary = lane
            self.uses_lanes = True
        return lane

    def use(self, lane: Lane) -> bool:
        """Whether a command may go on this lane now; if not, the session is called back."""
        split = self.split
        if split is not None and split.size:
            # A read that had to be asked again would see what this does.
            return False
        if lane is not self._lane:
            if self.outstanding:
                return False
            self._lane = lane
        return self._takes(lane)

    def _takes(self, lane: Lane) -> bool:
        if lane.is_paused:
            self.hold()
            if lane.is_ready:
                lane.when_writable(self.unhold)
            else:
                lane.when_settled(self._lane_settled)
            return False
        return True

    def _lane_settled(self, failure: bytes | None) -> None:
        if failure is not None:
            # What a direct client would see; nothing of its command was sent.
            self.proxy.stats.client_error("upstream_unreachable")
            self.close()
        self.unhold()

    def forget_lanes(self) -> None:
        """The roles of the sides have changed."""
        self._lane = None
        self.change_lane()

    def change_lane(self) -> None:
        """User, database or protocol changed: the next command finds its lane anew."""
        self._primary = None
        self._secondary_at = -1.0

    def ask_primary(self, read: Op, request: Request) -> None:
        self.primary_lane().send_request(read, request)

    def weigh(self) -> None:
        self.proxy.pressure.weigh(cast("Session", self))

    # -- reads -------------------------------------------------------------------------------

    def ask(self, request: Request, kind: CommandClass) -> bool:
        """Nothing but the reply follows from it: the session itself stands in the FIFO."""
        lane = self.primary_lane()
        if not self.use(lane):
            return False
        self.count(lane.side, kind)
        lane.send_request(self, request)
        return True

    def read(self, command: Command, request: Request) -> bool:
        """A read, where some are the secondary's: if all that it reads is settled there."""
        lane = self._reading_lane() if command.may_shift else None
        plane = self.plane
        if lane is not None and not command.unknown_keys(request):
            if command.single_key:
                key = request.arg(1)
                if plane.shifts(key):
                    place: Place = key if self.db == 0 else (self.db, key)
                    if plane.table.is_settled(place):
                        return self._shift(lane, request, place, None)
            else:
                places = places_of(self.db, command, request)
                is_shifted = bool(places) and plane.shifts(db_and_key(places[0])[1])
                if is_shifted and plane.table.are_settled(places):
                    return self._shift(lane, request, None, places)
        split = self.split
        if split is None or not split.size:
            return self.ask(request, _READS)
        lane = self.primary_lane()
        if not self._may_split(split, lane):
            return False
        self.count(lane.side, _READS)
        lane.send_request(split.ask(request), request)
        return True

    def _reading_lane(self) -> Lane | None:
        """The secondary's lane, if reads may go there."""
        if self._secondary_at != self.ran_at:
            self._secondary_at = self.ran_at
            self._secondary = self.proxy.reading_lane(self.user, self.db, self.resp)
        lane = self._secondary
        # What scripts write while everything else waits is not known yet.
        if lane is None or not lane.is_ready or self.plane.table.is_closed:
            return None
        return lane

    def _shift(
        self, lane: Lane, request: Request, place: Place | None, places: Sequence[Place] | None
    ) -> bool:
        split = self.split
        if split is None:
            split = self.split = Split(self)
        if not self._may_split(split, lane):
            return False
        self.count(lane.side, _READS)
        lane.send_request(split.shift(request, place, places), request)
        return True

    def _may_split(self, split: Split, lane: Lane) -> bool:
        """Whether a read may go on this lane, the primary's or the secondary's, beside others."""
        if split.size >= split.most:
            return False
        # All that is under way is of one primary, one user and one database.
        primary = self._primary
        if primary is None or self._lane is not primary or primary.is_left:
            if not self.outstanding:
                self._lane = self.primary_lane()
            elif primary is None or self._lane is not primary:
                return False
        return self._takes(lane)
