"""What the command line shows of statuses and answers: texts, tables, progress.

The texts are pure; `Screen` is the one place that prints. Where stdout is no terminal there are
plain lines, and no progress but one line when something has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]
Rows = list[tuple[str, str]]

PHASES = ("idle", "copying", "mirroring", "cutover", "finished")


def point_text(point: Json) -> str:
    """`mirroring, primary source, 10% of reads on the target`."""
    percent = point.get("read_percent", 0)
    text = f"{point['phase']}, primary {point['primary']}, {percent}% of reads on the target"
    return text + (f", nice {nice_text(point['nice'])}" if "nice" in point else "")


def nice_text(nice: Json) -> str:
    """`gentle, at most 5,000 keys/s`."""
    limit = nice["keys_per_second"]
    return str(nice["level"]) + (f", at most {limit:,} keys/s" if limit else "")


def bytes_text(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def seconds_text(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
    )


def status_rows(status: Json) -> Rows:
    """The status for people: (what, how it is), in the order of interest."""
    backfill, mirror, verify = status["backfill"], status["mirror"], status["verify"]
    return [
        ("phase", status["phase"]),
        ("primary", f"{status['primary']}, {status['read_percent']}% of reads on the target"),
        ("source", _store_text(status["source"])),
        ("target", _store_text(status["target"])),
        ("clients", f"{status['clients']:,}, {status['commands_per_second']:,.0f} commands/s"),
        ("backfill", _backfill_text(backfill)),
        *_pace_rows(status),
        ("mirror", _mirror_text(mirror)),
        ("unproven", f"{mirror['unproven_keys']:,} keys, {mirror['divergences']:,} divergences"),
        *_not_repeated_rows(mirror),
        ("verify", _verify_text(verify)),
        ("cutover", "possible" if status["can_cutover"] else _blocked(status["blockers"])),
        (
            "rollback",
            "possible" if status["can_rollback"] else _blocked(status["rollback_blockers"]),
        ),
        *_pause_rows(status.get("last_pause_ms")),
        *_allowed_rows(status.get("allowed_commands")),
    ]


def _pace_rows(status: Json) -> Rows:
    if "nice" not in status:
        return []
    throttle, text = status["backfill"]["throttle"], nice_text(status["nice"])
    if throttle["share"] < 1.0:
        text += f", held back to {throttle['share']:.0%} by {throttle['reason']}"
    if throttle["clients_p99_ms"] is not None:
        text += f", clients' p99 {throttle['clients_p99_ms']:.2f} ms"
        if throttle["quiet_p99_ms"] is not None:
            text += f" ({throttle['quiet_p99_ms']:.2f} ms without copying)"
    return [("nice", text)]


def _not_repeated_rows(mirror: Json) -> Rows:
    """What the other side does not know, or cannot hold."""
    rows: Rows = []
    if mirror.get("copied_instead"):
        counts = (f"{name} {count:,}" for name, count in sorted(mirror["copied_instead"].items()))
        rows.append(("copied", f"unknown to the other side: {', '.join(counts)}"))
    if mirror.get("failing_keys"):
        keys, reason = mirror["failing_keys"], mirror["failing_because"]
        rows.append(("not copied", f"{keys:,} keys: {reason}"))
    return rows


def _pause_rows(pause_ms: float | None) -> Rows:
    return [] if pause_ms is None else [("last pause", f"{pause_ms:.1f} ms")]


def _allowed_rows(names: list[str] | None) -> Rows:
    return [("allowed", ", ".join(names))] if names else []


def _blocked(names: list[str]) -> str:
    return "blocked by " + ", ".join(names) if names else "not possible"


def _store_text(store: Json) -> str:
    if not store["reachable"]:
        return "cannot be reached"
    return f"{store['engine']} {store['version']}, {store['keys']:,} keys"


def _backfill_text(backfill: Json) -> str:
    done = f"{backfill['keys_done']:,} of {backfill['keys_total']:,} keys"
    if backfill["done"]:
        return f"complete, {backfill['keys_done']:,} keys, {bytes_text(backfill['bytes'])}"
    if not backfill["keys_per_second"] and not backfill["keys_done"]:
        return "not begun"
    if not backfill.get("running"):
        return f"{done}, ended"
    rate = f"{backfill['keys_per_second']:,.0f} keys/s"
    return f"{done}, {rate}, {seconds_text(backfill['eta_seconds'])} left"


def _mirror_text(mirror: Json) -> str:
    if not mirror["connected"]:
        return "not connected" + (f": {mirror['refusal']}" if mirror.get("refusal") else "")
    lag = f"{mirror['lag_operations']:,} operations, {bytes_text(mirror['lag_bytes'])}"
    return f"connected, behind by {mirror['lag_ms']:.1f} ms ({lag})"


def _verify_text(verify: Json) -> str:
    counts = f"{verify['keys_checked']:,} keys, {verify['mismatches']:,} differ"
    if verify["running"]:
        return f"running: {counts}"
    if verify["error"]:
        return f"no verdict: {verify['error']}"
    if verify["passed"] is None:
        return "never"
    outcome = "passed" if verify["passed"] else "failed"
    return f"{outcome}: {counts}" + (", and stale since: verify again" if verify["stale"] else "")


def answer_rows(answer: Json) -> Rows:
    """A verb's answer: the state before and after, then what else there is to say."""
    rows: Rows = [
        (name, point_text(answer[name])) for name in ("before", "after") if name in answer
    ]
    if answer.get("pause_ms") is not None:
        rows.append(("pause", f"{answer['pause_ms']:.1f} ms"))
    if answer.get("dry_run"):
        rows.append(("dry run", "nothing was changed, and nothing is in the way"))
    if answer.get("message"):
        rows.append(("note", str(answer["message"])))
    return rows


def finding_rows(report: Json) -> Rows:
    """The findings of an analysis, the worst first."""
    order = {"blocker": 0, "warning": 1, "info": 2}
    findings = sorted(report.get("findings", ()), key=lambda f: order.get(f["severity"], 3))
    rows = [
        (f["severity"] + (" (waived)" if f.get("waived") else ""), f"{f['name']}: {f['message']}")
        for f in findings
    ]
    return rows or [("ok", "nothing stands in the way")]


def status_line(status: Json) -> str:
    """One line, for --watch without a terminal."""
    backfill, mirror = status["backfill"], status["mirror"]
    return (
        f"{status['phase']} primary={status['primary']} reads={status['read_percent']}%"
        f" commands/s={status['commands_per_second']:.0f}"
        f" backfill={backfill['keys_done']}/{backfill['keys_total']}"
        f"{_throttle_words(backfill)}"
        f" lag_ms={mirror['lag_ms']:.1f} unproven={mirror['unproven_keys']}"
        f" blockers={','.join(status['blockers']) or '-'}"
    )


def _throttle_words(backfill: Json) -> str:
    throttle = backfill.get("throttle")
    return f" share={throttle['share']:.2f} held_by={throttle['reason']}" if throttle else ""


class Screen:
    """Prints to stdout: for people, or as JSON, one object a line."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False)

    @property
    def is_live(self) -> bool:
        return self.console.is_terminal and not self.as_json

    def show(self, answer: Json, rows: Rows) -> None:
        if self.as_json:
            click.echo(json.dumps(answer))
        elif self.console.is_terminal:
            self.console.print(_grid(rows))
        else:
            width = max((len(what) for what, _ in rows), default=0)
            for what, how in rows:
                click.echo(f"{what:<{width}}  {how}")

    @contextmanager
    def progress(self, what: str) -> Iterator[ProgressBar]:
        bar = ProgressBar(what, self.console)
        if not self.is_live:
            yield bar
            return
        with bar.display:
            yield bar

    @contextmanager
    def live(self) -> Iterator[Live]:
        with Live(console=self.console, auto_refresh=False) as live:
            yield live


class ProgressBar:
    """A bar of keys, fed with statuses."""

    def __init__(self, what: str, console: Console) -> None:
        self.display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._task: TaskID = self.display.add_task(what, total=None, note="")

    def at(self, done: int, total: int | None, note: str = "") -> None:
        self.display.update(self._task, completed=done, total=total, note=note)


def dashboard(status: Json) -> RenderableType:
    """What `status --watch` shows on a terminal."""
    steps = Text()
    for phase in PHASES:
        is_here = phase == status["phase"]
        steps.append(f" {phase} ", style="bold reverse" if is_here else "dim")
        steps.append(" → " if phase != PHASES[-1] else "", style="dim")
    return Group(steps, Text(), _grid(status_rows(status)))


def _grid(rows: Rows) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for what, how in rows:
        table.add_row(what, Text(how, style=_style(how)))
    return table


def _style(text: str) -> str:
    bad = ("cannot be reached", "not connected", "failed")
    return "red" if text.startswith(bad) else "yellow" if text.startswith("blocked") else ""
