"""Effects of the commands that give a whole key a time to live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..effect import Rule, Value
from .common import COPY_KEYS, NOTHING, Clock, Outcome, count, deadline, one

if TYPE_CHECKING:
    from ...resp import Request


def _expiry(option: bytes) -> Rule:
    def rule(req: Request, value: Value, clock: Clock) -> Outcome:
        """PEXPIREAT if the time was set, whatever the condition; DEL if it had passed."""
        # 0: no such key, or NX, XX, GT or LT said no.
        if not value:
            return NOTHING
        until = deadline(option, req.arg(2), clock)
        if until is None:
            return COPY_KEYS
        if until.is_past:
            return one(b"DEL", req.arg(1), check=count(1))
        return one(b"PEXPIREAT", req.arg(1), until.at_ms, check=count(1))

    return rule


expire = _expiry(b"EX")
pexpire = _expiry(b"PX")
expireat = _expiry(b"EXAT")
pexpireat = _expiry(b"PXAT")
