"""Chance, as the choice of commands sees it.

Owns the random generator of one client and the names of its keys: which key, which value,
which time to live. Commands themselves are chosen elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .model import Model, Place, Step

T = TypeVar("T")

DATABASES = (0, 1, 3)

# One letter per family of keys; the members of one may be renamed onto each other.
TEXT, NUMBER, FLOAT, BITS, LIST, SET, HASH, ZSET, STREAM, SKETCH = "snfblthzxp"
FAMILIES = (TEXT, NUMBER, FLOAT, BITS, LIST, SET, HASH, ZSET, STREAM, SKETCH)


@dataclass(frozen=True)
class Sizes:
    """How many keys there are: `own` per client, family and database, loaded beforehand;
    `shared` of each kind and database."""

    own: int
    shared: int

    # Few enough that their commands meet, and keys of streams grow past a node.
    hot: int = 8


class Draw:
    """The choices of one client, in the database where its connection is."""

    def __init__(
        self,
        seed: str,
        client: int,
        model: Model,
        sizes: Sizes,
        databases: Sequence[int] = DATABASES,
    ) -> None:
        self.rng = random.Random(seed)
        self.client = client
        self.model = model
        self.sizes = sizes
        self.databases = databases
        self.db = 0
        self._tokens = 0

    def own(self, family: str) -> Place:
        """One of the client's keys: a hot one, one that was loaded, or one that was not."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.5:
            number = rng.randrange(self.sizes.hot)
        elif kind < 0.9:
            number = rng.randrange(self.sizes.own)
        else:
            return self.fresh(family)
        return self.db, own_key(family, self.client, number)

    def loaded(self, family: str) -> Place:
        """One of the client's keys that were there in the beginning, each as often."""
        step = 4 if self.db else 1
        number = self.rng.randrange((self.sizes.own + step - 1) // step) * step
        return self.db, own_key(family, self.client, number)

    def fresh(self, family: str) -> Place:
        """One that was not there."""
        number = self.sizes.own + self.rng.randrange(self.sizes.own)
        return self.db, own_key(family, self.client, number)

    def two(self, family: str) -> tuple[Place, Place]:
        """Two keys of a family, not the same."""
        first = second = self.own(family)
        while second == first:
            second = self.own(family)
        return first, second

    def word(self) -> bytes:
        return b"%x" % self.rng.getrandbits(self.rng.choice((16, 32, 64, 160)))

    def member(self) -> bytes:
        """One of few, so that it is often there already."""
        return b"m%d" % self.rng.randrange(24)

    def token(self) -> bytes:
        """Never the same twice in a run; eight bytes."""
        self._tokens += 1
        return b"%02x%06x" % (self.client, self._tokens)

    def pick(self, options: Sequence[T]) -> T:
        return self.rng.choice(options)

    def number(self, low: int, high: int) -> int:
        return self.rng.randrange(low, high)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def ttl_ms(self) -> int:
        """Mostly long, often short enough to expire while the run goes on."""
        if self.rng.random() < 0.3:
            return self.rng.randrange(200, 5_000)
        return self.rng.randrange(300, 5_000) * 1_000


def own_key(family: str, client: int, number: int) -> bytes:
    return b"%b:%d:%d" % (family.encode(), client, number)


# A command of a family, or a few that belong together.
Choice = Callable[[Draw], list[Step]]
