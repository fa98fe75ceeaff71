"""The clients, how each is had, and one that runs.

What a client needs is fetched with its language's own tool into build/clients (git-ignored), once
for each content of its sources. Where that cannot be done, `Client.command` says why.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "clients"
INSTALL_S = 150

# What all of them do. Some have more.
COMMON = (
    *("strings", "collections", "pipelines", "transactions", "watch", "scan", "expiry"),
    *("databases", "identity", "inspection", "queue", "streams", "pubsub", "scripts", "locks"),
)


class Unavailable(Exception):
    """Why a client cannot be had on this machine."""


@dataclass(frozen=True)
class Client:
    """`command` installs what is missing and says how to start it; it raises Unavailable."""

    name: str
    command: Callable[[], list[str]]
    features: tuple[str, ...] = COMMON

    def __str__(self) -> str:
        return self.name


def _python(module: str, *arguments: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-m", f"tests.clients.{module}", *arguments]


def tool(name: str, at_least: int = 0, ask: str = "--version") -> str:
    """Where it is. Raises Unavailable, also when its first number is smaller."""
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"there is no {name} on this machine")
    if at_least:
        ended = subprocess.run([path, ask], capture_output=True, text=True, check=False)
        said = (ended.stdout or ended.stderr).strip()
        number = re.search(r"\d+", said)
        if number is None or int(number[0]) < at_least:
            raise Unavailable(f"{said!r} is older than {name} {at_least}")
    return path


_one_at_a_time: defaultdict[str, Lock] = defaultdict(Lock)
_failed: dict[str, Unavailable] = {}


def installed(name: str, fetch: list[str], *build: list[str], limit_s: float = INSTALL_S) -> Path:
    """The folder with copies of the sources of `name`, after `fetch` and `build` in it.

    Clients that share one ask for it at the same time, and the second finds it done. Raises
    Unavailable when it cannot be fetched; what cannot be built then is a defect.
    """
    place, sources = BUILD / name, sorted((HERE / name).iterdir())
    stamp = place / "installed"
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    with _one_at_a_time[name]:
        if name in _failed:
            raise _failed[name]
        if stamp.exists() and stamp.read_text() == digest:
            return place
        place.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(source, place)
        failure = run(fetch, place, limit_s)
        if failure is not None:
            _failed[name] = Unavailable(failure)
            raise _failed[name]
        for step in build:
            failure = run(step, place, limit_s)
            assert failure is None, failure
        stamp.write_text(digest)
        return place


def run(step: list[str], place: Path, limit_s: float) -> str | None:
    """Why it failed: the line that names an address, or the last one."""
    said = " ".join((Path(step[0]).name, *step[1:]))
    try:
        ended = subprocess.run(
            step, cwd=place, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{said}: not in {limit_s:g} s"
    if not ended.returncode:
        return None
    lines = (ended.stderr.strip() or ended.stdout.strip() or "?").splitlines()
    telling = next((line for line in lines if "http" in line), lines[-1])
    return f"{said}: {telling}"[:500]


def _redis_tool(name: str, module: str) -> Callable[[], list[str]]:
    def command() -> list[str]:
        tool(name, 7)
        return _python(module)()

    return command


def _node(program: str, protocol: int) -> Callable[[], list[str]]:
    def command() -> list[str]:
        node, npm = tool("node", 20), tool("npm")
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        patience = ["--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        place = installed("node", [npm, "install", *quiet, *patience])
        return [node, str(place / program), str(protocol)]

    return command


def _go(protocol: int) -> Callable[[], list[str]]:
    def command() -> list[str]:
        # Not another toolchain than the one that is here: that would be a download of its own.
        go = ["env", "GOTOOLCHAIN=local", tool("go")]
        place = installed("go", [*go, "get", "."], [*go, "build", "-o", "program", "."])
        return [str(place / "program"), str(protocol)]

    return command


def _java(program: str, protocol: int) -> Callable[[], list[str]]:
    def command() -> list[str]:
        java, javac, maven = tool("java"), tool("javac", 17, "-version"), tool("mvn")
        libraries = ["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
        sources = sorted(source.name for source in (HERE / "java").glob("*.java"))
        compiler = [javac, "-nowarn", "-cp", "lib/*", *sources]
        place = installed("java", [maven, *libraries], compiler)
        # Many short-lived processes on a small machine: start soon, optimize little.
        quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        return [java, *quick, "-cp", f"{place}:{place}/lib/*", program, str(protocol)]

    return command


# At work at once, in one migration.
APPLICATIONS = (
    Client("redis-py-resp2", _python("redis_py", "2")),
    Client("redis-py-resp3", _python("redis_py", "3"), (*COMMON, "cache")),
    Client("redis-py-asyncio-resp2", _python("redis_py_asyncio", "2")),
    Client("redis-py-asyncio-resp3", _python("redis_py_asyncio", "3")),
    Client("ioredis-resp2", _node("ioredis.mjs", 2)),
    Client("ioredis-resp3", _node("ioredis.mjs", 3)),
    Client("node-redis-resp2", _node("node_redis.mjs", 2)),
    Client("node-redis-resp3", _node("node_redis.mjs", 3), (*COMMON, "monitor", "cache")),
    # Its MONITOR takes nothing but RESP2.
    Client("go-redis-resp2", _go(2), (*COMMON, "monitor")),
    Client("go-redis-resp3", _go(3), (*COMMON, "cache")),
    Client("jedis-resp2", _java("JedisProgram", 2)),
    Client("jedis-resp3", _java("JedisProgram", 3), (*COMMON, "cache")),
    Client("lettuce-resp2", _java("LettuceProgram", 2)),
    Client("lettuce-resp3", _java("LettuceProgram", 3), (*COMMON, "cache")),
)
TOOLS = (
    Client(
        "redis-cli",
        _redis_tool("redis-cli", "redis_cli"),
        (
            *("sessions", "transactions", "commands", "pipe", "scan", "sizes"),
            *("pubsub", "blocking", "scripts", "monitor"),
        ),
    ),
    Client(
        "redis-benchmark",
        _redis_tool("redis-benchmark", "redis_benchmark"),
        ("plain", "pipelined", "threads", "resp3"),
    ),
)
GROUPS = {"applications": APPLICATIONS, "tools": TOOLS}


class Running:
    """A program at work. `said` is its last line; it fails when it ends too early."""

    def __init__(self, client: Client, process: asyncio.subprocess.Process, log: Path) -> None:
        self.client = client
        self.said: dict[str, Any] = {"done": {}, "errors": [], "wrong": []}
        self.is_ready = asyncio.Event()
        self._process = process
        self._log = log
        self._reader = asyncio.create_task(self._read())
        self._stopped = False

    @classmethod
    async def start(cls, client: Client, port: int, features: list[str], log: Path) -> Running:
        command = [*client.command(), str(port), client.name, ",".join(features)]
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        running = cls(client, process, log)
        running.said["done"] = dict.fromkeys(features, 0)
        return running

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                self.said = json.loads(line)
            except ValueError:
                self.said["errors"].append(f"it said {line!r}")
            self.is_ready.set()
        self.is_ready.set()

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"begin\n")

    @property
    def done(self) -> dict[str, int]:
        """Rounds by feature."""
        return dict(self.said["done"])

    @property
    def failures(self) -> list[str]:
        """Errors and wrong replies, and that it ended by itself."""
        found = [*self.said["errors"], *(f"wrong: {each}" for each in self.said["wrong"])]
        if self._process.returncode is not None and not self._stopped:
            found.append(f"it ended by itself: {self._log.read_text()[-500:]}")
        elif self._process.returncode:
            found.append(f"exit code {self._process.returncode}: {self._log.read_text()[-500:]}")
        return found

    def stop(self) -> None:
        """It finishes what is under way."""
        self._stopped = self._process.returncode is None
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def ended(self, deadline_s: float) -> None:
        """Also when it does not end by itself, which is a failure."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._reader
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
