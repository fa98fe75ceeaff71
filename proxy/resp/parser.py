"""Turns one raw reply into a Python value.

Owns what a reply means. Never used for what only passes through: relaying needs frames alone.

hiredis is not used here: it rejects `!` errors, and `same_reply` has to know what was a set, a
map or a double.
"""

from __future__ import annotations

from typing import Any

from .limits import ProtocolError


class ReplyError(Exception):
    """An error reply. As a value it is returned, not raised."""

    def __init__(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "backslashreplace")
        super().__init__(text)
        self.text = text

    @property
    def code(self) -> str:
        """The first word: ERR, WRONGTYPE, MOVED, …"""
        return self.text.partition(" ")[0]


class SetReply(list[Any]):
    """A RESP3 set: a list (members may be unhashable) whose order means nothing."""


class PushReply(list[Any]):
    """A RESP3 push."""


def parse(raw: bytes) -> Any:
    """The value of one complete reply.

    Strings of all kinds are bytes, numbers int (big ones too), doubles float, booleans bool,
    every null None, arrays list, maps dict (a flat list if a key cannot be one), errors
    ReplyError; attributes are left out. Raises ProtocolError when `raw` is not one reply.
    """
    try:
        return _value(raw)
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"a reply's number is no number: {error}") from None


def _value(raw: bytes) -> Any:
    # Unfinished aggregates, innermost last: type byte, elements in all, elements so far.
    open_: list[tuple[int, int, list[Any]]] = []
    value: Any = None
    view = raw
    at = 0
    size = len(raw)
    while True:
        if at >= size:
            raise ProtocolError("a reply is cut short")
        end = raw.find(b"\r\n", at + 1)
        if end < 0:
            raise ProtocolError("a reply is cut short")
        kind = view[at]
        text = view[at + 1 : end]
        at = end + 2
        if kind in b"$!=":
            length = int(text)
            if length < 0:
                value = None
            elif length > size - at - 2:
                raise ProtocolError("a reply is cut short")
            else:
                value = view[at : at + length]
                at += length + 2
                if kind == 33:
                    value = ReplyError(value)
                elif kind == 61:
                    value = value[4:]
        elif kind in b":(":
            value = int(text)
        elif kind == 43:  # +
            value = text
        elif kind == 45:  # -
            value = ReplyError(text)
        elif kind == 95:  # _
            value = None
        elif kind == 44:  # ,
            value = float(text)
        elif kind == 35:  # #
            value = text == b"t"
        else:
            count = int(text)
            if count > size:
                raise ProtocolError("a reply is cut short")
            if kind == 37 or kind == 124:  # % |
                count *= 2
            elif kind not in b"*~>":
                raise ProtocolError(f"no reply begins with byte {kind}")
            if count > 0:
                open_.append((kind, count, []))
                continue
            if kind == 124:
                continue
            value = None if count < 0 else _close(kind, [])
        while open_:
            kind, count, elements = open_[-1]
            elements.append(value)
            if len(elements) < count:
                break
            open_.pop()
            if kind == 124:
                # An attribute is complete, the value it belongs to comes next.
                break
            value = _close(kind, elements)
        else:
            if at != size:
                raise ProtocolError("more than one reply")
            return value


def _close(kind: int, elements: list[Any]) -> Any:
    if kind == 42:
        return elements
    if kind == 126:
        return SetReply(elements)
    if kind == 62:
        return PushReply(elements)
    try:
        return dict(zip(elements[::2], elements[1::2], strict=True))
    except TypeError:
        return elements


def is_error(raw: bytes) -> bool:
    """Whether the reply is an error, an attribute in front of it or not."""
    first = raw[0]
    if first == 124:
        return isinstance(parse(raw), ReplyError)
    return first == 45 or first == 33
