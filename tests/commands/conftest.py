"""Fixtures of the command tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import ServerPool

from .mirroring import MIGRATIONS, Sides
from .wire import Wire


@pytest.fixture(scope="module", params=MIGRATIONS, ids=lambda p: f"{p[0]}-resp{p[1]}")
def sides(request: pytest.FixtureRequest, server_pool: ServerPool) -> Iterator[Sides]:
    """A source and a target, kept for the module; `prepare` empties them."""
    pair, resp = request.param
    servers = [server_pool.take(engine) for engine in (pair.source, pair.target)]
    with Wire(servers[0], resp) as source, Wire(servers[1], resp) as target:
        yield Sides(pair, source, target)
    for server in servers:
        server_pool.give_back(server)
