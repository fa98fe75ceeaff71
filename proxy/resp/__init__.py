"""RESP: bytes to frames, values to bytes, frames to values. Pure: no I/O, no clock.

`requests` and `replies` cut streams into frames (hot, compiled where possible; `window` is what
they share, `inline` the telnet form); `encoder` builds commands and replies; `parser` and
`values` are for the few replies whose meaning matters; `limits` says what a peer may announce.
"""

from .encoder import encode_command, encode_commands
from .limits import LIMITS, REDIS_6, UNAUTHENTICATED, Limits, ProtocolError
from .replies import ReplyScanner
from .requests import Request, RequestScanner, request
from .values import ReplyError, is_error, parse, same_reply

__all__ = [
    "LIMITS",
    "REDIS_6",
    "UNAUTHENTICATED",
    "Limits",
    "ProtocolError",
    "ReplyError",
    "ReplyScanner",
    "Request",
    "RequestScanner",
    "encode_command",
    "encode_commands",
    "is_error",
    "parse",
    "request",
    "same_reply",
]
