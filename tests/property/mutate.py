"""Breaks one rule of the product, and shows that the property test finds it.

    python -m tests.property.mutate              the names
    python -m tests.property.mutate watch        one run; exit code 0: it was found
    python -m tests.property.mutate all --runs 3

Says what was found first, and how many of the runs were red: data that is lost or replies that are
wrong. A process that only crashes, or steps that are only refused, do not count.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from migrator.servers import Server
from tests.property.harness import Outcome, migrate, new_seed
from tests.property.mutations import MUTATIONS
from tests.servers import DEFAULT_PAIR


async def once(mutation: str | None, seed: str, seconds: float) -> Outcome:
    """One run on servers of its own."""
    with (
        Server(DEFAULT_PAIR.source) as source,
        Server(DEFAULT_PAIR.target) as target,
        tempfile.TemporaryDirectory() as directory,
    ):
        return await migrate(
            source, target, Path(directory), seed=seed, seconds=seconds, mutation=mutation
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=[*MUTATIONS, "all", "none"])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=12.0)
    options = parser.parse_args()
    if options.name is None:
        for name, mutation in MUTATIONS.items():
            print(f"{name:<12} {mutation.rule}")
        return 0
    if options.name == "none":
        outcome = asyncio.run(once(None, new_seed(), options.seconds))
        print(outcome)
        return int(bool(outcome.problems))
    names = list(MUTATIONS) if options.name == "all" else [options.name]
    missed = 0
    for name in names:
        red = 0
        for _ in range(options.runs):
            outcome = asyncio.run(once(name, new_seed(), options.seconds))
            is_red = outcome.shows_loss and not outcome.has_crashed
            red += is_red
            first = "\n    ".join(each[:300] for each in outcome.problems[:4])
            verdict = "CRASHED" if outcome.has_crashed else "found" if is_red else "NOT FOUND"
            print(f"{name} (seed {outcome.seed}): {verdict}: {first}", flush=True)
        print(f"{name}: red in {red} of {options.runs}", flush=True)
        missed += red < options.runs
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
