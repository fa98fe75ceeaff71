"""What happens in the small world around a key table (:mod:`tests.proxy.world`): who does what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Write:
    """A client's write of `keys` (one letter each) on the lane of that name."""

    keys: str
    lane: str = "A"


@dataclass(frozen=True)
class Flush:
    """A client's FLUSHALL: a ticket on everything."""

    lane: str = "A"


@dataclass(frozen=True)
class Unnamed:
    """A script that writes `keys`, alone; which these are is told behind its answer."""

    keys: str
    lane: str = "A"


@dataclass(frozen=True)
class Fence:
    """A ticket on everything that changes nothing; `gives_up` releases it while it may wait."""

    gives_up: bool = False


@dataclass(frozen=True)
class Copy:
    """A copy of `keys` under a lease: of those that nobody touched."""

    keys: str


@dataclass(frozen=True)
class CopyAlone:
    """A copy of one key under a ticket of its own."""

    keys: str


@dataclass(frozen=True)
class Mark:
    """Something makes `keys` unproven: an expiry event, a difference seen."""

    keys: str


@dataclass(frozen=True)
class Lose:
    """The lane's connection dies; the store may still read what was sent on it."""

    lane: str


Op = Write | Flush | Unnamed | Fence | Copy | CopyAlone | Mark | Lose
