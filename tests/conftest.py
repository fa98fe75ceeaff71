"""Fixtures for all tests: real servers, one event loop, and what the session's header says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy import compiled
from tests.servers import DEFAULT_PAIR, ENGINES, PAIRS, Engine, Pair, Server, ServerPool
from tests.tls import Authority

try:
    import uvloop
except ImportError:  # no wheel for this platform
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop


def pytest_report_header() -> list[str]:
    engines = ", ".join(f"{e}{' (PATH)' if e.is_on_path else ''}" for e in ENGINES)
    return [
        f"hot path: {compiled.form()}",
        f"engines: {engines}",
        f"migrations: {', '.join(map(str, PAIRS))}",
    ]


@pytest.hookimpl
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    # The loop of production: transports differ in when they write and how they close.
    return {"loop": new_event_loop}


@pytest.fixture(scope="session")
def server_pool() -> Iterator[ServerPool]:
    """Servers that outlive a test. Tests want `server_factory`, `source` or `target`."""
    pool = ServerPool()
    yield pool
    pool.stop()


@pytest.fixture
def server_factory(server_pool: ServerPool) -> Iterator[Callable[..., Server]]:
    """`server_factory(engine)`: a clean running server, given back after the test.

    With `args` or `password` (see Server) a new one, which ends with the test.
    """
    reused: list[Server] = []
    own: list[Server] = []

    def make(engine: Engine, **options: Any) -> Server:
        if not options:
            reused.append(server_pool.take(engine))
            return reused[-1]
        own.append(Server(engine, **options))
        return own[-1].start()

    yield make
    for server in own:
        server.stop()
    for server in reused:
        server_pool.give_back(server)


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Pair:
    """The migration's engines; `@engine_pairs` sets it."""
    return getattr(request, "param", DEFAULT_PAIR)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """One engine; `@every_engine` sets it."""
    return getattr(request, "param", DEFAULT_PAIR.target)


@pytest.fixture
def source(pair: Pair, server_factory: Callable[..., Server]) -> Server:
    """A clean server of the pair's source engine (Redis 6.2 by default)."""
    return server_factory(pair.source)


@pytest.fixture
def target(pair: Pair, server_factory: Callable[..., Server]) -> Server:
    """A clean server of the pair's target engine (Valkey 9 by default)."""
    return server_factory(pair.target)


@pytest.fixture
def server(engine: Engine, server_factory: Callable[..., Server]) -> Server:
    """A clean server of `engine`."""
    return server_factory(engine)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority, with its files in the test's own directory."""
    directory = tmp_path / "tls"
    directory.mkdir()
    return Authority(directory)
