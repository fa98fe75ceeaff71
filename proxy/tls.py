"""TLS: contexts made of an operator's files, and made anew when these change.

Owns what is spoken (TLS 1.2 and newer) and what is checked: a store's certificate and its name
always, a client's certificate where a CA for clients is given. It opens no connection, and what
is in a file never gets into a message.
"""

from __future__ import annotations

import functools
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("keyferry.tls")

# How often, at most, new connections have the files looked at.
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class TlsFiles:
    """PEM files. `certificate` (its chain behind it) and `key` are who we are; both or none.

    `ca` is whom to trust. None: for a store the system's authorities; of a client no
    certificate is wanted.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None


class TlsFileError(ValueError):
    """A file that cannot be used; `part` is its name in TlsFiles. One line, nothing of the key."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(problem)
        self.part = part


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For connections to a store. Raises TlsFileError."""
    return _made(ssl.Purpose.SERVER_AUTH, files)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For clients; `certificate` and `key` are needed. Raises TlsFileError."""
    context = _made(ssl.Purpose.CLIENT_AUTH, files)
    # A client could have us do handshakes without end on one connection.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if files.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _made(purpose: ssl.Purpose, files: TlsFiles) -> ssl.SSLContext:
    for part in ("certificate", "key", "ca"):
        path = getattr(files, part)
        if path is not None:
            _read(part, path)
    try:
        context = ssl.create_default_context(purpose, cafile=files.ca)
    except ssl.SSLError:
        raise TlsFileError("ca", f"{files.ca}: there is no certificate in it (PEM)") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None:
        _load_certificate(context, files.certificate, files.key)
    return context


def _read(part: str, path: Path) -> None:
    # OpenSSL does not say which file it could not read.
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsFileError(part, f"{path}: {error.strerror}") from None


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError:
        raise TlsFileError(
            "certificate", f"{certificate}: there is no certificate in it (PEM)"
        ) from None

    def no_password() -> str:
        # Without it OpenSSL would ask the terminal.
        raise TlsFileError("key", f"{key}: it is encrypted, which is not supported")

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError("key", f"{key}: it is not the key of {certificate}") from None
        if error.reason is None or error.library == "PEM":
            raise TlsFileError("key", f"{key}: there is no private key in it (PEM)") from None
        raise TlsFileError("certificate", f"{certificate}: {error.reason}") from None


class Renewed:
    """A context that is as new as its files. Raises TlsFileError when it is made.

    Files that cannot be used later (a certificate that was replaced before its key, say) leave
    the last good context in use, with a line in the log, until they change again.
    """

    def __init__(self, make: Callable[[TlsFiles], ssl.SSLContext], files: TlsFiles) -> None:
        self._make = make
        self._files = files
        # Before they are read: what changes meanwhile is seen as a change.
        self._stamps = _stamps(files)
        self._context = make(files)
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def context(self) -> ssl.SSLContext:
        """For one new connection. Those that there are keep theirs."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            stamps = _stamps(self._files)
            if stamps != self._stamps:
                self._stamps = stamps
                self._renew()
        return self._context

    def _renew(self) -> None:
        names = ", ".join(str(p) for p in (self._files.certificate, self._files.ca) if p)
        try:
            self._context = self._make(self._files)
        except TlsFileError as error:
            log.warning("TLS: the last good certificates stay in use: %s", error)
        else:
            log.info("TLS: %s: read again, since a file has changed", names)


def _stamps(files: TlsFiles) -> list[tuple[int, ...] | None]:
    """What differs when a file was written, replaced (also behind a link) or made readable."""
    found: list[tuple[int, ...] | None] = []
    for path in (files.certificate, files.key, files.ca):
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        found.append(stat and (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size))
    return found


@functools.cache
def to_store(files: TlsFiles) -> Renewed:
    """What all connections with these files share. Raises TlsFileError.

    Cached: reading the system's certificates takes tens of milliseconds.
    """
    return Renewed(client_context, files)
