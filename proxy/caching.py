"""CLIENT CACHING: what it says holds for the next command, or for the next block.

Owns for how long that is. The store knows it, too; but if a flip comes in between, another one
has to be told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ops import Reaction, ignore
from .own import PING, Mode

if TYPE_CHECKING:
    from .resp import Request
    from .session import Session


class Caching:
    """A mode around the client's mode, from CLIENT CACHING to the end of what it is about.

    raw: the command. inner: what takes the client's commands meanwhile.
    """

    __slots__ = ("inner", "raw")

    def __init__(self, raw: bytes, inner: Mode | None) -> None:
        self.raw = raw
        self.inner = inner

    @property
    def queued(self) -> int:
        return -1 if self.inner is None else self.inner.queued

    def take(self, session: Session, request: Request) -> bool:
        """The client's next command, to whoever it is for."""
        session.mode = inner = self.inner
        has_gone = session.dispatch(request) if inner is None else inner.take(session, request)
        is_in_block = session.mode is not None and session.mode.queued >= 0
        is_over = has_gone and request.name != b"CLIENT" and not is_in_block
        if not is_over:
            self.inner, session.mode = session.mode, self
        elif session.is_idle and session.pinned is not None:
            # Answered without the store, for which it is not over yet.
            session.pinned.lane(session).send(Reaction(ignore), PING)
        return has_gone

    def at_rest(self, session: Session) -> None:
        if self.inner is not None:
            session.mode = self.inner
            self.inner.at_rest(session)
            self.inner, session.mode = session.mode, self
