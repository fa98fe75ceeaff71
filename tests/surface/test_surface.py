"""Every command, in its common and its error forms, to a server itself and through the proxy.

The bytes of all replies are the same, but for what `exceptions` lists; and then the stores hold
the same: the one behind the proxy as the one that was asked directly, and, in a migration, the
target as the source.
"""

from __future__ import annotations

import pytest

from tests.surface.corpus import GROUPS
from tests.surface.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "login"])
async def test_replies_are_those_of_a_server(stage: Stage, group: str) -> None:
    problems = await stage.perform(group)
    if problems:
        pytest.fail(f"{len(problems)} differ\n" + "\n".join(problems[:40]), pytrace=False)
