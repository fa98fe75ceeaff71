"""Many clients at once, on several lanes: nothing is lost, nothing is served twice, and nobody is
left waiting beside what he waits for."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from proxy.resp import ReplyError, parse
from tests.servers import REDIS_6, VALKEY_9, Pair

from .clients import Client, Proxied, until
from .test_blocking import equal

LISTS = ("a", "b", "c", "d")
ELEMENTS = 3000
WORKERS = 12
PUSHERS = 6


class Storm:
    """What was pushed, and what came out. `t` is a key whose elements may be lost on purpose."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pushed: Counter[bytes] = Counter()
        self.popped: Counter[bytes] = Counter()
        self.ends = False
        self._number = 0

    def elements(self, count: int) -> list[str]:
        self._number += count
        return [f"e{number}" for number in range(self._number - count, self._number)]

    async def push(self, client: Client) -> None:
        """Pushes in every form; a move is one, too."""
        random = self.random
        while not self.ends:
            key, other = random.choice(LISTS), random.choice(LISTS)
            new = self.elements(random.choice((1, 1, 1, 2, 3)))
            line = random.choice(
                (
                    f"RPUSH {key} {' '.join(new)}",
                    f"LPUSH {key} {' '.join(new)}",
                    f"RPUSHX {key} {new[0]}",
                    f"LMOVE {key} {other} LEFT RIGHT",
                    f"EVAL return(redis.call('rpush',KEYS[1],ARGV[1])) 1 {key} {new[0]}",
                    f"EVAL return(redis.call('rpush',ARGV[2],ARGV[1])) 0 {new[0]} {key}",
                    "BLOCK",
                    "TYPES",
                )
            )
            if line == "BLOCK":
                replies = await client.calls(
                    "MULTI", f"RPUSH {key} {new[0]}", f"LPUSH {other} {new[-1]}x", "EXEC"
                )
                assert replies[-1].startswith(b"*2"), replies
                self.pushed.update([new[0].encode(), new[-1].encode() + b"x"])
            elif line == "TYPES":
                await client.calls("SET t x", "RPUSH t y", "DEL t", "RPUSH t z")
            else:
                reply = await client.call(line)
                if not line.startswith("LMOVE") and reply != b":0\r\n":
                    assert reply.startswith(b":"), (line, reply)
                    words = line.split()
                    self.pushed.update(word.encode() for word in words if word[0] == "e")
            if random.random() < 0.3:
                await asyncio.sleep(0)

    async def wait(self, client: Client) -> None:
        """Takes elements in every way; at the end it waits for whatever is left."""
        while True:
            line = "BLPOP a b c d 0" if self.ends else self._a_pop()
            reply = parse(await client.call(line))
            if isinstance(reply, list) and reply[0] != b"t":
                self.popped[reply[1]] += 1
            elif line.startswith("LPOP") and reply is not None:
                self.popped[reply] += 1
            else:
                # A string now and then.
                assert not isinstance(reply, ReplyError) or " t " in line, (line, reply)

    def _a_pop(self) -> str:
        key, other = self.random.choice(LISTS), self.random.choice(LISTS)
        timeout = self.random.choice(("0", "0", "0.01"))
        return self.random.choice(
            (
                f"BLPOP {key} {other} {timeout}",
                f"BLPOP {key} {timeout}",
                f"BRPOP {key} t {timeout}",
                f"BLMOVE {key} {other} LEFT LEFT {timeout}",
                f"BRPOPLPUSH {key} {other} {timeout}",
                f"LPOP {key}",
            )
        )


@pytest.mark.parametrize("pair", [Pair(REDIS_6, VALKEY_9), Pair(VALKEY_9, REDIS_6)], indirect=True)
@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_lost_and_nobody_is_forgotten(mirrored: Proxied, seed: int) -> None:
    proxy = mirrored.proxy
    for store in (mirrored.source, mirrored.target):
        store.cli("ACL", "SETUSER", "other", "on", ">pw", "~*", "&*", "+@all")
    storm = Storm(seed)
    async with mirrored.client(WORKERS + PUSHERS) as clients:
        for at, client in enumerate(clients):
            if at % 2:
                await client.call("HELLO 3")
            if at % 3 == 0:
                await client.call("AUTH other pw")
        workers = [asyncio.create_task(storm.wait(client)) for client in clients[:WORKERS]]
        pushers = [asyncio.create_task(storm.push(client)) for client in clients[WORKERS:]]
        await until(lambda: storm.pushed.total() > ELEMENTS or any(p.done() for p in pushers))
        storm.ends = True
        await asyncio.gather(*pushers)

        def is_still() -> bool:
            waiters = [each.waiter for each in proxy.sessions if each.waiter is not None]
            all_wait = len(waiters) == WORKERS and all(w.is_parked for w in waiters)
            return (all_wait and not proxy.table.active) or any(w.done() for w in workers)

        await until(is_still, "everybody waits")
        assert not any(worker.done() for worker in workers), [w for w in workers if w.done()]
        left = {key: mirrored.source.cli("LRANGE", key, 0, -1) for key in LISTS}
        for place, waiters in proxy.waiting.items():
            assert not waiters or not left.get(str(place, "latin-1"), []), place
        for worker in workers:
            worker.cancel()
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome
        remaining = Counter(element for elements in left.values() for element in elements)
        assert storm.popped + remaining == storm.pushed
        assert await equal(mirrored) == []
