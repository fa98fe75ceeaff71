"""Connection strings: what they mean, and that what is wrong with one is said without secrets."""

from __future__ import annotations

import asyncio
import ssl
import string
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.endpoint import Endpoint, EndpointError
from proxy.tls import TlsFiles, to_store
from tests.servers import REDIS_6, Server
from tests.tls import Authority


@pytest.mark.parametrize(
    ("url", "expected", "address"),
    [
        ("redis://store", Endpoint(host="store"), "store:6379"),
        ("valkey://store:7000", Endpoint(host="store", port=7000), "store:7000"),
        ("redis://store/", Endpoint(host="store"), "store:6379"),
        ("redis://store/3", Endpoint(host="store", db=3), "store:6379"),
        ("redis://store?db=3", Endpoint(host="store", db=3), "store:6379"),
        ("rediss://store", Endpoint(host="store", is_tls=True), "store:6379"),
        ("valkeys://store:1", Endpoint(host="store", port=1, is_tls=True), "store:1"),
        ("redis://:secret@store", Endpoint(host="store", password="secret"), "store:6379"),
        ("redis://u:p@store", Endpoint(host="store", user="u", password="p"), "store:6379"),
        (
            "redis://u%40x:a%2Fb%3A%23%25@store:1/2",
            Endpoint(host="store", port=1, user="u@x", password="a/b:#%", db=2),
            "store:1",
        ),
        ("redis://[::1]:7000", Endpoint(host="::1", port=7000), "[::1]:7000"),
        ("unix:///run/redis.sock", Endpoint(path="/run/redis.sock"), "/run/redis.sock"),
        (
            "unix://u:p@/run/a%20b.sock?db=1",
            Endpoint(path="/run/a b.sock", user="u", password="p", db=1),
            "/run/a b.sock",
        ),
    ],
)
def test_a_connection_string_is_understood(url: str, expected: Endpoint, address: str) -> None:
    endpoint = Endpoint.parse(url, "--source")
    assert endpoint == expected
    assert endpoint.address == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must start with one of redis://"),
        ("store:6379", "must start with"),
        ("http://store", "must start with"),
        ("redis://", "the host is missing"),
        ("redis://:6379", "the host is missing"),
        ("redis://store:x", "the port must be"),
        ("redis://store:0", "the port must be"),
        ("redis://store:65536", "the port must be"),
        ("redis://[::1", "not a valid connection string"),
        ("redis://store/x", "the database must be"),
        ("redis://store/-1", "the database must be"),
        ("redis://store/²", "the database must be"),
        ("redis://store/1/2", "the database must be"),
        ("redis://store/1?db=1", "given twice"),
        ("redis://store?db", "what follows '?'"),
        ("redis://store?timeout=1", "the only option"),
        ("redis://user@store", "a user needs a password"),
        ("redis://store#1", "percent-encoded"),
        ("redis://:a/b@store", "the port must be|percent-encoded"),
        ("redis://:1/b@store", "percent-encoded"),
        ("unix://", "path is missing"),
        ("unix:///", "path is missing"),
        ("unix://run/redis.sock", "path is absolute"),
        ("unix:///a%00b", "zero byte"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_setting(url: str, reason: str) -> None:
    with pytest.raises(EndpointError, match=reason) as caught:
        Endpoint.parse(url, "--source")
    assert str(caught.value).startswith("--source: ")
    assert "\n" not in str(caught.value)


# Of letters that no message is made of, with all that may confuse a parser between them.
SECRETS = st.text(alphabet="ÄÖÜß/?#@:[]%&=\\ \t\n", min_size=1).map(lambda text: f"Ψ{text}Ψ")


def refusal(url: str) -> EndpointError | None:
    try:
        Endpoint.parse(url, "--source")
    except EndpointError as error:
        return error
    return None


@given(SECRETS, st.sampled_from(["redis", "rediss", "unix", "http"]))
def test_a_secret_that_is_not_encoded_never_shows(secret: str, scheme: str) -> None:
    for url in (f"{scheme}://user:{secret}@store:1/1", f"{scheme}://:{secret}@/store?db=x"):
        error = refusal(url)
        if error is None:
            endpoint = Endpoint.parse(url, "--source")
            assert "Ψ" not in endpoint.address + repr(endpoint)
        else:
            assert "Ψ" not in "".join(traceback.format_exception_only(error))
            # Nor in what a traceback would print above it.
            assert error.__cause__ is None
            assert error.__suppress_context__ or error.__context__ is None


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 65535), st.integers(0, 10**9 - 1))
def test_encoded_parts_come_back(user: str, password: str, port: int, db: int) -> None:
    url = f"valkey://{quote(user, safe='')}:{quote(password, safe='')}@store:{port}/{db}"
    endpoint = Endpoint.parse(url, "--target")
    assert (endpoint.user, endpoint.password) == (user, password)
    assert (endpoint.port, endpoint.db) == (port, db)


@given(st.text(alphabet=string.printable))
def test_any_text_is_an_endpoint_or_a_clear_error(text: str) -> None:
    for url in (text, f"redis://{text}"):
        error = refusal(url)
        assert error is None or str(error).startswith("--source: ")


class Greeter(asyncio.Protocol):
    """Sends a PING and keeps the first bytes of the answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(error or ConnectionResetError())


async def ping(endpoint: Endpoint) -> bytes:
    transport, greeter = await endpoint.connect(Greeter)
    transport.write(b"PING\r\n")
    answer = await greeter.answer
    transport.abort()
    await asyncio.sleep(0)
    return answer


async def test_connects_over_tcp(source: Server) -> None:
    assert await ping(Endpoint.parse(source.url, "--source")) == b"+PONG\r\n"


async def test_connects_over_a_unix_socket(
    server_factory: Callable[..., Server], tmp_path: Path
) -> None:
    path = tmp_path / "s"
    server_factory(REDIS_6, args=("--unixsocket", str(path)))
    assert await ping(Endpoint.parse(f"unix://{path}", "--source")) == b"+PONG\r\n"


async def test_tls_to_a_store_without_it_is_an_os_error(
    source: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Such a store waits for the end of a line.
    monkeypatch.setattr("proxy.endpoint.TLS_HANDSHAKE_SECONDS", 0.2)
    endpoint = Endpoint.parse(f"rediss://127.0.0.1:{source.port}", "--source")
    with pytest.raises(OSError):  # noqa: PT011 - the text is the loop's
        await endpoint.connect(Greeter)


def answers(authority: Authority, *, asks: bool = False) -> Awaitable[asyncio.Server]:
    """Something with TLS that answers PONG; with `asks` only to who has a certificate."""
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=authority.ca if asks else None
    )
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    context.load_cert_chain(*authority.issue("localhost"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"+PONG\r\n")
        await reader.read()
        writer.close()

    return asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


def to(server: asyncio.Server, host: str = "localhost", **tls: Any) -> Endpoint:
    name = tls.pop("tls_name", None)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint.parse(f"valkeys://{host}:{port}", "--source")
    return replace(endpoint, tls=TlsFiles(**tls), tls_name=name)


async def test_the_certificate_is_checked_by_the_systems_authorities_or_a_ca(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await answers(authority) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await to(server).connect(Greeter)
        assert await ping(to(server, ca=authority.ca)) == b"+PONG\r\n"
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        to_store.cache_clear()
        try:
            assert await ping(to(server)) == b"+PONG\r\n"
        finally:
            to_store.cache_clear()


async def test_a_ca_that_is_given_is_trusted_alone(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    other = Authority(tmp_path)
    async with await answers(authority) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await to(server, ca=other.ca).connect(Greeter)


async def test_the_certificate_must_be_of_the_host_or_of_the_name_that_is_given(
    authority: Authority,
) -> None:
    async with await answers(authority) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            await to(server, "127.0.0.1", ca=authority.ca).connect(Greeter)
        by_name = to(server, "127.0.0.1", ca=authority.ca, tls_name="localhost")
        assert await ping(by_name) == b"+PONG\r\n"
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await to(server, ca=authority.ca, tls_name="store.example").connect(Greeter)


async def test_a_store_may_want_a_certificate_of_ours(authority: Authority) -> None:
    async with await answers(authority, asks=True) as server:
        # In TLS 1.3 the refusal comes behind the handshake.
        with pytest.raises(OSError):  # noqa: PT011 - when, decides which
            async with asyncio.timeout(10):
                await ping(to(server, ca=authority.ca))
        certificate, key = authority.client
        ours = to(server, ca=authority.ca, certificate=certificate, key=key)
        assert await ping(ours) == b"+PONG\r\n"


async def test_nobody_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the text is the system's
        await Endpoint.parse("redis://127.0.0.1:1", "--source").connect(Greeter)
    with pytest.raises(OSError):  # noqa: PT011
        await Endpoint.parse(f"unix://{tmp_path}/nobody", "--source").connect(Greeter)
