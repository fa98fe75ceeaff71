"""Clients and stores with TLS on real connections: how they send, end, and fail."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from proxy import listener, tlswire
from proxy.endpoint import Endpoint
from proxy.pressure import MAX_BACKLOG
from proxy.resp import encode_command
from proxy.tls import Renewed, TlsFiles, server_context, to_store
from tests.servers import ENGINES, Server, free_port
from tests.tls import Authority, front, speaks_tls, tls_arguments

from .clients import DEADLINE_SECONDS, Proxied, connected, encoded, until
from .tls_peer import VERSIONS, Peer, PeerClient, peer_client

Proxies = Callable[..., Awaitable[Proxied]]
MEGABYTE = 1_000_000


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return TlsFiles(*authority.server)


@pytest.fixture
async def proxied(source: Server, target: Server, proxies: Proxies, files: TlsFiles) -> Proxied:
    return await proxies(source, target, tls=Renewed(server_context, files))


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def context(request: pytest.FixtureRequest, authority: Authority) -> ssl.SSLContext:
    """Of a client that speaks one version."""
    made = authority.context()
    made.minimum_version = made.maximum_version = request.param
    return made


# -- clients -----------------------------------------------------------------------------


async def test_bytes_one_by_one_and_all_at_once(proxied: Proxied, context: ssl.SSLContext) -> None:
    async with peer_client(proxied.port, context) as client:
        for byte in client.peer.encrypted(encoded("SET k v")) + client.peer.encrypted(b"PING\r\n"):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.exactly(12) == b"+OK\r\n+PONG\r\n"
        records = [client.peer.encrypted(encoded(f"INCR n{at % 3}")) for at in range(3000)]
        client.writer.write(b"".join(records))
        expected = b"".join(b":%d\r\n" % (at // 3 + 1) for at in range(3000))
        assert await client.exactly(len(expected)) == expected


async def test_who_says_goodbye_behind_a_pipeline_gets_all_replies_and_a_goodbye(
    proxied: Proxied, context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for is_fin_too in (False, True):
            proxied.source.cli("DEL", "n")
            await proxied.proxy.fence()
            async with peer_client(proxied.port, context) as client:
                client.send(encoded(*["INCR n"] * 500))
                client.writer.write(client.peer.goodbye())
                if is_fin_too:
                    client.hang_up()
                await until(lambda: any(each.has_hung_up for each in proxied.proxy.sessions))
                proxied.proxy.release()
                assert await client.rest() == b"".join(b":%d\r\n" % n for n in range(1, 501))
                assert client.peer.has_heard_goodbye
            await until(lambda: not proxied.proxy.sessions)
    assert not caplog.messages


async def test_tcp_cut_without_a_goodbye_loses_nothing_that_was_whole(
    proxied: Proxied, context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with peer_client(proxied.port, context) as client:
            whole = client.peer.encrypted(encoded("SET whole 1", "SET also 1"))
            half = client.peer.encrypted(encoded("SET half 1"))
            client.writer.write(whole + half[:-1])
            client.hang_up()
            assert await client.rest() == b"+OK\r\n+OK\r\n"
        await until(lambda: not proxied.proxy.sessions)
    assert proxied.source.cli("EXISTS", "whole", "also") == 2
    assert proxied.source.cli("EXISTS", "half") == 0
    assert not caplog.messages


async def test_garbage_ends_one_client_with_an_alert_and_nobody_else(
    proxied: Proxied, context: ssl.SSLContext
) -> None:
    async with (
        peer_client(proxied.port, context) as spoilt,
        connected(proxied.port, tls=context) as other,
    ):
        assert await other.call("SET other 1") == b"+OK\r\n"
        spoilt.writer.write(spoilt.peer.encrypted(encoded("SET before 1")) + b"GET / HTTP/1.1\r\n")
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await spoilt.rest()
        assert await other.calls("GET other", "GET before") == [b"$1\r\n1\r\n"] * 2
        await until(lambda: len(proxied.proxy.sessions) == 1)


async def test_a_client_that_reads_nothing_is_closed_at_its_limit(
    source: Server,
    target: Server,
    proxies: Proxies,
    files: TlsFiles,
    context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = 8 * MEGABYTE
    proxied = await proxies(
        source, target, tls=Renewed(server_context, files), client_output_limit=limit
    )
    source.cli("SET", "k", "x" * 100_000)
    async with (
        peer_client(proxied.port, context) as lazy,
        connected(proxied.port, tls=context) as other,
    ):
        lazy.writer.transport.pause_reading()
        lazy.send(encoded(*["GET k"] * 500))
        await until(lambda: proxied.proxy.stats.client_errors["output_limit"])
        assert await other.calls("SET k v", "GET k") == [b"+OK\r\n", b"$1\r\nv\r\n"]
        await until(lambda: len(proxied.proxy.sessions) == 1)
    (said,) = [line for line in caplog.messages if "unread" in line]
    unread = int(said.split(" leaves ")[1].split()[0])
    # All replies of one batch are written at once: 4 MB of them at most here.
    assert limit < unread < limit + 5 * MEGABYTE


async def test_a_client_that_sends_on_while_its_commands_wait_is_read_no_further(
    proxied: Proxied, context: ssl.SSLContext
) -> None:
    await proxied.proxy.fence()
    value, count = "x" * 1000, 20_000
    async with peer_client(proxied.port, context) as client:
        sent = asyncio.create_task(_send_all(client, [encoded(f"SET k {value}", "INCR n")] * count))
        await until(lambda: any(len(s.backlog) >= MAX_BACKLOG for s in proxied.proxy.sessions))
        (session,) = proxied.proxy.sessions
        for _ in range(50):
            await asyncio.sleep(0.002)
            # What came in the read that was one too many, at most.
            assert session.unsent < 3 * MEGABYTE
        assert not sent.done()
        proxied.proxy.release()
        expected = b"".join(b"+OK\r\n:%d\r\n" % at for at in range(1, count + 1))
        assert await client.exactly(len(expected)) == expected
        await sent


async def _send_all(client: PeerClient, pieces: list[bytes]) -> None:
    for piece in pieces:
        client.send(piece)
        await client.writer.drain()


async def test_limits_of_time_are_kept_while_others_go_on(
    proxied: Proxied, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half a handshake, and then an end: no error of TLS, and nobody waits for it.
    async with connected(proxied.port) as half:
        half.writer.write(Peer(authority.context()).shake()[:50])
        async with connected(proxied.port, tls=authority.context()) as client:
            assert await client.call("PING") == b"+PONG\r\n"
        half.writer.write_eof()
        assert await half.rest() == b""
    await until(lambda: proxied.proxy.stats.client_errors["tls"] == 1)
    # One that is told why its handshake has failed and does not leave is cut off.
    monkeypatch.setattr(tlswire, "LINGER_S", 0.01)
    async with connected(proxied.port) as stays:
        stays.writer.write(listener.HANDSHAKE + b"\x03\x01\x00\x05hello")
        alert = await stays.rest()
        assert alert[:1] == b"\x15"
    await until(lambda: proxied.proxy.stats.client_errors["tls"] == 2)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is what asks for new keys")
@pytest.mark.parametrize(
    ("options", "letter", "said"),
    [("-tls1_3", b"K", b"KEYUPDATE"), ("-tls1_2", b"R", b"RENEGOTIATING")],
    ids=["key update", "renegotiation is refused"],
)
async def test_new_keys_amid_a_conversation(
    proxied: Proxied, authority: Authority, options: str, letter: bytes, said: bytes
) -> None:
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{proxied.port}", options),
        *("-CAfile", str(authority.ca)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await process.stdout.readuntil(b"Verify return code: 0 (ok)")
            for at in range(1, 6):
                process.stdin.write(b"incr n\n")
                await process.stdout.readuntil(b":%d\r\n" % at)
                # It takes a letter for an order where that is all that comes.
                process.stdin.write(letter + b"\n")
                heard = await process.stdout.readuntil(said)
                assert b"closed" not in heard
                if letter == b"R":
                    await process.stdout.readuntil(b"no renegotiation")
                    return
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_handshake_without_a_common_version_says_which_it_is(
    source: Server,
    target: Server,
    proxies: Proxies,
    files: TlsFiles,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = server_context(files)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    proxied = await proxies(source, target, tls=Renewed(lambda _: made, files))
    old = authority.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        await asyncio.open_connection("127.0.0.1", proxied.port, ssl=old)
    await until(lambda: caplog.messages)
    assert caplog.messages == ["TLS with the client 127.0.0.1: UNSUPPORTED_PROTOCOL"]


# -- stores ------------------------------------------------------------------------------


@pytest.fixture
async def both_sides(
    server_factory: Callable[..., Server],
    target: Server,
    proxies: Proxies,
    files: TlsFiles,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Proxied]:
    """TLS of clients, and to a source that speaks it itself if there is one that does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    to_store.cache_clear()
    engine = next((each for each in ENGINES if speaks_tls(each)), None)
    async with contextlib.AsyncExitStack() as stack:
        if engine is not None:
            port = free_port()
            source = server_factory(engine, args=tls_arguments(authority, port))
        else:
            source = server_factory(ENGINES[0])
            port = await stack.enter_async_context(front(source, authority))
        yield await proxies(
            source,
            target,
            tls=Renewed(server_context, files),
            source_url=f"rediss://localhost:{port}",
        )
    to_store.cache_clear()


async def test_values_of_64_megabytes_both_ways(
    both_sides: Proxied, context: ssl.SSLContext
) -> None:
    value = random.Random(3).randbytes(64 << 20)
    async with connected(both_sides.port, tls=context) as client:
        client.writer.write(encode_command(b"SET", b"big", value))
        client.send("STRLEN big", "GET big", "PING")
        replies = await client.replies(4)
        assert replies[0] == b"+OK\r\n"
        assert replies[1] == b":%d\r\n" % len(value)
        body = replies[2][len(b"$%d\r\n" % len(value)) : -2]
        assert hashlib.sha256(body).digest() == hashlib.sha256(value).digest()
        assert replies[3] == b"+PONG\r\n"


async def test_pipelines_of_many_clients_over_tls_on_both_sides(
    both_sides: Proxied, context: ssl.SSLContext
) -> None:
    async with connected(*[both_sides.port] * 10, tls=context) as clients:
        for at, client in enumerate(clients):
            for number in range(300):
                client.send(f"SET k{at} {'x' * (number * 37 % 3000)}{number}", f"GET k{at}")
        for client in clients:
            replies = await client.replies(600)
            for number in range(300):
                value = b"x" * (number * 37 % 3000) + b"%d" % number
                assert replies[2 * number] == b"+OK\r\n"
                assert replies[2 * number + 1] == b"$%d\r\n%s\r\n" % (len(value), value)


class Quiet(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


async def test_a_store_whose_certificate_does_not_pass_hears_the_alert(
    authority: Authority, tmp_path: object
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.server)
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = PeerClient(Peer(context, server_side=True), reader, writer)
        try:
            while not peer.peer.is_greeted and (data := await reader.read(1 << 16)):
                peer.peer.take(data)
                writer.write(peer.peer.shake())
            await peer.rest()
        except ssl.SSLError as error:
            heard.set_result(str(error.reason))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint.parse(f"rediss://localhost:{port}", "--source")
        with pytest.raises(ssl.SSLCertVerificationError):
            await endpoint.connect(Quiet)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await heard == "TLSV1_ALERT_UNKNOWN_CA"


async def test_a_store_that_is_cut_off_or_sends_garbage_is_lost_at_once(
    authority: Authority,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.server)
    ends = iter([b"", b"+PONG\r\n"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = PeerClient(Peer(context, server_side=True), reader, writer)
        while not peer.peer.is_greeted:
            peer.peer.take(await reader.read(1 << 16))
            writer.write(peer.peer.shake())
        writer.write(next(ends))
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint.parse(f"rediss://localhost:{port}", "--source")
        endpoint = Endpoint(endpoint.host, port, is_tls=True, tls=TlsFiles(ca=authority.ca))
        for kind in (type(None), ssl.SSLError):
            _, protocol = await endpoint.connect(Quiet)
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert isinstance(await protocol.lost, kind)


class Sender(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is what asks for new keys")
@pytest.mark.parametrize(("version", "order"), [("-tls1_2", b"r"), ("-tls1_3", b"K")])
async def test_what_is_written_while_a_store_asks_for_new_keys_arrives_in_order(
    authority: Authority, version: str, order: bytes
) -> None:
    port = free_port()
    certificate, key = authority.server
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", str(port), "-cert", str(certificate)),
        *("-key", str(key), version),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await process.stdout.readuntil(b"ACCEPT")
            endpoint = Endpoint("localhost", port, is_tls=True, tls=TlsFiles(ca=authority.ca))
            _, sender = await endpoint.connect(Sender)
            heard, number = b"", 0
            for _ in range(5):
                process.stdin.write(order + b"\n")
                for _ in range(200):
                    sender.transport.write(b"line %d.\n" % number)
                    number += 1
                    await asyncio.sleep(0)
                await asyncio.sleep(0.01)
                sender.transport.write(b"line %d.\n" % number)
                heard += await process.stdout.readuntil(b"line %d.\n" % number)
                number += 1
        assert [int(each) for each in re.findall(rb"line (\d+)\.", heard)] == [*range(number)]
        sender.transport.abort()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
