"""Bulk connections for tests, closed whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from migrator.bulk import Bulk
from proxy.endpoint import Endpoint
from tests.servers import Server


@asynccontextmanager
async def opened(*servers: Server) -> AsyncIterator[tuple[Bulk, ...]]:
    """One connection per server, in order."""
    bulks = [await Bulk.open(Endpoint.parse(server.url, "test")) for server in servers]
    try:
        yield tuple(bulks)
    finally:
        for bulk in bulks:
            bulk.close()
            await bulk.wait_closed()
