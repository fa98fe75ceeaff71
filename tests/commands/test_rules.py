"""Rules of effects alone: a request, a reply and a clock in; commands for the secondary out."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.commands import COPY_KEYS, Check, Clock, CommandTable, Engine
from proxy.resp import encode_command, request

from .wire import words

TABLE = CommandTable()
NOW = 1_000_000_000_000
CLOCK = Clock(NOW, 1)
REDIS_6 = CLOCK._replace(engine=Engine.of("redis", "6.2.14"))
REDIS_7 = CLOCK._replace(engine=Engine.of("redis", "7.0.15"))
VALKEY = CLOCK._replace(engine=Engine.of("valkey", "9.1.2"))


def effects(line: str, reply: Any, clock: Clock = CLOCK) -> Any:
    """As text; COPY_KEYS as it is."""
    req = request(*words(line))
    command = TABLE.lookup(req)
    assert command is not None
    assert command.effect is not None
    found = command.effect(req, reply, clock)
    if found is COPY_KEYS:
        return found
    return [_text(effect.raw) for effect in found]


def _text(raw: bytes) -> str:
    return " ".join(word.decode() for word in raw.split(b"\r\n")[2::2])


def check(line: str, reply: Any, clock: Clock = CLOCK) -> Check | bytes:
    req = request(*words(line))
    command = TABLE.lookup(req)
    assert command is not None
    assert command.effect is not None
    found = command.effect(req, reply, clock)
    assert isinstance(found, list)
    return found[0].check


@pytest.mark.parametrize(
    ("line", "reply", "expected"),
    [
        ("SET k v", b"OK", ["SET k v"]),
        ("SET k v EX 100", b"OK", [f"SET k v PXAT {NOW + 100_000}"]),
        ("SET k v px 100", b"OK", [f"SET k v PXAT {NOW + 100}"]),
        ("SET k v EXAT 2000000000", b"OK", ["SET k v PXAT 2000000000000"]),
        ("SET k v PXAT 5", b"OK", ["DEL k"]),
        ("SET k v NX", None, []),
        ("SET k v NX GET", None, ["SET k v"]),
        ("SET k v NX GET", b"old", []),
        ("SET k v XX GET", None, []),
        ("SET k v XX GET KEEPTTL", b"old", ["SET k v KEEPTTL"]),
        ("SET k v GET", None, ["SET k v"]),
        ("SET k v IFEQ old", b"OK", ["SET k v"]),
        ("SET k v IFEQ old GET", b"old", ["SET k v"]),
        ("SET k v IFEQ old GET", b"other", []),
        ("SET k v IFEQ old GET", None, []),
        ("SETNX k v", 1, ["SET k v"]),
        ("SETNX k v", 0, []),
        ("MSETNX a 1 b 2", 1, ["MSET a 1 b 2"]),
        ("MSETEX 2 a 1 b 2 EX 1", 1, [f"SET a 1 PXAT {NOW + 1000}", f"SET b 2 PXAT {NOW + 1000}"]),
        ("INCRBYFLOAT k 1", b"2.5", ["SET k 2.5 KEEPTTL"]),
        ("GETEX k", b"v", []),
        ("GETEX k EX 10", None, []),
        ("GETEX k EX 10", b"", [f"PEXPIREAT k {NOW + 10_000}"]),
        ("GETEX k PERSIST", b"v", ["PERSIST k"]),
        ("GETDEL k", b"", ["DEL k"]),
        ("GETDEL k", None, []),
        ("EXPIRE k 10 GT", 1, [f"PEXPIREAT k {NOW + 10_000}"]),
        ("EXPIRE k 10 GT", 0, []),
        ("EXPIRE k 0", 1, ["DEL k"]),
        ("PEXPIREAT k 5", 1, ["DEL k"]),
        ("RESTORE k 0 payload REPLACE", b"OK", ["RESTORE k 0 payload REPLACE"]),
        ("RESTORE k 10 payload", b"OK", [f"RESTORE k {NOW + 10} payload REPLACE ABSTTL"]),
        ("RENAMENX a b", 1, ["RENAME a b"]),
        ("COPY a b DB 3", 1, ["COPY a b DB 3 REPLACE"]),
        ("SPOP s 2", [b"a", b"b"], ["SREM s a b"]),
        ("SPOP s", b"", ["SREM s "]),
        ("SPOP s", None, []),
        ("ZPOPMIN z 2", [b"a", b"1", b"b", b"2"], ["ZREM z a b"]),
        ("ZPOPMIN z 2", [[b"a", 1.0], [b"b", 2.0]], ["ZREM z a b"]),
        ("ZPOPMIN z", [b"a", 1.0], ["ZREM z a"]),
        ("ZMPOP 2 y z MIN", [b"z", [[b"a", b"1"]]], ["ZREM z a"]),
        ("LMPOP 2 k l RIGHT COUNT 5", [b"l", [b"x", b"y"]], ["RPOP l 2"]),
        ("BLPOP k l 0", [b"l", b"x"], ["LPOP l"]),
        ("BLPOP k l 0", None, []),
        ("BRPOP k l 0", [b"k", b"x"], ["RPOP k"]),
        ("BLMOVE k l LEFT RIGHT 0", b"x", ["LMOVE k l LEFT RIGHT"]),
        ("BLMOVE k l LEFT RIGHT 0", None, []),
        ("BRPOPLPUSH k l 0", b"x", ["RPOPLPUSH k l"]),
        ("BLMPOP 0 2 k l RIGHT COUNT 5", [b"l", [b"x", b"y"]], ["RPOP l 2"]),
        ("BLMPOP 0 1 k LEFT", None, []),
        ("BZPOPMIN k z 0", [b"z", b"a", b"1"], ["ZREM z a"]),
        ("BZPOPMAX z 0", None, []),
        ("BZMPOP 0 1 z MIN", [b"z", [[b"a", b"1"]]], ["ZREM z a"]),
        ("LPUSHX l a b", 0, []),
        ("HSETNX h f v", 1, ["HSET h f v"]),
        ("HEXPIRE h 10 FIELDS 3 a b c", [1, 2, 0], [
            f"HPEXPIREAT h {NOW + 10_000} FIELDS 1 a", "HDEL h b"]),
        ("HGETEX h EX 10 FIELDS 2 a b", [b"1", None], [f"HPEXPIREAT h {NOW + 10_000} FIELDS 1 a"]),
        ("HGETDEL h FIELDS 2 a b", [None, b"1"], ["HDEL h b"]),
        ("HSETEX h EX 1 FIELDS 1 a 1", 1, ["HSET h a 1", f"HPEXPIREAT h {NOW + 1000} FIELDS 1 a"]),
        ("XADD x * f v", b"5-1", ["XADD x 5-1 f v"]),
        ("XADD x NOMKSTREAM MAXLEN 9 5-* f v", b"5-3", ["XADD x MAXLEN = 9 5-3 f v"]),
        ("XADD x MAXLEN ~ 9 LIMIT 5 * f v", (b"5-1", 12), ["XADD x MAXLEN = 12 5-1 f v"]),
        ("XTRIM x MINID ~ 9", (3, 7), ["XTRIM x MAXLEN = 7"]),
        ("XTRIM x MAXLEN ~ 9", (0, 7), []),
        ("XGROUP CREATE x g $ ENTRIESREAD 3", b"OK", ["XGROUP CREATE x g $"]),
    ],
)  # fmt: skip
def test_the_effect_is_what_the_reply_says_was_done(line: str, reply: Any, expected: Any) -> None:
    assert effects(line, reply) == expected


@pytest.mark.parametrize(
    ("line", "reply"),
    [("SET k v EX 100", b"OK"), ("EXPIRE k 100", 1), ("GETEX k PX 9999", b"v"),
     ("RESTORE k 100 payload", b"OK"), ("HEXPIRE h 100 FIELDS 1 a", [1]),
     ("PSETEX k 100 v", b"OK")],
)  # fmt: skip
def test_a_relative_time_by_a_vague_clock_copies_the_key(line: str, reply: Any) -> None:
    assert effects(line, reply, Clock(NOW, 20)) is not COPY_KEYS
    assert effects(line, reply, Clock(NOW, 20.5)) is COPY_KEYS


def test_an_absolute_time_needs_no_clock_unless_it_is_now() -> None:
    assert effects("PEXPIREAT k 2000000000000", 1, Clock(NOW, 500)) == ["PEXPIREAT k 2000000000000"]
    assert effects(f"PEXPIREAT k {NOW + 3}", 1, Clock(NOW, 5)) is COPY_KEYS
    assert effects(f"PEXPIREAT k {NOW - 3}", 1, Clock(NOW, 5)) is COPY_KEYS


def test_a_vague_trim_without_its_probe_copies_the_key() -> None:
    assert effects("XADD x MAXLEN ~ 9 * f v", b"5-1") is COPY_KEYS
    assert effects("XTRIM x MAXLEN ~ 9", 3) is COPY_KEYS
    assert effects("XADD x MAXLEN ~ 9 * f v", (b"5-1", None)) is COPY_KEYS


def test_only_a_vague_trim_has_a_probe() -> None:
    for line, expected in (
        ("XADD x MAXLEN ~ 9 * f v", encode_command("XLEN", "x")),
        ("XADD x MAXLEN 9 * f ~", None),
        ("XADD x * MAXLEN ~", None),
        ("XTRIM x MINID ~ 9", encode_command("XLEN", "x")),
        ("XTRIM x MINID = 9", None),
    ):
        req = request(*words(line))
        command = TABLE.lookup(req)
        assert command is not None
        assert command.probe(req) == expected, line


READ_NEW = "XREADGROUP GROUP g c STREAMS x >"


def test_a_delivery_is_claimed_with_its_time_and_count() -> None:
    for reply in ([[b"x", [[b"1-1", [b"f", b"v"]], [b"2-1", [b"f", b"v"]]]]],
                  {b"x": [[b"1-1", [b"f", b"v"]], [b"2-1", [b"f", b"v"]]]}):  # fmt: skip
        assert effects(READ_NEW, reply) == [
            f"XCLAIM x g c 0 1-1 2-1 TIME {NOW} RETRYCOUNT 1 FORCE JUSTID LASTID 2-1"
        ]


def test_an_empty_read_makes_the_consumer_where_the_server_does() -> None:
    assert effects(READ_NEW, None, REDIS_6) == []
    assert effects(READ_NEW, None, REDIS_7) == []
    assert effects(READ_NEW, None, VALKEY) == ["XGROUP CREATECONSUMER x g c"]
    assert effects(READ_NEW, None, CLOCK) is COPY_KEYS


def test_a_read_of_the_history_is_one_more_delivery_of_what_is_still_there() -> None:
    reply = [[b"x", [[b"1-1", None], [b"2-1", [b"f", b"v"]]]]]
    assert effects("XREADGROUP GROUP g c STREAMS x 0", reply) == [
        "XGROUP CREATECONSUMER x g c",
        f"XCLAIM x g c 0 2-1 TIME {NOW}",
    ]


def test_a_read_of_one_stream_twice_copies_it() -> None:
    assert effects("XREADGROUP GROUP g c STREAMS x x > 0", None, VALKEY) is COPY_KEYS


def test_an_id_that_was_not_claimed_may_have_been_dropped() -> None:
    line = "XCLAIM x g c 1000 1-1 2-1"
    reply = [[b"1-1", [b"f", b"v"]]]
    assert effects(line, reply, REDIS_6) == [f"XCLAIM x g c 0 1-1 TIME {NOW}"]
    assert effects(line, reply, REDIS_7) is COPY_KEYS
    assert effects(line, reply, CLOCK) is COPY_KEYS
    assert effects(line, [], REDIS_6) == []
    assert effects(line, [None, reply[0]], REDIS_6) is COPY_KEYS


def test_a_claim_keeps_its_counting() -> None:
    claimed = [[b"1-1", [b"f", b"v"]]]
    assert effects("XCLAIM x g c 9 1-1 IDLE 500 RETRYCOUNT 4 FORCE", claimed) == [
        f"XCLAIM x g c 0 1-1 TIME {NOW - 500} RETRYCOUNT 4 FORCE"
    ]
    assert effects("XCLAIM x g c 9 1-1 JUSTID TIME 77", [b"1-1"]) == [
        "XCLAIM x g c 0 1-1 TIME 77 JUSTID"
    ]


def test_autoclaim_acknowledges_what_it_dropped() -> None:
    reply = [b"0-0", [[b"1-1", [b"f", b"v"]]], [b"2-1", b"3-1"]]
    assert effects("XAUTOCLAIM x g c 9 0", reply) == [
        f"XCLAIM x g c 0 1-1 TIME {NOW}",
        "XACK x g 2-1 3-1",
    ]
    assert effects("XAUTOCLAIM x g c 9 0 JUSTID", [b"0-0", [b"1-1"]], REDIS_6) == [
        f"XCLAIM x g c 0 1-1 TIME {NOW} JUSTID"
    ]
    assert effects("XAUTOCLAIM x g c 9 0", [b"0-0", []], REDIS_6) == []
    assert effects("XAUTOCLAIM x g c 9 0", [b"0-0", [None]], REDIS_6) is COPY_KEYS


@pytest.mark.parametrize(
    ("line", "reply", "expected"),
    [
        ("SET k v EX 9", b"OK", b"+OK\r\n"),
        ("SPOP s 2", [b"a", b"b"], b":2\r\n"),
        ("LMPOP 1 l LEFT", [b"l", [b"x"]], b"*1\r\n$1\r\nx\r\n"),
        ("XADD x * f v", b"5-1", b"$3\r\n5-1\r\n"),
        ("LPUSHX l a", 4, Check.SAME),
        ("GETEX k PERSIST", b"v", Check.NO_ERROR),
        (READ_NEW, [[b"x", [[b"1-1", [b"f", b"v"]]]]], b"*1\r\n$3\r\n1-1\r\n"),
    ],
)
def test_the_answer_expected_of_the_secondary(
    line: str, reply: Any, expected: Check | bytes
) -> None:
    assert check(line, reply) == expected


@pytest.mark.parametrize("line", ["SET k v LATER 5", "GETEX k LATER", "RESTORE k 0 p LATER",
    "XADD x KEEPREF MAXLEN 5 * f v", "MSETEX 1 a b LATER"])  # fmt: skip
def test_an_option_of_a_newer_server_copies_the_key(line: str) -> None:
    assert effects(line, b"1") is COPY_KEYS
