"""CLIENT inside MULTI: what stands in the block for it, and what is answered.

Owns which subcommands a block may have. What the server queues and executes is a form that does
no harm (see :mod:`proxy.profile` and :mod:`proxy.clients`); where it is of the connection, the
block is on the one that the client keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import clients, profile, tracking

if TYPE_CHECKING:
    from .commands import Command
    from .resp import Request
    from .session import Session

_REDIRECTS = b"-ERR Keyferry does not support 'client tracking' with REDIRECT inside MULTI\r\n"


def refusal(command: Command, request: Request) -> bytes | None:
    """Why a block cannot have it."""
    if command.name not in _ANSWERS:
        name = command.name.replace("|", " ").encode()
        return b"-ERR Keyferry does not support '%b' inside MULTI\r\n" % name
    if command.name == "client|tracking" and tracking.redirects(request):
        return _REDIRECTS
    return None


def stays(command: Command, request: Request) -> bool:
    """Whether the connection is another one behind it, so that the client has to keep it."""
    return command.name in ("client|tracking", "client|no-touch") and (
        request.arg(2).upper() == b"ON"
    )


def stand_in(command: Command, request: Request) -> bytes:
    """What the server is sent in its place."""
    if command.name == "client|kill":
        return clients.kill_that_finds_nobody(request)
    return profile.stand_in(request)


def answered(
    session: Session, command: Command, request: Request, frame: bytes, queued: int
) -> bytes:
    """Carry it out as the server's answer lets it be; what the client is told.

    queued: the commands of the block.
    """
    if command.name == "client|info":
        return clients.info_shown(session, request, frame, queued)
    return _ANSWERS[command.name](session, request, frame)


def _as_it_is(session: Session, request: Request, frame: bytes) -> bytes:
    return frame


_Answer = Callable[["Session", "Request", bytes], bytes]
_ANSWERS: dict[str, _Answer] = {
    **dict.fromkeys(profile.OF_ITSELF, profile.answered),
    "client|caching": _as_it_is,
    "client|getredir": tracking.redirect_shown,
    "client|info": clients.info_shown,
    "client|kill": clients.killed,
    "client|no-touch": tracking.told_no_touch,
    "client|tracking": tracking.told,
    "client|trackinginfo": tracking.info_shown,
}
