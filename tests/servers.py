"""The stores that tests run against: which pairs of engines, and servers reused over tests.

A test asks for `source` and `target` (Redis 6.2 and Valkey 9 unless it says otherwise), and with
`@engine_pairs` runs once per pair. Never a mock: all of them are real processes on loopback.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import Any

import hiredis
import pytest

from migrator.servers import Engine, Server, find_engine, find_engines, free_port

__all__ = [
    "ENGINES",
    "EVERY_PAIR",
    "PAIRS",
    "Engine",
    "Pair",
    "Server",
    "ServerPool",
    "engine_pairs",
    "every_engine",
    "every_pair",
    "free_port",
]


@dataclass(frozen=True)
class Pair:
    """A migration's two engines."""

    source: Engine
    target: Engine

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


ENGINES = find_engines()
REDIS_6 = find_engine("redis", 6)
VALKEY_9 = find_engine("valkey", 9)
DEFAULT_PAIR = Pair(REDIS_6, VALKEY_9)

# What a migration is tested over: 6.2 -> 9 always, and every engine that this machine has on PATH.
PAIRS = (
    DEFAULT_PAIR,
    *(Pair(e, VALKEY_9) for e in ENGINES if e.is_on_path and e not in (REDIS_6, VALKEY_9)),
)
# Every engine to every other one and to itself, both ways: for what copies and compares keys.
EVERY_PAIR = tuple(Pair(a, b) for a, b in itertools.product(ENGINES, repeat=2))


def _parametrized(fixture: str, values: tuple[Any, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(fixture, values, ids=str, indirect=True)


engine_pairs = _parametrized("pair", PAIRS)
every_pair = _parametrized("pair", EVERY_PAIR)
every_engine = _parametrized("engine", ENGINES)


class ServerPool:
    """Running servers, kept for the next test that wants the same engine.

    `take` gives one that is as good as new; all taken ones come back with `give_back`.
    """

    def __init__(self) -> None:
        self._idle: dict[Engine, list[Server]] = {}
        self._taken: list[Server] = []
        self._configs: dict[Server, dict[bytes, bytes]] = {}

    def take(self, engine: Engine) -> Server:
        idle = self._idle.setdefault(engine, [])
        server = idle.pop() if idle else Server(engine)
        if not server.is_running:
            server.start()
        # Whatever goes wrong with it now, it is ended with the others.
        self._taken.append(server)
        if server in self._configs:
            self._reset(server)
        else:
            self._configs[server] = _config(server)
        return server

    def give_back(self, server: Server) -> None:
        self._taken.remove(server)
        self._idle[server.engine].append(server)

    def stop(self) -> None:
        for server in [*self._taken, *itertools.chain(*self._idle.values())]:
            server.stop()

    def _reset(self, server: Server) -> None:
        # First, or the rest may not be done.
        server.cli("ACL", "SETUSER", "default", "reset", "on", "nopass", "~*", "&*", "+@all")
        with contextlib.suppress(hiredis.ReplyError):
            server.cli("CLIENT", "UNPAUSE")
        server.cli("REPLICAOF", "NO", "ONE")
        # Connections of the last test first: one of them may be writing still.
        for kind in ("normal", "pubsub", "replica"):
            server.cli("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        for user in server.cli("ACL", "USERS"):
            if user != b"default":
                server.cli("ACL", "DELUSER", user)
        for name, value in _config(server).items():
            wanted = self._configs[server].get(name)
            if wanted is not None and value != wanted:
                server.cli("CONFIG", "SET", name, wanted)
        server.cli("FLUSHALL")
        server.cli("SCRIPT", "FLUSH")
        with contextlib.suppress(hiredis.ReplyError):  # Redis 6.2 has no functions
            server.cli("FUNCTION", "FLUSH")
        server.cli("CONFIG", "RESETSTAT")


def _config(server: Server) -> dict[bytes, bytes]:
    flat = server.cli("CONFIG", "GET", "*")
    return dict(zip(flat[::2], flat[1::2], strict=True))
