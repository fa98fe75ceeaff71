"""The scanner refuses what real servers refuse, in their words, and takes what they take."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from proxy.resp import (
    LIMITS,
    UNAUTHENTICATED,
    Limits,
    ReplyScanner,
    RequestScanner,
    encode_command,
    parse,
)
from tests.servers import Engine, Server, every_engine

from .test_requests import ERRORS, QUOTE_ERRORS, STRICT_ERRORS, UNAUTHENTICATED_ERRORS

PING = encode_command("PING")


def converse(server: Server, data: bytes) -> bytes:
    """What the server answers until it hangs up, or until it has answered a PING sent behind."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(data)
        answer = b""
        while not answer.endswith(b"+PONG\r\n"):
            try:
                chunk = connection.recv(65536)
            except ConnectionResetError:
                break
            if not chunk:
                break
            answer += chunk
    return answer


def answer_of_scanner(data: bytes, limits: Limits) -> bytes:
    scanner = RequestScanner(limits)
    scanner.feed(data)
    assert scanner.error is not None
    return scanner.error.reply


@every_engine
def test_errors_are_worded_as_the_server_words_them(server: Server) -> None:
    for name, (data, _) in ERRORS.items():
        assert converse(server, data) == answer_of_scanner(data, LIMITS), name


@every_engine
def test_text_behind_a_quote_is_refused_by_all_but_valkey_9(server: Server, engine: Engine) -> None:
    for name, (data, _) in QUOTE_ERRORS.items():
        answer = converse(server, data + PING)
        if engine.kind == "valkey" and engine.version >= (9,):
            assert answer.endswith(b"+PONG\r\n"), name
        else:
            assert answer == answer_of_scanner(data, LIMITS), name


@every_engine
def test_bad_line_ends_are_refused_as_valkey_does_and_redis_does_not(
    server: Server, engine: Engine
) -> None:
    for name, (data, _) in STRICT_ERRORS.items():
        answer = converse(server, data + PING)
        if engine.kind == "redis":
            assert answer.endswith(b"+PONG\r\n"), name
        else:
            assert answer == answer_of_scanner(data, LIMITS), name


@every_engine
def test_before_the_login_the_server_says_the_same(
    engine: Engine, server_factory: Callable[..., Server]
) -> None:
    server = server_factory(engine, password="pw")
    for name, (data, _) in UNAUTHENTICATED_ERRORS.items():
        assert converse(server, data) == answer_of_scanner(data, UNAUTHENTICATED), name


@every_engine
@pytest.mark.parametrize(
    "line",
    [
        b"ECHO a\r\n",
        b"ECHO\ta \r\n",
        b"ECHO a\n",
        b"ECHO a\xa0b\x1cc\n",
        b'ECHO "a\\x41\\n\\q\\t\\\\ b"\r\n',
        b"ECHO 'it\\'s \\n'\r\n",
        b'ECHO a"b c"\r\n',
        b'ECHO ""\r\n',
        b"\r\n \r\nECHO a\r\n",
    ],
)
def test_an_inline_request_means_to_the_server_what_it_means_here(
    server: Server, line: bytes
) -> None:
    (found,) = RequestScanner().feed(line)
    answers = ReplyScanner().feed(converse(server, line + PING))
    assert [parse(answer) for answer in answers] == [found.arg(1), b"PONG"]


@every_engine
def test_requests_for_nothing_get_no_answer(server: Server) -> None:
    assert converse(server, b"*0\r\n*-1\r\n*-5\r\n" + PING) == b"+PONG\r\n"


@every_engine
def test_every_reply_type_of_the_server_is_cut_as_it_sent_it(server: Server) -> None:
    commands = [
        ("HELLO", "3"),
        ("SET", "s", "1"),
        ("GET", "none"),
        ("HSET", "h", "f", "v"),
        ("HGETALL", "h"),
        ("SADD", "set", "a", "b"),
        ("SMEMBERS", "set"),
        ("ZADD", "z", "1.1", "m"),
        ("ZSCORE", "z", "m"),
        ("ZRANGE", "z", "0", "-1", "WITHSCORES"),
        ("XADD", "x", "1-1", "f", "v"),
        ("XREAD", "STREAMS", "x", "0"),
        ("INCR", "h"),
        ("COMMAND",),
        ("INFO",),
        ("EVAL", "redis.setresp(3); return {1, {double=1.5}, {map={a=true}}, false}", "0"),
        ("PING",),
    ]
    answer = converse(server, b"".join([encode_command(*command) for command in commands]))
    whole = ReplyScanner().feed(answer)
    assert len(whole) == len(commands)
    assert b"".join(whole) == answer
    scanner = ReplyScanner()
    assert [f for at in range(len(answer)) for f in scanner.feed(answer[at : at + 1])] == whole
    for frame in whole:
        parse(frame)
