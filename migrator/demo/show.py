"""What the demo prints: a bar per step, the application's state below them, and the table."""

from __future__ import annotations

import json
import time

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from migrator.demo.migration import Result


class Show:
    """Implements `migration.Display`. On a terminal bars, elsewhere a line per step; with
    `as_json` neither."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False)
        self.is_live = self.console.is_terminal and not as_json
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<14}"),
            BarColumn(24),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}  {task.fields[note]}"),
            console=self.console,
            refresh_per_second=8,
        )
        self._task: TaskID | None = None
        self._traffic: TaskID | None = None
        self._name = ""
        self._detail = ""
        self._began = 0.0
        self._note = ""

    def __enter__(self) -> Show:
        if self.is_live:
            self._progress.start()
            self._traffic = self._progress.add_task("application", total=None, detail="", note="")
        return self

    def __exit__(self, *_: object) -> None:
        self.done()
        if self.is_live and self._traffic is not None:
            self._progress.update(self._traffic, visible=False)
            self._progress.stop()

    def say(self, text: str) -> None:
        if not self.as_json:
            self.console.print(text)

    def phase(self, name: str, detail: str = "") -> None:
        self.done()
        self._name, self._detail, self._began, self._note = name, detail, time.monotonic(), ""
        if self.is_live:
            self._task = self._progress.add_task(name, total=None, detail=detail, note="")

    def done(self) -> None:
        """The step has ended."""
        if not self._name:
            return
        if self._task is not None:
            self._progress.update(self._task, completed=1, total=1)
        elif not self.as_json:
            seconds = time.monotonic() - self._began
            click.echo(f"{self._name:<14} {seconds:6.1f} s  {self._detail}  {self._note}".rstrip())
        self._name, self._task = "", None

    def at(self, done: float, total: float | None, note: str = "") -> None:
        self._note = note
        if self._task is not None:
            # A bar that is full has ended, and the step has not.
            shown = min(done, total * 0.999) if total else done
            self._progress.update(self._task, completed=shown, total=total, note=note)

    def traffic(self, rate: float, errors: int, wrong_replies: int) -> None:
        if self._traffic is not None:
            text = f"{rate:,.0f} commands/s, {errors} errors, {wrong_replies} wrong replies"
            self._progress.update(self._traffic, detail=text)

    def result(self, result: Result) -> None:
        """The table, or the JSON object."""
        if self.as_json:
            click.echo(json.dumps(result.as_json()))
            return
        table = Table(title=f"{result.source} → {result.target}", title_style="bold")
        table.add_column("")
        table.add_column("", justify="right")
        for what, how, is_bad in _rows(result):
            table.add_row(what, f"[red]{how}" if is_bad else how)
        self.console.print(table)
        for problem in result.problems:
            self.console.print(f"[red]{problem}", markup=True, soft_wrap=True)
        if result.is_good:
            self.console.print("[green]Nothing was lost, and no client noticed.")
        else:
            self.console.print(f"[red]Something was lost (seed {result.seed}).")


def _rows(result: Result) -> list[tuple[str, str, bool]]:
    """(what, how much, whether it is bad)"""
    return [
        ("keys", f"{result.keys:,}", False),
        ("clients", f"{result.clients}", False),
        ("commands, each reply checked", f"{result.commands:,}", False),
        ("jobs, each done once", f"{result.jobs:,}", False),
        ("messages, each received once", f"{result.messages:,}", False),
        ("client errors", f"{result.client_errors}", result.client_errors > 0),
        ("wrong replies", f"{result.wrong_replies}", result.wrong_replies > 0),
        ("keys that differ", f"{result.keys_that_differ}", result.keys_that_differ > 0),
        ("acknowledged writes lost", f"{result.lost_writes}", result.lost_writes > 0),
        ("longest pause of a flip", f"{result.longest_pause_ms:.1f} ms", False),
        ("longest wait for a reply", f"{result.longest_wait_ms:.1f} ms", False),
        ("commands/s before", f"{result.before_per_second:,.0f}", False),
        ("commands/s while copying", f"{result.during_per_second:,.0f}", False),
        ("commands/s after", f"{result.after_per_second:,.0f}", False),
        ("copied in", f"{result.backfill_seconds:.1f} s", False),
        ("seconds", f"{result.seconds:.0f}", False),
    ]
