"""Where servers differ in what a command does, as far as its reply does not show it.

Measured on Redis 6.2.14 and 7.0.15, Valkey 8.1.8 and 9.1.2; Redis 7.2's change of consumers is
from its release notes.
"""

from __future__ import annotations

from typing import NamedTuple


class Engine(NamedTuple):
    """A server's ways. None: not known, so a rule that would need it copies the keys instead.

    makes_idle_consumers: XREADGROUP, XCLAIM and XAUTOCLAIM make the consumer even when there is
        nothing for it.
    drops_deleted_claims: XCLAIM and XAUTOCLAIM drop pending entries whose stream entry is gone.
    reruns_blocked: the command of a client that waits is executed again as it stands when one of
        its keys is ready; otherwise it is served from that key, whatever the others hold.
    ends_readers_of_none: XREADGROUP does not wait for a stream that was deleted.
    rounds_timeouts_down: what is less than a millisecond is for ever.
    hides_failed_logins: a failed AUTH or HELLO … AUTH is not answered at all where the answer to
        something else is not written yet (networking.c of Redis 7.2, ``addAuthErrReply``).
    """

    makes_idle_consumers: bool | None = None
    drops_deleted_claims: bool | None = None
    reruns_blocked: bool | None = None
    ends_readers_of_none: bool | None = None
    rounds_timeouts_down: bool | None = None
    hides_failed_logins: bool | None = None

    @classmethod
    def of(cls, name: str, version: str) -> Engine:
        """name and version as HELLO answers them, or INFO: ``redis`` and ``6.2.14``."""
        if name == "valkey":
            return cls(True, True, True, True, False, False)
        numbers = tuple(int(part) for part in version.split(".")[:2])
        is_7, is_7_2 = numbers >= (7, 0), numbers >= (7, 2)
        return cls(is_7_2, is_7, is_7_2, is_7, not is_7, is_7_2)


UNKNOWN = Engine()
