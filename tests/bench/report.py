"""The figures as a page that a person can read: machine, checklist, chart, and a table per suite.

Pure: stored figures in, Markdown out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .stage import DIRECT
from .targets import Target, checklist

Json = dict[str, Any]

TITLES = {
    "core": "SET, GET and both, 50 clients",
    "tail": "One in a thousand, 50 clients",
    "commands": "Other commands, 50 clients",
    "clients": "One client, and 500",
    "values": "Larger values, 50 clients",
    "shift": "Reads shifted to the target",
    "backfilling": "While a backfill runs",
    "tls": "TLS on both sides",
    "copy": "Copying and comparing",
    "connections": "Idle connections",
    "queues": "Queues",
    "churn": "Connections that come and go",
    "growth": "Growth",
    "big": "A very large value",
}
REACHED = {True: "yes", False: "**no**", None: "–"}


def report(result: Json, *, chart: str | None = None, beside: str | None = None) -> str:
    """The page. `chart` and `beside`: links to the picture, and to what was written by hand."""
    suites = result["suites"]
    parts = ["# Performance", ""]
    parts += [
        "Made by `make bench` (`python -m tests.bench`), which is also what measures it again. "
        "A throughput is a ratio to a direct connection in the same round; contenders take turns "
        "within each round, and what is shown is the median of the rounds. Keyferry runs with "
        "everything on: order, effects, comparison of replies, key table, metrics. Where its "
        "mirror is behind when a load ends, the time until it has caught up is part of that run.",
        "",
    ]
    if beside:
        parts += [f"Where each microsecond goes, what bounds it and what was tried: [{beside}]"
                  f"({beside}).", ""]  # fmt: skip
    if any(suite.get("measured", {}).get("is_quick") for suite in suites.values()):
        parts += ["**A quick run: its figures say that everything works, and nothing more.**", ""]
    parts += ["## Targets", "", *_targets(checklist(result)), ""]
    if chart:
        parts += [f"![Throughput through each proxy, as a share of a direct connection]({chart})",
                  ""]  # fmt: skip
    parts += ["## The machine", "", *_machine(result), ""]
    for name in (*TITLES, *(name for name in suites if name not in TITLES)):
        if name in suites:
            parts += [f"## {TITLES.get(name, name)}", "", *suite_text(suites[name]), ""]
    return "\n".join(parts).rstrip() + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table: the first column is text, the others figures."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    return [
        "| " + " | ".join(cell(each) for each in columns) + " |",
        "|---" + "|--:" * (len(columns) - 1) + "|",
        *("| " + " | ".join(cell(each) for each in row) + " |" for row in rows),
    ]


def _targets(targets: Sequence[Target]) -> list[str]:
    reached = sum(each.reached is True for each in targets)
    rows = [[each.text, each.figure, REACHED[each.reached], each.suite] for each in targets]
    lines = table(["target", "figure", "reached", "suite"], rows)
    lines[1] = "|---|---|---|---|"
    return [f"{reached} of {len(targets)} reached.", "", *lines]


def _machine(result: Json) -> list[str]:
    rows = list(result["machine"].items())
    lines = table(["", ""], rows)
    lines[1] = "|---|---|"
    seen = dict.fromkeys(
        (each["date"], each["command"], each["hot_path"], each.get("commit", ""))
        for suite in result["suites"].values()
        if (each := suite.get("measured"))
    )
    lines += [""]
    for date, command, form, commit in seen:
        of = f", commit {commit}" if commit else ""
        lines += [f"- `{command}`, {date}, hot path: {form}{of}"]
    return lines


def suite_text(suite: Json) -> list[str]:
    if "skipped" in suite or "failed" in suite:
        return [f"Not measured: {suite.get('skipped') or suite['failed']}."]
    lines = [*suite.get("notes", ())]
    for name, why in suite.get("missing", {}).items():
        lines.append(f"{name}: {why}.")
    lines = [each for line in lines for each in (line, "")]
    if "table" in suite:
        lines += table(suite["table"]["columns"], suite["table"]["rows"])
        lines += [""]
    if "rows" in suite:
        lines += throughput_tables(suite["rows"])
    return lines


def throughput_tables(rows: Sequence[Json]) -> list[str]:
    """Ratios with their spread; latency; cost and memory."""
    names = list(dict.fromkeys(name for row in rows for name in row["contenders"]))
    others = [name for name in names if name != DIRECT]

    def of(row: Json, name: str, form: Any) -> str:
        found = row["contenders"].get(name, {})
        return form(found) if "ratio" in found else "–"

    lines = ["Throughput / direct (lowest–highest):", ""]
    lines += table(
        ["", "direct, /s", *others],
        [
            [row["cell"], of(row, DIRECT, lambda f: f"{f['per_second']:,.0f}"),
             *(of(row, name, _ratio) for name in others)]
            for row in rows
        ],
    )  # fmt: skip
    lines += ["", "Latency p50 / p99 / p99.9, ms:", ""]
    lines += table(
        ["", *names], [[row["cell"], *(of(row, name, _latency) for name in names)] for row in rows]
    )
    lines += ["", "CPU of the proxy process per command, µs; its RSS at the end, MiB:", ""]
    lines += table(
        ["", *others],
        [[row["cell"], *(of(row, name, _cost) for name in others)] for row in rows],
    )
    drains = [
        f"{row['cell']} {each['drain_ms']:.0f} ms"
        for row in rows
        for each in row["contenders"].values()
        if each.get("drain_ms")
    ]
    if drains:
        lines += ["", f"Until the mirror had caught up, part of the above: {', '.join(drains)}."]
    skipped = {
        f"{name}, {row['cell']}: {each['skipped']}"
        for row in rows
        for name, each in row["contenders"].items()
        if "skipped" in each
    }
    for each in sorted(skipped):
        lines += ["", f"Not served: {' '.join(each.split())}."]
    return lines


def _ratio(found: Json) -> str:
    return f"{found['ratio']:.2f} ({found['lowest']:.2f}–{found['highest']:.2f})"


def _latency(found: Json) -> str:
    return " / ".join(f"{ms:.2f}" if ms >= 0.1 else f"{ms:.3f}" for ms in
                      found["latency_ms"].values())  # fmt: skip


def _cost(found: Json) -> str:
    return f"{found['cpu_us']:.2f}; {found['resident'] / 2**20:.0f}"
