"""What every program of this folder says to the test, here for those in Python.

A program is started with `PORT NAME FEATURES`: where the proxy listens, the prefix of its keys,
and the features that it uses, separated by commas. It prints one JSON line when it could begin,
and then ten times a second,

    {"done": {feature: rounds}, "errors": [...], "wrong": [...]}

It begins when there is a line on its standard input, and when that ends it finishes what is under
way, looks at the sums, prints a last line and ends. An *error* is whatever the client raises;
*wrong* is a reply that is not what the program's own model of its keys says. Retries and
reconnecting are off, so nothing is hidden; a feature's first error ends that feature.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any

# Between two rounds of one worker: all clients share a small machine with two stores.
PACE_S = 0.1
BEAT_S = 0.1
# What a program may take to finish once it is told to.
GRACE_S = 20.0


class Wrong(Exception):
    """A reply that no direct connection would have given."""


def same(got: Any, wanted: Any, what: str) -> None:
    if got != wanted:
        raise Wrong(f"{what}: {got!r} instead of {wanted!r}"[:300])


class Load:
    """Counts, and the word to stop."""

    def __init__(self) -> None:
        self.port = int(sys.argv[1])
        self.name = sys.argv[2]
        self.done: Counter[str] = Counter(dict.fromkeys(sys.argv[3].split(","), 0))
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self.beginning = threading.Event()
        self.stopping = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        sys.stdin.readline()
        self.beginning.set()
        sys.stdin.read()
        self.stopping.set()

    def key(self, *parts: str) -> str:
        return ":".join((self.name, *parts))

    def numbers(self, feature: str) -> Iterator[int]:
        """1, 2, 3 … until the end; the caller paces itself."""
        n = 0
        while not self.stopping.is_set():
            n += 1
            yield n
            self.done[feature] += 1

    def rounds(self, feature: str) -> Iterator[int]:
        """1, 2, 3 … at a steady pace until the end, each counted when it was done."""
        for n in self.numbers(feature):
            yield n
            self.stopping.wait(PACE_S)

    def failed(self, feature: str, error: BaseException) -> None:
        found = self.wrong if isinstance(error, Wrong) else self.errors
        found.append(f"{feature}: {type(error).__name__}: {error}")

    def say(self) -> None:
        line = {"done": dict(self.done), "errors": self.errors[:10], "wrong": self.wrong[:10]}
        print(json.dumps(line), flush=True)

    # -- threads ---------------------------------------------------------------------------

    def together(self, *workers: Callable[[], None]) -> None:
        """Each in a thread of its own; returns when all have ended, raises the first error."""
        raised: list[BaseException] = []

        def run(worker: Callable[[], None]) -> None:
            try:
                worker()
            except Exception as error:
                raised.append(error)

        threads = [threading.Thread(target=run, args=(w,), daemon=True) for w in workers]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not raised:
            for thread in threads:
                thread.join(BEAT_S)
        if raised:
            raise raised[0]

    def run(self, features: dict[str, Callable[[], None]]) -> None:
        """All features in threads until the end; the exit code says whether they ended."""

        def guarded(feature: str) -> None:
            try:
                features[feature]()
            except Exception as error:
                self.failed(feature, error)

        threads = {
            feature: threading.Thread(target=guarded, args=(feature,), daemon=True)
            for feature in self.done
        }
        self.say()
        self.beginning.wait()
        for thread in threads.values():
            thread.start()
        while not self.stopping.wait(BEAT_S):
            self.say()
        for feature, thread in threads.items():
            thread.join(GRACE_S)
            if thread.is_alive():
                self.errors.append(f"{feature}: did not end")
        self.say()

    # -- asyncio ---------------------------------------------------------------------------

    async def arounds(self, feature: str) -> AsyncIterator[int]:
        for n in self.numbers(feature):
            yield n
            await asyncio.sleep(PACE_S)

    async def arun(self, features: dict[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """All features as tasks until the end."""

        async def guarded(feature: str) -> None:
            try:
                await features[feature]()
            except Exception as error:
                self.failed(feature, error)

        self.say()
        await asyncio.to_thread(self.beginning.wait)
        tasks = {f: asyncio.create_task(guarded(f), name=f) for f in self.done}
        while not self.stopping.is_set():
            self.say()
            await asyncio.sleep(BEAT_S)
        _, late = await asyncio.wait(tasks.values(), timeout=GRACE_S)
        self.errors += [f"{task.get_name()}: did not end" for task in late]
        self.say()


def pairs(reply: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Members with scores: lists in RESP3, tuples in RESP2."""
    return [(member, score) for member, score in reply]


def streams_of(reply: Any) -> list[tuple[str, dict[str, str]]]:
    """The entries of XREAD for one stream: a dictionary in RESP3, with one more list in it."""
    if isinstance(reply, dict):
        return [entry for parts in reply.values() for part in parts for entry in part]
    return [entry for _, entries in reply or () for entry in entries]
