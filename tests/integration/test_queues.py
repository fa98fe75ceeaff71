"""Work queues over flips: every job is done exactly once, whoever waits for it and wherever."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tests.integration.clients import Client, until
from tests.integration.keyferry import Migration

WORKERS = 50
PRODUCERS = 20
PUSH = "return redis.call('rpush', KEYS[1], ARGV[1])"


class Shop:
    """Jobs that were given, and those that were done. `closing`: no more are given."""

    def __init__(self) -> None:
        self.given = 0
        self.done: Counter[bytes] = Counter()
        self.closing = asyncio.Event()

    def job(self) -> bytes:
        self.given += 1
        return b"job %d" % self.given

    async def some_more(self, number: int = 300) -> None:
        """Wait until so many more are done."""
        wanted = self.done.total() + number
        await until(lambda: self.done.total() >= wanted, f"{number} more jobs are done")

    async def all_done(self) -> None:
        """Everything that was given, and nothing twice."""
        await until(lambda: self.done.total() >= self.given, "all jobs are done")
        assert self.done == Counter(b"job %d" % n for n in range(1, self.given + 1))


@contextlib.asynccontextmanager
async def staff(*people: Awaitable[None]) -> AsyncIterator[None]:
    """They work meanwhile; who fails is heard at the end."""
    tasks = [asyncio.ensure_future(each) for each in people]
    try:
        yield
    finally:
        failed = [each.exception() for each in tasks if each.done() and each.exception()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for error in failed:
            assert error is not None
            raise error


async def produce(shop: Shop, client: Client, give: Callable[[Client, bytes], Any]) -> None:
    while not shop.closing.is_set():
        await give(client, shop.job())
        await asyncio.sleep(0.01)


async def push(client: Client, job: bytes) -> None:
    await client.call("RPUSH", "low", job)


async def push_urgently(client: Client, job: bytes) -> None:
    await client.call("LPUSH", "high", job)


async def push_in_a_block(client: Client, job: bytes) -> None:
    await client.block(("RPUSH", "low", job), ("INCR", "given"))


async def push_in_a_block_step_by_step(client: Client, job: bytes) -> None:
    await client.call("MULTI")
    await client.call("RPUSH", "low", job)
    await client.call("EXEC")


async def push_by_a_script(client: Client, job: bytes) -> None:
    await client.call("EVAL", PUSH, 1, "low", job)


GIVE = (push, push_urgently, push_in_a_block, push_in_a_block_step_by_step, push_by_a_script)


async def pop(shop: Shop, client: Client) -> None:
    """A worker that takes jobs away."""
    while True:
        found = await client.call("BLPOP", "high", "low", 1)
        if found is not None:
            shop.done[found[1]] += 1


async def move(shop: Shop, client: Client, name: str) -> None:
    """A worker that keeps a job on a list of its own until it is done."""
    while True:
        job = await client.call("BLMOVE", "low", name, "LEFT", "RIGHT", 0)
        shop.done[job] += 1
        assert await client.call("LREM", name, 1, job) == 1


async def through_everything(
    migration: Migration, some_more: Callable[[], Awaitable[None]]
) -> None:
    """Idle, mirrored, over three flips, with work done in each phase."""
    await some_more()
    await migration.start()
    await until(lambda: migration.status()["backfill"]["done"], "the backfill is done")
    await some_more()
    assert (await migration.verify())["passed"]
    for flip in (migration.cutover, migration.rollback, migration.cutover):
        await flip()
        await some_more()


async def test_every_job_is_done_exactly_once_over_three_flips(migration: Migration) -> None:
    shop = Shop()
    clients = [await migration.client() for _ in range(WORKERS + PRODUCERS)]
    for client in clients[::4]:
        await client.call("HELLO", 3)
    workers, producers = clients[:WORKERS], clients[WORKERS:]
    async with staff(
        *(pop(shop, client) for client in workers[::2]),
        *(move(shop, client, f"of {at}") for at, client in enumerate(workers[1::2])),
        *(produce(shop, client, GIVE[at % len(GIVE)]) for at, client in enumerate(producers)),
    ):
        await through_everything(migration, shop.some_more)
        shop.closing.set()
        await shop.all_done()
        await until(lambda: migration.target.cli("KEYS", "of *") == [], "nothing is being done")
        assert migration.proxy.parking.count >= WORKERS - 1
        assert migration.controller.facts().unproven_keys < 10
        assert await migration.differences() == []
        assert migration.status()["mirror"]["divergences"] == 0


async def produce_entries(shop: Shop, client: Client) -> None:
    while not shop.closing.is_set():
        await client.call("XADD", "stream", "*", "job", shop.job())
        await asyncio.sleep(0.01)


async def read_in_a_group(shop: Shop, client: Client, name: str) -> None:
    """Acknowledges all but each tenth of its jobs, so that something stays pending."""
    words = ("XREADGROUP", "GROUP", "g", name, "COUNT", 5, "BLOCK", 0, "STREAMS", "stream", ">")
    while True:
        ((_, entries),) = await client.call(*words)
        for entry, (_, job) in entries:
            shop.done[job] += 1
            if not job.endswith(b"0"):
                assert await client.call("XACK", "stream", "g", entry) == 1


async def read_all(seen: list[bytes], client: Client) -> None:
    """One who wants to see every entry, from its beginning on."""
    last: bytes | str = "$"
    while True:
        found = await client.call("XREAD", "BLOCK", 0, "STREAMS", "stream", last)
        ((_, entries),) = found
        last = entries[-1][0]
        seen += [job for _, (_, job) in entries]


async def test_every_entry_is_delivered_exactly_once_over_three_flips(
    migration: Migration,
) -> None:
    shop = Shop()
    clients = [await migration.client() for _ in range(WORKERS + PRODUCERS)]
    await clients[0].call("XGROUP", "CREATE", "stream", "g", "$", "MKSTREAM")
    workers, producers = clients[:WORKERS], clients[WORKERS:]
    onlookers = [await migration.client() for _ in range(10)]
    seen: list[list[bytes]] = [[] for _ in onlookers]
    async with staff(
        *(read_all(*each) for each in zip(seen, onlookers, strict=True)),
    ):
        await until(
            lambda: len(migration.proxy.parking.blocked) == len(onlookers), "all of them wait"
        )
        async with staff(
            *(read_in_a_group(shop, client, f"c{at}") for at, client in enumerate(workers)),
            *(produce_entries(shop, client) for client in producers),
        ):
            await through_everything(migration, shop.some_more)
            shop.closing.set()
            await shop.all_done()
            entries = await clients[-1].call("XRANGE", "stream", "-", "+")
            jobs = [job for _, (_, job) in entries]
            await until(lambda: all(len(each) >= len(jobs) for each in seen), "all is seen")
            assert all(each == jobs for each in seen)
            assert await migration.differences() == []
            for server in (migration.source, migration.target):
                pending = server.cli("XPENDING", "stream", "g")
                assert pending[0] == sum(job.endswith(b"0") for job in jobs)
            assert migration.status()["mirror"]["divergences"] == 0
