"""SUBSCRIBE and its kin, and MONITOR: one client's subscriptions.

Owns the :class:`Subscriber`: a connection of the client's own, and not a share of one, so that
the store counts receivers as it does without us, and words and orders everything itself. What
a client may do that is subscribed in RESP2, or that monitors, is the store's word, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import Command, Kind
from .counts import CommandClass
from .receiver import UNDONE, Awaited, Receiver
from .resp import Request, encode_command
from .resp.encoder import OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from .own import Mode
    from .session import Session
    from .sides import Side

RESET = encode_command(b"RESET")
# What a store refuses to a client that monitors it, as it does to a replica.
OF_KEYS = (Kind.READ, Kind.WRITE, Kind.BARRIER, Kind.CURSOR, Kind.BLOCKING, Kind.SCRIPT)


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
    if command.name == "monitor":
        # A second one is answered by nothing.
        if session.outstanding:
            return False
        if not receiver.is_monitor or subscriber.is_restricted:
            subscriber.monitor(request.raw)
        return True
    count = request.argc - 1
    if not count:
        # As many as there are by then; of none one is confirmed nevertheless.
        if session.outstanding:
            return False
        do = UNDONE[request.name.lower()]
        count = max(len(receiver.subscribed[do]), 1)
    subscriber.ask(request.raw, count)
    return True


def is_of_keys(command: Command) -> bool:
    if command.kind is Kind.NODE:
        return command.name in ("dbsize", "keys", "lolwut", "publish", "randomkey", "spublish")
    return command.kind in OF_KEYS and not command.name.startswith("script|")


class Subscriber:
    """What one client is subscribed to; then it is a mode of its session."""

    queued = -1

    __slots__ = ("_below", "_next", "receiver", "session")

    def __init__(self, session: Session, receiver: Receiver | None = None) -> None:
        self.session = session
        self._below: Mode | None = None
        # The one on the other side, while a flip is under way.
        self._next: Receiver | None = None
        self.receiver = self._open(session.proxy.primary) if receiver is None else receiver
        self.receiver.on_message = session.push
        self.receiver.on_lost = self._lost
        session.subscriber = self
        session.proxy.subscriptions.enter(self)
        if receiver is not None:
            self._look()

    @property
    def has_ended(self) -> bool:
        return self.session.is_closed or self.session.subscriber is not self

    @property
    def is_restricted(self) -> bool:
        """Whether a store lets it do nothing but subscribe."""
        return self.session.resp == 2 and any(self.receiver.subscribed.values())

    def counts(self) -> tuple[int, int, int]:
        """Channels, patterns and shard channels."""
        subscribed = self.receiver.subscribed
        return (
            len(subscribed[b"subscribe"]),
            len(subscribed[b"psubscribe"]),
            len(subscribed[b"ssubscribe"]),
        )

    def _open(self, side: Side) -> Receiver:
        user = self.session.user
        return Receiver(self.session.proxy.open_own(side, user, self.session.resp), user)

    def _lost(self) -> None:
        if not self.session.is_closed:
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

    def reset(self, then: Callable[[], None]) -> None:
        """The client has said RESET: ``then`` runs when the store knows that it is gone."""
        session = self.session
        session.hold()

        def answered(frame: bytes) -> None:
            self.end()
            then()
            session.unhold()

        self._ask(Then(session, answered), RESET)

    # -- the client's commands ---------------------------------------------------------------

    def ask(self, raw: bytes, confirmations: int = 1) -> None:
        """Send a command of the client's."""
        self.session.count(self.receiver.lane.side, CommandClass.OTHER)
        self._ask(self, raw, confirmations)

    def _ask(self, awaited: Awaited, raw: bytes, confirmations: int = 1) -> None:
        receiver, user = self.receiver, self.session.user
        if receiver.user != user:
            # What the client is subscribed to stays, but its rights are another's now.
            receiver.user = user
            if user is not None:
                # It was verified a moment ago. If not even so, what follows is refused.
                receiver.call(b"AUTH", *user)
        receiver.ask(awaited, raw, confirmations)

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

    def monitor(self, raw: bytes) -> None:
        """Send the client's MONITOR."""
        self.session.count(self.receiver.lane.side, CommandClass.OTHER)

        def answered(frame: bytes) -> None:
            self.receiver.is_monitor |= frame == OK
            self.answered(frame)

        self._ask(Then(self.session, answered), raw)

    def _look(self) -> None:
        """Its mode, and whether it needs us, by what it is subscribed to now."""
        session = self.session
        if self.receiver.is_idle:
            self.end()
        elif self.receiver.is_monitor or any(self.receiver.subscribed.values()):
            if session.mode is not self:
                self._below = session.mode
                session.mode = self
        elif session.mode is self:
            session.mode = self._below

    def take(self, session: Session, request: Request) -> bool:
        """A command of a subscribed client.

        What it may do is the store's word. And the answer to its PUBLISH has a place among the
        messages, if it is subscribed to that channel itself.
        """
        commands = session.proxy.commands
        command = commands.lookup(request)
        if command is None or not command.fits(request.argc):
            return session.refuse(commands.check(request) or b"-ERR unknown command\r\n")
        if command.kind is Kind.SUBSCRIBE or request.name in (b"QUIT", b"RESET"):
            return session.dispatch(request)
        is_ours = (
            request.name in (b"PUBLISH", b"SPUBLISH")
            or self.is_restricted
            or (self.receiver.is_monitor and is_of_keys(command))
        )
        if not is_ours:
            return session.dispatch(request)
        if session.outstanding or not session.use(self.receiver.lane):
            return False
        self.ask(request.raw)
        return True

    def at_rest(self, session: Session) -> None:
        pass

    def speak(self, resp: int, then: Callable[[], None]) -> None:
        """The client has said HELLO: ``then`` runs when its messages come in that protocol."""
        receiver = self.receiver
        if receiver.resp == resp:
            then()
            return
        receiver.resp = resp
        session = self.session
        session.hold()

        def answered(frame: bytes) -> None:
            then()
            self._look()
            session.unhold()

        self._ask(Then(session, answered), encode_command(b"HELLO", b"%d" % resp))

    # -- a flip ------------------------------------------------------------------------------

    def open_next(self, side: Side) -> Receiver:
        """A connection to the other side, as the one to this side is."""
        session, found = self.session, self._next
        wanted = (side, session.user, session.resp)
        if found is None or (found.lane.side, found.user, found.resp) != wanted:
            self.abandoned()
            found = self._next = self._open(side)
        return found

    async def prepare(self, side: Side) -> str | None:
        """Be subscribed on the other side as on this; what stands in the way, in words.

        Raises ConnectionError.
        """
        try:
            error = await self.open_next(side).become(self.receiver)
        except ConnectionError:
            if self.has_ended:
                return None
            raise
        if error is None or self.has_ended:
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
        new.on_lost = self._lost
        old.retire()
        return old

    def abandoned(self) -> None:
        found, self._next = self._next, None
        if found is not None:
            found.close()


class Then:
    """Waits for one answer, on behalf of a client that goes with the connection."""

    __slots__ = ("answered", "session")

    def __init__(self, session: Session, answered: Callable[[bytes], None]) -> None:
        self.session = session
        self.answered = answered

    def confirmed(self, frame: bytes, is_last: bool) -> None:
        raise AssertionError("it was no subscription")

    def lost(self) -> None:
        pass
