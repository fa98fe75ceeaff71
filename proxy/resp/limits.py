"""How much a peer may announce, and the error it gets when it breaks the protocol.

Owns the numbers and the error type. Never looks at bytes.
"""

from __future__ import annotations

from dataclasses import dataclass


class ProtocolError(Exception):
    """The peer sent what is not RESP; nothing after it on this connection can be trusted.

    `reply` is what a Redis server answers a client with before it hangs up. `frames` are the
    complete replies that were found in front of the bad bytes (reply scanner only: the request
    scanner returns what it found and keeps the error aside).
    """

    def __init__(self, problem: str, frames: list[bytes] | None = None) -> None:
        super().__init__(problem)
        self.reply = b"-ERR Protocol error: %b\r\n" % problem.encode("latin-1")
        self.frames = [] if frames is None else frames


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may announce. Defaults are those of networking.c and redis.conf, but one."""

    max_multibulk: int = 16 * 1024 * 1024
    """Arguments of one request. From Redis 7 on servers take 2^31 - 1: no client sends so many, and
    all that have arrived are held until the last one has."""
    max_bulk: int = 512 * 1024 * 1024
    """Bytes of one argument (`proto-max-bulk-len`)."""
    max_inline: int = 64 * 1024
    """Bytes of one line: an inline request, or a length that never ends."""
    max_nesting: int = 10_000
    """Aggregates inside each other in a reply. A Lua script can return about 8,000."""
    after_login: Limits | None = None
    """The client has not logged in, so the limits are lower, and the error says so: what holds
    behind that."""

    def before_login(self) -> Limits:
        """For a client that has to log in first (networking.c, `authRequired`)."""
        return Limits(max_multibulk=10, max_bulk=16 * 1024, after_login=self)


LIMITS = Limits()
REDIS_6 = Limits(max_multibulk=1024 * 1024)
UNAUTHENTICATED = LIMITS.before_login()
