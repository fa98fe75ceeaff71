"""A proxy before two real stores, with and without a mirror."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.servers import Server

from .clients import Proxied, started


@pytest.fixture
async def proxies() -> AsyncIterator[Callable[..., Awaitable[Proxied]]]:
    """`await proxies(source, target, **options)`: see `clients.started`; closed after the test."""
    made: list[Proxied] = []

    async def make(*servers: Server, **options: Any) -> Proxied:
        made.append(await started(*servers, **options))
        return made[-1]

    yield make
    for proxied in made:
        await proxied.close()


@pytest.fixture
async def proxied(
    source: Server, target: Server, proxies: Callable[..., Awaitable[Proxied]]
) -> Proxied:
    """A proxy that does not mirror."""
    return await proxies(source, target)


@pytest.fixture
async def mirrored(proxied: Proxied) -> Proxied:
    """A proxy that mirrors everything to the target, both sides being equal to begin with."""
    await proxied.start_mirror()
    return proxied
