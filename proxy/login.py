"""Who the client is, and in which protocol: AUTH, HELLO, RESET.

Owns the asking. Each of them goes to the primary as the client has sent it, on a connection that
is in the client's state and nobody else's meanwhile. So the words, and the order in which a server
looks at things, are the primary's own, and a password is verified each time. What it has accepted
holds for the client from then on.

Behind it the connection is cleaned with RESET, for the next one who asks. One that cannot be is
closed: in Redis 6.2 a user needs the right to RESET. A client that has a connection of its own
anyway says it there, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .commands import Dialect
from .lane import Lane
from .ops import Reaction, ignore
from .own import forget_watch
from .resp import Request, encode_command, is_error

if TYPE_CHECKING:
    from .server import Proxy
    from .session import Session

WAS_RESET = b"+RESET\r\n"
RESET = b"*1\r\n$5\r\nRESET\r\n"
HELLO_3 = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"
UNREACHABLE = b"-ERR Keyferry cannot reach the primary\r\n"
MAX_IDLE = 32
# These can be in a block; the connection that it is executed on is of no use behind it.
IN_BLOCKS = ("auth", "hello")
# The connection's id, in either protocol: the client has another one.
_ID = re.compile(rb"(\$2\r\nid\r\n:)[0-9]+")


class Logins:
    """The connections for it, to the primary: ``lanes`` are all that live."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.lanes: set[Lane] = set()
        # Those that nobody uses now.
        self._clean: list[Lane] = []

    def take(self) -> Lane:
        """One that is logged in as nobody, until :meth:`keep`."""
        proxy = self._proxy
        while self._clean:
            lane = self._clean.pop()
            if not lane.is_lost and lane.side is proxy.primary:
                return lane
            lane.close()
        lane = Lane(
            proxy.endpoints[proxy.primary],
            proxy.primary,
            name=b"keyferry-login",
            after_batch=proxy.flush_dirty,
            on_lost=self.lanes.discard,
        )
        self.lanes.add(lane)
        return lane

    def keep(self, lane: Lane) -> None:
        """It is as new, and for the next one who asks."""
        if lane.is_lost or len(self._clean) >= MAX_IDLE:
            lane.close()
        else:
            self._clean.append(lane)


def serve_auth(session: Session, request: Request) -> bool:
    """AUTH. Whoever asks: a server does not look at that."""
    then = partial(_repeat, session, request.raw, partial(_authenticated, session, request))
    _ask(session, request.raw, then, ())
    return True


def serve_hello(session: Session, request: Request) -> bool:
    """HELLO, with AUTH and SETNAME."""
    then = partial(_repeat, session, request.raw, partial(_greeted, session, request))
    _ask(session, request.raw, then, _state(session))
    return True


def serve_reset(session: Session, request: Request) -> bool:
    """RESET. In Redis 6.2 not everybody may do it."""
    if session.proxy.commands.dialect is Dialect.REDIS_6 and session.pinned is None:
        _ask(session, request.raw, partial(_was_reset, session), _state(session))
    else:
        _was_reset(session, WAS_RESET)
    return True


def _state(session: Session) -> list[bytes]:
    """What brings a clean connection into the client's state, as far as it matters here."""
    login = [] if session.user is None else [encode_command(b"AUTH", *session.user)]
    return login + ([HELLO_3] if session.resp == 3 else [])


def _ask(
    session: Session, raw: bytes, then: Callable[[bytes], None], state: Sequence[bytes]
) -> None:
    session.hold()

    def answered(frame: bytes | None) -> None:
        if frame is None:
            session.answer(UNREACHABLE)
        else:
            then(frame)
        session.unhold()

    lane = session.proxy.logins.take()

    def ready(frame: bytes | None) -> None:
        if frame is None:
            answered(None)
            return
        ops = (Reaction(answered), Reaction(partial(_cleaned, session, lane)))
        lane.send_batch(ops, raw + RESET)

    if state:
        # One after the other: behind an answer that is not written yet a failed login is not
        # answered by every server (see ``Engine.hides_failed_logins``).
        ops = (*[Reaction(ignore)] * (len(state) - 1), Reaction(ready))
        lane.send_batch(ops, b"".join(state))
    else:
        ready(b"")


def _repeat(session: Session, raw: bytes, then: Callable[[bytes], None], frame: bytes) -> None:
    """What was accepted is said once more where a client has a connection of its own anyway."""
    if session.pinned is None or is_error(frame):
        then(frame)
        return
    session.hold()

    def answered(frame: bytes | None) -> None:
        then(UNREACHABLE if frame is None else frame)
        session.unhold()

    lane = session.pinned.lane(session)
    lane.send(Reaction(answered), raw)
    # By its name a connection of ours is found on the store, and a HELLO may change it.
    lane.send(Reaction(ignore), encode_command(b"CLIENT", b"SETNAME", lane.name))


def has_password(request: Request) -> bool:
    """Whether it may be answered that the password is wrong."""
    return request.name == b"AUTH" or any(word.upper() == b"AUTH" for word in request.args()[2:])


def _cleaned(session: Session, lane: Lane, frame: bytes | None) -> None:
    if frame == WAS_RESET:
        session.proxy.logins.keep(lane)
    else:
        lane.close()


def accepted(session: Session, request: Request, frame: bytes) -> bytes:
    """The primary has said yes to AUTH or HELLO: it holds from here on. What the client is told."""
    args = request.args()[1:]
    if request.name == b"AUTH":
        _log_in(session, *(args if len(args) == 2 else (b"default", args[0])))
        return frame
    at = 1
    while at < len(args):
        if args[at].upper() == b"AUTH":
            _log_in(session, args[at + 1], args[at + 2])
            at += 3
        else:  # SETNAME
            session.profile.name = args[at + 1]
            at += 2
    if args:
        session.resp = int(args[0])
        session.change_lane()
    return _ID.sub(b"\\g<1>%d" % session.id, frame, count=1)


def _log_in(session: Session, user: bytes, password: bytes) -> None:
    session.user = (user, password)
    session.may_pass = True
    session.uses_lanes = False
    session.scanner_limits(session.proxy.limits)
    session.change_lane()
    session.proxy.note_user(session)


def _authenticated(session: Session, request: Request, frame: bytes) -> None:
    session.answer(frame if is_error(frame) else accepted(session, request, frame))


def _greeted(session: Session, request: Request, frame: bytes) -> None:
    if is_error(frame):
        session.answer(frame)
        return
    greeting = accepted(session, request, frame)
    if session.subscriber is None:
        session.answer(greeting)
    else:
        # Messages before the answer come in the old protocol, and behind it in the new.
        session.subscriber.speak(session.resp, lambda: session.answer(greeting))


def _was_reset(session: Session, frame: bytes) -> None:
    if is_error(frame):
        session.answer(frame)
    elif session.subscriber is None:
        _as_new(session)
    else:
        session.subscriber.reset(partial(_as_new, session))


def _as_new(session: Session) -> None:
    forget_watch(session)
    session.user = None
    session.may_pass = not session.proxy.auth_required
    session.uses_lanes = False
    session.db = session.proxy.initial_db
    session.resp = 2
    session.profile.reset()
    if session.pinned is not None:
        session.pinned.end()
    session.is_silent = False
    session.change_lane()
    if session.proxy.auth_required:
        session.scanner_limits(session.proxy.limits.before_login())
    session.answer(WAS_RESET)
