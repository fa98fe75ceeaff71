"""What is built here reads back as what was meant."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp import encode_command, encode_commands, encoder, parse


@pytest.mark.parametrize(
    ("args", "wire"),
    [
        (("PING",), b"*1\r\n$4\r\nPING\r\n"),
        (
            (b"SET", "ключ", b""),
            b"*3\r\n$3\r\nSET\r\n$8\r\n\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87\r\n$0\r\n\r\n",
        ),
        (
            ("A", 0, -15, 2**63),
            b"*4\r\n$1\r\nA\r\n$1\r\n0\r\n$3\r\n-15\r\n$19\r\n9223372036854775808\r\n",
        ),
        (("A", 0.1, 1e300), b"*3\r\n$1\r\nA\r\n$3\r\n0.1\r\n$6\r\n1e+300\r\n"),
    ],
)
def test_a_command_in_array_form(args: tuple[encoder.Argument, ...], wire: bytes) -> None:
    assert encode_command(*args) == wire


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_a_command_is_encoded_as_hiredis_does(args: list[bytes]) -> None:
    assert encode_command(*args) == hiredis.pack_command(tuple(args))


@pytest.mark.parametrize("wrong", [None, True, [1], bytearray(b"x")])
def test_what_is_no_argument_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError):
        encode_command("SET", wrong)  # type: ignore[arg-type]


def test_a_command_has_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        encode_command()


def test_commands_are_one_run_of_bytes() -> None:
    assert encode_commands([("PING",), ("GET", "k")]) == encode_command("PING") + encode_command(
        "GET", "k"
    )


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (encoder.simple("OK"), b"+OK\r\n"),
        (encoder.error("ERR no\r\n+OK"), b"-ERR no  +OK\r\n"),
        (encoder.error(b"ERR \xff"), b"-ERR \xff\r\n"),
        (encoder.integer(-3), b":-3\r\n"),
        (encoder.bulk(b"ab"), b"$2\r\nab\r\n"),
        (encoder.bulk("é"), b"$2\r\n\xc3\xa9\r\n"),
        (encoder.bulk(None), b"$-1\r\n"),
        (encoder.array([b":1\r\n", b"*0\r\n"]), b"*2\r\n:1\r\n*0\r\n"),
        (encoder.array([]), b"*0\r\n"),
        (encoder.mapping([(b"+a\r\n", b":1\r\n")], 2), b"*2\r\n+a\r\n:1\r\n"),
        (encoder.mapping([(b"+a\r\n", b":1\r\n")], 3), b"%1\r\n+a\r\n:1\r\n"),
        (encoder.set_of([b":1\r\n"], 2), b"*1\r\n:1\r\n"),
        (encoder.set_of([b":1\r\n"], 3), b"~1\r\n:1\r\n"),
        (encoder.push([b"+a\r\n"], 2), b"*1\r\n+a\r\n"),
        (encoder.push([b"+a\r\n"], 3), b">1\r\n+a\r\n"),
        (encoder.null(2), b"$-1\r\n"),
        (encoder.null(3), b"_\r\n"),
        (encoder.boolean(True, 2), b":1\r\n"),
        (encoder.boolean(False, 3), b"#f\r\n"),
        (encoder.double(2.0, 2), b"$1\r\n2\r\n"),
        (encoder.double(0.5, 3), b",0.5\r\n"),
        (encoder.verbatim("ab", 2), b"$2\r\nab\r\n"),
        (encoder.verbatim("ab", 3), b"=6\r\ntxt:ab\r\n"),
    ],
)
def test_a_reply_has_the_form_of_its_version(wire: bytes, expected: bytes) -> None:
    assert wire == expected
    parse(wire)
