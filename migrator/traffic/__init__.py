"""An application whose every reply is checked, for the demo and for tests.

Clients write keys of their own, whose replies they predict exactly, and keys that all of them
write at once, of which they check what can be known. Nothing here knows of a migration: it
connects to an address, and what it says of it is what an application would have noticed.

    world = World.of_keys(clients=16, keys=100_000)
    await world.load(bulk)                      # before the migration, into the source
    application = Application(world, "127.0.0.1", 6380, seed="1")
    application.start()
    ...
    await application.stop()
    complaints = await application.audit(bulk)  # of either store, once both are quiet

Which parts of the command surface it uses is the world's: `World.of_keys(…, families=WHOLE)`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from migrator.bulk import Bulk

from .audit import audit
from .caching import Cache
from .client import Client, Habits
from .connection import Endpoint
from .counts import Counts
from .families import CACHING, PUBSUB, QUICK, RESIDENT, WHOLE, WORK, known_to
from .habits import habits, habits_of_resident
from .ledger import Ledger
from .pubsub import Subscriber
from .workers import Worker
from .world import World

__all__ = ["QUICK", "WHOLE", "Application", "Counts", "World", "known_to"]

Login = tuple[str, str]

# One in each mode, in each protocol, and as each of two users.
SUBSCRIBERS, WORKERS, CACHES = 8, 9, 6


class Runner(Protocol):
    """A client, a worker, a subscriber or a cache. It runs until it is stopped, and again."""

    name: str

    async def run(self) -> None: ...
    def stop(self) -> None: ...


class Application:
    """All clients of `world`, and who waits for what they write. `logins`: ACL users, each used by
    every so many connections; RESP2 and RESP3 take turns. The same seed makes each client choose
    the same commands."""

    def __init__(
        self, world: World, host: str, port: int, *, seed: str, logins: Sequence[Login | None] = ()
    ) -> None:
        self.counts = Counts()
        self.ledger = Ledger(world.sizes)
        self._tasks: list[asyncio.Task[None]] = []
        self._writing: list[asyncio.Task[None]] = []
        families, counts, ledger = world.families, self.counts, self.ledger
        logins = logins or (None,)

        def endpoint(number: int) -> Endpoint:
            login = logins[number % len(logins)]
            return Endpoint(host, port, login, 2 + number // len(logins) % 2)

        def client(number: int, habits: Habits) -> Client:
            return Client(number, seed, endpoint(number), world, ledger, counts, habits)

        self._clients = [client(at, habits(families)) for at in range(world.clients)]
        if RESIDENT in families:
            resident = client(world.clients, habits_of_resident(families))
            resident.model.reset(world.reserved())
            self._clients.append(resident)
        # From before the first message until after the last.
        self._subscribers = [
            Subscriber(at, endpoint(at), world.clients, ledger, counts)
            for at in range(SUBSCRIBERS if PUBSUB in families else 0)
        ]
        self._workers = [
            Worker(at, endpoint(at // 3), ledger, counts)
            for at in range(WORKERS if WORK in families else 0)
        ]
        self._caches = [
            Cache(at, seed, endpoint(at), world.sizes, counts)
            for at in range(CACHES if CACHING in families else 0)
        ]

    @property
    def _crew(self) -> list[Runner]:
        """Who ends when all that the clients have written has come to them."""
        return [*self._subscribers, *self._workers, *self._caches]

    def start(self) -> None:
        for subscriber in self._subscribers:
            subscriber.ready.clear()
        self._tasks = [
            asyncio.create_task(each.run(), name=f"application, {each.name}") for each in self._crew
        ]
        self._writing = [
            asyncio.create_task(self._run(each), name=f"application, {each.name}")
            for each in self._clients
        ]
        self._tasks += self._writing

    async def _run(self, client: Client) -> None:
        for subscriber in self._subscribers:
            await subscriber.ready.wait()
        await client.run()

    def check(self) -> None:
        """Raises what ended a client early: a defect of the application itself."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop(self, deadline_s: float = 10.0) -> None:
        """Wait for the batches under way, and for all that they have set going. What is not there
        by then is an error."""
        for client in self._clients:
            client.stop()
        await self._wait(self._writing, deadline_s)
        for each in self._crew:
            each.stop()
        await self._wait(self._tasks, deadline_s)
        self.check()

    async def _wait(self, tasks: list[asyncio.Task[None]], deadline_s: float) -> None:
        if not tasks:
            return
        _, waiting = await asyncio.wait(tasks, timeout=deadline_s)
        for task in waiting:
            self.counts.error(f"{task.get_name()} got no reply in {deadline_s:g} s")
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def audit(self, store: Bulk) -> list[str]:
        """What a quiet store lacks of what the clients were told, or has too much."""
        return await audit(store, self.ledger, [client.model for client in self._clients])
