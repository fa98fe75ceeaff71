"""The application on a store, without a proxy: what it calls wrong there is its own fault."""

from __future__ import annotations

import asyncio

from migrator.bulk import Bulk
from migrator.traffic import Application, World, known_to
from proxy.endpoint import Endpoint
from tests.property.harness import CLIENTS, LOGINS, Outcome
from tests.servers import Server


async def run_directly(
    server: Server,
    *,
    seed: str,
    families: frozenset[str],
    keys: int = 10_000,
    seconds: float = 3.0,
) -> Outcome:
    """Traffic for so long, and what was wrong with it."""
    outcome = Outcome(seed)
    for user, password in LOGINS:
        server.cli("ACL", "SETUSER", user, "on", f">{password}", "~*", "&*", "+@all")
    store = await Bulk.open(Endpoint.parse(server.url, "test"))
    families = known_to(families, server.engine.version)
    world = World.of_keys(CLIENTS, keys, families=families)
    outcome.keys = await world.load(store)
    application = Application(world, "127.0.0.1", server.port, seed=seed, logins=LOGINS)
    try:
        application.start()
        await asyncio.sleep(seconds)
        await application.stop()
        counts = application.counts
        outcome.commands, outcome.counts = counts.commands, counts
        if counts.errors or counts.wrong_replies or counts.broken_watches:
            outcome.problems.append(
                f"{counts.errors} errors, {counts.wrong_replies} wrong replies,"
                f" {counts.broken_watches} broken watches"
            )
        outcome.problems += counts.first
        outcome.problems += await application.audit(store)
    finally:
        await application.stop()
        store.close()
        await store.wait_closed()
    return outcome
