"""The stages: one per engine, and per what the proxy does meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.servers import ENGINES, REDIS_6, VALKEY_9, Pair, ServerPool
from tests.surface.stage import Doing, Stage

STAGES = [
    *((Pair(engine, VALKEY_9), Doing.IDLE) for engine in ENGINES),
    *((Pair(engine, VALKEY_9), Doing.MIRRORING) for engine in ENGINES),
    (Pair(REDIS_6, REDIS_6), Doing.MIRRORING),
    (Pair(VALKEY_9, VALKEY_9), Doing.SHIFTED),
    (Pair(REDIS_6, VALKEY_9), Doing.FLIPPED),
    (Pair(VALKEY_9, VALKEY_9), Doing.FLIPPED),
    (Pair(VALKEY_9, VALKEY_9), Doing.FLIPPING),
]


def _name(param: tuple[Pair, Doing]) -> str:
    return f"{param[0]} {param[1].value}"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STAGES, ids=_name)
async def stage(
    request: pytest.FixtureRequest,
    server_pool: ServerPool,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    pair, doing = request.param
    primary = pair.target if doing is Doing.FLIPPED else pair.source
    servers = [server_pool.take(engine) for engine in (primary, pair.source, pair.target)]
    stage = Stage(*servers, tmp_path_factory.mktemp("surface") / "state", doing)
    await stage.open()
    yield stage
    await stage.close()
    for server in servers:
        server_pool.give_back(server)
