"""What the clients do, by the parts of the command surface that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from . import (
    brinks,
    containers,
    cursors,
    databases,
    keys,
    pieces,
    pubsub,
    scripts,
    shared,
    streams,
    strings,
    waiting,
    workers,
    zsets,
)  # fmt: skip
from .client import Habits, Talk
from .connection import Words
from .draw import Choice
from .families import BLOCKING, CURSORS, PIECES, PUBSUB, SCRIPTS, SEVEN, WATCH, WORK

Group = tuple[list[Choice], int]

# Commands on own keys, and how often each group of them.
PLAIN: tuple[Group, ...] = (
    (strings.CHOICES, 24), (containers.CHOICES, 27), (zsets.CHOICES, 14), (streams.CHOICES, 21),
    (keys.CHOICES, 16),
)  # fmt: skip


def habits(families: frozenset[str]) -> Habits:
    """Of one of many clients."""
    groups = [*PLAIN, *_groups(families)]
    of_all = list(shared.CHOICES)
    talks: list[tuple[Talk, int]] = [(brinks.brink, 10), *_transactions(families)]
    if SCRIPTS in families:
        of_all += scripts.SHARED
    if WATCH in families:
        talks.append((pieces.optimistic, 10))
    if BLOCKING in families:
        talks += waiting.TALKS
    if WORK in families:
        of_all += workers.CHOICES
    if PUBSUB in families:
        of_all += [*pubsub.CHOICES, *(pubsub.BY_SCRIPT if SCRIPTS in families else ())]
        talks += pubsub.TALKS
    if CURSORS in families:
        talks += cursors.TALKS
    return Habits(groups, of_all, talks, arrival=_arrival(families))


def habits_of_resident(families: frozenset[str]) -> Habits:
    """Of the client that has databases of its own: nothing there is shared."""
    groups = [*PLAIN, *_groups(families), (databases.CHOICES, 3)]
    return Habits(
        groups, (), _transactions(families), databases.RESERVED, arrival=_arrival(families)
    )


def _groups(families: frozenset[str]) -> list[Group]:
    groups: list[Group] = []
    of_seven = SEVEN in families
    if SCRIPTS in families:
        groups.append(([*scripts.CHOICES, *(scripts.OF_SEVEN if of_seven else ())], 12))
    if BLOCKING in families:
        groups.append(([*waiting.CHOICES, *(waiting.OF_SEVEN if of_seven else ())], 3))
    return groups


def _transactions(families: frozenset[str]) -> list[tuple[Talk, int]]:
    talks: list[tuple[Talk, int]] = []
    if PIECES in families:
        talks.append((pieces.transaction, 20))
    if WATCH in families:
        talks.append((pieces.watched, 10))
    return talks


def _arrival(families: frozenset[str]) -> Sequence[tuple[Words, object]]:
    return scripts.ARRIVAL if SCRIPTS in families else ()
