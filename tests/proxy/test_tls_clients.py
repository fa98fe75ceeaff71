"""Clients that come with TLS, and those that should and do not."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy import listener, tls
from proxy.tls import Renewed, TlsFiles, server_context
from tests.servers import Server
from tests.tls import Authority

from .clients import Proxied, connected, until

Proxies = Callable[..., Awaitable[Proxied]]
MEGABYTE = 1_000_000


@pytest.fixture
def served(authority: Authority) -> TlsFiles:
    certificate, key = authority.server
    return TlsFiles(certificate, key)


@pytest.fixture
async def proxied(source: Server, target: Server, proxies: Proxies, served: TlsFiles) -> Proxied:
    return await proxies(source, target, tls=Renewed(server_context, served))


async def test_commands_and_pipelines(proxied: Proxied, authority: Authority) -> None:
    async with connected(proxied.port, tls=authority.context()) as client:
        assert await client.calls("SET k v", "GET k") == [b"+OK\r\n", b"$1\r\nv\r\n"]
        client.send(*[f"INCR n{at % 7}" for at in range(2000)])
        assert len(await client.replies(2000)) == 2000
        info = (await client.call("CLIENT INFO")).decode()
        assert f"laddr=127.0.0.1:{proxied.port} " in info
        assert "addr=127.0.0.1:{} ".format(client.writer.get_extra_info("sockname")[1]) in info


async def test_large_values_go_through(proxied: Proxied, authority: Authority) -> None:
    value = "x" * 5 * MEGABYTE
    async with connected(proxied.port, tls=authority.context()) as client:
        assert await client.call(f"SET big {value}") == b"+OK\r\n"
        replies = await client.calls("GET big", "STRLEN big")
        assert replies == [f"${len(value)}\r\n{value}\r\n".encode(), b":%d\r\n" % len(value)]


async def test_a_client_without_tls_is_told_so(
    proxied: Proxied, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        async with connected(proxied.port) as plain:
            plain.send("PING")
            assert await plain.rest() == listener.NO_TLS
    assert proxied.proxy.stats.client_errors["tls"] == 2
    # The second is not logged: who tries on and on shall not fill the log.
    assert caplog.messages == ["TLS with the client 127.0.0.1: it does not speak TLS"]


async def test_one_that_only_looks_whether_somebody_listens_is_no_error(
    proxied: Proxied, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(proxied.port):
        pass
    # The next one is accepted behind it.
    async with connected(proxied.port, tls=authority.context()) as client:
        assert await client.call("PING") == b"+PONG\r\n"
    assert not proxied.proxy.stats.client_errors
    assert not caplog.messages


async def test_one_that_says_nothing_is_given_up_and_holds_up_nobody(
    proxied: Proxied,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected(proxied.port, proxied.port) as (_silent, half):
        half.writer.write(b"\x16\x03\x01")
        async with connected(proxied.port, tls=authority.context()) as client:
            assert await client.call("PING") == b"+PONG\r\n"
        monkeypatch.setattr(listener, "HANDSHAKE_S", 0.05)
        async with connected(proxied.port, proxied.port) as (another, other_half):
            other_half.writer.write(b"\x16\x03\x01")
            assert await another.rest() == await other_half.rest() == b""
    assert proxied.proxy.stats.client_errors["tls"] >= 2
    assert "no TLS handshake in time" in caplog.text
    assert not proxied.proxy.sessions


async def test_no_more_than_so_many_handshakes_at_once(
    source: Server,
    target: Server,
    proxies: Proxies,
    served: TlsFiles,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "MAX_HANDSHAKES", 2)
    proxied = await proxies(source, target, tls=Renewed(server_context, served))
    async with connected(proxied.port, proxied.port):
        waiting = asyncio.create_task(
            asyncio.open_connection("127.0.0.1", proxied.port, ssl=authority.context())
        )
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
    _, writer = await waiting
    writer.close()


async def test_certificates_of_clients_are_required_where_a_ca_is_given(
    source: Server,
    target: Server,
    proxies: Proxies,
    authority: Authority,
    served: TlsFiles,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = TlsFiles(served.certificate, served.key, authority.ca)
    proxied = await proxies(source, target, tls=Renewed(server_context, files))
    async with connected(proxied.port, tls=authority.context(with_certificate=True)) as known:
        assert await known.call("PING") == b"+PONG\r\n"
    with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"):
        async with connected(proxied.port, tls=authority.context()) as unknown:
            unknown.send("SET k stolen")
            await unknown.rest()
    await until(lambda: caplog.messages)
    assert caplog.messages == ["TLS with the client 127.0.0.1: PEER_DID_NOT_RETURN_A_CERTIFICATE"]
    assert source.cli("EXISTS", "k") == 0
    assert not proxied.proxy.sessions


async def test_a_renewed_certificate_is_for_new_clients_and_old_ones_stay(
    proxied: Proxied,
    authority: Authority,
    served: TlsFiles,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def certificate(client: Any) -> Any:
        return client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    assert served.certificate
    async with connected(proxied.port, tls=authority.context()) as old:
        first = certificate(old)
        proxied.proxy._server._tls._look_at = 0.0  # type: ignore[union-attr]
        monkeypatch.setattr(tls, "LOOK_EVERY_S", 0.0)
        authority.issue("localhost", "127.0.0.1", name="server")
        async with connected(proxied.port, tls=authority.context()) as new:
            second = certificate(new)
            assert first != second
            served.certificate.write_bytes(b"nonsense")
            async with connected(proxied.port, tls=authority.context()) as newer:
                assert certificate(newer) == second
                for each in (old, new, newer):
                    assert await each.call("PING") == b"+PONG\r\n"
    assert "the last good certificates stay in use" in caplog.text


async def test_a_client_that_never_reads_is_closed_and_others_go_on(
    source: Server, target: Server, proxies: Proxies, served: TlsFiles, authority: Authority
) -> None:
    proxied = await proxies(
        source,
        target,
        tls=Renewed(server_context, served),
        client_output_limit=8 * MEGABYTE,
    )
    source.cli("SET", "big", "x" * MEGABYTE)
    context = authority.context()
    async with connected(proxied.port, proxied.port, tls=context) as (lazy, other):
        lazy.send(*["GET big"] * 200)
        await until(lambda: proxied.proxy.stats.client_errors["output_limit"])
        assert await other.calls("SET k v", "GET k") == [b"+OK\r\n", b"$1\r\nv\r\n"]
        await until(lambda: len(proxied.proxy.sessions) == 1)


async def test_requests_that_never_end_count_over_tls(
    source: Server, target: Server, proxies: Proxies, served: TlsFiles, authority: Authority
) -> None:
    proxied = await proxies(
        source, target, tls=Renewed(server_context, served), clients_memory_limit=10 * MEGABYTE
    )
    pressure = proxied.proxy.pressure
    async with connected(*[proxied.port] * 3, tls=authority.context()) as (one, two, other):
        for client, size in ((one, 4 * MEGABYTE), (two, 7 * MEGABYTE)):
            client.writer.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (size + 3))
            client.writer.write(b"x" * size)
            await until(lambda size=size: pressure.evicted or pressure.total >= size)
        await until(lambda: pressure.evicted)
        assert await other.calls("SET k v", "GET k") == [b"+OK\r\n", b"$1\r\nv\r\n"]
        assert await two.rest() == b""
        one.writer.write(b"end\r\n")
        assert await one.replies(1) == [b"+OK\r\n"]
        await until(lambda: not pressure.total)


async def test_hanging_up_is_noticed_without_a_word_in_the_log(
    proxied: Proxied, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for last in ("GET k", "BLPOP nothing 0"):
            async with connected(proxied.port, tls=authority.context()) as client:
                client.send("SET k v", last)
                assert await client.replies(1) == [b"+OK\r\n"]
            await until(lambda: not proxied.proxy.sessions)
        async with connected(proxied.port, tls=authority.context()) as client:
            assert await client.call("PING") == b"+PONG\r\n"
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
        await until(lambda: not proxied.proxy.sessions)
    assert not caplog.messages


async def test_quit_says_goodbye(proxied: Proxied, authority: Authority) -> None:
    async with connected(proxied.port, tls=authority.context()) as client:
        client.send("QUIT")
        assert await client.rest() == b"+OK\r\n"
    await until(lambda: not proxied.proxy.sessions)


async def test_who_is_one_too_many_is_told_so(
    source: Server, target: Server, proxies: Proxies, served: TlsFiles, authority: Authority
) -> None:
    proxied = await proxies(source, target, tls=Renewed(server_context, served), max_clients=1)
    context = authority.context()
    async with connected(proxied.port, tls=context) as first:
        assert await first.call("PING") == b"+PONG\r\n"
        async with connected(proxied.port, tls=context) as second:
            assert await second.rest() == b"-ERR max number of clients reached\r\n"


async def test_closing_ends_clients_and_those_who_are_not_yet(
    proxied: Proxied, authority: Authority
) -> None:
    async with connected(proxied.port) as silent:
        async with connected(proxied.port, tls=authority.context()) as client:
            assert await client.call("PING") == b"+PONG\r\n"
            await proxied.proxy.close()
            assert await client.rest() == b""
        assert await silent.rest() == b""
    with pytest.raises(OSError):  # noqa: PT011 - the text is the system's
        await asyncio.open_connection("127.0.0.1", proxied.port)
