"""Builds wire bytes: commands for a server, replies for a client.

Never reads any. Replies of a server are relayed as they came; what is built here are the
commands and replies that are the proxy's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Argument = bytes | str | int | float

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
QUEUED = b"+QUEUED\r\n"
NULL_BULK = b"$-1\r\n"
NULL_ARRAY = b"*-1\r\n"
NULL = b"_\r\n"
EMPTY_ARRAY = b"*0\r\n"

# What stands between two arguments, by the length of the second: formatting is the dear part.
_LENGTHS = tuple([b"\r\n$%d\r\n" % size for size in range(256)])


def argument(value: Argument) -> bytes:
    """One argument as bytes; text as UTF-8, a float in the shortest form that reads back equal."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        raise TypeError("a command argument is bytes, str, int or float, not bool")
    if isinstance(value, (int, float)):
        return repr(value).encode()
    raise TypeError(f"a command argument is bytes, str, int or float, not {type(value).__name__}")


def encode_command(*args: Argument) -> bytes:
    """The command in array form."""
    if not args:
        raise ValueError("a command has at least its name")
    pieces = [b"*%d" % len(args)]
    for arg in args:
        value = arg if type(arg) is bytes else argument(arg)
        size = len(value)
        pieces.append(_LENGTHS[size] if size < 256 else b"\r\n$%d\r\n" % size)
        pieces.append(value)
    pieces.append(b"\r\n")
    return b"".join(pieces)


def encode_commands(commands: Iterable[Sequence[Argument]]) -> bytes:
    """Several commands in one run of bytes: a pipeline."""
    return b"".join([encode_command(*command) for command in commands])


def simple(text: str) -> bytes:
    """A status such as `+OK`."""
    return b"+%b\r\n" % _line(text)


def error(text: str | bytes) -> bytes:
    """An error reply; `text` begins with its code. Line ends become spaces, as in Redis."""
    return b"-%b\r\n" % _line(text)


def integer(number: int) -> bytes:
    """`:n`."""
    return b":%d\r\n" % number


def bulk(value: bytes | str | None) -> bytes:
    """A string with its length; None is RESP2's null."""
    if value is None:
        return NULL_BULK
    if isinstance(value, str):
        value = value.encode()
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(replies: Sequence[bytes]) -> bytes:
    """An array of replies that are encoded already."""
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def set_of(replies: Sequence[bytes], resp: int) -> bytes:
    """A set: RESP3's own type, an array for RESP2."""
    return b"%b%d\r\n%b" % (b"~" if resp >= 3 else b"*", len(replies), b"".join(replies))


def mapping(pairs: Sequence[tuple[bytes, bytes]], resp: int) -> bytes:
    """A map of encoded replies: RESP3's own type, a flat array for RESP2 (as HELLO answers)."""
    body = b"".join([key + value for key, value in pairs])
    if resp >= 3:
        return b"%%%d\r\n%b" % (len(pairs), body)
    return b"*%d\r\n%b" % (2 * len(pairs), body)


def null(resp: int) -> bytes:
    """Nothing, in the form of the client's RESP version (2 or 3)."""
    return NULL if resp >= 3 else NULL_BULK


def null_array(resp: int) -> bytes:
    """What is not there, where an array would have been: EXEC, or a pop that timed out."""
    return b"_\r\n" if resp == 3 else b"*-1\r\n"


def boolean(value: bool, resp: int) -> bytes:
    """`#t`/`#f`; RESP2 has 1 and 0 for them."""
    if resp >= 3:
        return b"#t\r\n" if value else b"#f\r\n"
    return b":1\r\n" if value else b":0\r\n"


def double(value: float, resp: int) -> bytes:
    """A float; RESP2 sends it as a bulk string."""
    text = repr(value).removesuffix(".0").encode()
    return b",%b\r\n" % text if resp >= 3 else bulk(text)


def verbatim(text: str | bytes, resp: int) -> bytes:
    """A text for people (CLIENT LIST, INFO); RESP2 sends it as a bulk string."""
    value = text.encode() if isinstance(text, str) else text
    return b"=%d\r\ntxt:%b\r\n" % (len(value) + 4, value) if resp >= 3 else bulk(value)


def push(replies: Sequence[bytes], resp: int) -> bytes:
    """A message nobody asked for; an array for RESP2."""
    return b"%b%d\r\n%b" % (b">" if resp >= 3 else b"*", len(replies), b"".join(replies))


def _line(text: str | bytes) -> bytes:
    value = text.encode() if isinstance(text, str) else text
    return value.replace(b"\r", b" ").replace(b"\n", b" ")
