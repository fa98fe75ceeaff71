"""Queues of jobs that all clients fill, and workers that wait for them.

Owns the rule of it: each job is done exactly once, by whichever worker. Workers are connections
of their own that do nothing else, so mostly they wait; the last of them ends when all is done.
"""

from __future__ import annotations

from typing import Any

from .connection import Endpoint, Line, Lost, Words
from .counts import Counts
from .draw import DATABASES
from .ledger import DOING, TASKS, WORK, WORKS, Group, Ledger, shared_key
from .model import Step, pairs
from .shared import Choice, SharedDraw, added, is_length

GROUP = b"workers"
# A wait: long enough to last over a flip; and when nothing more will come.
PATIENCE_S = 0.7
LAST_S = 0.1


def work(s: SharedDraw) -> list[Step]:
    """One or two jobs for somebody, in one of the ways that wake who waits."""
    d = s.draw
    group, key = s.ledger.work[d.db], s.place(WORK, d.number(0, WORKS))[1]
    tokens = [d.token() for _ in range(d.pick((1, 1, 2)))]
    words: Words = (d.pick((b"LPUSH", b"RPUSH")), key, *tokens)
    return [added(words, group, tokens, is_length)]


def task(s: SharedDraw) -> list[Step]:
    """One for the readers of a stream."""
    d = s.draw
    group, key, token = s.ledger.tasks[d.db], s.place(TASKS, 0)[1], d.token()
    words: Words = (b"XADD", key, b"MAXLEN", b"~", 5_000, b"*", b"task", token)
    return [added(words, group, [token], lambda reply: isinstance(reply, bytes))]


CHOICES: list[Choice] = [work, work, task]


class Worker:
    """One connection that waits for jobs of one database, in one way; `stop` when none will come.

    The number says which: it takes a job, or moves it to a list of its own and ticks it off there,
    or reads and acknowledges it. Nine of them do all that in each of three databases.
    """

    def __init__(self, number: int, endpoint: Endpoint, ledger: Ledger, counts: Counts) -> None:
        db = DATABASES[number // 3 % len(DATABASES)]
        self.name = f"worker {number}"
        self.counts = counts
        self._number = number
        self._line = Line(self.name, endpoint, counts.error)
        self._who = f"{self.name} db {db} RESP{endpoint.resp}"
        self._db = db
        self._work = ledger.work[db]
        self._tasks = ledger.tasks[db]
        self._queues = [shared_key(WORK, at) for at in range(WORKS)]
        self._is_stopping = False

    def stop(self) -> None:
        """When nothing more comes within one wait."""
        self._is_stopping = True

    async def run(self) -> None:
        self._is_stopping = False
        wait = (self._take, self._move, self._read)[self._number % 3]
        empty = 0
        try:
            # The one that moves looks at one queue at a time.
            while not (self._is_stopping and empty >= WORKS):
                try:
                    empty = 0 if await wait() else empty + 1
                except Lost:
                    empty = 0
        finally:
            self._line.close()

    async def _take(self) -> bool:
        name = (b"BLPOP", b"BRPOP")[self._number % 2]
        words: Words = (name, *self._queues, self._patience_s)
        reply = await self._ask(words, self._work)
        if reply is None:
            return False
        is_right = isinstance(reply, list) and len(reply) == 2 and reply[0] in self._queues
        self._took(words, reply, self._work, reply[1] if is_right else None)
        return True

    async def _move(self) -> bool:
        queue, mine = self._queues[0], shared_key(DOING, self._number)
        self._queues.append(self._queues.pop(0))
        words: Words = (b"BLMOVE", queue, mine, b"RIGHT", b"LEFT", self._patience_s)
        reply = await self._ask(words, self._work)
        if reply is None:
            return False
        self._took(words, reply, self._work, reply)
        await self._expect((b"LREM", mine, 1, reply), 1)
        return True

    async def _read(self) -> bool:
        key = shared_key(TASKS, 0)
        head: Words = (b"XREADGROUP", b"GROUP", GROUP, b"w%d" % self._number, b"COUNT", 2)
        words: Words = (*head, b"BLOCK", int(self._patience_s * 1000), b"STREAMS", key, b">")
        reply = await self._ask(words, self._tasks, 2)
        if reply is None:
            return False
        if not isinstance(reply, list | dict):
            self._took(words, reply, self._tasks, None)
            return True
        entries = pairs(reply)[key]
        self._took(words, reply, self._tasks, *(fields[1] for _, fields in entries))
        await self._expect((b"XACK", key, GROUP, *(entry for entry, _ in entries)), len(entries))
        return True

    @property
    def _patience_s(self) -> float:
        return LAST_S if self._is_stopping else PATIENCE_S

    async def _ask(self, words: Words, group: Group, count: int = 1) -> Any:
        """The reply to a wait; one that is lost may have taken so many. Raises Lost."""
        group.unknown += count
        reply = await self._line.call(*words, db=self._db)
        group.unknown -= count
        self.counts.commands += 1
        return reply

    def _took(self, words: Words, reply: Any, group: Group, *tokens: bytes | None) -> None:
        self.counts.jobs += len(tokens)
        if not group.take([token for token in tokens if token is not None]) or None in tokens:
            self.counts.complain(self._who, words, "jobs that nobody has had", reply)

    async def _expect(self, words: Words, wanted: object) -> None:
        reply = await self._line.call(*words, db=self._db)
        self.counts.commands += 1
        if reply != wanted:
            self.counts.complain(self._who, words, wanted, reply)
