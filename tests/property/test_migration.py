"""A whole migration under random traffic whose every reply is checked; then both sides are equal.

16 clients, two ACL users, RESP2 and RESP3, three databases, keys of every type, every part of the
command surface: while keys are copied, verified, shifted, cut over, rolled back and cut over again.
The seed is printed, and KEYFERRY_SEED replays each client's choices.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.property.harness import migrate, new_seed
from tests.property.mutations import MUTATIONS
from tests.servers import PAIRS, Server, engine_pairs

# More of them: `python -m tests.property`.
COMMANDS = 60_000


@pytest.mark.timeout(240)
async def test_a_migration_under_traffic_loses_nothing(
    source: Server,
    target: Server,
    tmp_path: Path,
    mutation: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = new_seed()
    outcome = await migrate(
        source, target, tmp_path, seed=seed, commands=COMMANDS, seconds=15.0, mutation=mutation
    )
    with capsys.disabled():
        print(f"\n{source.engine} -> {target.engine}, {outcome}")
    assert not outcome.problems
    assert outcome.commands >= COMMANDS


@pytest.mark.skipif(len(PAIRS) < 2, reason="no other engine on PATH")
@pytest.mark.timeout(120)
@engine_pairs
async def test_a_migration_between_the_engines_found_loses_nothing(
    source: Server, target: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = new_seed()
    outcome = await migrate(
        source, target, tmp_path, seed=seed, keys=10_000, strings=20_000, seconds=4.0
    )
    with capsys.disabled():
        print(f"\n{source.engine} -> {target.engine}, {outcome}")
    assert not outcome.problems


def test_every_mutation_says_which_rule_it_breaks() -> None:
    assert len(MUTATIONS) >= 19
    assert all(mutation.rule.endswith(".") for mutation in MUTATIONS.values())
