"""TLS for tests: an authority with its certificates as files, and stores that speak TLS.

An engine that was built with TLS speaks it itself; in front of any other a `Front` does. The
stores are real in either case.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import trustme

from migrator.servers import ServerError
from tests.servers import Engine, Server, free_port


class Authority:
    """A CA of this test's own, with a directory for files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.ca = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(self, *names: str, name: str = "store") -> tuple[Path, Path]:
        """Files of a certificate for `names`, and of its key; those of that `name` are replaced."""
        made = self._ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        made.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        return certificate, key

    @functools.cached_property
    def server(self) -> tuple[Path, Path]:
        """For `localhost` and 127.0.0.1."""
        return self.issue("localhost", "127.0.0.1", name="server")

    @functools.cached_property
    def client(self) -> tuple[Path, Path]:
        return self.issue("keyferry@example.org", name="client")

    def context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """What an application of its trusts this authority with."""
        context = ssl.create_default_context(cafile=self.ca)
        if with_certificate:
            context.load_cert_chain(*self.client)
        return context


def tls_arguments(authority: Authority, port: int, *, asks: bool = False) -> tuple[str, ...]:
    """A server's options; with `asks` it wants certificates of its clients."""
    certificate, key = authority.server
    return (
        *("--tls-port", str(port), "--tls-cert-file", str(certificate)),
        *("--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.ca)),
        *("--tls-auth-clients", "yes" if asks else "no"),
    )


@functools.cache
def speaks_tls(engine: Engine) -> bool:
    """Whether it was built with TLS: a server only says so by starting."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = tls_arguments(Authority(Path(directory)), free_port())
        try:
            with Server(engine, args=arguments):
                return True
        except ServerError:
            return False


@contextlib.asynccontextmanager
async def front(server: Server, authority: Authority, *, asks: bool = False) -> AsyncIterator[int]:
    """The port of a TLS listener in front of a server that was built without."""
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=authority.ca if asks else None
    )
    context.load_cert_chain(*authority.server)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            # Also when it is cancelled: what is left open is told in some later test.
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        behind, to_behind = await asyncio.open_connection("127.0.0.1", server.port)
        writers.append(to_behind)
        for each in (pump(reader, to_behind), pump(behind, writer)):
            task = asyncio.create_task(each)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        # An aborted transport closes in the loop's next turn.
        await asyncio.sleep(0)
