"""A connection to the primary that is one client's own for all that it sends.

Owns the connection, what of its state has to be told to another one, and how it follows a
flip. A store keeps some things by connection (CLIENT TRACKING, CLIENT NO-TOUCH): a client that
wants them leaves the lanes. Tickets order its writes against theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from .caching import Caching
from .follower import NotPrepared
from .handshake import login_of
from .invalidations import (
    EVERYTHING,
    Options,
    as_message,
    invalidation,
    is_broken_redirect,
    is_invalidation,
    shown,
)
from .lane import Lane
from .ops import Reaction, ignore
from .own import select
from .resp import is_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from .server import Proxy, User
    from .session import Session
    from .sides import Side

# Connections that are opened and told their state at a time, before a flip.
AT_A_TIME = 500
# How many refusals are told of.
SHOWN = 5
NO_TOUCH = (b"CLIENT", b"NO-TOUCH", b"ON")
POLL_S = 0.001
# Keys of one client that are told one by one at a flip.
KNOWN = 10_000


class Wire:
    """A connection of one client's own, to one side.

    on_push: who has what the store pushes; None: nobody yet, or any more.
    told: the state that it has been brought to, once it has.
    """

    __slots__ = ("_on_lost", "lane", "on_push", "told")

    def __init__(
        self,
        proxy: Proxy,
        side: Side,
        user: User,
        resp: int,
        on_push: Callable[[bytes], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self.on_push = on_push
        self._on_lost = on_lost
        self.told: State | None = None
        self.lane = proxy.open_own(side, user, resp, on_push=self._pushed, on_lost=self._lost)

    def go_live(self, on_push: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self.on_push = on_push
        self._on_lost = on_lost

    def close(self) -> None:
        self.on_push = self._on_lost = None
        self.lane.close()

    def _pushed(self, frame: bytes) -> None:
        if self.on_push is not None:
            self.on_push(frame)

    def _lost(self, lane: Lane) -> None:
        if self._on_lost is not None:
            self._on_lost()


# User, protocol, tracking, CLIENT NO-TOUCH.
State = tuple["User", int, Options | None, bool]


class Pinned:
    """See the module's docstring. It is the session's once the store has agreed."""

    __slots__ = (
        "_next", "_read", "_wire", "is_asking", "is_broken", "leaves_no_trace", "options",
        "session",
    )  # fmt: skip

    def __init__(self, session: Session) -> None:
        proxy = session.proxy
        self.session = session
        # What CLIENT TRACKING is on with; None: it is off.
        self.options: Options | None = None
        self.leaves_no_trace = False
        # The client that is redirected to is gone, and the store has said so.
        self.is_broken = False
        # The client has asked for something, and the store has not answered.
        self.is_asking = False
        # Keys that it may have in its cache: those that are seen to be read.
        self._read: dict[bytes, None] = {}
        self._next: Wire | None = None
        self._wire = Wire(
            proxy, proxy.primary, session.user, session.resp, self._pushed, self._lost
        )

    def lane(self, session: Session) -> Lane:
        """The connection to the primary, in the client's database."""
        select(self._wire.lane, session.db)
        return self._wire.lane

    @property
    def unsent(self) -> int:
        """Bytes that the store has not taken yet."""
        return self._wire.lane.unsent

    def reads(self, keys: Sequence[bytes]) -> None:
        """The client is about to read these keys."""
        if self.options is None or self.options.is_broadcast:
            return
        read = self._read
        for key in keys:
            read[key] = None
        while len(read) > KNOWN:
            del read[next(iter(read))]

    def ask(self, raw: bytes, then: Callable[[bytes], None]) -> None:
        """Send a command of the client's, which is held until it is answered."""
        session = self.session
        self.is_asking = True

        def done(frame: bytes | None) -> None:
            self.is_asking = False
            if frame is None:
                session.close()
            else:
                then(frame)
            session.unhold()

        self._wire.lane.send(Reaction(done), raw)

    def take_over(self) -> None:
        """The store has agreed: from now on the client's commands go here."""
        session = self.session
        if session.is_closed:
            self.end()
        elif session.pinned is None:
            session.pinned = self
            session.change_lane()

    def look(self) -> None:
        """Give the connection up when nothing needs it."""
        if self.options is None and not self.leaves_no_trace:
            self.end()

    def end(self) -> None:
        """The client goes back to the lanes, or is gone."""
        session = self.session
        session.proxy.pins.leave(self)
        if session.pinned is self:
            session.pinned = None
            session.change_lane()
        self.abandoned()
        self._wire.close()

    def _pushed(self, frame: bytes) -> None:
        self.is_broken = self.is_broken or is_broken_redirect(frame)
        self.session.push(shown(self.options, frame))

    def _lost(self) -> None:
        # What it has cached would never be invalidated: as on a direct connection.
        if not self.session.is_closed:
            self.session.proxy.stats.client_error("upstream_lost")
            self.session.close()

    # -- a flip ------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return self.is_asking or bool(self._wire.lane.ops)

    @property
    def _state(self) -> State:
        session = self.session
        return session.user, session.resp, self.options, self.leaves_no_trace

    async def prepare(self, side: Side) -> str | None:
        """Have a connection to ``side`` that is as this one; what stands in the way, in words.

        Raises ConnectionError.
        """
        state, session = self._state, self.session
        if self._next is not None and self._next.told == state and not self._next.lane.is_lost:
            return None
        self.abandoned()
        self._next = wire = Wire(session.proxy, side, session.user, session.resp)
        try:
            error = await self._tell(wire.lane, side)
        except ConnectionError:
            if session.is_closed or self._next is not wire:
                return None
            raise
        if session.is_closed or self._next is not wire:
            return None
        if error is None:
            wire.told = state
            return None
        user = session.user
        name = user[0].decode(errors="replace") if user else "default"
        return f"{name}: {error[1:].strip().decode(errors='replace')}"

    async def _tell(self, lane: Lane, side: Side) -> bytes | None:
        """Bring a new connection to the client's state; the store's error."""
        error = await lane.ready()
        if error is not None:
            return error
        if self.leaves_no_trace:
            # Not every store knows it, and no data depends on it.
            await lane.call(*NO_TOUCH)
        if self.options is None:
            return None
        pins = self.session.proxy.pins
        async with pins.redirected(self.options.redirect, side) as address:
            for words in self.options.commands(address):
                frame = await lane.call(*words)
                if is_error(frame):
                    return frame
        return None

    def flipped(self) -> None:
        session = self.session
        old, new = self._wire, self._next
        if new is None or new.lane.is_lost or new.told != self._state:
            self._lost()
            return
        self._wire, self._next = new, None
        new.go_live(self._pushed, self._lost)
        old.close()
        options = self.options
        read, self._read = self._read, {}
        if options is not None and options.redirect is None and session.resp == 3:
            # There are clients that understand keys only (the cache of Lettuce).
            if read:
                session.push(invalidation(read))
            session.push(EVERYTHING)
        lane = self.lane(session)
        if isinstance(session.mode, Caching):
            lane.send(Reaction(ignore), session.mode.raw)

    def abandoned(self) -> None:
        found, self._next = self._next, None
        if found is not None:
            found.close()


class Inbox:
    """Where the invalidations come that are redirected to one client.

    It speaks RESP3, whatever the client speaks. users: whose invalidations these are.
    """

    __slots__ = ("_next", "session", "users", "wire")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.users: set[Pinned] = set()
        self._next: Wire | None = None
        self.wire = self._open(session.proxy.primary)
        self.wire.go_live(self.deliver, self._lost)

    def _open(self, side: Side) -> Wire:
        # With the rights of the connection string: the client's own are asked of nobody here.
        return Wire(self.session.proxy, side, login_of(self.session.proxy.endpoints[side]), 3)

    def on(self, side: Side) -> Wire:
        """The connection to a side; to the secondary one for the flip that is being prepared."""
        if side is self.wire.lane.side:
            return self.wire
        if self._next is None or self._next.lane.is_lost:
            self._next = self._open(side)
        return self._next

    def deliver(self, frame: bytes) -> None:
        """Give an invalidation to the client, if it is to be had now (tracking.c)."""
        session = self.session
        if not is_invalidation(frame):
            return
        if session.resp == 3:
            session.push(frame)
        elif session.subscriber is not None and any(session.subscriber.counts()):
            session.push(as_message(frame))

    def _lost(self) -> None:
        """What was redirected here is not known any more: those whose it is begin anew."""
        for each in list(self.users):
            each.session.close()

    def flipped(self) -> None:
        old, new = self.wire, self._next
        self._next = None
        if new is None or new.lane.is_lost:
            self._lost()
            return
        self.wire = new
        new.go_live(self.deliver, self._lost)
        old.close()
        self.deliver(EVERYTHING)

    def abandoned(self) -> None:
        found, self._next = self._next, None
        if found is not None:
            found.close()

    def close(self) -> None:
        self.abandoned()
        self.wire.close()


class Pins:
    """All pinned clients of a proxy, and all inboxes: what follows a flip."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._all: dict[Session, Pinned] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._side: Side | None = None

    def pin(self, session: Session) -> Pinned:
        """The client's connection; it is used for its commands once ``session.pinned`` is it."""
        found = self._all.get(session)
        if found is None:
            found = self._all[session] = Pinned(session)
        return found

    def leave(self, pinned: Pinned) -> None:
        if self._all.pop(pinned.session, None) is not None:
            self.redirect(pinned, None)

    def left(self, session: Session) -> None:
        """The client is gone."""
        pinned = self._all.get(session)
        if pinned is not None:
            pinned.end()
        self._close(session.id)

    def inbox(self, number: int) -> Inbox | None:
        """Where what is redirected to this client comes; None: there is no such client."""
        found = self._inboxes.get(number)
        if found is None:
            for session in self._proxy.sessions:
                if session.id == number and not session.is_closed:
                    found = self._inboxes[number] = Inbox(session)
        return found

    def _close(self, number: int) -> None:
        inbox = self._inboxes.pop(number, None)
        if inbox is not None:
            inbox.close()

    def redirect(self, pinned: Pinned, number: int | None) -> None:
        """This is the only inbox that a client's invalidations still come to."""
        for each, inbox in list(self._inboxes.items()):
            if each != number and pinned in inbox.users:
                inbox.users.discard(pinned)
                if not inbox.users:
                    self._close(each)

    @contextlib.asynccontextmanager
    async def redirected(self, number: int | None, side: Side) -> AsyncIterator[bytes | None]:
        """The number that a side's store has for the inbox of a client. Raises ConnectionError.

        A client that is gone has one as long as the context: behind it the redirection is broken,
        as it was.
        """
        if number is None:
            yield None
            return
        inbox = self._inboxes.get(number)
        login = login_of(self._proxy.endpoints[side])
        wire = inbox.on(side) if inbox is not None else Wire(self._proxy, side, login, 3)
        try:
            if await wire.lane.ready() is not None:
                raise ConnectionError("a connection for invalidations cannot be opened")
            yield b"%d" % (wire.lane.client_id or 0)
        finally:
            if inbox is None:
                wire.close()

    # -- a flip ------------------------------------------------------------------------------

    async def prepare(self, side: Side) -> list[str]:
        self._side = side
        problems: dict[str, None] = {}
        waiting = list(self._all.values())
        for at in range(0, len(waiting), AT_A_TIME):
            batch = waiting[at : at + AT_A_TIME]
            found = await asyncio.gather(*(each.prepare(side) for each in batch))
            problems.update(dict.fromkeys(filter(None, found)))
            if len(problems) >= SHOWN:
                break
        return [f"a client that tracks keys cannot follow: {each}" for each in problems][:SHOWN]

    async def settle(self) -> None:
        # No command of ours to ask whether that is so: inside a MULTI it would be queued.
        while any(each.is_busy for each in self._all.values()):
            await asyncio.sleep(POLL_S)
        assert self._side is not None, "settled without being prepared"
        problems = await self.prepare(self._side)
        if problems:
            raise NotPrepared("; ".join(problems))

    def flipped(self) -> None:
        # Whatever was read before is tracked nowhere now.
        for inbox in list(self._inboxes.values()):
            inbox.flipped()
        for pinned in list(self._all.values()):
            pinned.flipped()

    def abandoned(self) -> None:
        for inbox in self._inboxes.values():
            inbox.abandoned()
        for pinned in self._all.values():
            pinned.abandoned()
