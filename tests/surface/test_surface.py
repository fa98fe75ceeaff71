"""Every command, in its common and its error forms, to a server itself and through the proxy.

The bytes of all replies are the same, but for what `exceptions` lists; and then the stores hold
the same: the one behind the proxy as the one that was asked directly, and, in a migration, the
target as the source.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import VALKEY_9, Engine, Server, every_engine
from tests.surface.corpus import GROUPS
from tests.surface.stage import Doing, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "login"])
async def test_replies_are_those_of_a_server(stage: Stage, group: str) -> None:
    problems = await stage.perform(group)
    if problems:
        pytest.fail(shown(problems), pytrace=False)


@every_engine
@pytest.mark.asyncio(loop_scope="function")
async def test_replies_before_login_are_those_of_a_server(
    engine: Engine, server_factory: Callable[..., Server], tmp_path: Path
) -> None:
    servers = [server_factory(each, password="pw") for each in (engine, engine, VALKEY_9)]
    stage = Stage(*servers, tmp_path / "state", Doing.IDLE)
    await stage.open()
    problems = await stage.perform("login")
    await stage.close()
    if problems:
        pytest.fail(shown(problems), pytrace=False)


def shown(problems: list[str]) -> str:
    return f"{len(problems)} differ\n" + "\n".join(problems[:40])
