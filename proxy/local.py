"""What the proxy answers itself: the state of one client's connection.

Owns SELECT and QUIT, and who answers the others. None of them may enter a lane, for they would
change it for everybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from . import clients, login, profile, tracking
from .block import database
from .resp import Request

if TYPE_CHECKING:
    from .commands import Command
    from .session import Session

log = logging.getLogger("keyferry.session")

OK = b"+OK\r\n"
# What a client may send before it has logged in.
BEFORE_LOGIN = (b"AUTH", b"HELLO", b"QUIT", b"RESET", b"POST", b"HOST:")
_NOAUTH = b"-NOAUTH Authentication required.\r\n"
_NOAUTH_EXEC = b"-EXECABORT Transaction discarded because of: NOAUTH Authentication required.\r\n"

Serve = Callable[["Session", Request], bool]


def noauth(request: Request) -> bytes:
    """What a client is told that has to log in first."""
    return _NOAUTH_EXEC if request.name == b"EXEC" else _NOAUTH


def malformed(session: Session, request: Request) -> bytes:
    """What a client is told whose command is unknown, or has the wrong number of arguments."""
    # Most servers look at name and arguments first, and then at who asks.
    asks_who = session.proxy.asks_who_first and not session.may_pass
    if asks_who and request.name not in BEFORE_LOGIN:
        return noauth(request)
    return session.proxy.commands.check(request) or b"-ERR unknown command\r\n"


def serve(session: Session, command: Command, request: Request) -> bool:
    """Answer a LOCAL command, once the client's outstanding replies are in."""
    if session.outstanding:
        return False
    handler = _COMMANDS.get(command.name)
    assert handler is not None, f"{command.name!r} is LOCAL and nothing answers it"
    return handler(session, request)


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


def _quit(session: Session, request: Request) -> bool:
    session.answer(OK)
    session.close()
    return True


def _http(session: Session, request: Request) -> bool:
    """A line of HTTP: somebody has made a browser send it. A server closes the connection, too."""
    log.warning("client %d: a line of HTTP: closed", session.id)
    # With what it has just answered, and not written.
    session.out.clear()
    session.close()
    return True


_COMMANDS: Mapping[str, Serve] = {
    "auth": login.serve_auth,
    "hello": login.serve_hello,
    "reset": login.serve_reset,
    "select": _select,
    "quit": _quit,
    "host:": _http,
    "post": _http,
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
} | dict.fromkeys(profile.OF_ITSELF, profile.serve)
