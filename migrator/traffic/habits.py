"""What the clients do, by the parts of the command surface that are asked for."""

from __future__ import annotations

from . import brinks, containers, databases, keys, pieces, shared, streams, strings, zsets
from .client import Habits, Talk
from .draw import Choice
from .families import PIECES, WATCH

OWN: tuple[list[Choice], ...] = (
    strings.CHOICES, containers.CHOICES, zsets.CHOICES, streams.CHOICES, keys.CHOICES,
)  # fmt: skip
WEIGHTS = (24, 27, 14, 21, 16)


def habits(families: frozenset[str]) -> Habits:
    """Of one of many clients."""
    return Habits(OWN, WEIGHTS, tuple(shared.CHOICES), (brinks.brink, *_talks(families)))


def habits_of_resident(families: frozenset[str]) -> Habits:
    """Of the client that has databases of its own: nothing there is shared."""
    talks: list[Talk] = [pieces.transaction] * 2 if PIECES in families else []
    talks += [pieces.watched] if WATCH in families else []
    return Habits((*OWN, databases.CHOICES), (*WEIGHTS, 3), (), tuple(talks), databases.RESERVED)


def _talks(families: frozenset[str]) -> list[Talk]:
    talks: list[Talk] = []
    if PIECES in families:
        talks += [pieces.transaction] * 2
    if WATCH in families:
        talks += [pieces.watched, pieces.optimistic]
    return talks
