"""What all clients together know of the keys that they share.

Owns the books: what was asked, what was acknowledged, what was taken out again. At any time
they bound what a reply may say, and in the end they say what must be there. It sends nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from .draw import Sizes
from .model import Place
from .streams import Id

TOKEN = 8

# What a counter is inside: a string, a field of a hash, a member of a sorted set.
COUNTER, FIELD, SCORE = "c", "ch", "cz"
COUNTERS = (COUNTER, FIELD, SCORE)
LOG, QUEUE, BAG, EVENTS, PAIR, TRIPLE, CHAOS, DUEL = "a", "q", "u", "e", "m", "t", "r", "d"
OPTIMISTIC, WORK, DOING, TASKS, STAYING = "o", "w", "wd", "wt", "i"
STAIRS = "s"
# How many lists of jobs in a database; and of collections that are iterated over.
WORKS = 3
SHARED = (*COUNTERS, LOG, QUEUE, BAG, EVENTS, PAIR, TRIPLE, CHAOS)


def shared_key(kind: str, number: int, part: str = "") -> bytes:
    return f"shared:{kind}:{number}{part}".encode()


class Tally:
    """A counter that only grows: `acked` is in it for certain, no more than `asked` can be.

    Its value is never below the greatest that a reply has shown.
    """

    __slots__ = ("acked", "asked", "base", "seen")

    def __init__(self, base: int) -> None:
        self.base = base
        self.acked = base
        self.asked = base
        self.seen = base

    @property
    def low(self) -> int:
        return max(self.acked, self.seen)


class Group:
    """Elements that are each there exactly once, in one of several keys, until taken out."""

    def __init__(self, initial: Sequence[bytes] = ()) -> None:
        self.asked: set[bytes] = set(initial)
        self.acked: set[bytes] = set(initial)
        self.taken: set[bytes] = set()
        # Takes of unknown outcome.
        self.unknown = 0

    def take(self, tokens: Sequence[bytes]) -> bool:
        """They were taken out. False: one of them was not there to be taken."""
        is_right = self.asked.issuperset(tokens) and self.taken.isdisjoint(tokens)
        self.taken.update(tokens)
        return is_right and len(set(tokens)) == len(tokens)

    def complaints(self, present: list[bytes], what: str) -> list[str]:
        found = set(present)
        lost = self.acked - self.taken - found
        words = []
        if len(found) != len(present):
            words.append(f"{what}: {len(present) - len(found)} elements are there twice")
        if found & self.taken:
            words.append(f"{what}: {len(found & self.taken)} elements came back")
        if found - self.asked:
            words.append(f"{what}: {len(found - self.asked)} elements that nobody put there")
        if len(lost) > self.unknown:
            words.append(f"{what}: {len(lost)} acknowledged elements are lost")
        return words


class Messages:
    """What one client has published, by number. One that was withdrawn was never sent."""

    def __init__(self) -> None:
        self.last = 0
        self.acked: set[int] = set()
        self.withdrawn: set[int] = set()


class Ledger:
    """See the module's docstring."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.tallies: dict[tuple[str, Place], Tally] = {}
        self.logs: dict[Place, Group] = {}
        self.log_size: defaultdict[Place, int] = defaultdict(lambda: TOKEN)
        self.queues: dict[int, Group] = {}
        self.bags: dict[int, Group] = {}
        # Streams: the greatest acknowledged id, ids and what was delivered.
        self.last_id: defaultdict[Place, Id] = defaultdict(lambda: (0, 0))
        self.added: defaultdict[Place, int] = defaultdict(int)
        self.maybe_added: defaultdict[Place, int] = defaultdict(int)
        self.delivered: defaultdict[Place, set[bytes]] = defaultdict(set)
        self.messages: defaultdict[int, Messages] = defaultdict(Messages)
        # Jobs in lists, and in streams, by database.
        self.work: defaultdict[int, Group] = defaultdict(Group)
        self.tasks: defaultdict[int, Group] = defaultdict(Group)
        self.turn = 0

    def tally(self, kind: str, place: Place, number: int) -> Tally:
        key = (kind, place)
        found = self.tallies.get(key)
        if found is None:
            found = self.tallies[key] = Tally(number)
        return found

    def log(self, place: Place) -> Group:
        found = self.logs.get(place)
        if found is None:
            found = self.logs[place] = Group([initial_token(LOG, 0, 0)])
        return found

    def queue(self, db: int) -> Group:
        return self._group(self.queues, QUEUE, db)

    def bag(self, db: int) -> Group:
        return self._group(self.bags, BAG, db)

    def _group(self, groups: dict[int, Group], kind: str, db: int) -> Group:
        found = groups.get(db)
        if found is None:
            tokens = [
                initial_token(kind, number, at)
                for number in range(self.sizes.shared)
                for at in range(2)
            ]
            found = groups[db] = Group(tokens)
        return found


def initial_token(kind: str, number: int, at: int) -> bytes:
    """What is in a shared log, queue or bag from the beginning."""
    return f"{kind}{number:05x}.{at}".encode().rjust(TOKEN, b"_")
