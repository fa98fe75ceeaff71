"""What replies mean, and which of them say the same."""

from __future__ import annotations

import math
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp import ProtocolError, ReplyError, encoder, is_error, parse, same_reply

from .test_replies import FRAMES


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"+OK\r\n", b"OK"),
        (b":-12\r\n", -12),
        (b"(12345678901234567890123\r\n", 12345678901234567890123),
        (b"$2\r\n\r\n\r\n", b"\r\n"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"_\r\n", None),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b",1.5\r\n", 1.5),
        (b",inf\r\n", math.inf),
        (b"=6\r\ntxt:ab\r\n", b"ab"),
        (b"*0\r\n", []),
        (b"*2\r\n*1\r\n:1\r\n*0\r\n", [[1], []]),
        (b"~2\r\n:1\r\n:2\r\n", [1, 2]),
        (b"%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n", {b"a": 1, b"b": {}}),
        (b"%1\r\n*1\r\n:1\r\n:2\r\n", [[1], 2]),
        (b">2\r\n+message\r\n:1\r\n", [b"message", 1]),
        (b"|1\r\n+ttl\r\n:1\r\n:5\r\n", 5),
        (b"|0\r\n:5\r\n", 5),
        (b"*2\r\n|1\r\n+ttl\r\n*1\r\n:1\r\n:5\r\n:6\r\n", [5, 6]),
    ],
)
def test_a_value_is_what_the_reply_says(raw: bytes, value: Any) -> None:
    parsed = parse(raw)
    assert parsed == value
    assert isinstance(parsed, type(value))


@pytest.mark.parametrize("raw", [b"-ERR no way\r\n", b"!10\r\nERR no way\r\n"])
def test_an_error_is_a_value_with_its_code(raw: bytes) -> None:
    error = parse(raw)
    assert isinstance(error, ReplyError)
    assert error.text == "ERR no way"
    assert error.code == "ERR"


@pytest.mark.parametrize("raw", FRAMES.values(), ids=FRAMES)
def test_every_frame_has_a_value(raw: bytes) -> None:
    parse(raw)


@pytest.mark.parametrize("raw", FRAMES.values(), ids=FRAMES)
def test_a_frame_cut_short_or_followed_by_another_has_none(raw: bytes) -> None:
    for wrong in (raw[:-1], raw[: len(raw) // 2], raw + b"+OK\r\n", b""):
        with pytest.raises(ProtocolError):
            parse(wrong)


@pytest.mark.parametrize(
    "raw",
    [
        b":x\r\n",
        b"$x\r\n",
        b",x\r\n",
        b"x1\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"$9223372036854775807\r\nx\r\n",
        b"$99999999999999999999\r\nx\r\n",
        b"%9223372036854775807\r\n:1\r\n",
        b"*99999999999999999999\r\n:1\r\n",
    ],
)
def test_garbage_has_no_value(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(raw)


RESP2 = st.recursive(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1).map(encoder.integer),
        st.binary(max_size=20).map(encoder.bulk),
        st.just(encoder.NULL_BULK),
        st.just(encoder.OK),
    ),
    lambda inner: st.lists(inner, max_size=4).map(encoder.array),
    max_leaves=20,
)


@given(RESP2)
def test_values_are_those_of_hiredis(raw: bytes) -> None:
    reader = hiredis.Reader()
    reader.feed(raw)
    assert parse(raw) == reader.gets()
    assert same_reply(raw, raw + b"")


@pytest.mark.parametrize(
    ("raw", "is_one"),
    [
        (b"-ERR no\r\n", True),
        (b"!6\r\nERR no\r\n", True),
        (b"|1\r\n+a\r\n:1\r\n-ERR no\r\n", True),
        (b"|1\r\n+a\r\n:1\r\n+OK\r\n", False),
        (b"+OK\r\n", False),
        (b":-1\r\n", False),
        (b"*1\r\n-ERR no\r\n", False),
    ],
)
def test_is_error(raw: bytes, is_one: bool) -> None:
    assert is_error(raw) is is_one


SAME = {
    "identical": (b"+OK\r\n", b"+OK\r\n"),
    "nulls": (b"$-1\r\n", b"*-1\r\n"),
    "null of RESP3": (b"$-1\r\n", b"_\r\n"),
    "status and bulk": (b"+OK\r\n", b"$2\r\nOK\r\n"),
    "double and string": (b",1.1\r\n", b"$18\r\n1.1000000000000001\r\n"),
    "score of Redis 7.0 and of 7.2": (b"$18\r\n1.1000000000000001\r\n", b"$3\r\n1.1\r\n"),
    "whole double and string": (b",3\r\n", b"$1\r\n3\r\n"),
    "infinities": (b",inf\r\n", b"$3\r\ninf\r\n"),
    "no numbers": (b",nan\r\n", b"$3\r\nnan\r\n"),
    "big number and string": (b"(123\r\n", b"$3\r\n123\r\n"),
    "boolean and integer": (b"#t\r\n", b":1\r\n"),
    "verbatim and bulk": (b"=6\r\ntxt:ab\r\n", b"$2\r\nab\r\n"),
    "attribute": (b"|1\r\n+a\r\n:1\r\n:5\r\n", b":5\r\n"),
    "sets": (b"~2\r\n:1\r\n:2\r\n", b"~2\r\n:2\r\n:1\r\n"),
    "set and array": (b"~2\r\n+a\r\n+b\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n"),
    "sets of arrays": (b"~2\r\n*1\r\n:1\r\n*1\r\n:2\r\n", b"~2\r\n*1\r\n:2\r\n*1\r\n:1\r\n"),
    "maps": (b"%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n", b"%2\r\n+b\r\n:2\r\n+a\r\n:1\r\n"),
    "map and flat array": (b"%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n", b"*4\r\n+b\r\n:2\r\n+a\r\n:1\r\n"),
    "map and pairs": (b"%1\r\n+a\r\n*1\r\n:1\r\n", b"*1\r\n*2\r\n+a\r\n*1\r\n:1\r\n"),
    "empty map and array": (b"%0\r\n", b"*0\r\n"),
    "pairs and flat": (b"*1\r\n*2\r\n+m\r\n,1.5\r\n", b"*2\r\n+m\r\n$3\r\n1.5\r\n"),
    "errors of one code": (b"-ERR this\r\n", b"-ERR that\r\n"),
    "error forms": (b"-ERR this\r\n", b"!8\r\nERR this\r\n"),
    "nested": (b"*2\r\n*1\r\n_\r\n,1\r\n", b"*2\r\n*1\r\n$-1\r\n$1\r\n1\r\n"),
}
DIFFERENT = {
    "statuses": (b"+OK\r\n", b"+NO\r\n"),
    "integers": (b":1\r\n", b":2\r\n"),
    "null and empty": (b"$-1\r\n", b"$0\r\n\r\n"),
    "null and empty array": (b"*-1\r\n", b"*0\r\n"),
    "null and zero": (b"_\r\n", b":0\r\n"),
    "strings that are one number": (b"$1\r\n1\r\n", b"$3\r\n1.0\r\n"),
    "strings that are one number otherwise": (b"$3\r\n1.0\r\n", b"$4\r\n1.00\r\n"),
    "long strings": (b"$40\r\n" + b"1" * 40 + b"\r\n", b"$41\r\n" + b"1" * 41 + b"\r\n"),
    "doubles": (b",1.1\r\n", b",1.2\r\n"),
    "double and another number": (b",1.1\r\n", b"$3\r\n1.2\r\n"),
    "double and text": (b",1.1\r\n", b"$1\r\nx\r\n"),
    "integer and text": (b":1\r\n", b"$1\r\nx\r\n"),
    "integer and array": (b":1\r\n", b"*1\r\n:1\r\n"),
    "arrays in another order": (b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:2\r\n:1\r\n"),
    "arrays of another length": (b"*1\r\n:1\r\n", b"*2\r\n:1\r\n:1\r\n"),
    "sets": (b"~2\r\n:1\r\n:2\r\n", b"~2\r\n:1\r\n:3\r\n"),
    "sets with repetition": (b"~2\r\n*0\r\n*0\r\n", b"~2\r\n*0\r\n*1\r\n:1\r\n"),
    "a set and an array that repeats": (b"~2\r\n:1\r\n:2\r\n", b"*3\r\n:1\r\n:2\r\n:2\r\n"),
    "a set and an array that repeats one": (b"~2\r\n:1\r\n:1\r\n", b"*2\r\n:1\r\n:2\r\n"),
    "maps": (b"%1\r\n+a\r\n:1\r\n", b"%1\r\n+a\r\n:2\r\n"),
    "map and odd array": (b"%1\r\n+a\r\n:1\r\n", b"*3\r\n+a\r\n:1\r\n+b\r\n"),
    "map and integer": (b"%1\r\n+a\r\n:1\r\n", b":1\r\n"),
    "errors": (b"-ERR no\r\n", b"-WRONGTYPE no\r\n"),
    "error and status": (b"-OK\r\n", b"+OK\r\n"),
    "pairs and flat": (b"*1\r\n*2\r\n+m\r\n,1.5\r\n", b"*2\r\n+m\r\n$3\r\n2.5\r\n"),
}


@pytest.mark.parametrize(("a", "b"), SAME.values(), ids=SAME)
def test_replies_that_say_the_same(a: bytes, b: bytes) -> None:
    assert same_reply(a, b)
    assert same_reply(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT.values(), ids=DIFFERENT)
def test_replies_that_differ(a: bytes, b: bytes) -> None:
    assert not same_reply(a, b)
    assert not same_reply(b, a)


def test_replies_too_deep_to_compare_are_different() -> None:
    assert not same_reply(b"*1\r\n" * 5000 + b":1\r\n", b"*1\r\n" * 5000 + b"+1\r\n")
