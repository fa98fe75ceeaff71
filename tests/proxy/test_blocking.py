"""Clients that wait: they are answered what the server would answer, whoever else writes."""

from __future__ import annotations

import pytest

from tests.commands.snapshot import differences, snapshot
from tests.commands.wire import Wire
from tests.servers import Server, every_engine

from .clients import Proxied, connected, started
from .waits import AT_ONCE, STANDING, TIMES_OUT, WAITS, held


async def equal(proxied: Proxied) -> list[str]:
    """What differs, but for keys that are to be copied: here nobody does."""
    await proxied.applied()
    table = proxied.proxy.table
    assert not table.entries and not table.is_everything_unproven
    copied = {(0, p) if isinstance(p, bytes) else p for p in table.unproven}
    with Wire(proxied.source) as source, Wire(proxied.target) as target:
        here, there = snapshot(source), snapshot(target)
        for place in copied:
            here.pop(place, None)
            there.pop(place, None)
        return differences(here, there)


@every_engine
@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("section", WAITS)
async def test_everybody_is_answered_as_by_the_server(
    server: Server, target: Server, section: str, resp: int
) -> None:
    proxied = await started(server, target)
    await proxied.start_mirror()
    try:
        for name, wait in WAITS[section].items():
            heard = []
            for place in (None, proxied):
                server.cli("FLUSHALL")
                target.cli("FLUSHALL")
                port = server.port if place is None else place.port
                heard.append(await held(port, wait, resp, place))
            assert heard[1] == heard[0], name
            assert await equal(proxied) == [], name
            proxied.proxy.table.unproven.clear()
            assert not proxied.proxy.parking.waiting, name
    finally:
        await proxied.close()


@every_engine
@pytest.mark.parametrize("resp", [2, 3])
async def test_what_need_not_wait_is_answered_as_by_the_server(
    server: Server, target: Server, resp: int
) -> None:
    proxied = await started(server, target)
    await proxied.start_mirror()
    try:
        for line in AT_ONCE:
            heard = []
            for port in (server.port, proxied.port):
                server.cli("FLUSHALL")
                target.cli("FLUSHALL")
                async with connected(port) as client:
                    if resp == 3:
                        await client.call("HELLO 3")
                    await client.calls(*STANDING)
                    heard.append(await client.calls(line, "PING"))
            assert heard[1] == heard[0], line
            assert await equal(proxied) == [], line
    finally:
        await proxied.close()


@every_engine
@pytest.mark.parametrize("resp", [2, 3])
async def test_a_timeout_is_answered_as_by_the_server(
    server: Server, target: Server, resp: int
) -> None:
    proxied = await started(server, target)
    await proxied.start_mirror()
    try:
        for line in TIMES_OUT:
            heard = []
            for port in (server.port, proxied.port):
                server.cli("FLUSHALL")
                target.cli("FLUSHALL")
                async with connected(port) as client:
                    if resp == 3:
                        await client.call("HELLO 3")
                    await client.call("XGROUP CREATE s g $ MKSTREAM")
                    heard.append(await client.calls(line, "PING"))
            assert heard[1] == heard[0], line
        assert await equal(proxied) == []
        assert not proxied.proxy.parking.waiting
    finally:
        await proxied.close()
