"""The command `keyferry`: what is typed, what is printed, which exit code.

Owns the command line and nothing behind it: `run` and `demo` are elsewhere, the verbs are requests
to the process that runs. Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 no process.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

import click

from migrator import config
from migrator.client import AdminClient, Json
from migrator.config import DurationType
from migrator.display import (
    Screen,
    answer_rows,
    dashboard,
    finding_rows,
    seconds_text,
    status_line,
    status_rows,
)
from migrator.errors import BadInput, KeyferryError, Refused, Unreachable
from migrator.throttle import Level
from proxy import compiled

DONE, FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
POLL_SECONDS = 0.25
WATCH_SECONDS = 1.0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs a command line, and exits."""
    try:
        code = cli.main(args=argv, prog_name="keyferry", standalone_mode=False)
    except click.UsageError as error:
        code = _complain(WRONG_USAGE, config.complaint(error))
    except BadInput as error:
        code = _complain(WRONG_USAGE, str(error))
    except Unreachable as error:
        code = _complain(UNREACHABLE, str(error))
    except Refused as refusal:
        reasons = [f"{b.name}: {b.message}" for b in refusal.blockers]
        code = _complain(FAILED, *(reasons or [f"{refusal.name}: {refusal.message}"]))
    except (KeyferryError, click.ClickException) as error:
        code = _complain(FAILED, str(error))
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else DONE)


def _complain(code: int, *lines: str) -> int:
    for line in lines:
        click.echo(f"keyferry: {line}", err=True)
    return code


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        try:
            number = version("keyferry")
        except PackageNotFoundError:
            number = "unknown (not installed)"
        click.echo(f"keyferry, version {number}; hot path: {compiled.form()}")
        ctx.exit()


class _InOrder(click.Group):
    """Lists the verbs in the order in which a migration needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Shows the version, and whether the hot path is compiled.",
)
def cli() -> None:
    """Moves a live Redis or Valkey store to another one; nothing lost, and a way back."""


@cli.command(params=list(config.OPTIONS))
def run(**values: Any) -> int | None:
    """Runs the proxy, the migrator and the admin API, until it is stopped."""
    settings = config.checked(values)
    from migrator import process  # the verbs shall not wait for what only this loads

    code: int | None = process.run(settings)
    return code


class Session:
    """One verb's use of the API: asks, waits, and shows."""

    def __init__(self, client: AdminClient, screen: Screen) -> None:
        self.client = client
        self.screen = screen

    def ask(self, verb: str, **options: Any) -> Json:
        """The verb's answer. With --json a refusal is shown as well, as the API gave it."""
        try:
            return self.client.post(verb, options)
        except Refused as refusal:
            if self.screen.as_json:
                blockers = [b.as_json() for b in refusal.blockers]
                self.screen.show(
                    {"error": refusal.name, "message": refusal.message, "blockers": blockers}, []
                )
            raise

    def show(self, answer: Json) -> None:
        self.screen.show(answer, answer_rows(answer))

    def wait(self, what: str, step: Callable[[Json], tuple[int, int | None, str] | None]) -> Json:
        """Polls the status until `step` (done, total, note for the bar) is None; the last one."""
        with self.screen.progress(what) as bar:
            while (at := step(status := self.client.status())) is not None:
                bar.at(*at)
                time.sleep(POLL_SECONDS)
        return status


# The last one is the first that --help shows.
_VERB_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    click.option(
        "--admin-token",
        envvar="KEYFERRY_ADMIN_TOKEN",
        help="The secret that it wants, if any.",
        metavar="TOKEN",
    ),
    click.option(
        "--admin",
        envvar="KEYFERRY_ADMIN",
        default="http://127.0.0.1:9400",
        show_default=True,
        help="The running process.",
        metavar="URL",
    ),
)


def verb(command: Callable[..., None]) -> click.Command:
    """Decorator: a command that gets a Session, made of the options that all verbs have."""

    @functools.wraps(command)
    def with_session(admin: str, admin_token: str | None, as_json: bool, **options: Any) -> None:
        command(Session(AdminClient(admin, admin_token), Screen(as_json)), **options)

    for option in _VERB_OPTIONS:
        with_session = option(with_session)
    made: click.Command = cli.command(with_session)
    return made


_max_pause = click.option(
    "--max-pause",
    type=DurationType(),
    default="1000ms",
    show_default=True,
    help="How long clients may wait; past it nothing is changed.",
)
_dry_run = click.option("--dry-run", is_flag=True, help="Only says what is in the way.")


@verb
def analyze(session: Session) -> None:
    """Says what could be in the way; changes nothing."""
    report = session.ask("analyze")
    session.screen.show(report, finding_rows(report))


@verb
@click.option("--wait", is_flag=True, help="Returns when the backfill is complete.")
@click.option("--allow", multiple=True, metavar="NAME", help="Waives a finding of the analysis.")
def start(session: Session, wait: bool, allow: tuple[str, ...]) -> None:
    """Begins the mirror and the backfill. Undone by cancel."""
    answer = session.ask("start", allow=list(allow))
    if wait:
        status = session.wait("backfill", _backfill_step)
        answer = _ended(answer, status)
        if status["phase"] == "idle":
            session.show(answer)
            raise KeyferryError("the backfill was cancelled")
    session.show(answer)


def _backfill_step(status: Json) -> tuple[int, int | None, str] | None:
    if status["phase"] != "copying":
        return None
    backfill = status["backfill"]
    note = (
        f"{backfill['keys_per_second']:,.0f} keys/s, {seconds_text(backfill['eta_seconds'])} left"
    )
    return backfill["keys_done"], backfill["keys_total"] or None, note


@verb
@click.option("--watch", is_flag=True, help="Goes on showing it.")
def status(session: Session, watch: bool) -> None:
    """Phase, progress, lag, rates, and what blocks a cutover or rollback."""
    now = session.client.status()
    if not watch:
        session.screen.show(now, status_rows(now))
    elif session.screen.is_live:
        _watch_live(session, now)
    else:
        while True:
            click.echo(json.dumps(now) if session.screen.as_json else status_line(now))
            time.sleep(WATCH_SECONDS)
            now = session.client.status()


def _watch_live(session: Session, now: Json) -> NoReturn:
    with session.screen.live() as live:
        while True:
            live.update(dashboard(now), refresh=True)
            time.sleep(WATCH_SECONDS)
            try:
                now = session.client.status()
            except Unreachable as error:
                # A restart is no reason to look away.
                live.update(str(error), refresh=True)


@verb
@click.option("--wait", is_flag=True, help="Returns when it has ended; 1 if anything differs.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Only so many keys.")
@click.option("--repair", is_flag=True, help="Copies again what differs.")
def verify(session: Session, wait: bool, sample: int | None, repair: bool) -> None:
    """Compares both sides key by key, exactly, under live writes."""
    answer = session.ask("verify", sample=sample, repair=repair)
    if not wait:
        session.show(answer)
        return
    now = session.wait("verify", functools.partial(_verify_step, sample))
    result = now["verify"]
    answer = _ended(answer, now) | {"verify": result}
    if result["error"]:
        session.show(answer)
        raise KeyferryError(f"the verification ended without a verdict: {result['error']}")
    mismatches = f"{result['keys_checked']:,} keys, {result['mismatches']:,} differ"
    outcome = "passed" if result["passed"] else "failed"
    session.screen.show(answer, [*answer_rows(answer), ("verify", f"{outcome}: {mismatches}")])
    if not result["passed"]:
        raise KeyferryError(f"the verification failed: {mismatches}")


def _verify_step(sample: int | None, status: Json) -> tuple[int, int | None, str] | None:
    checked = status["verify"]
    if not checked["running"]:
        return None
    total = max(status["source"]["keys"], status["target"]["keys"])
    expected = min(sample or total, total) or None
    return checked["keys_checked"], expected, f"{checked['mismatches']:,} differ"


@verb
@click.argument("percent", type=click.IntRange(0, 100))
def shift(session: Session, percent: int) -> None:
    """Sends PERCENT of the reads, by key, to the target. Undone by shift 0."""
    session.show(session.ask("shift", percent=percent))


@verb
@click.argument("level", required=False, type=click.Choice([str(level) for level in Level]))
@click.option(
    "--keys-per-second", type=click.IntRange(min=0), metavar="N", help="A limit; 0 takes it away."
)
def nice(session: Session, level: str | None, keys_per_second: int | None) -> None:
    """How far backfill and verify stand back for clients, from now on.

    full: not at all; normal: so that the clients' 99th percentile at most doubles; gentle: so that
    they hardly notice. Holds over restarts, until run is given another --nice. Undone by nice with
    what it was before.
    """
    if level is None and keys_per_second is None:
        raise click.UsageError("LEVEL or --keys-per-second is needed")
    session.show(session.ask("nice", level=level, keys_per_second=keys_per_second))


@verb
@_dry_run
@_max_pause
def cutover(session: Session, dry_run: bool, max_pause: float) -> None:
    """Makes the target primary, once all gates are open. Undone by rollback."""
    session.show(session.ask("cutover", dry_run=dry_run, max_pause_ms=max_pause))


@verb
@_dry_run
@_max_pause
def rollback(session: Session, dry_run: bool, max_pause: float) -> None:
    """Makes the source primary again. Undone by cutover."""
    session.show(session.ask("rollback", dry_run=dry_run, max_pause_ms=max_pause))


@verb
def finish(session: Session) -> None:
    """Ends the mirror; the source may be retired. Nothing undoes it."""
    session.show(session.ask("finish"))


@verb
def cancel(session: Session) -> None:
    """Ends mirror and backfill before a cutover; the target keeps what it has."""
    session.show(session.ask("cancel"))


@cli.command()
@click.option("--keys", type=click.IntRange(min=1), default=100_000, show_default=True, metavar="N")
@click.option("--seconds", type=click.IntRange(min=1), metavar="N", help="About how long.")
@click.option("--serve", is_flag=True, help="Goes on running, with the dashboard.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def demo(keys: int, seconds: int | None, serve: bool, as_json: bool) -> int | None:
    """A whole migration on real servers of its own, under traffic."""
    from migrator import demo as show

    code: int | None = show.run(keys=keys, seconds=seconds, serve=serve, as_json=as_json)
    return code


def _ended(answer: Json, status: Json) -> Json:
    """The answer of a step that was waited for: `after` is how it ended."""
    names = ("phase", "primary", "read_percent")
    return answer | {"after": {name: status[name] for name in names}}
