"""A migration under checked traffic, as long as wanted.

    python -m tests.property                            500,000 commands of the whole surface
    python -m tests.property --commands 50000 --families scripts,watch
    python -m tests.property --direct                   on a store, without a proxy: a check of
                                                        the application itself

KEYFERRY_SEED=… before it lets each client choose the same commands again. The exit code is 0 when
nothing was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from migrator.traffic import WHOLE
from tests.property.direct import run_directly
from tests.property.harness import Outcome, migrate, new_seed
from tests.servers import DEFAULT_PAIR, ENGINES, Engine, Server


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.property",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    names = {str(engine): engine for engine in ENGINES}
    parser.add_argument("--commands", type=int, default=500_000, help="at least so many")
    parser.add_argument("--seconds", type=float, default=20.0, help="at least about so long")
    parser.add_argument("--keys", type=int, default=30_000)
    parser.add_argument("--families", help=f"of {','.join(sorted(WHOLE))}; none: plain commands")
    parser.add_argument("--source", choices=names, default=str(DEFAULT_PAIR.source))
    parser.add_argument("--target", choices=names, default=str(DEFAULT_PAIR.target))
    parser.add_argument("--direct", action="store_true")
    options = parser.parse_args()
    families = WHOLE
    if options.families is not None:
        families = frozenset(options.families.split(",")) - {""}
        if families - WHOLE:
            parser.error(f"no such families: {', '.join(families - WHOLE)}")
    source, target = names[options.source], names[options.target]
    outcome = asyncio.run(_run(options, families, source, target))
    print(outcome)
    return int(bool(outcome.problems))


async def _run(
    options: argparse.Namespace, families: frozenset[str], source: Engine, target: Engine
) -> Outcome:
    seed = new_seed()
    with Server(source) as here:
        if options.direct:
            return await run_directly(
                here, seed=seed, families=families, keys=options.keys, seconds=options.seconds
            )
        with Server(target) as there, tempfile.TemporaryDirectory() as directory:
            return await migrate(
                here, there, Path(directory), seed=seed, families=families,
                keys=options.keys, commands=options.commands, seconds=options.seconds,
            )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
