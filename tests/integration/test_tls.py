"""A whole migration with TLS everywhere: applications, both stores, and certificates of ours.

An engine that was built with TLS speaks it itself; before another one stands a front that does.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.integration.clients import Client, writers
from tests.integration.keyferry import Process, differences
from tests.servers import DEFAULT_PAIR, ENGINES, Engine, Server, free_port
from tests.tls import Authority, front, speaks_tls, tls_arguments


@contextlib.asynccontextmanager
async def with_tls(
    make: Callable[..., Server], engine: Engine, authority: Authority
) -> AsyncIterator[tuple[Server, str]]:
    """A server that wants certificates of its clients, and its URL."""
    scheme = "valkeys" if engine.kind == "valkey" else "rediss"
    if speaks_tls(engine):
        port = free_port()
        server = make(engine, args=tls_arguments(authority, port, asks=True))
        yield server, f"{scheme}://localhost:{port}"
        # All but this test's own connection.
        lines = server.cli("CLIENT", "LIST").decode().splitlines()
        assert len([line for line in lines if f" laddr=127.0.0.1:{port} " not in line]) == 1
    else:
        server = make(engine)
        async with front(server, authority, asks=True) as port:
            yield server, f"{scheme}://localhost:{port}"


@pytest.fixture
def settings(authority: Authority) -> dict[str, str]:
    """All TLS settings of a process between two stores of `with_tls`."""
    (cert, key), (ours, our_key) = authority.server, authority.client
    files = {"tls-cert": cert, "tls-key": key, "tls-client-ca": authority.ca}
    for side in ("source", "target"):
        files |= {f"{side}-tls-ca": authority.ca}
        files |= {f"{side}-tls-cert": ours, f"{side}-tls-key": our_key}
    return {name: str(path) for name, path in files.items()}


async def test_a_migration_with_tls_on_every_connection(
    server_factory: Callable[..., Server],
    authority: Authority,
    settings: dict[str, str],
    tmp_path: Path,
) -> None:
    # The first is one that speaks TLS itself, if there is one.
    engine = next((e for e in ENGINES if speaks_tls(e)), DEFAULT_PAIR.source)
    context = authority.context(with_certificate=True)
    async with (
        with_tls(server_factory, engine, authority) as (source, source_url),
        with_tls(server_factory, DEFAULT_PAIR.target, authority) as (target, target_url),
    ):
        for at in range(2000):
            source.cli("HSET", f"h{at}", "a", at, "b", "x" * (at % 100))
        urls = {"source": source_url, "target": target_url}
        process = Process(source, target, tmp_path / "state", **urls, **settings)
        try:
            await process.start()
            application = await Client.open(process.port, tls=context)
            listener = await Client.open(process.port, tls=context)
            await listener.call("SUBSCRIBE", "news")
            keys = [f"n{at}" for at in range(4)]
            async with writers(lambda: process.port, keys, tls=context) as counts:
                await process.to("mirroring")
                await process.verify()
                await process.verb("shift", percent=50)
                assert await application.call("HGET", "h7", "a") == b"7"
                await process.flip("cutover")
                assert (await process.status())["primary"] == "target"
                await application.call("SET", "behind", "the flip")
                await application.call("PUBLISH", "news", "flipped")
                assert (await listener.reply())[2] == b"flipped"
                await process.verify()
                await process.flip("rollback")
                assert (await process.status())["primary"] == "source"
                assert await application.call("GET", "behind") == b"the flip"
            for key, (acknowledged, sent) in counts.items():
                assert acknowledged <= int(await application.call("GET", key)) <= sent
            await process.proven()
            assert (await process.status())["clients"] == 2
            await application.close()
            await listener.close()
            assert not await differences(source, target)
        finally:
            await process.close()


@pytest.mark.parametrize("wrong", ["ca", "certificate"])
async def test_a_source_that_does_not_pass_or_take_a_certificate_is_one_line(
    server_factory: Callable[..., Server],
    authority: Authority,
    settings: dict[str, str],
    tmp_path: Path,
    wrong: str,
) -> None:
    other = Authority(tmp_path)
    if wrong == "ca":
        settings["source-tls-ca"] = str(other.ca)
    else:
        certificate, key = other.client
        settings |= {"source-tls-cert": str(certificate), "source-tls-key": str(key)}
    async with with_tls(server_factory, DEFAULT_PAIR.source, authority) as (source, url):
        urls = {"source": url, "target": "rediss://localhost:1"}
        process = Process(source, source, tmp_path / "state", **urls, **settings)
        process.launch()
        assert await process.ended() == 1
        [line] = process.log.splitlines()
        assert line.startswith("keyferry: --source: ")
        if wrong == "ca":
            assert "certificate verify failed" in line
