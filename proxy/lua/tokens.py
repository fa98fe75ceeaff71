"""Cuts Lua 5.1 into tokens (https://www.lua.org/manual/5.1/manual.html, section 2.1).

Owns :func:`tokens`. It reads what the servers' interpreter reads, or raises :class:`NotLua`.
"""

from __future__ import annotations

import re


class NotLua(Exception):
    """Not Lua 5.1, or too deep to be read."""


KEYWORDS = frozenset(
    b"and break do else elseif end false for function if in local nil not or repeat return then "
    b"true until while".split()
)

_TOKEN = re.compile(
    rb"""
    (?P<blank>[ \t\r\n\f\v]+ | --\[(?P<comment>=*)\[ .*? \](?P=comment)\] | --(?!\[=*\[)[^\r\n]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>\.?[0-9][0-9.]*(?:[eE][+-]?)?[A-Za-z0-9_]*)
    | (?P<text>"(?:[^"\\\r\n]|\\(?:\r\n|\n\r|.))*" | '(?:[^'\\\r\n]|\\(?:\r\n|\n\r|.))*')
    | (?P<long>\[(?P<level>=*)\[ .*? \](?P=level)\])
    | (?P<mark>\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^\#<>=(){}\[\];:,.])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(\r\n|\n\r|[0-9]{1,3}|.)", re.DOTALL)
_ESCAPED = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
    b"\r": b"\n",
}  # fmt: skip
_LINE_END = re.compile(rb"\r\n|\n\r|\r")

# Of a token: its class ("name", "number", "text", "mark", a keyword is a mark; "end" of all).
Token = tuple[str, str | bytes]


def _unescaped(found: re.Match[bytes]) -> bytes:
    what = found[1]
    if what.isdigit():
        if int(what) > 255:
            raise NotLua("escape sequence too large")
        return bytes((int(what),))
    if what in (b"\r\n", b"\n\r"):
        return b"\n"
    return _ESCAPED.get(what, what)


def tokens(text: bytes) -> list[Token]:
    """Raises NotLua."""
    found: list[Token] = []
    at = 0
    if b"\0" in text:
        raise NotLua("a NUL byte")
    if text.startswith(b"#!"):  # Read by the server, not by Lua.
        at = text.find(b"\n")
        at = len(text) if at < 0 else at
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotLua(f"unexpected symbol at byte {at}")
        at = match.end()
        kind = match.lastgroup
        if match["blank"] is not None:
            continue
        if match["name"] is not None:
            is_keyword = match["name"] in KEYWORDS
            found.append(("mark" if is_keyword else "name", match["name"].decode()))
        elif match["text"] is not None:
            found.append(("text", _ESCAPE.sub(_unescaped, match["text"][1:-1])))
        elif match["long"] is not None:
            margin = len(match["level"]) + 2
            body = _LINE_END.sub(b"\n", match["long"][margin:-margin])
            found.append(("text", body.removeprefix(b"\n")))
        else:
            assert kind in ("number", "mark")
            found.append((kind, match[kind].decode()))
    found.append(("end", ""))
    return found
