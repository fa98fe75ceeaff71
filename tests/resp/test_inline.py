"""Inline requests, as sds.c splits them."""

from __future__ import annotations

import pytest

from proxy.resp.inline import split_inline


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b"", []),
        (b" \t \v\f", []),
        (b"PING", [b"PING"]),
        (b"  GET\t k  ", [b"GET", b"k"]),
        (b"PI\rNG", [b"PI", b"NG"]),
        (b"a\vb\fc \vd", [b"a\vb\fc", b"d"]),
        (b"a\xa0b\x1cc", [b"a\xa0b\x1cc"]),
        (b'SET k ""', [b"SET", b"k", b""]),
        (b"SET k ''", [b"SET", b"k", b""]),
        (b"\"a b\" 'c d'", [b"a b", b"c d"]),
        (b'a"b c"', [b"ab c"]),
        (b'"\\n\\r\\t\\b\\a\\\\\\"\\q"', [b'\n\r\t\b\a\\"q']),
        (b'"\\x41\\xff\\x4g\\x"', [b"A\xffx4gx"]),
        (b"'it\\'s \\n'", [b"it's \\n"]),
        (b"\"'\" '\"'", [b"'", b'"']),
        (b"a\0b", [b"a\0b"]),
    ],
)
def test_a_line_is_split_as_the_server_does(line: bytes, args: list[bytes]) -> None:
    assert split_inline(line) == args


@pytest.mark.parametrize(
    "line", [b'"', b"'", b'"a', b"a 'b", b'"a\\"', b"'a\\'", b'"a\\', b"'a'b", b'"a"b', b"\"a\"'b'"]
)
def test_unbalanced_quotes_are_none(line: bytes) -> None:
    assert split_inline(line) is None
