"""redis-cli: sessions that stay, one process per command, and its modes.

As harness.py says. A session is a process that reads its commands from standard input; what it
answers is plain lines.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.clients.harness import PACE_S, Load, same

load = Load()
CLI = shutil.which("redis-cli") or ""
LINE_S = 20.0


def arguments(*words: str | int) -> list[str]:
    return [CLI, "-p", str(load.port), *map(str, words)]


def once(*words: str | int, given: str = "") -> str:
    """What one process prints; it must end well, and say nothing else."""
    ended = subprocess.run(
        arguments(*words), input=given, capture_output=True, text=True, timeout=60, check=False
    )
    # --bigkeys says so itself where others have changed a key between its two looks at it.
    said = [line for line in ended.stderr.splitlines() if "may have changed type" not in line]
    if ended.returncode or said:
        raise RuntimeError(f"{words}: {ended.returncode}: {ended.stderr or ended.stdout}"[:300])
    return ended.stdout


class Session:
    """One process, and its lines as they come."""

    def __init__(self, *words: str | int) -> None:
        self._process = subprocess.Popen(
            arguments(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self) -> str:
        line = self._lines.get(timeout=LINE_S)
        if line is None:
            raise ConnectionError("the session has ended")
        return line

    def say(self, command: str) -> None:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)

    def ask(self, command: str, wanted: Iterable[object]) -> None:
        self.say(command)
        for each in wanted:
            same(self.line(), str(each), command)

    def close(self) -> None:
        """As Ctrl-C would."""
        self._process.terminate()
        self._process.wait()


def sessions() -> None:
    key = load.key("session")
    plain, three = Session(), Session("-3")
    for n in load.rounds("sessions"):
        plain.ask(f'SET {key} "value {n}" EX 1000', ["OK"])
        plain.ask(f"GET {key}", [f"value {n}"])
        plain.ask(f"INCR {key}:n", [n])
        plain.ask(f"RPUSH {key}:list {n} {-n}", [2 * n])
        plain.ask(f"LRANGE {key}:list -2 -1", [n, -n])
        plain.ask(f"GET {key}:none", [""])
        plain.ask(f"INCR {key}:list", [WRONG_TYPE, ""])
        three.ask(f"HSET {key}:hash field {n}", [int(n == 1)])
        three.ask(f"HGETALL {key}:hash", [f"field {n}"])
        three.ask(f"ZADD {key}:zset CH {n / 2:g} member", [1])
        three.ask(f"ZSCORE {key}:zset member", [f"{n / 2:g}"])
        three.ask(f"SELECT {n % 3}", ["OK"])
        three.ask("SELECT 0", ["OK"])


WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


def transactions() -> None:
    """In pieces: each word is a round trip."""
    key = load.key("block")
    session = Session()
    for n in load.rounds("transactions"):
        session.ask("MULTI", ["OK"])
        session.ask(f"INCR {key}", ["QUEUED"])
        session.ask(f"SADD {key}:s {n}", ["QUEUED"])
        session.ask("EXEC", [n, 1])
        session.ask("MULTI", ["OK"])
        session.ask(f"INCR {key}", ["QUEUED"])
        session.ask("DISCARD", ["OK"])


def commands() -> None:
    """A process and a connection for each."""
    key = load.key("command")
    for n in load.rounds("commands"):
        same(once("INCR", key), f"{n}\n", "INCR")
        same(once("-x", "SET", key + ":x", given=f"line {n}"), "OK\n", "-x SET")
        same(once("--no-raw", "GET", key + ":x"), f'"line {n}"\n', "--no-raw GET")
        same(once("--csv", "MGET", key, key + ":x"), f'"{n}","line {n}"\n', "--csv MGET")
        same(once("-3", "HSET", key + ":h", "f", n), f"{int(n == 1)}\n", "-3 HSET")
        same(json.loads(once("--json", "HGETALL", key + ":h")), {"f": str(n)}, "--json HGETALL")
        sums = "".join(f"{2 * n - 1 + i}\n" for i in range(2))
        same(once("-r", 2, "-i", 0, "-n", 1, "INCR", key + ":r"), sums, "-r 2 -n 1 INCR")


def pipe() -> None:
    """Mass insertion."""
    key = load.key("piped")
    for n in load.rounds("pipe"):
        commands = "".join(f"*2\r\n$4\r\nINCR\r\n${len(key)}\r\n{key}\r\n" for _ in range(100))
        same(once("--pipe", given=commands).splitlines()[-1], "errors: 0, replies: 100", "--pipe")
        same(once("GET", key), f"{100 * n}\n", "GET behind --pipe")


def scan() -> None:
    keys = {load.key("scanned", str(i)) for i in range(300)}
    once("--pipe", given="".join(f"SET {key} 1\r\n" for key in keys))
    for _ in load.rounds("scan"):
        found = once("--scan", "--pattern", load.key("scanned", "*"))
        same(set(found.split()), keys, "--scan")


def sizes() -> None:
    """What looks at every key, while others change them."""
    for _ in load.rounds("sizes"):
        for mode in ("--bigkeys", "--memkeys"):
            same("-------- summary -------" in once(mode, "-i", 0), True, mode)


def pubsub() -> None:
    channel = load.key("channel")
    listener = Session("SUBSCRIBE", channel)
    for wanted in ("subscribe", channel, "1"):
        same(listener.line(), wanted, "SUBSCRIBE")
    speaker = Session()
    for n in load.rounds("pubsub"):
        speaker.ask(f"PUBLISH {channel} {n}", [1])
        for wanted in ("message", channel, str(n)):
            same(listener.line(), wanted, "the next message")
    listener.close()


def blocking() -> None:
    key = load.key("jobs")
    waiter, pusher = Session(), Session()
    for n in load.rounds("blocking"):
        waiter.say(f"BLPOP {key} 0")
        load.stopping.wait(PACE_S)
        pusher.ask(f"RPUSH {key} {n}", [1])
        for wanted in (key, str(n)):
            same(waiter.line(), wanted, "BLPOP")


def scripts() -> None:
    key = load.key("scripted")
    loaded = once("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])").strip()
    with TemporaryDirectory() as folder:
        file = Path(folder, "add.lua")
        file.write_text("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        for n in load.rounds("scripts"):
            same(once("--eval", str(file), key, ",", 2), f"{2 * n}\n", "--eval")
            same(once("EVALSHA", loaded, 1, key + ":n"), f"{n}\n", "EVALSHA")


def monitor() -> None:
    """Every command of a session, in order."""
    watcher = Session("MONITOR")
    same(watcher.line(), "OK", "MONITOR")
    session = Session()
    for n in load.rounds("monitor"):
        token = load.key("monitored", str(n))
        session.ask(f"ECHO {token}", [token])
        line = watcher.line()
        while load.key("monitored") not in line:
            line = watcher.line()
        same(line.endswith(f'"ECHO" "{token}"'), True, f"{line}: the line of {token}")
    watcher.close()


load.run(
    {
        f.__name__: f
        for f in (
            *(sessions, transactions, commands, pipe, scan, sizes),
            *(pubsub, blocking, scripts, monitor),
        )
    }
)
