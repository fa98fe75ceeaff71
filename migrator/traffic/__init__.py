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

from migrator.bulk import Bulk

from .audit import audit
from .client import Client
from .connection import Endpoint
from .counts import Counts
from .families import DATABASES, QUICK, WHOLE
from .habits import habits, habits_of_resident
from .ledger import Ledger
from .model import Model
from .world import World

__all__ = ["QUICK", "WHOLE", "Application", "Counts", "World"]

Login = tuple[str, str]


class Application:
    """All clients of `world`. `logins`: ACL users, each used by every so many clients; RESP2 and
    RESP3 take turns. The same seed makes each client choose the same commands."""

    def __init__(
        self, world: World, host: str, port: int, *, seed: str, logins: Sequence[Login | None] = ()
    ) -> None:
        self.counts = Counts()
        self.ledger = Ledger(world.sizes)
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task[None]] = []
        logins = logins or (None,)

        def endpoint(number: int) -> Endpoint:
            login = logins[number % len(logins)]
            return Endpoint(host, port, login, 2 + number // len(logins) % 2)

        for number in range(world.clients):
            self._clients.append(
                Client(
                    number, seed, endpoint(number), world, self.ledger, self.counts,
                    habits(world.families),
                )
            )  # fmt: skip
        if DATABASES in world.families:
            number = world.clients
            resident = Client(
                number, seed, endpoint(number), world, self.ledger, self.counts,
                habits_of_resident(world.families),
            )  # fmt: skip
            resident.model = resident.draw.model = Model(lambda place: None)
            resident.model.values.update(world.reserved())
            self._clients.append(resident)

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(client.run(), name=f"application client {client.number}")
            for client in self._clients
        ]

    def check(self) -> None:
        """Raises what ended a client early: a defect of the application itself."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop(self, deadline_s: float = 10.0) -> None:
        """Wait for the batches under way; one that is not answered by then is an error."""
        for client in self._clients:
            client.stop()
        if not self._tasks:
            return
        _, waiting = await asyncio.wait(self._tasks, timeout=deadline_s)
        for task in waiting:
            self.counts.error(f"{task.get_name()} got no reply in {deadline_s:g} s")
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        self.check()

    async def audit(self, store: Bulk) -> list[str]:
        """What a quiet store lacks of what the clients were told, or has too much."""
        return await audit(store, self.ledger, [client.model for client in self._clients])
