"""What serves a command that is not on the hot path, by its kind.

Owns the table only. Each of these gets the session, the command and the request, and
tells whether it is consumed; one that cannot go yet stays at the head of the backlog, and
whatever it waits for calls the session's ``run``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import blocking, cursors, local, own, scripting, subscribing, transaction
from .commands import Command, Kind
from .resp import Request

if TYPE_CHECKING:
    from .session import Session

Serve = Callable[["Session", Command, Request], bool]


def refuse(session: Session, command: Command, request: Request) -> bool:
    """Answer what the policy table says."""
    assert command.error is not None, f"{command} has no treatment"
    return session.refuse(command.error)


def barrier(session: Session, command: Command, request: Request) -> bool:
    """FLUSHALL and its like: ordered against everything."""
    return session.barrier(command, request)


SERVE: dict[Kind, Serve] = {
    Kind.BARRIER: barrier,
    Kind.BLOCKING: blocking.serve,
    Kind.CURSOR: cursors.serve,
    Kind.LOCAL: local.serve,
    Kind.OWN: own.serve,
    Kind.REFUSED: refuse,
    Kind.SUBSCRIBE: subscribing.serve,
    Kind.SCRIPT: scripting.serve,
    Kind.TRANSACTION: transaction.serve,
}
