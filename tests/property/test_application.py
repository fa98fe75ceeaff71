"""The application that checks everything finds nothing wrong with a store itself."""

from __future__ import annotations

import pytest

from migrator.traffic import WHOLE
from tests.property.direct import run_directly
from tests.property.harness import new_seed
from tests.servers import Engine, Server, every_engine


@every_engine
async def test_nothing_is_wrong_with_a_store_itself(
    engine: Engine, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = await run_directly(server, seed=new_seed(), families=WHOLE, keys=5_000, seconds=2.0)
    with capsys.disabled():
        print(f"\n{engine}, {outcome}")
    assert not outcome.problems
    assert outcome.commands > 5_000
