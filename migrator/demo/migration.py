"""The demo's migration: real servers, an application, `keyferry run`, and the order of its steps.

Owns what is started and that all of it ends. It drives the process over its admin API, as an
operator would, and shows nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from migrator.bulk import Bulk
from migrator.demo.comparison import compare
from migrator.demo.instance import Instance, Json
from migrator.errors import KeyferryError, Refused
from migrator.servers import Server, find_engine
from migrator.traffic import Application, World
from migrator.traffic.families import PUBSUB, WORK
from proxy.endpoint import Endpoint

CLIENTS = 16
# Beside plain commands: queues with workers that wait, and subscribers.
FAMILIES = frozenset({PUBSUB, WORK})
LOGINS = (("orders", "demo"), ("sessions", "demo"))
# How a step's time is shared out; the copying and comparing take what they take.
SHARES = {
    "before": 0.15, "shift 10": 0.1, "shift 50": 0.1, "shift 100": 0.1, "cutover": 0.13,
    "rollback": 0.13, "cutover again": 0.13, "after": 0.16,
}  # fmt: skip
# Gates close for a moment under traffic: a key that has just expired, a late reply.
PATIENCE_S = 20.0


class Display(Protocol):
    """Where the demo tells how far it is."""

    def phase(self, name: str, detail: str = "") -> None:
        """A step begins; the one before has ended."""

    def at(self, done: float, total: float | None, note: str = "") -> None:
        """How far the step is."""

    def traffic(self, rate: float, errors: int, wrong_replies: int) -> None:
        """The application, as of now."""


@dataclass
class Result:
    """The table. Throughputs are commands of the application per second."""

    source: str = ""
    target: str = ""
    seed: str = ""
    keys: int = 0
    clients: int = CLIENTS
    commands: int = 0
    jobs: int = 0
    messages: int = 0
    client_errors: int = 0
    wrong_replies: int = 0
    keys_that_differ: int = 0
    lost_writes: int = 0
    longest_pause_ms: float = 0.0
    longest_wait_ms: float = 0.0
    before_per_second: float = 0.0
    during_per_second: float = 0.0
    after_per_second: float = 0.0
    backfill_seconds: float = 0.0
    verified_keys: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        lost = self.client_errors + self.wrong_replies + self.keys_that_differ + self.lost_writes
        return not lost and not self.problems

    def as_json(self) -> Json:
        return {"ok": self.is_good, **asdict(self)}


class Demo:
    """See the module's docstring. `seconds`: about how long the whole takes; None: 45."""

    def __init__(self, display: Display, keys: int, seconds: int | None) -> None:
        self.display = display
        self.result = Result(seed=secrets.token_hex(4))
        self.instance: Instance | None = None
        self._keys = keys
        self._seconds = float(seconds or 45)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Instance, Application]]:
        """Servers with keys, the process, and the application's traffic, until the end.

        Raises ServerError, KeyferryError.
        """
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(Server(find_engine("redis", 6)))
            target = stack.enter_context(Server(find_engine("valkey", 9)))
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyferry-")))
            self.result.source = f"{source.engine.kind} {_dotted(source)}"
            self.result.target = f"{target.engine.kind} {_dotted(target)}"
            for server in (source, target):
                for user, password in LOGINS:
                    server.cli("ACL", "SETUSER", user, "on", f">{password}", "~*", "&*", "+@all")
            async with _bulk(source.url) as here, _bulk(target.url) as there:
                self._stores = (here, there)
                self.display.phase("load", f"{self._keys:,} keys of every type")
                world = World.of_keys(CLIENTS, self._keys, families=FAMILIES)
                self.result.keys = await world.load(here)
                instance = self.instance = Instance(source.url, target.url, directory)
                stack.callback(instance.kill)
                await instance.start()
                application = Application(
                    world, "127.0.0.1", instance.port, seed=self.result.seed, logins=LOGINS
                )
                application.start()
                ticker = asyncio.create_task(self._tick(application), name="demo ticker")
                try:
                    yield instance, application
                finally:
                    ticker.cancel()
                    await application.stop()
                    self._count(application)
                    await instance.stop()

    async def migrate(self, instance: Instance, application: Application) -> None:
        """All steps. What goes wrong is in the result."""
        began = time.monotonic()
        try:
            await self._steps(instance, application)
        except Refused as refusal:
            reasons = [each.message for each in refusal.blockers] or [refusal.message]
            self.result.problems += reasons
        except KeyferryError as error:
            self.result.problems.append(str(error))
        self._count(application)
        self.result.seconds = time.monotonic() - began

    async def _steps(self, instance: Instance, application: Application) -> None:
        result = self.result
        result.before_per_second = await self._traffic(application, "before", "idle")
        result.during_per_second = await self._copy(instance, application)
        await self._verify(instance)
        for percent in (10, 50, 100):
            await instance.ask("shift", percent=percent)
            name = f"shift {percent}"
            await self._traffic(application, name, f"{percent} % of reads from the target")
        for name in ("cutover", "rollback", "cutover again"):
            answer = await self._flip(instance, name.split()[0])
            result.longest_pause_ms = max(result.longest_pause_ms, answer["pause_ms"])
            primary = answer["after"]["primary"]
            pause = f"clients waited {answer['pause_ms']:.1f} ms"
            await self._traffic(application, name, f"the {primary} is primary; {pause}")
        await self._compare(instance, application)
        await instance.ask("finish")
        application.start()
        result.after_per_second = await self._traffic(application, "after", "finished")
        await application.stop()
        await self._audit(application, "target")

    async def _copy(self, instance: Instance, application: Application) -> float:
        self.display.phase("backfill", "mirror and copy")
        before, began = application.counts.commands, time.monotonic()
        await instance.ask("start", allow=[])

        def tell(status: Json) -> None:
            backfill = status["backfill"]
            done, total = backfill["keys_done"], backfill["keys_total"]
            self.display.at(done, total or None, f"{done:,} keys")

        await instance.until(
            lambda status: status["phase"] == "mirroring", "the backfill", tell=tell
        )
        self.result.backfill_seconds = time.monotonic() - began
        return (application.counts.commands - before) / self.result.backfill_seconds

    async def _verify(self, instance: Instance) -> None:
        self.display.phase("verify", "every key, both sides, under the same traffic")
        await instance.ask("verify")

        def tell(status: Json) -> None:
            verify = status["verify"]
            total = max(verify["keys_total"], verify["keys_checked"]) or None
            note = f"{verify['keys_checked']:,} keys, {verify['mismatches']} differ"
            self.display.at(verify["keys_checked"], total, note)

        status = await instance.until(
            lambda status: not status["verify"]["running"], "the verification", tell=tell
        )
        verify = status["verify"]
        self.result.verified_keys = verify["keys_checked"]
        if verify["error"]:
            self.result.problems.append(f"the verification had no verdict: {verify['error']}")
        elif not verify["passed"]:
            self.result.problems.append(f"{verify['mismatches']} keys differ by verification")

    async def _flip(self, instance: Instance, verb: str) -> Json:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await instance.ask(verb)
            except Refused:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def _traffic(self, application: Application, name: str, detail: str) -> float:
        """Let the application run for the step's share of the time; its commands a second."""
        self.display.phase(name, detail)
        seconds = self._seconds * SHARES[name]
        before, began = application.counts.commands, time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            self.display.at(elapsed, seconds)
            application.check()
            await asyncio.sleep(0.1)
        self.display.at(seconds, seconds)
        return (application.counts.commands - before) / elapsed

    async def _compare(self, instance: Instance, application: Application) -> None:
        """Stop the traffic for once, and look at both stores from outside."""
        self.display.phase("compare", "both stores, from outside, the traffic held")
        await application.stop()
        await instance.until(
            lambda status: (
                not (status["mirror"]["lag_operations"] or status["mirror"]["unproven_keys"])
            ),
            "the mirror is drained",
        )
        comparison = await compare(*self._stores)
        self.result.keys = comparison.keys
        self.result.keys_that_differ = comparison.differing
        self.result.problems += comparison.first
        await self._audit(application, "source", "target")

    async def _audit(self, application: Application, *names: str) -> None:
        """Whether every write that a client saw acknowledged is there."""
        for name in names:
            words = await application.audit(self._stores[name == "target"])
            self.result.lost_writes += len(words)
            self.result.problems += (f"{name}: {each}" for each in words)

    def _count(self, application: Application) -> None:
        counts = application.counts
        self.result.commands = counts.commands
        self.result.jobs = counts.jobs
        self.result.messages = counts.messages
        self.result.client_errors = counts.errors
        self.result.wrong_replies = counts.wrong_replies
        self.result.longest_wait_ms = counts.longest_wait_ms
        known = self.result.problems
        known += (each for each in counts.first if each not in known)

    async def _tick(self, application: Application) -> None:
        counts = application.counts
        last, at = counts.commands, time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            rate = (counts.commands - last) / (now - at)
            last, at = counts.commands, now
            self.display.traffic(rate, counts.errors, counts.wrong_replies)


def _dotted(server: Server) -> str:
    return ".".join(map(str, server.engine.version))


@contextlib.asynccontextmanager
async def _bulk(url: str) -> AsyncIterator[Bulk]:
    bulk = await Bulk.open(Endpoint.parse(url, "demo"))
    try:
        yield bulk
    finally:
        bulk.close()
        await bulk.wait_closed()
