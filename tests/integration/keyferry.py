"""A migration for tests, on real servers: in this process, or as the command that operators run.

`Migration` runs proxy and controller on the test's own loop, so that a test can stop them at a
named point (see holds.py). `Process` is `keyferry run`, which can be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator.bulk import Bulk
from migrator.config import Address, Settings
from migrator.controller import Controller
from migrator.copy import Comparer
from migrator.errors import Refused
from migrator.marker import KEY as MARKER
from migrator.process import command_table
from migrator.state import State
from migrator.stores import Store
from proxy.endpoint import Endpoint
from proxy.keytable import place_of
from proxy.lane import Lane
from proxy.server import Proxy
from proxy.sides import Side
from tests.integration.clients import DEADLINE_S, Client, until
from tests.servers import Server, free_port

ROOT = Path(__file__).parent.parent.parent
Json = dict[str, Any]


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server's process does nothing meanwhile; what it is sent waits."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def all_keys(bulk: Bulk) -> dict[int, set[bytes]]:
    """Every key by database, but for the marker."""
    sizes = (await bulk.call("INFO", "keyspace")).decode()
    dbs = [int(line[2:].split(":")[0]) for line in sizes.splitlines() if line.startswith("db")]
    found = {db: set(await bulk.call("KEYS", "*", db=db)) for db in dbs}
    found.get(0, set()).discard(MARKER)
    return {db: keys for db, keys in found.items() if keys}


async def differences(source: Server, target: Server) -> list[str]:
    """What differs, asked of the stores themselves. Nobody may be writing."""
    a = await Bulk.open(Endpoint.parse(source.url, "source"))
    b = await Bulk.open(Endpoint.parse(target.url, "target"))
    try:
        here, there = await all_keys(a), await all_keys(b)
        found: list[str] = []
        for db in sorted(here.keys() | there.keys()):
            keys = sorted(here.get(db, set()) | there.get(db, set()))
            unequal = await Comparer(a, b).compare(db, keys)
            found += [f"db {db} {each.key!r}: {each.what}" for each in unequal]
        return found
    finally:
        a.close()
        b.close()


async def refusal(step: Awaitable[Any]) -> set[str]:
    """The names of all blockers of a step that must be refused."""
    with pytest.raises(Refused) as caught:
        await step
    return {blocker.name for blocker in caught.value.blockers} or {caught.value.name}


class Migration:
    """Proxy and controller in this process; `start` and the other verbs are the controller's."""

    def __init__(self, source: Server, target: Server, state: Path, **settings: Any) -> None:
        self.source = source
        self.target = target
        self.settings = Settings(
            **{
                "source": Endpoint.parse(source.url, "source"),
                "target": Endpoint.parse(target.url, "target"),
                "listen": Address("127.0.0.1", 0),
                "admin": Address("127.0.0.1", 0),
                "admin_token": None,
                "state": state,
                "log_level": "info",
                "max_clients": 1000,
                "client_output_limit": 64 << 20,
                "clients_memory_limit": 1 << 30,
                "mirror_buffer_bytes": 64 << 20,
                "unproven_limit": 100_000,
                "max_lag_ms": 1000.0,
                "backfill_workers": 4,
            }
            | settings
        )
        self.port = 0
        self._clients: list[Client] = []

    async def open(self) -> None:
        """As `keyferry run` does it, but for the admin server."""
        settings = self.settings
        self.state = State.open(settings.state)
        migration = self.state.claim(settings.source.address, settings.target.address)
        stores = (Store(Side.SOURCE, settings.source), Store(Side.TARGET, settings.target))
        for store in stores:
            await store.refresh()
        commands = await command_table(settings, stores)
        self.proxy = Proxy(
            (settings.source, settings.target),
            commands,
            primary=migration.primary,
            tag=migration.migration_id,
        )
        self.controller = Controller(settings, self.state, stores, self.proxy)
        await self.controller.resume()
        self.port = await self.proxy.listen("127.0.0.1", 0)
        self.controller.is_serving = True

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        async with asyncio.timeout(DEADLINE_S):
            await self.controller.stop()
        self.state.close()

    async def client(self, **options: Any) -> Client:
        """A client of the proxy, closed with the migration."""
        client = await Client.open(self.port, **options)
        self._clients.append(client)
        return client

    async def direct(self, server: Server, **options: Any) -> Client:
        """A client of a store itself. It must only read, or it is a writer past the proxy."""
        client = await Client.open(server.port, **options)
        self._clients.append(client)
        return client

    # -- verbs, and waiting for what they began ----------------------------------------

    async def start(self, *allow: str) -> None:
        await self.controller.start(list(allow))

    async def copied(self) -> None:
        """The backfill is done, and nothing is unproven or on its way."""
        await until(lambda: self.status()["backfill"]["done"], "the backfill is done")
        await self.settled()

    async def settled(self) -> None:
        """Every acknowledged write is on the other side, every expiry heard, no key unproven."""
        copying, table = self.controller.copying, self.proxy.table
        assert copying is not None
        while True:
            mirror = self.proxy.mirror
            assert mirror is not None
            await until(lambda: not table.unproven and not table.active, "no key is unproven")
            await until(lambda mirror=mirror: mirror.is_connected, "the mirror is connected")
            await mirror.applied()
            await copying.feeds_drained()
            if not table.unproven and not table.active:
                return

    async def mirroring(self, *allow: str) -> None:
        """From idle to a finished backfill."""
        await self.start(*allow)
        await self.copied()

    async def verify(self, *, repair: bool = False, sample: int | None = None) -> Json:
        """The status' `verify` once it has ended."""
        await self.controller.verify(sample, repair)
        await until(lambda: not self.controller.is_verifying, "the verification has ended")
        verify: Json = self.status()["verify"]
        return verify

    async def verified(self, *allow: str) -> None:
        """From idle to a cutover that nothing is in the way of."""
        await self.mirroring(*allow)
        assert (await self.verify())["passed"]

    async def cutover(self, *, dry_run: bool = False, max_pause_ms: float = 5000.0) -> Json:
        return await self.controller.cutover(dry_run, max_pause_ms)

    async def rollback(self, *, dry_run: bool = False, max_pause_ms: float = 5000.0) -> Json:
        return await self.controller.rollback(dry_run, max_pause_ms)

    def status(self) -> Json:
        return self.controller.status()

    async def differences(self) -> list[str]:
        """Once all is settled."""
        await self.settled()
        return await differences(self.source, self.target)

    # -- what is inside ------------------------------------------------------------------

    def lane(self, side: Side = Side.SOURCE, user: tuple[str, str] | None = None) -> Lane:
        """The clients' lane to a side, in db 0; it was used before."""
        name = None if user is None else (user[0].encode(), user[1].encode())
        return self.proxy._lanes[(side, name, 0, 2)]

    @property
    def mirror_lane(self) -> Lane:
        mirror = self.proxy.mirror
        assert mirror is not None and mirror._lane is not None
        return mirror._lane

    def is_unproven(self, key: bytes, db: int = 0) -> bool:
        return place_of(db, key) in self.proxy.table.unproven

    def is_in_flight(self, key: bytes, db: int = 0) -> bool:
        entry = self.proxy.table.entries.get(place_of(db, key))
        return entry is not None and entry.in_flight > 0

    def waits(self, key: bytes, db: int = 0) -> bool:
        """Whether an operation on the key waits for its turn."""
        entry = self.proxy.table.entries.get(place_of(db, key))
        return entry is not None and bool(entry.queue)


class Process:
    """`keyferry run` as operators run it; `log` has its stderr. Its ports stay over restarts.

    `options` are flags and their values, also in the place of those that it would give itself.
    """

    def __init__(self, source: Server, target: Server, state: Path, /, **options: str) -> None:
        self.source = source
        self.target = target
        self.state = state
        self.port = free_port()
        self.admin_port = free_port()
        # What it is started with, as `nice` would be.
        self.prefix: tuple[str, ...] = ()
        self._options = options
        self._log = state.with_name(state.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def arguments(self) -> list[str]:
        options = {
            "source": self.source.url,
            "target": self.target.url,
            "listen": f"127.0.0.1:{self.port}",
            "admin": f"127.0.0.1:{self.admin_port}",
            "state": str(self.state),
        } | self._options
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Only starts it."""
        assert not self.is_running
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "migrator", "run", *self.arguments],
                stderr=log,
                cwd=ROOT,
            )

    async def start(self) -> None:
        """Returns when it serves clients."""
        self.launch()
        await until(self._is_ready, "keyferry serves")

    async def _is_ready(self) -> bool:
        assert self.is_running, f"it ended by itself:\n{self.log[-3000:]}"
        try:
            code, _ = await self.request("GET", "/readyz")
        except OSError:
            return False
        return code == 200

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        await until(lambda: not self.is_running, "the process has ended")
        return int(self._process.wait())

    async def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        await self.ended()

    async def terminate(self) -> None:
        """SIGTERM, and it ends in good order."""
        assert self._process is not None
        self._process.terminate()
        assert await self.ended() == 0, self.log[-3000:]

    async def close(self) -> None:
        if self.is_running:
            await self.kill()

    async def request(
        self, method: str, path: str, options: Json | None = None
    ) -> tuple[int, Json]:
        """The status code and the JSON of the admin API. Raises OSError."""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        body = None if options is None else json.dumps(options).encode()
        request = urllib.request.Request(url, body, method=method)

        def ask() -> tuple[int, Json]:
            try:
                with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                    return response.status, json.load(response)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        return await asyncio.to_thread(ask)

    async def verb(self, name: str, **options: Any) -> Json:
        """The answer of a verb that must be done."""
        code, answer = await self.request("POST", f"/v1/{name}", options)
        assert code == 200, answer
        return answer

    async def status(self) -> Json:
        code, answer = await self.request("GET", "/v1/status")
        assert code == 200, answer
        return answer

    async def until(self, condition: Any, what: str, deadline_s: float = DEADLINE_S) -> Json:
        """The first status for which `condition` is true."""
        last: Json = {}

        async def look() -> bool:
            last.clear()
            last.update(await self.status())
            return bool(condition(last))

        try:
            await until(look, what, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{last}\n{self.log[-3000:]}") from error
        return last

    async def proven(self) -> Json:
        """Everything was copied, and no key is unproven."""
        return await self.until(
            lambda s: (
                s["backfill"]["done"]
                and s["mirror"]["connected"]
                and not s["mirror"]["unproven_keys"]
                and not s["mirror"]["lag_operations"]
            ),
            "every key is proven",
        )

    async def to(self, phase: str) -> None:
        """From idle to a phase, through all the steps before it; everything proven there."""
        if phase == "idle":
            return
        await self.verb("start")
        if phase == "copying":
            return
        await self.proven()
        if phase == "mirroring":
            return
        await self.verify()
        await self.flip("cutover")
        if phase == "finished":
            await self.verb("finish")

    async def flip(self, verb: str, deadline_s: float = DEADLINE_S) -> Json:
        """A cutover or rollback; refused ones (a busy machine, an expiry) are tried again."""
        answers: list[Json] = []

        async def attempt() -> bool:
            code, answer = await self.request("POST", f"/v1/{verb}", {"max_pause_ms": 5000})
            answers.append(answer)
            return code == 200

        try:
            await until(attempt, f"{verb} is done", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {answers[-1:]}") from error
        return answers[-1]

    async def verify(self, *, deadline_s: float = 3 * DEADLINE_S, **options: Any) -> Json:
        """Where every key is written all the time each is compared under a ticket."""
        await self.verb("verify", **options)
        status = await self.until(
            lambda s: not s["verify"]["running"], "the verification ends", deadline_s
        )
        assert status["verify"]["passed"], status
        return status
