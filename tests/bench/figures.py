"""Figures as they are kept: one JSON object per run, suites by name; several runs made one.

Each suite keeps when and how it was measured, so that a file may hold suites of several runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# What makes it the same machine; versions may differ from suite to suite.
IDENTITY = ("CPU", "cores", "memory")


def merged(runs: Iterable[Json]) -> Json:
    """All suites; of one that is in several runs, the last that did not fail or skip."""
    result: Json = {"machine": {}, "suites": {}}
    for run in runs:
        result["machine"] = run.get("machine") or result["machine"]
        for name, suite in run.get("suites", {}).items():
            known = result["suites"].get(name)
            if known is None or is_whole(suite) or not is_whole(known):
                result["suites"][name] = suite
    return result


def published(known: Json, result: Json) -> Json:
    """What was measured before, and now; of another machine nothing stays."""
    same = all(
        known.get("machine", {}).get(each) == result["machine"].get(each) for each in IDENTITY
    )
    return merged([known, result]) if same else merged([result])


def is_whole(suite: Json) -> bool:
    return "failed" not in suite and "skipped" not in suite


def read(paths: Iterable[Path]) -> Json:
    """Raises OSError, ValueError where one is no such file."""
    return merged(json.loads(path.read_text(encoding="utf-8")) for path in paths)


def write(path: Path, result: Json) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def cells(result: Json, suite: str) -> dict[str, Json]:
    """The contenders of each cell of a suite; without those that were skipped."""
    rows = result["suites"].get(suite, {}).get("rows", ())
    return {
        row["cell"]: {name: each for name, each in row["contenders"].items() if "ratio" in each}
        for row in rows
    }


def figure(result: Json, suite: str, *path: str) -> Any:
    """A figure of a suite that has no cells; None where it was not measured."""
    found: Any = result["suites"].get(suite, {}).get("figures")
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found
