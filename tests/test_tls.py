"""Contexts made of files: what is spoken, what is said of a wrong file, when they are renewed."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from proxy import tls
from proxy.tls import Renewed, TlsFileError, TlsFiles, client_context, server_context
from tests.tls import Authority


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    certificate, key = authority.server
    return TlsFiles(certificate, key, authority.ca)


def test_what_is_checked_by_default() -> None:
    context = client_context(TlsFiles())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_clients_are_asked_for_a_certificate_where_a_ca_is_given(files: TlsFiles) -> None:
    assert server_context(files).verify_mode is ssl.CERT_REQUIRED
    assert server_context(replace(files, ca=None)).verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("make", [client_context, server_context])
def test_older_versions_are_not_spoken(
    make: Callable[[TlsFiles], ssl.SSLContext], files: TlsFiles
) -> None:
    assert make(files).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("part", ["certificate", "key", "ca"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN SOMETHING-----\n"])
def test_a_wrong_file_is_said_of_the_right_part(
    files: TlsFiles, tmp_path: Path, part: str, content: bytes | None
) -> None:
    wrong = tmp_path / "wrong.pem"
    if content is not None:
        wrong.write_bytes(content)
    with pytest.raises(TlsFileError) as caught:
        server_context(replace(files, **{part: wrong}))
    assert caught.value.part == part
    assert str(caught.value).startswith(f"{wrong}: ")
    assert ("No such file" in str(caught.value)) == (content is None)


@pytest.mark.parametrize("part", ["certificate", "key", "ca"])
def test_files_that_are_swapped_are_said_of_the_right_part(files: TlsFiles, part: str) -> None:
    assert files.key
    assert files.certificate
    other = files.certificate if part == "key" else files.key
    with pytest.raises(TlsFileError) as caught:
        server_context(replace(files, **{part: other}))
    assert caught.value.part == part


def test_a_key_of_another_certificate(authority: Authority, files: TlsFiles) -> None:
    _, other = authority.issue("localhost", name="other")
    with pytest.raises(TlsFileError, match=r"it is not the key of .*server\.pem") as caught:
        server_context(replace(files, key=other))
    assert caught.value.part == "key"


def test_an_encrypted_key_is_refused_and_nobody_is_asked(files: TlsFiles) -> None:
    assert files.key
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TlsFileError, match="it is encrypted") as caught:
        server_context(files)
    assert caught.value.part == "key"


class TestRenewed:
    @pytest.fixture(autouse=True)
    def at_every_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "LOOK_EVERY_S", 0.0)

    def test_files_that_stay_give_the_same_context(self, files: TlsFiles) -> None:
        renewed = Renewed(server_context, files)
        assert renewed.context() is renewed.context()

    def test_files_that_change_give_another_one(
        self, authority: Authority, files: TlsFiles, caplog: pytest.LogCaptureFixture
    ) -> None:
        renewed = Renewed(server_context, files)
        first = renewed.context()
        authority.issue("localhost", name="server")
        with caplog.at_level(logging.INFO, "keyferry.tls"):
            second = renewed.context()
        assert second is not first
        assert renewed.context() is second
        [said] = caplog.messages
        assert str(files.certificate) in said
        assert str(files.key) not in said

    def test_a_file_behind_a_link_that_is_turned(
        self, authority: Authority, files: TlsFiles
    ) -> None:
        # As Kubernetes renews what it mounts.
        link = authority.directory / "current"
        link.symlink_to(authority.ca)
        renewed = Renewed(server_context, replace(files, ca=link))
        first = renewed.context()
        link.unlink()
        link.symlink_to(authority.server[0])
        assert renewed.context() is not first

    def test_half_a_renewal_leaves_the_old_one_until_the_other_half_is_there(
        self, authority: Authority, files: TlsFiles, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert files.certificate
        assert files.key
        renewed = Renewed(server_context, files)
        first = renewed.context()
        certificate, key = authority.issue("localhost", name="new")
        files.certificate.write_bytes(certificate.read_bytes())
        assert renewed.context() is first
        assert renewed.context() is first
        [said] = caplog.messages
        assert "the last good certificates stay in use" in said
        files.key.write_bytes(key.read_bytes())
        assert renewed.context() is not first

    def test_a_file_that_is_gone_leaves_the_old_one(self, files: TlsFiles) -> None:
        assert files.key
        renewed = Renewed(server_context, files)
        first = renewed.context()
        files.key.unlink()
        assert renewed.context() is first


async def test_an_older_client_is_refused(files: TlsFiles, authority: Authority) -> None:
    server = await asyncio.start_server(
        lambda reader, writer: writer.close(),
        "127.0.0.1",
        0,
        ssl=server_context(replace(files, ca=None)),
    )
    old = authority.context()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with server:
        with pytest.raises(OSError):  # noqa: PT011 - which one, is OpenSSL's
            await asyncio.open_connection(*server.sockets[0].getsockname()[:2], ssl=old)
