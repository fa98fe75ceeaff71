"""What the rules of all types share: how an effect is written, and what a time means.

A rule says what was *done*, never the condition under which: the secondary may be a moment behind
or ahead of the primary's expiries, so a condition could come out differently there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...resp.encoder import Argument, array, bulk, encode_command, integer
from ..effect import COPY_KEYS, Check, Clock, Effect, Outcome

if TYPE_CHECKING:
    from ...resp import Request

MAX_CLOCK_ERROR_MS = 20
"""A TTL made absolute with less certainty than this would be seen as a difference."""

OK = b"+OK\r\n"
NOTHING: Outcome = []


def sent(*args: Argument, check: Check | bytes = Check.NO_ERROR) -> Effect:
    return Effect(encode_command(*args), check)


def one(*args: Argument, check: Check | bytes = Check.NO_ERROR) -> Outcome:
    return [sent(*args, check=check)]


def verbatim(req: Request) -> Outcome:
    return [Effect(req.raw, Check.SAME)]


def count(number: int) -> bytes:
    """The answer ``:number``."""
    return integer(number)


def strings(values: list[bytes]) -> bytes:
    """The answer: an array of strings."""
    return array([bulk(value) for value in values])


class Deadline(NamedTuple):
    """When something expires: Unix time in ms, and whether that was already past."""

    at_ms: int
    is_past: bool


_UNITS_MS = {b"EX": 1000, b"PX": 1, b"EXAT": 1000, b"PXAT": 1}
EXPIRY_OPTIONS = frozenset(_UNITS_MS)


def deadline(option: bytes, amount: bytes, clock: Clock) -> Deadline | None:
    """The time that EX, PX, EXAT or PXAT means. None when the clock is too vague to say it.

    A time in the past is a deletion, and must be mirrored as one: sent as a time, it would let the
    key live on while the secondary's clock is behind, and a write that follows would land in it.
    """
    number = int(amount) * _UNITS_MS[option]
    if option.endswith(b"AT"):
        # Within the error nobody knows whether the primary set it or deleted the key.
        if abs(number - clock.now_ms) <= clock.error_ms:
            return None
        return Deadline(number, number <= clock.now_ms)
    if number <= 0:
        return Deadline(round(clock.now_ms) + number, True)
    if clock.error_ms > MAX_CLOCK_ERROR_MS:
        return None
    return Deadline(round(clock.now_ms) + number, False)


__all__ = [
    "COPY_KEYS",
    "EXPIRY_OPTIONS",
    "MAX_CLOCK_ERROR_MS",
    "NOTHING",
    "OK",
    "Check",
    "Clock",
    "Deadline",
    "Effect",
    "Outcome",
    "count",
    "deadline",
    "one",
    "sent",
    "strings",
    "verbatim",
]
