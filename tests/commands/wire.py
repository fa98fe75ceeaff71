"""A plain connection to a real server: words out, raw reply frames in."""

from __future__ import annotations

import socket

from proxy.resp import ReplyScanner, encode_command, encode_commands
from tests.servers import Server


def words(line: str) -> list[bytes]:
    """A command as one types it; ``""`` is an empty argument."""
    return [b"" if word == '""' else word.encode() for word in line.split()]


class Wire:
    """A blocking connection, in RESP2 or RESP3."""

    def __init__(self, server: Server, resp: int = 2) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = ReplyScanner()
        self._ready: list[bytes] = []
        if resp == 3:
            self.call(b"HELLO", b"3")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, *args: bytes | str | int) -> bytes:
        """The raw reply of one command."""
        return self.exchange(encode_command(*args), 1)[0]

    def pipeline(self, *commands: list[bytes]) -> list[bytes]:
        return self.exchange(encode_commands(commands), len(commands))

    def exchange(self, raw: bytes, replies: int) -> list[bytes]:
        """Send bytes as they are, and wait for so many replies."""
        self._socket.sendall(raw)
        while len(self._ready) < replies:
            data = self._socket.recv(1 << 20)
            assert data, "the server closed the connection"
            self._ready += self._replies.feed(data)
        taken, self._ready = self._ready[:replies], self._ready[replies:]
        return taken
