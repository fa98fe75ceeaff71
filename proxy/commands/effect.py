"""What the mirror sends for a write, and what answer it expects of the secondary.

Owns the types that rules are made of. The rules themselves are in :mod:`proxy.commands.effects`,
one module per data type.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .engine import UNKNOWN, Engine

if TYPE_CHECKING:
    from ..resp import Request


class Check(enum.Enum):
    """What the secondary's answer to an effect must be."""

    SAME = "same"
    """The same reply as the primary gave to the command (``proxy.resp.same_reply``)."""
    NO_ERROR = "no error"
    """Anything but an error: the effect has another form than the command, so its reply says
    nothing more."""


class Effect(NamedTuple):
    """One command for the secondary.

    check: a :class:`Check`, or the exact bytes of the answer expected.
    """

    raw: bytes
    check: Check | bytes


class CopyKeys(enum.Enum):
    """The type of :data:`COPY_KEYS`."""

    COPY_KEYS = "copy keys"


COPY_KEYS: Final = CopyKeys.COPY_KEYS
"""Instead of effects: no command says exactly what happened, the written keys become unproven."""


class Clock(NamedTuple):
    """When the primary executed the command, by the primary's own clock, and what primary it is.

    now_ms: the estimate, Unix time in ms.
    error_ms: half of the width of the interval in which it certainly lies.
    """

    now_ms: float
    error_ms: float
    engine: Engine = UNKNOWN


Outcome = list[Effect] | CopyKeys
Value = Any
"""A reply as ``proxy.resp.parse`` gives it, never an error."""

Rule = Callable[["Request", Value, Clock], Outcome]
"""``rule(request, value, clock)``: value is the primary's reply, or ``(reply, answer)`` where the
command has a probe. An empty list: nothing was changed."""
