"""The error replies of servers to requests that never reach a command, byte for byte.

From processCommand in server.c: Redis 6.2 has one wording, Redis 7 and Valkey have another.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ..resp.encoder import error

if TYPE_CHECKING:
    from ..resp import Request

_SHOWN_BYTES = 128


class Dialect(enum.Enum):
    """Whose wording: Redis 6.2, which checks subcommands only when it executes them, or later."""

    REDIS_6 = 6
    REDIS_7 = 7


def _shown(argument: bytes, limit: int = _SHOWN_BYTES) -> bytes:
    """As %.128s prints it: up to the first NUL."""
    return argument.partition(b"\0")[0][:limit]


def unknown_command(req: Request, dialect: Dialect) -> bytes:
    is_6 = dialect is Dialect.REDIS_6
    # Redis 6.2 shows the whole name.
    name = _shown(req.arg(0), max(_SHOWN_BYTES, len(req.arg(0))) if is_6 else _SHOWN_BYTES)
    arguments = b""
    for i in range(1, req.argc):
        if len(arguments) >= _SHOWN_BYTES:
            break
        shown = _shown(req.arg(i), _SHOWN_BYTES - len(arguments))
        arguments += b"`%b`, " % shown if is_6 else b"'%b' " % shown
    text = b"ERR unknown command `%b`" if is_6 else b"ERR unknown command '%b'"
    return error(text % name + b", with args beginning with: " + arguments)


def wrong_arity(name: str) -> bytes:
    # Whatever is wrong with an EXEC, it is said of the block.
    code = "EXECABORT Transaction discarded because of:" if name == "exec" else "ERR"
    return error(f"{code} wrong number of arguments for '{name}' command")


def unknown_subcommand(req: Request) -> bytes:
    """Redis 6.2 does not look at them before it executes them."""
    return error(b"ERR unknown subcommand '%b'. Try %b HELP." % (_shown(req.arg(1)), req.name))
