"""What the proxy answers itself: the state of one client's connection.

Owns AUTH, HELLO, SELECT, RESET, QUIT and the CLIENT subcommands that speak of the
client's own connection. None of them may enter a lane, for they would change it
for everybody. Passwords are verified by the primary, each time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from .ops import Reaction
from .resp import LIMITS, UNAUTHENTICATED, Request, encode_command, is_error, parse
from .resp.encoder import array, bulk, error, integer, mapping, null

if TYPE_CHECKING:
    from .commands import Command
    from .session import Session

log = logging.getLogger("keyferry.session")

OK = b"+OK\r\n"
# What a client may send before it has logged in.
BEFORE_LOGIN = (b"AUTH", b"HELLO", b"QUIT", b"RESET", b"POST", b"HOST:")
NOAUTH = b"-NOAUTH Authentication required.\r\n"
NOAUTH_HELLO = (
    b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
    b"<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
    b"RESP protocol version at the same time\r\n"
)
SYNTAX = b"-ERR syntax error\r\n"
_INDEX = re.compile(rb"0|[1-9][0-9]{0,8}")
# A name is printable ASCII without spaces (networking.c, validateClientName).
_NAME = re.compile(rb"[!-~]*")


def serve(session: Session, command: Command, request: Request) -> bool:
    """Answer a LOCAL command, once the client's outstanding replies are in."""
    if session.outstanding:
        return False
    handler = _COMMANDS.get(request.name)
    assert handler is not None, f"{request.name!r} is LOCAL and nothing answers it"
    handler(session, request)
    return True


def database(request: Request) -> int | None:
    """What a SELECT asks for; None: it is no index."""
    index = request.arg(1) if request.argc == 2 else b""
    return int(index) if _INDEX.fullmatch(index) else None


def is_immediate(command: Command) -> bool:
    """Whether the answer needs nobody else: these can be in a block, too."""
    return command.name in _IMMEDIATE


def immediately(session: Session, request: Request) -> bytes:
    """The answer to one of these."""
    out, session.out = session.out, []
    _COMMANDS[request.name](session, request)
    answer, session.out = b"".join(session.out), out
    return answer


_IMMEDIATE = (
    "client|id", "client|getname", "client|setname", "client|setinfo",
    "client|no-evict", "client|no-touch",
)  # fmt: skip


def _upstream(session: Session, raw: bytes, then: Callable[[bytes], None]) -> None:
    """Ask the primary on the connection that is kept for passwords; hold the client meanwhile."""
    session.hold()

    def done(frame: bytes | None) -> None:
        if frame is None:
            session.out.append(b"-ERR Keyferry cannot reach the primary\r\n")
        else:
            then(frame)
        session.unhold()

    session.proxy.login_lane().send(Reaction(done), raw)


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
        session.out.append(SYNTAX)
        return
    user, password = (b"default", args[0]) if len(args) == 1 else (args[0], args[1])

    def verified(frame: bytes) -> None:
        if frame == OK:
            _log_in(session, user, password)
        session.out.append(frame)

    _upstream(session, request.raw, verified)


def _hello(session: Session, request: Request) -> None:
    args = request.args()[1:]
    resp = session.resp
    if args:
        if args[0] not in (b"2", b"3"):
            wrong = not re.fullmatch(rb"-?[0-9]{1,18}", args[0])
            session.out.append(
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
            session.out.append(
                error(f"ERR Syntax error in HELLO option '{args[at].decode(errors='replace')}'")
            )
            return
    if user is None and not session.may_pass:
        session.out.append(NOAUTH_HELLO)
        return
    if name is not None and not _NAME.fullmatch(name):
        session.out.append(_BAD_NAME)
        return
    # The connection for passwords may be anybody's: it asks as whoever the client is.
    asks_as = user or session.user
    words = (b"HELLO", b"2") if asks_as is None else (b"HELLO", b"2", b"AUTH", *asks_as)

    def greeted(frame: bytes) -> None:
        if is_error(frame):
            session.out.append(frame)
            return
        if user is not None:
            _log_in(session, *user)
        if name is not None:
            session.name = name
        session.resp = resp
        session.change_lane()

        def answer() -> None:
            session.out.append(_greeting(session, parse(frame)))

        if session.subscriber is None:
            answer()
        else:
            # Messages before the answer come in the old protocol, and behind it in the new.
            session.subscriber.speak(resp, answer)

    _upstream(session, encode_command(*words), greeted)


def _greeting(session: Session, fields: list[object]) -> bytes:
    """The primary's HELLO fields, with what is the client's own put in their place."""
    pairs: list[tuple[bytes, bytes]] = []
    for key, value in zip(fields[::2], fields[1::2], strict=True):
        assert isinstance(key, bytes)
        if key == b"proto":
            value = session.resp
        elif key == b"id":
            value = session.id
        pairs.append((bulk(key), _encode(value, session.resp)))
    return mapping(pairs, session.resp)


def _encode(value: object, resp: int) -> bytes:
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, bytes):
        return bulk(value)
    if isinstance(value, list):
        return array([_encode(each, resp) for each in value])
    return null(resp)


def _select(session: Session, request: Request) -> None:
    db = database(request)
    if db is None:
        # It cannot succeed, so it cannot change the lane: the server's own words.
        _upstream(session, request.raw, lambda frame: session.out.append(frame))
        return
    proxy = session.proxy
    if db == session.db:
        session.out.append(OK)
        return
    session.hold()

    def settled(failure: bytes | None) -> None:
        if failure is None:
            session.to_database(db)
        session.out.append(failure or OK)
        session.unhold()

    proxy.lane(proxy.primary, session.user, db, session.resp).when_settled(settled)


def _reset(session: Session, request: Request) -> None:
    session.user = None
    session.may_pass = not session.proxy.auth_required
    session.uses_lanes = False
    session.db = session.proxy.initial_db
    session.resp = 2
    session.name = b""
    session.change_lane()
    if session.subscriber is not None:
        session.subscriber.end()
    if session.proxy.auth_required:
        session.scanner_limits(UNAUTHENTICATED)
    session.out.append(b"+RESET\r\n")


def _quit(session: Session, request: Request) -> None:
    session.out.append(OK)
    session.close()


def _http(session: Session, request: Request) -> None:
    """A line of HTTP: somebody has made a browser send it. A server closes the connection, too."""
    log.warning("client %d: a line of HTTP: closed", session.id)
    session.close()


_BAD_NAME = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"


def _client(session: Session, request: Request) -> None:
    sub = request.arg(1).upper()
    out = session.out
    if sub == b"ID":
        out.append(integer(session.id))
    elif sub == b"GETNAME":
        out.append(bulk(session.name) if session.name else null(session.resp))
    elif sub == b"SETNAME":
        name = request.arg(2)
        if _NAME.fullmatch(name):
            session.name = name
            out.append(OK)
        else:
            out.append(_BAD_NAME)
    elif sub == b"SETINFO":
        option = request.arg(2).upper()
        value = request.arg(3)
        if option not in (b"LIB-NAME", b"LIB-VER"):
            out.append(b"-ERR Unrecognized option '%b'\r\n" % request.arg(2))
        elif not _NAME.fullmatch(value):
            out.append(
                b"-ERR %b cannot contain spaces, newlines or special characters.\r\n"
                % option.lower()
            )
        else:
            out.append(OK)
    elif request.argc == 3 and request.arg(2).upper() in (b"ON", b"OFF"):
        # NO-EVICT and NO-TOUCH speak of a connection to the store, which a client of the
        # proxy has none of.
        out.append(OK)
    else:
        out.append(SYNTAX)


_COMMANDS: dict[bytes, Callable[[Session, Request], None]] = {
    b"AUTH": _auth,
    b"HELLO": _hello,
    b"SELECT": _select,
    b"RESET": _reset,
    b"QUIT": _quit,
    b"CLIENT": _client,
    b"HOST:": _http,
    b"POST": _http,
}
