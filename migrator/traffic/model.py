"""What one client knows of its own keys, and so of the replies to its own commands.

Owns the model of a client's keys: values, expiry, what cannot be known. It sends nothing.
Commands are applied in the order of their replies; a reply is compared with what the model
says. Where time decides (a key may have expired, or not) or a connection was lost, the key is
*unsure* until a command makes it anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from proxy.resp.values import ReplyError

from .connection import Arg

# Database and key.
Place = tuple[int, bytes]

# A primary's expiry time is known to this: both clocks' steps, and for relative ones the
# proxy's estimate of when the primary executed the command.
CLOCK_MS = 60.0
NEVER = math.inf


class Unsure(Exception):
    """The model cannot say what the reply must be."""


class Anything:
    """Fits every reply that is no error."""


class Failure(NamedTuple):
    """An error reply that begins so."""

    text: bytes


class OneOf(NamedTuple):
    options: tuple[object, ...]


class Between(NamedTuple):
    low: float
    high: float


class Wrong(NamedTuple):
    """Fits no reply: says what would have."""

    wanted: str


ANY = Anything()
OK = b"OK"


def nothing() -> None:
    pass


class Step(NamedTuple):
    """One command. `apply(reply)` changes the model and returns what the reply must be.

    `places` are the own keys that it touches. `withdraw` instead of `apply` when it was certainly
    not executed: a block that was refused or given up.
    """

    args: tuple[Arg, ...]
    places: tuple[Place, ...]
    apply: Callable[[Any], object]
    # Makes its keys known again, whatever they were.
    renews: bool = False
    withdraw: Callable[[], None] = nothing


class Value:
    """A key's data (bytes, list, set, dict, Stream), and when it expires (ms since the epoch).

    It lives before `low`, and is gone after `high`.
    """

    __slots__ = ("data", "high", "low")

    def __init__(self, data: Any, low: float = NEVER, high: float = NEVER) -> None:
        self.data = data
        self.low = low
        self.high = high


class Model:
    """`initial(place)` is what a key was before this client ever touched it."""

    def __init__(self, initial: Callable[[Place], Value | None]) -> None:
        self.values: dict[Place, Value | None] = {}
        self.unsure: set[Place] = set()
        # When the batch was sent, and when the reply was there (ms since the epoch).
        self.sent = 0.0
        self.answered = 0.0
        self._initial = initial

    def reset(self, values: dict[Place, Value]) -> None:
        """That, and nothing else, is there, and was in the beginning."""
        self.values = dict(values)
        self._initial = lambda place: None

    # -- what is there -------------------------------------------------------------

    def value(self, place: Place) -> Value | None:
        """Raises Unsure."""
        if place in self.unsure:
            raise Unsure
        value = self.peek(place)
        if value is None or self.answered < value.low:
            return value
        if self.sent <= value.high:
            raise Unsure
        self.values[place] = None
        return None

    def peek(self, place: Place) -> Value | None:
        """The last that is known, expiry left aside: for the choice of commands."""
        try:
            return self.values[place]
        except KeyError:
            value = self.values[place] = self._initial(place)
            return value

    def data(self, place: Place, default: Any = None) -> Any:
        value = self.value(place)
        return default if value is None else value.data

    # -- changes ---------------------------------------------------------------------

    def put(self, place: Place, data: Any, low: float = NEVER, high: float = NEVER) -> None:
        """A new value; the old one and its expiry are gone. An empty collection is no key."""
        is_empty = isinstance(data, list | set | dict) and not data
        self.values[place] = None if is_empty else Value(data, low, high)

    def edit(self, place: Place, data: Any) -> None:
        """Another value, and the expiry stays."""
        value = self.value(place)
        if value is None:
            self.put(place, data)
        else:
            self.put(place, data, value.low, value.high)

    def drop(self, *places: Place) -> int:
        """How many of them were there."""
        count = 0
        for place in places:
            count += self.value(place) is not None
            self.values[place] = None
        return count

    def clear(self, db: int) -> None:
        """Nothing is in that database any more, for certain."""
        self.values = {place: value for place, value in self.values.items() if place[0] != db}
        self.unsure = {place for place in self.unsure if place[0] != db}

    def swap(self, a: int, b: int) -> None:
        """The keys of two databases change places."""
        other = {a: b, b: a}
        self.values = {(other.get(db, db), key): each for (db, key), each in self.values.items()}
        self.unsure = {(other.get(db, db), key) for db, key in self.unsure}

    def within(self, db: int) -> tuple[set[bytes], set[bytes]]:
        """Of a database that is this client's alone: keys that are there for certain, and those
        that may be."""
        here = {key: value for (at, key), value in self.values.items() if at == db}
        certain = {key for key, value in here.items() if value is not None and value.low == NEVER}
        doubtful = {key for at, key in self.unsure if at == db}
        return certain - doubtful, here.keys() | doubtful

    def expiry(self, ttl_ms: float) -> tuple[float, float]:
        """The window in which something expires that was given a relative expiry just now."""
        return self.sent + ttl_ms - CLOCK_MS, self.answered + ttl_ms + CLOCK_MS

    # -- replies ---------------------------------------------------------------------

    def settle(self, step: Step, reply: Any) -> object:
        """What the reply must be."""
        if step.renews:
            self.unsure.difference_update(step.places)
        try:
            return step.apply(reply)
        except Unsure:
            self.unsure.update(step.places)
            return ANY

    def doubt(self, step: Step) -> None:
        """The step's outcome is unknown."""
        self.unsure.update(step.places)


def fits(expected: Any, reply: Any) -> bool:
    """Whether a reply is the expected one, in RESP2 and in RESP3.

    Expected sets fit lists in any order, dicts flat lists and lists of pairs, floats texts.
    """
    if isinstance(reply, ReplyError):
        return isinstance(expected, Failure) and str(reply).encode().startswith(expected.text)
    if expected is ANY:
        return True
    if isinstance(expected, bytes | int) or expected is None:
        return bool(expected == reply)
    if isinstance(expected, float):
        return reply is not None and math.isclose(float(reply), expected, rel_tol=1e-12)
    if isinstance(expected, Between):
        return reply is not None and expected.low <= float(reply) <= expected.high
    if isinstance(expected, OneOf):
        return any(fits(option, reply) for option in expected.options)
    if isinstance(expected, set):
        return len(reply) == len(expected) and set(reply) == expected
    if isinstance(expected, dict):
        found = pairs(reply)
        return len(found) == len(expected) and all(
            key in found and fits(value, found[key]) for key, value in expected.items()
        )
    if isinstance(expected, list):
        if not isinstance(reply, list) or len(reply) != len(expected):
            return False
        return all(map(fits, expected, reply))
    return False


def pairs(reply: Any) -> dict[Any, Any]:
    """A map reply: RESP3's, a flat list, or a list of pairs."""
    if isinstance(reply, dict):
        return reply
    if reply and isinstance(reply[0], list):
        return {pair[0]: pair[1] for pair in reply}
    return dict(zip(reply[::2], reply[1::2], strict=True))
