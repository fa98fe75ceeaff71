"""What a client says of itself: its name, its library, and which replies it wants.

Owns the CLIENT subcommands that speak of the client's own connection and ask for no
connection of its own. The store decides who may give them and how a mistake is worded: it is
sent a form of the command that does no harm on a connection that many clients share, and what
the client asked for is noted here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from .ops import Reaction
from .resp import Request, encode_command, is_error
from .resp.encoder import OK, bulk, integer, null

if TYPE_CHECKING:
    from .session import Session

# A name is printable ASCII without spaces (networking.c, validateClientName).
IS_NAME = re.compile(rb"[!-~]*").fullmatch
BAD_NAME = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
# What the store answers to the forms that do no harm, where the real one would be carried out.
_NAME_REFUSED = b"-ERR Client names cannot contain"
_INFO_REFUSED = b"-ERR lib-name cannot contain"


class Profile:
    """What is known of one client beside what its commands need.

    capabilities: letters, as CLIENT LIST shows them. stays: CLIENT NO-EVICT. connected_at:
    by the proxy's clock.
    """

    __slots__ = (
        "capabilities", "connected_at", "lib_name", "lib_ver", "name", "skips_one", "stays",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self.connected_at = now
        self.name = b""
        self.lib_name = b""
        self.lib_ver = b""
        self.capabilities = b""
        self.stays = False
        # The client is silent for one reply only.
        self.skips_one = False

    def reset(self) -> None:
        """RESET: what a store forgets by it. The library stays (networking.c)."""
        self.name = b""
        self.skips_one = False


def ask(session: Session, raw: bytes, then: Callable[[bytes], None]) -> bool:
    """Hear what the store says to the client's user; the client waits. False: not yet."""
    lane = session.primary_lane()
    if not session.use(lane):
        return False
    session.hold()

    def done(frame: bytes | None) -> None:
        if frame is None:
            # What a direct client would see.
            session.proxy.stats.client_error("upstream_lost")
            session.close()
        else:
            then(frame)
        session.unhold()

    lane.send(Reaction(done), raw)
    return True


def serve(session: Session, request: Request) -> bool:
    """One of the commands that :func:`stand_in` knows. False: it cannot go yet."""
    return ask(
        session,
        stand_in(request),
        lambda frame: session.answer(answered(session, request, frame)),
    )


def serve_reply(session: Session, request: Request) -> bool:
    """CLIENT REPLY. False: it cannot go yet."""
    wanted = request.arg(2).upper()
    is_known = wanted in (b"ON", b"OFF", b"SKIP")

    def then(frame: bytes) -> None:
        profile = session.profile
        if is_error(frame) or not is_known:
            session.answer(frame)
        elif wanted == b"ON":
            session.is_silent = profile.skips_one = False
            session.answer(OK)
        elif wanted == b"OFF":
            session.is_silent = True
            profile.skips_one = False
        elif not session.is_silent:
            session.is_silent = profile.skips_one = True

    return ask(session, _REPLY_ON if is_known else request.raw, then)


OF_ITSELF = (
    "client|capa", "client|getname", "client|id", "client|no-evict", "client|setinfo",
    "client|setname",
)  # fmt: skip
_REPLY_ON = encode_command(b"CLIENT", b"REPLY", b"ON")

# -- what the store is sent, and what the client is answered -------------------------------------


def stand_in(request: Request) -> bytes:
    """What the store is asked in the command's place: it needs the same right."""
    form = _STAND_INS.get(request.arg(1).upper())
    return request.raw if form is None or not _is_well_formed(request) else form


def answered(session: Session, request: Request, frame: bytes) -> bytes:
    """Carry it out, if ``frame``, the store's answer, lets it be; what the client is told."""
    sub = request.arg(1).upper()
    if is_error(frame) and not frame.startswith(_EXPECTED.get(sub, OK)):
        return frame
    if not _is_well_formed(request):
        return frame
    return _ANSWERS[sub](session, request)


def _is_well_formed(request: Request) -> bool:
    sub = request.arg(1).upper()
    if sub == b"SETNAME":
        return IS_NAME(request.arg(2)) is not None
    if sub == b"SETINFO":
        return request.arg(2).upper() in _INFO and IS_NAME(request.arg(3)) is not None
    if sub == b"NO-EVICT":
        return request.arg(2).upper() in (b"ON", b"OFF")
    return True


_INFO = {b"LIB-NAME": "lib_name", b"LIB-VER": "lib_ver"}


def _id(session: Session, request: Request) -> bytes:
    return integer(session.id)


def _get_name(session: Session, request: Request) -> bytes:
    name = session.profile.name
    return bulk(name) if name else null(session.resp)


def _set_name(session: Session, request: Request) -> bytes:
    session.profile.name = request.arg(2)
    return OK


def _set_info(session: Session, request: Request) -> bytes:
    setattr(session.profile, _INFO[request.arg(2).upper()], request.arg(3))
    return OK


def _no_evict(session: Session, request: Request) -> bytes:
    session.profile.stays = request.arg(2).upper() == b"ON"
    return OK


def _capa(session: Session, request: Request) -> bytes:
    if any(word.lower() == b"redirect" for word in request.args()[2:]):
        session.profile.capabilities = b"r"
    return OK


_ANSWERS: dict[bytes, Callable[[Session, Request], bytes]] = {
    b"ID": _id,
    b"GETNAME": _get_name,
    b"SETNAME": _set_name,
    b"SETINFO": _set_info,
    b"NO-EVICT": _no_evict,
    b"CAPA": _capa,
}
# Of these a form that a store refuses, or that leaves the shared connection as it is.
_STAND_INS = {
    b"SETNAME": encode_command(b"CLIENT", b"SETNAME", b" "),
    b"SETINFO": encode_command(b"CLIENT", b"SETINFO", b"lib-name", b" "),
    b"NO-EVICT": encode_command(b"CLIENT", b"NO-EVICT", b"OFF"),
    b"CAPA": encode_command(b"CLIENT", b"CAPA", b"keyferry"),
}
_EXPECTED = {b"SETNAME": _NAME_REFUSED, b"SETINFO": _INFO_REFUSED}
