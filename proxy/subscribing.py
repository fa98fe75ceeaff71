"""SUBSCRIBE and its kin: who is subscribed, in which way it is answered, and how it follows a flip.

Owns one :class:`Subscriber` per client that is subscribed. It has a connection of the client's
own, not a share of one, so that the store counts receivers as it does without us, and words and
orders everything itself. In RESP2 a subscribed client is in a mode: the store decides what it
may do.

At a flip everybody is subscribed on the new primary beforehand. Inside the fence nobody
publishes; an answer on each old connection tells that all its messages have come. From the
commit on the new connections' messages are passed on, and nobody has published there before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .commands import Command, Kind
from .follower import NotPrepared
from .metrics import CommandClass
from .own import PING
from .receiver import UNDONE, Receiver
from .resp import Request, encode_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lane import Lane
    from .own import Mode
    from .server import Proxy
    from .session import Session
    from .sides import Side

# Connections that are opened or closed at a time around a flip, so that nobody waits for them.
AT_A_TIME = 100
# How many refusals are told of.
SHOWN = 5


def serve(session: Session, command: Command, request: Request) -> bool:
    """A command that subscribes or undoes it. False: it cannot go yet."""
    subscriber = session.subscriber
    if subscriber is None:
        if session.outstanding:
            return False
        subscriber = Subscriber(session)
    receiver = subscriber.receiver
    if not session.use(receiver.lane):
        return False
    count = request.argc - 1
    if not count:
        # As many as there are by then; of none one is confirmed nevertheless.
        if session.outstanding:
            return False
        do = UNDONE[request.name.lower()]
        count = max(len(receiver.subscribed[do]), 1)
    subscriber.ask(request.raw, count)
    return True


def redirect_lane(session: Session) -> Lane:
    """The connection whose pushes are passed on to this client, opened if there is none.

    Another client's invalidations may be redirected to its ``client_id``, once it is ready. A
    flip puts another one in its place: see :meth:`Subscriber.next_lane`.
    """
    subscriber = session.subscriber or Subscriber(session)
    subscriber.is_kept = True
    return subscriber.receiver.lane


class Subscriber:
    """What one client is subscribed to; in RESP2 the mode of its session.

    is_kept: the connection is needed without a subscription, too.
    """

    __slots__ = ("_below", "_next", "is_kept", "receiver", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.is_kept = False
        self._below: Mode | None = None
        # The one on the other side, while a flip is under way.
        self._next: Receiver | None = None
        self.receiver = self._open(session.proxy.primary, session.push)
        session.subscriber = self
        session.proxy.subscriptions.enter(self)

    def counts(self) -> tuple[int, int, int]:
        """Channels, patterns and shard channels."""
        subscribed = self.receiver.subscribed
        return (
            len(subscribed[b"subscribe"]),
            len(subscribed[b"psubscribe"]),
            len(subscribed[b"ssubscribe"]),
        )

    def _open(self, side: Side, on_message: Callable[[bytes], None] | None) -> Receiver:
        session = self.session
        return Receiver(session.proxy, side, session.user, session.resp, on_message, self._lost)

    def _lost(self) -> None:
        # The one on the other side is looked at when it is needed.
        if self.receiver.lane.is_lost and not self.session.is_closed:
            self.session.proxy.stats.client_error("upstream_lost")
            self.session.close()

    def end(self) -> None:
        """The client is not subscribed any more, and no message is for it."""
        session = self.session
        session.proxy.subscriptions.leave(self)
        if session.subscriber is self:
            session.subscriber = None
        if session.mode is self:
            session.mode = self._below
        # Last, for it lets the client go on.
        self.abandoned()
        self.receiver.close()

    # -- the client's commands ---------------------------------------------------------------

    def ask(self, raw: bytes, confirmations: int = 1) -> None:
        """Send a command of the client's."""
        session, receiver = self.session, self.receiver
        if receiver.user != session.user:
            self._authenticate()
        session.count(receiver.lane.side, CommandClass.OTHER)
        receiver.ask(self, raw, confirmations)

    def confirmed(self, frame: bytes, is_last: bool) -> None:
        session = self.session
        # Not as a reply: CLIENT REPLY does not keep it back.
        session.push(frame)
        if is_last:
            session.reply_by_push()
            self._look()

    def answered(self, frame: bytes) -> None:
        self.session.reply(frame)
        self._look()

    def lost(self) -> None:
        self.session.lost()

    def _look(self) -> None:
        """Its mode, and whether it needs us, by what it is subscribed to now."""
        session = self.session
        if self.receiver.is_idle and not self.is_kept:
            self.end()
        elif session.resp == 2 and any(self.receiver.subscribed.values()):
            if session.mode is not self:
                self._below = session.mode
                session.mode = self
        elif session.mode is self:
            session.mode = self._below

    def take(self, session: Session, request: Request) -> bool:
        """A command of a RESP2 client that is subscribed: the store has the word."""
        commands = session.proxy.commands
        command = commands.lookup(request)
        if command is None or not command.fits(request.argc):
            return session.refuse(commands.check(request) or b"-ERR unknown command\r\n")
        if command.kind is Kind.SUBSCRIBE or request.name in (b"QUIT", b"RESET"):
            return session.dispatch(request)
        if session.outstanding or not session.use(self.receiver.lane):
            return False
        self.ask(request.raw)
        return True

    def at_rest(self, session: Session) -> None:
        pass

    # -- another user, another protocol ---------------------------------------------------------

    def _authenticate(self) -> None:
        """The client has logged in as another user since; what it is subscribed to stays."""
        receiver, user = self.receiver, self.session.user
        receiver.user = user
        if user is not None:
            # It was verified a moment ago. If not even so, the next command is refused.
            receiver.call(b"AUTH", *user)

    def speak(self, resp: int, then: Callable[[], None]) -> None:
        """The client has said HELLO: ``then`` runs when its messages come in that protocol."""
        receiver = self.receiver
        if receiver.resp == resp:
            then()
            return
        if receiver.user != self.session.user:
            self._authenticate()
        receiver.resp = resp
        self.session.hold()
        receiver.ask(Then(self, then), encode_command(b"HELLO", b"%d" % resp))

    # -- a flip ------------------------------------------------------------------------------

    def next_lane(self) -> Lane | None:
        """The connection that :func:`redirect_lane` will give behind the flip under way."""
        return None if self._next is None else self._next.lane

    def open_next(self, side: Side) -> Receiver:
        """A connection to the other side, as the one to this side is."""
        session, found = self.session, self._next
        wanted = (side, session.user, session.resp)
        if found is None or (found.lane.side, found.user, found.resp) != wanted:
            self.abandoned()
            found = self._next = self._open(side, None)
        return found

    async def prepare(self, side: Side) -> str | None:
        """Be subscribed on the other side as on this; what stands in the way, in words.

        Raises ConnectionError.
        """
        try:
            error = await self.open_next(side).become(self.receiver)
        except ConnectionError:
            if self.session.is_closed:
                return None
            raise
        if error is None or self.session.is_closed:
            return None
        user = self.session.user
        name = user[0].decode(errors="replace") if user else "default"
        return f"{name}: {error[1:].strip().decode(errors='replace')}"

    def is_prepared(self, side: Side) -> bool:
        found = self._next
        return found is not None and found.lane.side is side and found.is_same(self.receiver)

    def flipped(self) -> Receiver:
        """From here on the other connection's messages count; returns the one to be closed."""
        old, new = self.receiver, self._next
        if new is None or new.lane.is_lost:
            self.session.proxy.stats.client_error("upstream_lost")
            self.session.close()
            return old
        self._next = None
        self.receiver = new
        new.on_message = self.session.push
        old.retire()
        return old

    def abandoned(self) -> None:
        found, self._next = self._next, None
        if found is not None:
            found.close()


class Then:
    """Waits for one answer of which the client sees nothing."""

    __slots__ = ("subscriber", "then")

    def __init__(self, subscriber: Subscriber, then: Callable[[], None]) -> None:
        self.subscriber = subscriber
        self.then = then

    def confirmed(self, frame: bytes, is_last: bool) -> None:
        raise AssertionError("it was no subscription")

    def answered(self, frame: bytes) -> None:
        self.then()
        self.subscriber._look()
        self.subscriber.session.unhold()

    def lost(self) -> None:
        self.subscriber.session.unhold()


class Everybody:
    """Waits for an answer on each of several connections."""

    __slots__ = ("future", "left")

    def __init__(self, receivers: list[Receiver]) -> None:
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = loop.create_future()
        self.left = len(receivers) + 1
        for each in receivers:
            each.ask(self, PING)
        self.lost()

    def confirmed(self, frame: bytes, is_last: bool) -> None:
        raise AssertionError("it was no subscription")

    def answered(self, frame: bytes) -> None:
        self.lost()

    def lost(self) -> None:
        # One that has ended has ended its client, too: nobody misses its messages.
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)


class Subscriptions:
    """All subscribers of a proxy: what follows a flip."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._all: set[Subscriber] = set()
        # The side that is being prepared.
        self._side: Side | None = None
        self._closing: asyncio.Task[None] | None = None

    def enter(self, subscriber: Subscriber) -> None:
        self._all.add(subscriber)
        if self._side is not None:
            # So that inside the fence it is open.
            subscriber.open_next(self._side)

    def leave(self, subscriber: Subscriber) -> None:
        self._all.discard(subscriber)

    async def prepare(self, side: Side) -> list[str]:
        self._side = side
        return await self._prepare(side)

    async def settle(self) -> None:
        side = self._side
        assert side is not None, "settled without being prepared"
        # All that was published is answered, so it is before these answers.
        await Everybody([each.receiver for each in self._all]).future
        problems = await self._prepare(side)
        if problems:
            raise NotPrepared("; ".join(problems))

    async def _prepare(self, side: Side) -> list[str]:
        problems: dict[str, None] = {}
        waiting = [each for each in self._all if not each.is_prepared(side)]
        for at in range(0, len(waiting), AT_A_TIME):
            batch = waiting[at : at + AT_A_TIME]
            found = await asyncio.gather(*(each.prepare(side) for each in batch))
            problems.update(dict.fromkeys(filter(None, found)))
            if len(problems) >= SHOWN:
                break
        return [f"a subscriber cannot follow: {each}" for each in list(problems)[:SHOWN]]

    def flipped(self) -> None:
        self._side = None
        old = [each.flipped() for each in list(self._all)]
        if old:
            self._closing = asyncio.create_task(_close(old), name="old subscriptions")

    def abandoned(self) -> None:
        self._side = None
        for each in self._all:
            each.abandoned()


async def _close(receivers: list[Receiver]) -> None:
    for at, each in enumerate(receivers):
        each.close()
        if not at % AT_A_TIME:
            await asyncio.sleep(0)
