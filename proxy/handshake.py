"""What is said first on a connection to a store.

Pure: the words only. Who says them, and what follows from the answers, is not known here.
"""

from __future__ import annotations

from .endpoint import Endpoint
from .resp import encode_command


def handshake_commands(
    user: tuple[bytes, bytes] | None, db: int, resp: int, name: bytes
) -> list[tuple[bytes, bool]]:
    """The commands that put a fresh connection in its state: (wire bytes, must succeed)."""
    commands: list[tuple[bytes, bool]] = []
    if user is not None:
        # Always with the name: the short form is an error where the default user has no password.
        commands.append((encode_command(b"AUTH", *user), True))
    if resp == 3:
        commands.append((encode_command(b"HELLO", b"3"), True))
    if db:
        commands.append((encode_command(b"SELECT", b"%d" % db), True))
    # Some users may not run CLIENT: a lane works without a name and an id.
    commands.append((encode_command(b"CLIENT", b"SETNAME", name), False))
    commands.append((encode_command(b"CLIENT", b"ID"), False))
    return commands


def login_of(endpoint: Endpoint) -> tuple[bytes, bytes] | None:
    """Whom a connection string names, as lanes want it."""
    if endpoint.password is None:
        return None
    return (endpoint.user or "default").encode(), endpoint.password.encode()
