"""One whole migration under checked traffic, and everything that was wrong with it.

Owns the order of steps. What is wrong is returned as texts, so that the same run is a test, and
a proof that a broken product does not pass it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import secrets
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from migrator.bulk import Bulk
from migrator.client import Json
from migrator.demo.comparison import compare
from migrator.demo.instance import COMMAND, Instance
from migrator.errors import KeyferryError, Refused
from migrator.traffic import WHOLE, Application, Counts, World, known_to
from migrator.traffic.draw import DATABASES
from proxy.endpoint import Endpoint
from tests.property.mutations import MUTATIONS
from tests.servers import Server

CLIENTS = 16
LOGINS = (("red", "secret"), ("blue", "secret"))
# Many copies at once: longer between the reading of a key and the writing of its copy.
WORKERS = "16"
STALL_S = 0.3
# Of a key that expires: the only reason for a difference that comparing replies may find.
EXPLAINED_BY_EXPIRY = 10


def new_seed() -> str:
    """KEYFERRY_SEED replays what each client chooses."""
    return os.environ.get("KEYFERRY_SEED") or secrets.token_hex(4)


@dataclass
class Outcome:
    """`problems`: everything that was wrong; empty: nothing was.

    `shows_loss`: among it are data or replies that are not what they should be.
    `has_crashed`: a defect showed itself as such, which proves nothing about a broken rule.
    """

    seed: str
    shows_loss: bool = False
    has_crashed: bool = False
    commands: int = 0
    counts: Counts | None = None
    keys: int = 0
    problems: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.commands:,} commands, {self.keys:,} keys"
        if self.counts is not None:
            counts = self.counts
            head += f", {counts.jobs:,} jobs, {counts.messages:,} messages"
            head += f", {counts.invalidations:,} invalidations"
        lines = [head, *self.steps]
        return "\n  ".join(lines + [f"WRONG: {each}" for each in self.problems])


class Migration:
    """The steps; each notes what it saw."""

    def __init__(
        self,
        instance: Instance,
        application: Application,
        outcome: Outcome,
        servers: tuple[Server, Server],
    ) -> None:
        self.source, self.target = servers
        self.instance = instance
        self.application = application
        self.outcome = outcome
        self.flips = 0
        self._began = time.monotonic()
        self._last = (0.0, 0)

    def note(self, what: str) -> None:
        now, commands = time.monotonic() - self._began, self.application.counts.commands
        rate = (commands - self._last[1]) / max(now - self._last[0], 1e-9)
        self._last = (now, commands)
        self.outcome.steps.append(f"{now:6.2f} s {what:<28} {rate:8,.0f} commands/s")

    async def run(self, commands: int, seconds: float) -> None:
        """At least so many commands, and about so many seconds. Raises KeyferryError."""
        instance = self.instance
        await self.traffic(seconds / 12, "idle")
        await instance.ask("start", allow=[])
        await instance.until(lambda status: status["phase"] == "mirroring", "the backfill")
        self.note("backfill")
        await self.verify()
        for percent in (10, 50, 100):
            await self.shift(percent)
            await self.traffic(seconds / 12, f"shift {percent}")
        # Reads of a stalled target would make the clients wait, and so few writes be on their way.
        await self.shift(0)
        await self.flip("cutover", seconds / 8, stalls=self.target)
        await self.flip("rollback", seconds / 8, stalls=self.source)
        await self.flip("cutover", seconds / 8)
        # There and back for as long as it takes.
        verbs = itertools.cycle(("rollback", "cutover"))
        while self.application.counts.commands < commands:
            await self.flip(next(verbs), seconds / 8)

    async def traffic(self, seconds: float, what: str) -> None:
        await asyncio.sleep(seconds)
        self.application.check()
        self.note(what)

    async def verify(self) -> None:
        """Until there is a verdict: what a client does may have every key copied anew meanwhile."""
        verify = await self._verified()
        while verify["error"]:
            self.outcome.steps.append(f"no verdict: {verify['error']}")
            verify = await self._verified()
        self.note(f"verify {verify['keys_checked']:,}")
        if not verify["passed"] or verify["mismatches"]:
            self.outcome.shows_loss = True
            self.outcome.problems.append(
                f"the verification found {verify}: {self.instance.log_end(8)}"
            )
            # A look at the rest is worth it: --repair opens the gate.
            await self._verified(repair=True)

    async def shift(self, percent: int) -> None:
        try:
            await self.instance.ask("shift", percent=percent)
        except Refused as refusal:
            await self._again("shift", refusal)
            await self.instance.ask("shift", percent=percent)

    async def _again(self, verb: str, refusal: Refused) -> None:
        """Until it may be worth another try: copied and verified, where that is what it takes."""
        self.outcome.steps.append(f"{verb} refused: {refusal.message}")
        names = {refusal.name, *(each.name for each in refusal.blockers)}
        if names & {"not_verified", "backfill_incomplete", "illegal_step"}:
            await self.verify()
        await asyncio.sleep(0.3)

    async def _verified(self, **options: bool) -> Json:
        await self.instance.until(
            lambda s: s["phase"] in ("mirroring", "cutover") and s["backfill"]["done"], "a backfill"
        )
        await self.instance.ask("verify", **options)
        status = await self.instance.until(
            lambda status: not status["verify"]["running"], "the verification", deadline_s=90
        )
        verify: Json = status["verify"]
        return verify

    async def flip(self, verb: str, seconds: float, *, stalls: Server | None = None) -> None:
        """`stalls`: a store that has much before it when the fence begins.

        Gates may be closed for a moment: keys that traffic leaves unproven, a late reply.
        """
        deadline = time.monotonic() + 20.0
        while True:
            try:
                async with stalled(stalls):
                    answer = await self.instance.ask(verb, max_pause_ms=5000 if stalls else 1000)
                break
            except Refused as refusal:
                if time.monotonic() > deadline:
                    raise
                await self._again(verb, refusal)
        self.flips += 1
        if stalls is None:
            await self.shift(50)
        await self.traffic(seconds, f"{verb}, {answer['pause_ms']:.1f} ms")

    async def settled(self) -> None:
        """The traffic is over: all is applied, all is proven. Raises KeyferryError."""
        await self.instance.until(
            lambda status: (
                not (status["mirror"]["lag_operations"] or status["mirror"]["unproven_keys"])
            ),
            "the mirror is drained and every key proven",
            deadline_s=20,
        )

    async def divergences(self) -> dict[str, int]:
        """How often the comparison of replies found something, by command."""

        def read() -> str:
            with urllib.request.urlopen(f"{self.instance.admin.url}/metrics") as response:
                return str(response.read().decode())

        pattern = r'keyferry_mirror_divergences_total\{command="([^"]*)"\} (\d+)'
        found = re.findall(pattern, await asyncio.to_thread(read))
        return {command: int(count) for command, count in found}


@contextlib.asynccontextmanager
async def stalled(server: Server | None) -> AsyncIterator[None]:
    """The server's process stands still for a moment; what comes for it piles up meanwhile."""
    if server is None:
        yield
        return
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wake = asyncio.get_running_loop().call_later(STALL_S, os.kill, pid, signal.SIGCONT)
    try:
        yield
    finally:
        wake.cancel()
        os.kill(pid, signal.SIGCONT)


async def migrate(
    source: Server,
    target: Server,
    directory: Path,
    *,
    seed: str,
    families: frozenset[str] = WHOLE,
    keys: int = 30_000,
    strings: int = 0,
    commands: int = 0,
    seconds: float = 20.0,
    mutation: str | None = None,
) -> Outcome:
    """The whole of it. Raises nothing of the product's: a step that fails is a problem.

    `strings`: so many more, which nobody writes, in each database. Where they are most of the keys
    Keyferry reads whole pages as strings.
    """
    outcome = Outcome(seed)
    for server in (source, target):
        for user, password in LOGINS:
            server.cli("ACL", "SETUSER", user, "on", f">{password}", "~*", "&*", "+@all")
    command: tuple[str, ...] = COMMAND
    environment = {}
    if mutation is not None:
        families -= MUTATIONS[mutation].without
        words = f"from tests.property.mutations import main; main({mutation!r})"
        command = (sys.executable, "-c", words)
        environment = {"KEYFERRY_PURE": "1"}
    stores = [await Bulk.open(Endpoint.parse(each.url, "test")) for each in (source, target)]
    families = known_to(families, source.engine.version, target.engine.version)
    world = World.of_keys(CLIENTS, keys, families=families)
    await world.load(stores[0])
    for db in DATABASES if strings else ():
        words = (word for at in range(strings) for word in (f"beside:{at}", at))
        await stores[0].call("MSET", *words, db=db)
    instance = Instance(
        source.url, target.url, directory, command=command, environment=environment,
        # Clients are there all the while, and it is not the pace that is looked at.
        options=("--backfill-workers", WORKERS, "--nice", "full"),
    )  # fmt: skip
    application = Application(world, "127.0.0.1", instance.port, seed=seed, logins=LOGINS)
    migration = Migration(instance, application, outcome, (source, target))
    try:
        await instance.start()
        application.start()
        await _noting(outcome, lambda: migration.run(commands, seconds))
        await application.stop()
        await _noting(outcome, migration.settled)
        await _judge(outcome, migration, stores)
    finally:
        await application.stop()
        code = await instance.stop()
        for store in stores:
            store.close()
            await store.wait_closed()
    if code != 0:
        outcome.has_crashed = True
        outcome.problems.append(f"keyferry run ended with {code}:\n{instance.log_end()}")
    elif "Traceback" in (log := instance.log.read_text(errors="replace")):
        outcome.has_crashed = True
        outcome.problems.append("a traceback in the log:\n" + log[log.index("Traceback") :][:2000])
    return outcome


async def _noting(outcome: Outcome, step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except Refused as refusal:
        reasons = "; ".join(each.message for each in refusal.blockers)
        outcome.problems.append(f"refused: {refusal.message} ({reasons})")
    except KeyferryError as error:
        outcome.problems.append(str(error))


async def _judge(outcome: Outcome, migration: Migration, stores: list[Bulk]) -> None:
    counts = migration.application.counts
    outcome.commands, outcome.counts = counts.commands, counts
    if counts.errors or counts.wrong_replies:
        outcome.problems.append(
            f"{counts.errors} client errors, {counts.wrong_replies} wrong replies"
        )
        outcome.problems += counts.first[:10]
    if counts.broken_watches > migration.flips * (CLIENTS + 1):
        outcome.problems.append(f"{counts.broken_watches} watches were broken by nobody")
        outcome.shows_loss = True
    comparison = await compare(*stores)
    outcome.keys = comparison.keys
    if comparison.differing:
        outcome.problems.append(f"{comparison.differing} keys differ")
        outcome.problems += comparison.first[:10]
    for name, store in zip(("source", "target"), stores, strict=True):
        lost = [f"{name}: {each}" for each in await migration.application.audit(store)]
        outcome.shows_loss |= bool(lost)
        outcome.problems += lost
    outcome.shows_loss |= bool(counts.wrong_replies or comparison.differing)
    divergences = await migration.divergences()
    outcome.steps.append(f"divergences: {divergences}")
    for command in ("xadd", "spop", "set", "mset", "rename", "sunionstore"):
        if divergences.get(command, 0) > EXPLAINED_BY_EXPIRY:
            outcome.problems.append(f"{divergences[command]} divergences of {command}")
