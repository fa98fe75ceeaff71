"""What the proxy answers itself: the state of one client's connection.

Owns AUTH, HELLO, SELECT, RESET and QUIT, and who answers the CLIENT subcommands. None of
them may enter a lane, for they would change it for everybody. Passwords are verified by
the primary, each time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from . import clients, profile, tracking
from .block import database
from .ops import Reaction
from .resp import LIMITS, UNAUTHENTICATED, Request, encode_command, is_error
from .resp.encoder import error

if TYPE_CHECKING:
    from .commands import Command
    from .session import Session

log = logging.getLogger("keyferry.session")

OK = b"+OK\r\n"
# What a client may send before it has logged in.
BEFORE_LOGIN = (b"AUTH", b"HELLO", b"QUIT", b"RESET", b"POST", b"HOST:")
NOAUTH = b"-NOAUTH Authentication required.\r\n"
SYNTAX = b"-ERR syntax error\r\n"

# The connection's number in a greeting.
_ID = re.compile(rb"(\$2\r\nid\r\n:)[0-9]+")

Serve = Callable[["Session", Request], bool]


def serve(session: Session, command: Command, request: Request) -> bool:
    """Answer a LOCAL command, once the client's outstanding replies are in."""
    if session.outstanding:
        return False
    handler = _COMMANDS.get(command.name)
    assert handler is not None, f"{command.name!r} is LOCAL and nothing answers it"
    return handler(session, request)


def _upstream(session: Session, raw: bytes, then: Callable[[bytes], None]) -> None:
    """Ask the primary on the connection that is kept for passwords; hold the client meanwhile.

    A client that has a connection of its own says it there.
    """
    pinned = session.pinned
    lane = session.proxy.login_lane() if pinned is None else pinned.lane(session)
    session.hold()

    def done(frame: bytes | None) -> None:
        if frame is None:
            session.answer(b"-ERR Keyferry cannot reach the primary\r\n")
        else:
            then(frame)
        session.unhold()

    lane.send(Reaction(done), raw)


def _log_in(session: Session, user: bytes, password: bytes) -> None:
    session.user = (user, password)
    session.may_pass = True
    session.uses_lanes = False
    session.scanner_limits(LIMITS)
    session.change_lane()
    session.proxy.note_user(session)


def _auth(session: Session, request: Request) -> None:
    args = request.args()[1:]
    if len(args) not in (1, 2):
        session.answer(SYNTAX)
        return
    user, password = (b"default", args[0]) if len(args) == 1 else (args[0], args[1])

    def verified(frame: bytes) -> None:
        if frame == OK:
            _log_in(session, user, password)
        session.answer(frame)

    _upstream(session, request.raw, verified)


def _hello(session: Session, request: Request) -> None:
    args = request.args()[1:]
    resp = session.resp
    if args:
        if args[0] not in (b"2", b"3"):
            wrong = not re.fullmatch(rb"-?[0-9]{1,18}", args[0])
            session.answer(
                b"-ERR Protocol version is not an integer or out of range\r\n"
                if wrong
                else b"-NOPROTO unsupported protocol version\r\n"
            )
            return
        resp = int(args[0])
    user: tuple[bytes, bytes] | None = None
    name: bytes | None = None
    at = 1
    while at < len(args):
        option = args[at].upper()
        if option == b"AUTH" and at + 2 < len(args):
            user = (args[at + 1], args[at + 2])
            at += 3
        elif option == b"SETNAME" and at + 1 < len(args):
            name = args[at + 1]
            at += 2
        else:
            session.answer(
                error(f"ERR Syntax error in HELLO option '{args[at].decode(errors='replace')}'")
            )
            return
    if user is None and not session.may_pass:
        session.answer(session.proxy.noauth_hello)
        return
    if name is not None and not profile.IS_NAME(name):
        session.answer(profile.BAD_NAME)
        return
    # The connection for passwords may be anybody's: it asks as whoever the client is.
    asks_as = user or session.user
    words = (b"HELLO", b"%d" % resp) + (() if asks_as is None else (b"AUTH", *asks_as))

    def greeted(frame: bytes) -> None:
        if is_error(frame):
            session.answer(frame)
            return
        if user is not None:
            _log_in(session, *user)
        if name is not None:
            session.profile.name = name
        session.resp = resp
        session.change_lane()

        def answer() -> None:
            session.answer(_ID.sub(rb"\g<1>%d" % session.id, frame, count=1))

        if session.subscriber is None:
            answer()
        else:
            # Messages before the answer come in the old protocol, and behind it in the new.
            session.subscriber.speak(resp, answer)

    _upstream(session, encode_command(*words), greeted)


def _select(session: Session, request: Request) -> bool:
    db = database(request)
    proxy = session.proxy
    if db is None or db == session.db or session.pinned is not None:
        # It does not change the lane, or changes the client's own: the server's own words.
        def then(frame: bytes) -> None:
            if db is not None and db != session.db and frame == OK:
                session.primary_lane().db = db
                session.to_database(db)
            session.answer(frame)

        return profile.ask(session, request.raw, then)
    session.hold()

    def settled(failure: bytes | None) -> None:
        if failure is None:
            session.to_database(db)
        session.answer(failure or OK)
        session.unhold()

    proxy.lane(proxy.primary, session.user, db, session.resp).when_settled(settled)
    return True


def _reset(session: Session, request: Request) -> None:
    if session.subscriber is None:
        _as_new(session)
    else:
        session.subscriber.reset(partial(_as_new, session))


def _as_new(session: Session) -> None:
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
        session.scanner_limits(UNAUTHENTICATED)
    session.answer(b"+RESET\r\n")


def _quit(session: Session, request: Request) -> None:
    session.answer(OK)
    session.close()


def _http(session: Session, request: Request) -> None:
    """A line of HTTP: somebody has made a browser send it. A server closes the connection, too."""
    log.warning("client %d: a line of HTTP: closed", session.id)
    session.close()


def _at_once(answer: Callable[[Session, Request], None]) -> Serve:
    """Of an answer that need not wait for anybody."""

    def serve(session: Session, request: Request) -> bool:
        answer(session, request)
        return True

    return serve


_COMMANDS: dict[str, Serve] = {
    "auth": _at_once(_auth),
    "hello": _at_once(_hello),
    "select": _select,
    "reset": _at_once(_reset),
    "quit": _at_once(_quit),
    "host:": _at_once(_http),
    "post": _at_once(_http),
    "client|info": clients.serve_info,
    "client|kill": clients.serve_kill,
    "client|list": clients.serve_list,
    "client|caching": tracking.serve_caching,
    "client|getredir": tracking.serve_redirect,
    "client|no-touch": tracking.serve_no_touch,
    "client|reply": profile.serve_reply,
    "client|tracking": tracking.serve_tracking,
    "client|trackinginfo": tracking.serve_info,
    "client|unblock": clients.serve_unblock,
} | dict.fromkeys(profile.IN_BLOCKS, profile.serve)
