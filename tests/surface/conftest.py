"""The stages: one per engine, and per what the proxy does meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.servers import ENGINES, REDIS_6, VALKEY_9, Pair, ServerPool
from tests.surface.stage import Stage

IDLE = [(Pair(engine, VALKEY_9), False) for engine in ENGINES]
MIRRORING = [(Pair(engine, VALKEY_9), True) for engine in ENGINES] + [
    (Pair(REDIS_6, REDIS_6), True)
]


def _name(param: tuple[Pair, bool]) -> str:
    pair, is_mirroring = param
    return str(pair) if is_mirroring else f"{pair.source} idle"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=IDLE + MIRRORING, ids=_name)
async def stage(
    request: pytest.FixtureRequest,
    server_pool: ServerPool,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    pair, is_mirroring = request.param
    servers = [server_pool.take(engine) for engine in (pair.source, pair.source, pair.target)]
    stage = Stage(*servers, tmp_path_factory.mktemp("surface") / "state")
    await stage.open(is_mirroring=is_mirroring)
    yield stage
    await stage.close()
    for server in servers:
        server_pool.give_back(server)
