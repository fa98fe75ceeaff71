"""Iterations that take their time: SCAN, SSCAN, HSCAN, ZSCAN.

Owns the promise of it: what was there all along is returned at least once, however long the
iteration takes, whatever comes and goes meanwhile. A client asks for a page now and then, so an
iteration lasts over flips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .connection import Words
from .ledger import COUNTER, STAYING, shared_key
from .model import ANY, OK

if TYPE_CHECKING:
    from .client import Client, Talk

# Collections of each type and database, and how much of one stays; more comes and goes.
COLLECTIONS = 2
STAYS = 700
PASSING = 300
SETS, HASHES, ZSETS = "s", "h", "z"


def member(number: int) -> bytes:
    return b"stays:%d" % number


def make(number: int) -> Iterator[Words]:
    """The collections of this number."""
    members = [member(at) for at in range(STAYS)]
    yield (b"SADD", shared_key(STAYING, number, SETS), *members)
    pairs = (word for each in members for word in (each, b"1"))
    yield (b"HSET", shared_key(STAYING, number, HASHES), *pairs)
    pairs = (word for each in members for word in (b"1", each))
    yield (b"ZADD", shared_key(STAYING, number, ZSETS), *pairs)


class Iteration:
    """One under way, in the database where it began."""

    def __init__(self, client: Client) -> None:
        d = client.draw
        self.db = d.db
        self.cursor: Any = b"0"
        self.seen: set[bytes] = set()
        form = d.number(0, 5)
        number = d.number(0, COLLECTIONS)
        if form < 3:
            key = shared_key(STAYING, number, (SETS, HASHES, ZSETS)[form])
            self.head: Words = ((b"SSCAN", b"HSCAN", b"ZSCAN")[form], key)
            self.wanted = {member(at) for at in range(STAYS)}
            self.rest: Words = (b"COUNT", d.pick((20, 100)))
        else:
            counters = range(client.shared.ledger.sizes.shared)
            self.head = (b"SCAN",)
            self.wanted = {shared_key(COUNTER, at) for at in counters}
            self.rest = (b"COUNT", d.pick((100, 500)))
            if form == 3:
                self.rest += (b"MATCH", shared_key(COUNTER, 0)[:-1] + b"*")
        self.is_keyed = form < 3
        self.step = 2 if form in (1, 2) else 1

    def passing(self, client: Client) -> Words:
        """Something comes or goes in the same collection."""
        d = client.draw
        word = b"passing:%d" % d.number(0, PASSING)
        is_new = d.chance(0.5)
        if self.head[0] == b"SSCAN":
            return (b"SADD" if is_new else b"SREM", self.head[1], word)
        if self.head[0] == b"HSCAN":
            return (b"HSET", self.head[1], word, b"1") if is_new else (b"HDEL", self.head[1], word)
        return (b"ZADD", self.head[1], 2, word) if is_new else (b"ZREM", self.head[1], word)


async def page(client: Client) -> None:
    """One more page of the iteration that this client has open. Raises Lost."""
    iteration: Iteration | None = client.kept.get("iteration")
    if iteration is None:
        iteration = client.kept["iteration"] = Iteration(client)
    d = client.draw
    words = (*iteration.head, iteration.cursor, *iteration.rest)
    commands: list[tuple[Words, object]] = [(words, ANY)]
    if iteration.is_keyed:
        commands.append((iteration.passing(client), ANY))
    if iteration.db != d.db:
        commands = [((b"SELECT", iteration.db), OK), *commands, ((b"SELECT", d.db), OK)]
    replies = await client.ask(*commands)
    cursor, found = replies[iteration.db != d.db]
    iteration.seen.update(found[:: iteration.step])
    iteration.cursor = cursor
    if cursor == b"0":
        del client.kept["iteration"]
        lost = iteration.wanted - iteration.seen
        if lost:
            some = sorted(lost)[:5]
            client.complain(words, f"an iteration with all of it; {len(lost)} missing", some)


TALKS: list[tuple[Talk, int]] = [(page, 30)]
