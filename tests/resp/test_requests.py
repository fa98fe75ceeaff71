"""Requests: whole, byte by byte, cut in two, and with trailing bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.resp import (
    LIMITS,
    UNAUTHENTICATED,
    Limits,
    Request,
    RequestScanner,
    encode_command,
    request,
)

from .cuts import cuts

# Bytes of a client, and the commands in them.
STREAMS = {
    "one": (b"*1\r\n$4\r\nPING\r\n", [[b"PING"]]),
    "three arguments": (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", [[b"SET", b"k", b"v"]]),
    "empty arguments": (b"*2\r\n$0\r\n\r\n$0\r\n\r\n", [[b"", b""]]),
    "line ends inside": (b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n$1\r\n", [[b"ECHO", b"\r\n$1"]]),
    "a request inside": (
        b"*2\r\n$4\r\nECHO\r\n$14\r\n*1\r\n$4\r\nPING\r\n\r\n",
        [[b"ECHO", b"*1\r\n$4\r\nPING\r\n"]],
    ),
    "every byte": (
        encode_command(b"SET", b"k", bytes(range(256)) * 4),
        [[b"SET", b"k", bytes(range(256)) * 4]],
    ),
    "pipeline": (
        encode_command("GET", "a") * 3 + encode_command("get", "b"),
        [[b"GET", b"a"]] * 3 + [[b"get", b"b"]],
    ),
    "more than 256 arguments": (
        encode_command("DEL", *[f"key:{n}" for n in range(300)]),
        [[b"DEL", *[b"key:%d" % n for n in range(300)]]],
    ),
    "requests for nothing": (b"*0\r\n*-1\r\n*-5\r\n*1\r\n$4\r\nPING\r\n*0\r\n", [[b"PING"]]),
    "inline": (b"PING\r\n", [[b"PING"]]),
    "inline, LF alone": (b"PING\nGET k\n", [[b"PING"], [b"GET", b"k"]]),
    "inline, blank lines": (b"\r\n\n  \r\nPING\r\n", [[b"PING"]]),
    "inline, quoted": (b"SET k 'a b' \"\\x00\\n\"\r\n", [[b"SET", b"k", b"a b", b"\0\n"]]),
    "inline between arrays": (
        b"*1\r\n$4\r\nPING\r\nGET k\r\n*1\r\n$4\r\nPING\r\n",
        [[b"PING"], [b"GET", b"k"], [b"PING"]],
    ),
}


def scan(chunks: list[bytes], limits: Limits = LIMITS) -> tuple[list[Request], RequestScanner]:
    scanner = RequestScanner(limits)
    return [found for chunk in chunks for found in scanner.feed(chunk)], scanner


@pytest.mark.parametrize(("data", "commands"), STREAMS.values(), ids=STREAMS)
def test_requests_are_found_however_the_stream_is_cut(
    data: bytes, commands: list[list[bytes]]
) -> None:
    for chunks in cuts(data):
        found, scanner = scan(chunks)
        assert [r.args() for r in found] == commands
        assert [r.raw for r in found] == [encode_command(*args) for args in commands]
        assert [r.name for r in found] == [args[0].upper() for args in commands]
        assert [r.argc for r in found] == [len(args) for args in commands]
        assert scanner.error is None
        assert scanner.pending == 0


@pytest.mark.parametrize("rest", [b"*", b"*2\r\n", b"*2\r\n$3\r\nGET\r\n$5\r\nke", b"GET k\r"])
@pytest.mark.parametrize(("data", "commands"), STREAMS.values(), ids=STREAMS)
def test_trailing_bytes_wait_for_the_rest_of_their_frame(
    data: bytes, commands: list[list[bytes]], rest: bytes
) -> None:
    for chunks in cuts(data + rest):
        found, scanner = scan(chunks)
        assert [r.args() for r in found] == commands
        assert scanner.pending == len(rest)
        assert scanner.error is None


def test_raw_is_the_very_bytes_that_arrived() -> None:
    data = b"*2\r\n$3\r\ngEt\r\n$1\r\nk\r\n"
    (found,), _ = scan([data])
    assert found.raw is data
    assert found.name == b"GET"
    assert found.arg(0) == b"gEt"


def test_it_is_known_where_the_first_key_stands() -> None:
    data = encode_command("SET", "key", "v" * 300)
    for chunks in cuts(data):
        (found,), _ = scan(chunks)
        assert (found.key, found.key_end) == (17, 20)
        assert [found.arg(at) for at in range(3)] == [b"SET", b"key", b"v" * 300]


@pytest.mark.parametrize("index", [-1, 2, 1 << 40])
def test_an_argument_that_is_not_there_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        request(b"GET", b"k").arg(index)


def test_a_request_made_here_is_like_one_that_was_scanned() -> None:
    args = [b"set", b"", b"v" * 1000]
    (scanned,), _ = scan([encode_command(*args)])
    made = request(*args)
    assert (made.raw, made.argc, made.args(), made.name) == (
        scanned.raw,
        scanned.argc,
        scanned.args(),
        scanned.name,
    )


def test_the_representation_shows_no_user_data() -> None:
    assert "secret" not in repr(request(b"AUTH", b"secret"))


def test_names_are_upper_cased_also_when_clients_invent_more_than_are_remembered() -> None:
    for number in range(5000):
        assert request(b"made-up-%d" % number).name == b"MADE-UP-%d" % number
    assert request(b"x" * 1000).name == b"X" * 1000


# A client's bytes, and the problem that is found in them.
ERRORS = {
    "no count": (b"*\r\n", "invalid multibulk length"),
    "count no number": (b"*x\r\n", "invalid multibulk length"),
    "count with a leading zero": (b"*03\r\n", "invalid multibulk length"),
    "count with a plus": (b"*+1\r\n", "invalid multibulk length"),
    "count with a blank": (b"* 1\r\n", "invalid multibulk length"),
    "count minus zero": (b"*-0\r\n", "invalid multibulk length"),
    "count minus alone": (b"*-\r\n", "invalid multibulk length"),
    "count beyond 64 bits": (b"*99999999999999999999\r\n", "invalid multibulk length"),
    "count beyond -64 bits": (b"*-99999999999999999999\r\n", "invalid multibulk length"),
    "no length": (b"*1\r\n$\r\n", "invalid bulk length"),
    "length no number": (b"*1\r\n$x\r\n", "invalid bulk length"),
    "length negative": (b"*1\r\n$-1\r\n", "invalid bulk length"),
    "length with a leading zero": (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
    "length of a gigabyte": (b"*1\r\n$1073741824\r\n", "invalid bulk length"),
    "length above the limit by one": (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    "length beyond 64 bits": (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
    "no length at all": (b"*1\r\nxfoo\r\n", "expected '$', got 'x'"),
    "a blank line for a length": (b"*1\r\n\r\n\r\n", "expected '$', got ' '"),
    "an array inside": (b"*1\r\n*1\r\n", "expected '$', got '*'"),
    "a byte above ASCII for a length": (b"*1\r\n\xff1\r\n", "expected '$', got '\xff'"),
    "second length": (b"*2\r\n$3\r\nGET\r\n:1\r\n", "expected '$', got ':'"),
    "inline too long": (b"x" * 65537, "too big inline request"),
    "count too long": (b"*" + b"1" * 65536, "too big mbulk count string"),
    "length too long": (b"*1\r\n$" + b"1" * 65536, "too big bulk count string"),
    "open double quote": (b'ECHO "a\r\n', "unbalanced quotes in request"),
    "open single quote": (b"ECHO 'a\r\n", "unbalanced quotes in request"),
}
# What Valkey 9 takes and older engines refuse.
QUOTE_ERRORS = {
    "text behind a quote": (b"ECHO 'a'b\r\n", "unbalanced quotes in request"),
}
# What older engines let pass and Valkey 8.1 refuses.
STRICT_ERRORS = {
    "CR alone behind the count": (b"*1\rX$4\r\nPING\r\n", "invalid CRLF in request"),
    "CR alone behind the length": (b"*1\r\n$4\rXPING\r\n", "invalid CRLF in request"),
    "longer than announced": (b"*1\r\n$4\r\nPINGxyPING\r\n", "invalid CRLF in request"),
}
# What is refused only before the login.
UNAUTHENTICATED_ERRORS = {
    "count": (b"*11\r\n", "unauthenticated multibulk length"),
    "length": (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
    "length of a gigabyte": (b"*1\r\n$1073741824\r\n", "invalid bulk length"),
}


def check_error(data: bytes, problem: str, limits: Limits) -> None:
    before = encode_command("GET", "k")
    reply = b"-ERR Protocol error: " + problem.encode("latin-1") + b"\r\n"
    for chunks in cuts(before + data):
        found, scanner = scan(chunks, limits)
        assert [r.raw for r in found] == [before]
        assert scanner.error is not None
        assert scanner.error.reply == reply
        # Nothing after it is looked at.
        assert scanner.feed(before) == []
        assert scanner.error.reply == reply


@pytest.mark.parametrize(
    ("data", "problem"),
    [*ERRORS.values(), *QUOTE_ERRORS.values(), *STRICT_ERRORS.values()],
    ids=[*ERRORS, *QUOTE_ERRORS, *STRICT_ERRORS],
)
def test_what_is_no_request_is_refused_in_the_servers_words(data: bytes, problem: str) -> None:
    check_error(data, problem, LIMITS)


@pytest.mark.parametrize(
    ("data", "problem"), UNAUTHENTICATED_ERRORS.values(), ids=UNAUTHENTICATED_ERRORS
)
def test_before_the_login_less_is_allowed(data: bytes, problem: str) -> None:
    check_error(data, problem, UNAUTHENTICATED)


def test_what_is_just_within_the_limits_is_taken() -> None:
    limits = Limits(max_multibulk=3, max_bulk=5, max_inline=12)
    ok = encode_command("a", "b", "12345")
    for data in (ok, b"ECHO 1234567\n"):
        found, scanner = scan([data], limits)
        assert len(found) == 1
        assert scanner.error is None
    assert scan([b"*4\r\n"], limits)[1].error is not None
    assert scan([b"*1\r\n$6\r\n"], limits)[1].error is not None
    assert scan([b"ECHO 12345678\n"], limits)[1].error is not None


@pytest.mark.parametrize(
    "refused",
    [encode_command("DEL", *[str(n) for n in range(20)]), encode_command("SET", "k", "v" * 20000)],
    ids=["many arguments", "a big argument"],
)
def test_a_login_and_a_large_request_sent_at_once_are_both_taken(refused: bytes) -> None:
    login = encode_command("AUTH", "pw")
    after = encode_command("PING")
    for chunks in cuts(login + refused + after):
        found, scanner = scan(chunks, UNAUTHENTICATED)
        assert [r.raw for r in found] == [login]
        assert scanner.error is not None
        scanner.limits = LIMITS
        assert scanner.error is None
        assert [r.raw for r in scanner.feed(b"")] == [refused, after]
        assert scanner.pending == 0


def test_new_limits_do_not_forgive_what_no_login_would_allow() -> None:
    _, scanner = scan([b"*1\r\n$-1\r\n"], UNAUTHENTICATED)
    scanner.limits = LIMITS
    assert scanner.error is not None


def test_limits_are_those_that_were_set() -> None:
    scanner = RequestScanner(UNAUTHENTICATED)
    assert scanner.limits is UNAUTHENTICATED
    scanner.limits = LIMITS
    assert scanner.limits is LIMITS


def test_a_big_argument_in_many_chunks_is_not_looked_at_again() -> None:
    value = b"x\r\n$" * 4_000_000
    data = encode_command("SET", "k", value)
    scanner = RequestScanner()
    found = [r for at in range(0, len(data), 4096) for r in scanner.feed(data[at : at + 4096])]
    assert [r.arg(2) == value for r in found] == [True]


COMMANDS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=12)


@settings(max_examples=200, deadline=None)
@given(commands=COMMANDS, data=st.data())
def test_any_commands_cut_anywhere_come_back_exactly(
    commands: list[list[bytes]], data: st.DataObject
) -> None:
    stream = b"".join([encode_command(*args) for args in commands])
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    edges = [0, *places, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    found, scanner = scan(chunks)
    assert [r.args() for r in found] == commands
    assert b"".join([r.raw for r in found]) == stream
    assert scanner.pending == 0


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"*", b"$", b"1", b"3", b"-", b"\r\n", b"\n", b"\r", b"GET", b'"', b"'", b"\0", b" "]
        ),
        max_size=30,
    ).map(b"".join)
)
def test_garbage_gives_the_same_answer_however_it_is_cut(garbage: bytes) -> None:
    answers = set()
    for chunks in cuts(garbage):
        found, scanner = scan(chunks)
        pending = None if scanner.error else scanner.pending
        answers.add((tuple(r.raw for r in found), str(scanner.error), pending))
    assert len(answers) == 1
