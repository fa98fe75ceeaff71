"""Where a store is and how to reach it: a connection string, parsed and checked.

Owns the syntax of connection strings and the opening of one transport. It never authenticates,
never selects a database, and never lets a secret into a message, a repr or `address`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from .tls import TlsFiles, to_store
from .tlswire import TlsWire, as_protocol, as_transport

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

DEFAULT_PORT = 6379
# A store without TLS does not answer a handshake: it waits for the end of a line.
TLS_HANDSHAKE_SECONDS = 10.0
SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")
_TLS_SCHEMES = ("rediss", "valkeys")


class EndpointError(ValueError):
    """A connection string that cannot be used: one line that names the setting, no secrets."""


@dataclass(frozen=True)
class Endpoint:
    """A store's address, and whom to be there.

    Either `path` (a unix socket) or `host` and `port`. `user` None is the default user;
    `password` None sends no AUTH. `db` is where the URL points; Keyferry moves all of them.
    With `is_tls` the store's certificate is checked, by `tls.ca` or the system's authorities, and
    must be of `tls_name`, or else of `host`.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    is_tls: bool = False
    tls: TlsFiles = field(default_factory=TlsFiles)
    tls_name: str | None = None

    @classmethod
    def parse(cls, url: str, setting: str) -> Endpoint:
        """`redis://[user[:password]@]host[:port][/db]`, or `unix://[user:password@]/path[?db=n]`.

        Schemes are SCHEMES; user and password are percent-decoded. `setting` is the name by which
        the operator knows the value (`--source`). Raises EndpointError.
        """

        def wrong(reason: str) -> EndpointError:
            return EndpointError(f"{setting}: {reason}")

        # What urlsplit and int() say when they fail quotes the input, and a password that is not
        # percent-encoded can be anywhere in it. So nothing of the URL but its scheme is shown.
        try:
            parts = urlsplit(url)
        except ValueError:
            raise wrong("not a valid connection string") from None
        if parts.scheme not in SCHEMES:
            raise wrong(f"must start with one of {', '.join(s + '://' for s in SCHEMES)}")
        if parts.fragment or "@" in parts.path or "@" in parts.query:
            raise wrong("a '/', '?', '#' or '@' in the user or password must be percent-encoded")
        try:
            port = parts.port
        except ValueError:
            raise wrong("the port must be a number from 1 to 65535") from None
        if port == 0:
            raise wrong("the port must be a number from 1 to 65535")
        try:
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
        except ValueError:
            if parts.query:
                raise wrong("what follows '?' must be db=NUMBER") from None
            options = {}
        if set(options) - {"db"}:
            raise wrong("the only option after '?' is db=NUMBER")

        is_unix = parts.scheme == "unix"
        in_path = "" if is_unix else parts.path.removeprefix("/")
        if in_path and "db" in options:
            raise wrong("the database is given twice")
        db = in_path or options.get("db", "0")
        # isdecimal alone would let digits of other scripts in.
        if not (db.isascii() and db.isdecimal() and len(db) < 10):
            raise wrong("the database must be a number from 0 up")
        user, password = _credentials(parts)
        if user is not None and password is None:
            raise wrong("a user needs a password: user:password@")
        if is_unix:
            if parts.hostname or port is not None:
                raise wrong("a socket's path is absolute: unix:///path")
            path = unquote(parts.path)
            if path in ("", "/"):
                raise wrong("the socket's path is missing: unix:///path")
            if "\0" in path:
                raise wrong("a socket's path cannot have a zero byte")
            return cls(path=path, user=user, password=password, db=int(db))
        if not parts.hostname:
            raise wrong("the host is missing")
        return cls(
            host=parts.hostname,
            port=DEFAULT_PORT if port is None else port,
            user=user,
            password=password,
            db=int(db),
            is_tls=parts.scheme in _TLS_SCHEMES,
        )

    @property
    def address(self) -> str:
        """For messages: `host:port`, `[v6]:port`, or the socket's path. No user, no password."""
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(
        self, protocol_factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Opens a transport on the running loop. Raises OSError (ssl.SSLError is one).

        But for the TLS handshake it has no deadline: callers know how long they may wait.
        """
        loop = asyncio.get_running_loop()
        if self.path is not None:
            return await loop.create_unix_connection(protocol_factory, self.path)
        if not self.is_tls:
            made = await loop.create_connection(protocol_factory, self.host, self.port)
            _tune(made[0])
            return made
        protocol = protocol_factory()
        wire = TlsWire(
            to_store(self.tls).context(),
            lambda: protocol,
            server_hostname=self.tls_name or self.host,
        )
        try:
            transport, _ = await loop.create_connection(
                lambda: as_protocol(wire), self.host, self.port
            )
            _tune(transport)
            try:
                async with asyncio.timeout(TLS_HANDSHAKE_SECONDS):
                    await wire.handshaken
            except TimeoutError:
                raise TimeoutError(f"no TLS handshake in {TLS_HANDSHAKE_SECONDS:g} s") from None
        except ssl.SSLError:
            raise  # The store is being told why.
        except BaseException:
            wire.abort()
            raise
        return as_transport(wire), protocol


def _tune(transport: asyncio.BaseTransport) -> None:
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A store that lost power never says goodbye; an idle connection would believe in it.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    # As redis-cli: "name@" alone is the user, ":secret@" alone the default user's password.
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return user, password
