"""`make bench`: what the proxy costs beside its peers, and how fast keys are copied and compared.

    python -m tests.bench [SUITE...] [--quick] [--out FILE] [--report FILE.md] [--publish]
    python -m tests.bench --from FILE [--from FILE...] --report FILE.md

Redis 6.2 to Valkey 9 (TLS: Redis 7). Without names all suites are measured, in about 27 minutes on
two cores. Throughput is a ratio to a direct connection in the same round; rounds are interleaved.
The load is redis-benchmark, and where that has no form of it (MULTI blocks, steady rates, churn,
idle connections, very large values) a sender of our own: see `tests.bench.sender`. Peers that are
not on this machine are left out by name. Figures of a machine that does something else meanwhile
mean nothing.

--publish (`make bench` has it) puts the suites that were measured into docs/performance.json, with
those that were measured before on this machine, and makes docs/performance.md and its chart anew.

Suites:
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from . import copying, figures, load, machine, many, process, queues, suites, tail
from .chart import chart
from .report import TITLES, report, suite_text
from .suites import Run, Skipped, Suite

Json = dict[str, Any]

# In the order in which they are measured, each with the seconds it takes about.
SUITES: dict[str, tuple[Suite, int]] = {
    "core": (suites.core, 360),
    "tail": (tail.tail, 90),
    "commands": (suites.commands, 220),
    "clients": (suites.clients, 110),
    "values": (suites.values, 130),
    "shift": (suites.shift, 70),
    "backfilling": (suites.backfilling, 100),
    "tls": (suites.tls, 110),
    "copy": (copying.copy, 130),
    "connections": (many.connections, 60),
    "queues": (queues.queues, 30),
    "churn": (many.churn, 60),
    "growth": (many.growth, 130),
    "big": (copying.big, 20),
}
HOT_PATH = "hot-path.md"
PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Suite by suite; what is measured is kept even if a later one fails."""
    result: Json = {"machine": machine.described(), "suites": {}}
    named = {
        "date": machine.now(),
        "command": " ".join(["python -m tests.bench", *options.words]),
        "hot_path": machine.hot_path(),
        "commit": commit(),
        "is_quick": options.quick,
    }
    console.print("; ".join(f"{name}: {text}" for name, text in result["machine"].items()))
    console.print(f"hot path: {named['hot_path']}")
    run = run_of(options)
    bar = Progress(
        TextColumn("[bold]{task.fields[suite]}"), BarColumn(), TimeElapsedColumn(),
        TextColumn("{task.description}"), console=console, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=sum(SUITES[n][1] for n in options.suites), suite="")
        for name in options.suites:
            bar.update(task, suite=name, description="")

            def tell(text: str) -> None:
                bar.update(task, description=text[:100])
                # Where no bar is seen, and for whole rows: a line of its own.
                if ";" in text or not console.is_terminal:
                    said(console, text)

            run.tell = tell
            result["suites"][name] = {**await one(SUITES[name][0], run, console), "measured": named}
            console.print(f"[bold]{name}[/bold] {TITLES[name]}")
            is_on_page = options.report is not None or options.publish
            if not (is_on_page and "rows" in result["suites"][name]):
                for line in filter(None, suite_text(result["suites"][name])):
                    console.print(line, soft_wrap=True, markup=False)
            bar.update(task, advance=SUITES[name][1])
            if options.out is not None:
                figures.write(options.out, result)
            if options.publish and not options.quick:
                publish(result)
    return result


_last: list[str] = []


def said(console: Console, text: str) -> None:
    """Not the same again."""
    if _last != [text]:
        _last[:] = [text]
        console.print(text, markup=False, soft_wrap=True)


async def one(suite: Suite, run: Run, console: Console) -> Json:
    began = time.monotonic()
    try:
        found = await suite(run)
    except Skipped as why:
        found = {"skipped": str(why)}
    except Exception as error:  # whatever it is, the other suites are worth having
        console.print_exception()
        found = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def run_of(options: argparse.Namespace) -> Run:
    run = Run(with_peers=not options.no_peers)
    if options.quick:
        run = Run(
            rounds=1, requests=5_000, keys=50_000, most_keys=100_000, large_bytes=32 << 20,
            value_bytes=32 << 20, connections=1_000, seconds=1.0, is_quick=True,
            with_peers=run.with_peers,
        )  # fmt: skip
    for name in ("rounds", "requests", "keys", "most_keys", "connections"):
        given = getattr(options, name)
        if given is not None:
            setattr(run, name, given)
    return run


def commit() -> str:
    """Which state of the project it was; empty where that is no checkout."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        return said.stdout.strip()
    return ""


def render(path: Path, result: Json) -> None:
    """The page, and its chart beside it."""
    picture = path.with_suffix(".svg")
    drawn = chart(result)
    if drawn is not None:
        picture.write_text(drawn, encoding="utf-8")
    beside = HOT_PATH if (path.parent / HOT_PATH).exists() else None
    text = report(result, chart=picture.name if drawn else None, beside=beside)
    path.write_text(text, encoding="utf-8")


def publish(result: Json) -> None:
    stored = PAGE.with_suffix(".json")
    known = figures.read([stored]) if stored.exists() else {}
    whole = figures.published(known, result)
    figures.write(stored, whole)
    render(PAGE, whole)


def arguments(words: list[str]) -> argparse.Namespace:
    listed = "\n".join(
        f"  {name:12} {TITLES[name]}, {took} s" for name, (_, took) in SUITES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=(__doc__ or "") + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="all, if none is named")
    parser.add_argument("--quick", action="store_true", help="only whether it works: 2 minutes")
    parser.add_argument("--rounds", type=int, help="5")
    parser.add_argument("--requests", type=int, help="a run's, unpipelined: 60000")
    parser.add_argument("--keys", type=int, help="copied and compared: 1000000")
    parser.add_argument("--most-keys", type=int, help="of growth: 1000000; 10000000 is the target")
    parser.add_argument("--connections", type=int, help="idle ones: 10000")
    parser.add_argument("--no-peers", action="store_true", help="Keyferry alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="write them as a page")
    parser.add_argument("--publish", action="store_true", help="write docs/performance.md")
    parser.add_argument(
        "--from", dest="stored", type=Path, action="append", metavar="FILE",
        help="measure nothing: these figures, later ones before earlier ones",
    )  # fmt: skip
    options = parser.parse_args(words)
    options.words = words
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    options.suites = options.suites or list(SUITES)
    if options.stored and options.report is None:
        parser.error("--from goes with --report")
    return options


def main() -> int:
    options = arguments(sys.argv[1:])
    console = Console(highlight=False)
    if options.stored:
        render(options.report, figures.read(options.stored))
        return 0
    if load.program() is None:
        console.print("redis-benchmark is not on PATH: it is the load (Debian: redis-tools)")
        return 1
    files = process.raise_open_files()
    run_files = run_of(options).connections + 1_000
    if files < run_files:
        console.print(f"only {files:,} open files: idle connections want {run_files:,}")
    result = asyncio.run(measure(options, console))
    if options.report is not None:
        render(options.report, result)
    if options.publish and options.quick:
        console.print("a quick run is not published")
    elif options.publish:
        console.print(f"{PAGE.name} in {PAGE.parent.name}/ has the figures")
    return any("failed" in suite for suite in result["suites"].values())


if __name__ == "__main__":
    sys.exit(main())
