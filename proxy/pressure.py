"""What clients hold of the proxy's memory, each and in all, and who has to go.

Owns the sum over clients of what is not passed on yet: requests that are arriving or waiting,
blocks that are queued, replies that are not read. A session has itself weighed where something of
it may have become much; who holds nothing is not known here, and costs nothing. It never looks at
a command, and never makes a client wait whose commands can go.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import Proxy
    from .session import Session

log = logging.getLogger("keyferry.pressure")

# Bytes of a client's below which nobody looks.
WEIGHED = 16 * 1024
# Bytes of one request: client-query-buffer-limit of the servers.
MAX_REQUEST = 1024 * 1024 * 1024
# Waiting requests of a client, and their bytes, at which it is read no further.
MAX_BACKLOG = 2048
MAX_UNSENT = 1024 * 1024
# What a waiting request costs beside its bytes.
REQUEST_BYTES = 200
# How often those who hold something are weighed again, in seconds.
SWEEP_S = 0.1


class Pressure:
    """See the module's docstring. ``limit``: bytes of all clients; ``client_limit``: of one.

    ``max_unsent`` is what a client may have waiting before it is read no further. Above half
    of the limit that is nothing: who waits anyway then waits with less in our memory.
    """

    def __init__(self, proxy: Proxy, limit: int, client_limit: int) -> None:
        self._proxy = proxy
        self.limit = limit
        self.client_limit = client_limit
        self.max_unsent = MAX_UNSENT
        self.total = 0
        self.evicted = 0
        self._held: dict[Session, int] = {}
        self._loop = asyncio.get_running_loop()
        self._is_sweeping = False
        self._is_relieving = False

    def weigh(self, session: Session) -> None:
        """It may hold more than before, or less."""
        now = held_by(session)
        self.total += now - self._held.get(session, 0)
        if now:
            self._held[session] = now
        else:
            self._held.pop(session, None)
        self.max_unsent = 1 if self.total > self.limit // 2 else MAX_UNSENT
        if self.total > self.limit and not self._is_relieving:
            # Not now: the one that has to go may be amid its own commands.
            self._is_relieving = True
            self._loop.call_soon(self._relieve)
        if self._held and not self._is_sweeping:
            self._is_sweeping = True
            self._loop.call_later(SWEEP_S, self._sweep)

    def arriving(self, session: Session) -> None:
        """A request of a client is not complete, and is no small one."""
        if session.scanner.pending > MAX_REQUEST:
            log.warning(
                "client %d (%s) sends a request of more than 1 GiB: closed",
                session.id, address_of(session),
            )  # fmt: skip
            self._proxy.stats.client_error("request_limit")
            session.close()
        else:
            self.weigh(session)

    def is_enough(self, session: Session) -> bool:
        """Requests of a client wait: whether no more of them should be read."""
        if session.unsent > WEIGHED:
            self.weigh(session)
        return session.unsent >= self.max_unsent or len(session.backlog) >= MAX_BACKLOG

    def unread(self, session: Session, largest: int) -> None:
        """Replies to a client wait to be read; ``largest``: bytes of the largest of them.

        That one does not count: a value may be larger than any limit, and its reader quick.
        """
        assert session.transport is not None
        waiting = session.transport.get_write_buffer_size()
        if waiting > self.client_limit + largest:
            log.warning(
                "client %d (%s) leaves %d bytes unread, --client-output-limit is %d: closed",
                session.id, address_of(session), waiting, self.client_limit,
            )  # fmt: skip
            self._end(session, "output_limit")
        else:
            self.weigh(session)

    def left(self, session: Session) -> None:
        """The client is gone."""
        self.total -= self._held.pop(session, 0)

    def _sweep(self) -> None:
        self._is_sweeping = False
        before = self.max_unsent
        for session in list(self._held):
            self.weigh(session)
        if self.max_unsent > before:
            for session in list(self._held):
                session.regulate()

    def _relieve(self) -> None:
        self._is_relieving = False
        for session in list(self._held):
            self.weigh(session)
        # CLIENT NO-EVICT: as on a store, these do not go.
        may_go = [each for each in self._held if not each.profile.stays]
        for session in sorted(may_go, key=self._held.__getitem__, reverse=True):
            if self.total <= self.limit:
                return
            log.warning(
                "client %d (%s) holds %d of %d bytes, --clients-memory-limit is %d: closed",
                session.id, address_of(session), self._held[session], self.total, self.limit,
            )  # fmt: skip
            self.evicted += 1
            self._end(session, "memory_limit")

    def _end(self, session: Session, reason: str) -> None:
        self._proxy.stats.client_error(reason)
        session.abort()
        self.left(session)


def held_by(session: Session) -> int:
    """Bytes of a client's in the proxy: read and not sent on, or to be written and not read."""
    held = session.scanner.pending
    if session.transport is not None:
        held += session.transport.get_write_buffer_size()
    if session.backlog:
        held += session.unsent + REQUEST_BYTES * len(session.backlog)
    held += getattr(session.mode, "size", 0)  # a MULTI that is queued
    for own in (session.borrowed, session.once, session.pinned):
        if own is not None:
            held += own.unsent
    if session.split is not None:
        held += session.split.held
    return held


def address_of(session: Session) -> str:
    assert session.transport is not None
    peer = session.transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) > 1 else "?"
