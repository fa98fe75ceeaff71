"""Pages of keys: what asks for them, what restores them, when two are surely equal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.resp import encode_command
from proxy.resp.dumps import (
    GONE,
    NO_EXPIRY,
    ask_dumps,
    kind_of,
    not_plain,
    plain_strings,
    replies_of,
    restores,
    sets,
    split_dumps,
    split_strings,
    unequal,
)
from proxy.resp.values import ReplyError

KEYS = st.lists(st.binary(max_size=300), max_size=100)
TIME = [b"1700000000", b"250999"]
NOW_MS = 1_700_000_000_250
STRING = 0
COMMON = 21


def payload(body: bytes = b"x", type_: int = STRING, version: int = 9) -> bytes:
    return bytes([type_]) + body + version.to_bytes(2, "little") + bytes(8)


@given(KEYS)
def test_absolute_expiries_are_asked_for_behind_each_dump(keys: list[bytes]) -> None:
    expected = b"".join(
        encode_command(b"DUMP", key) + encode_command(b"PEXPIRETIME", key) for key in keys
    )
    assert ask_dumps(keys, True) == expected
    assert replies_of(len(keys), True) == 2 * len(keys)


@given(KEYS)
def test_relative_expiries_stand_between_times_that_are_not_far_apart(keys: list[bytes]) -> None:
    commands = []
    for at, key in enumerate(keys):
        if at % 32 == 0:
            commands.append(encode_command(b"TIME"))
        commands += [encode_command(b"DUMP", key), encode_command(b"PTTL", key)]
    commands.append(encode_command(b"TIME"))
    assert ask_dumps(keys, False) == b"".join(commands)
    assert replies_of(len(keys), False) == len(commands)


@given(st.lists(st.sampled_from([NO_EXPIRY, GONE, 0, 5000]), max_size=100))
def test_replies_are_taken_apart(ttls: list[int]) -> None:
    payloads = [b"%d" % at for at in range(len(ttls))]
    flat: list[Any] = [each for pair in zip(payloads, ttls, strict=True) for each in pair]
    assert split_dumps(flat, len(ttls), True, 8) == (payloads, ttls, [])
    replies: list[Any] = []
    for at in range(0, len(ttls), 32):
        replies += [TIME, *flat[2 * at : 2 * at + 64]]
    replies.append(TIME)
    expected = [ttl + NOW_MS if ttl >= 0 else ttl for ttl in ttls]
    assert split_dumps(replies, len(ttls), False, 8) == (payloads, expected, [])


def test_what_took_too_long_between_two_times_is_unsure_if_it_expires() -> None:
    later = [b"1700000000", b"270999"]
    replies = [TIME, b"a", 100, b"b", NO_EXPIRY, b"c", GONE, later]
    payloads, expiries, unsure = split_dumps(replies, 3, False, 8)
    assert (payloads, expiries) == ([b"a", b"b", b"c"], [NOW_MS + 110, NO_EXPIRY, GONE])
    assert unsure == [0]
    assert split_dumps(replies, 3, False, 20)[2] == []


def test_an_error_for_an_expiry_or_a_time_is_raised_and_one_for_a_value_kept() -> None:
    error = ReplyError("NOPERM no")
    with pytest.raises(ReplyError):
        split_dumps([b"a", error], 1, True, 8)
    with pytest.raises(ReplyError):
        split_dumps([error, b"a", 1, TIME], 1, False, 8)
    with pytest.raises(ReplyError):
        split_dumps([TIME, b"a", 1, error], 1, False, 8)
    assert split_dumps([error, NO_EXPIRY], 1, True, 8) == ([error], [NO_EXPIRY], [])


def test_only_kinds_that_are_known_to_be_taken_are_plain() -> None:
    new = payload(version=80)
    plain = {kind_of(payload())}
    payloads = [payload(), new, None, payload(b"y"), ReplyError("ERR"), payload(type_=4), b"short"]
    expiries = [NO_EXPIRY, NO_EXPIRY, GONE, GONE, NO_EXPIRY, 5, NO_EXPIRY]
    assert not_plain(payloads, expiries, plain, 1000) == [1, 2, 3, 4, 5, 6]
    assert not_plain(payloads, expiries, set(), 1000) == list(range(7))
    assert not_plain([payload(b"a"), payload(b"b"), new], [NO_EXPIRY, 7, 8], plain, 1000) == [2]
    large = payload(b"x" * 2000)
    assert not_plain([payload(), large, payload()], [NO_EXPIRY] * 3, plain, 1000) == [1]


@given(KEYS, st.data())
def test_untouched_keys_are_restored_each_with_its_own(
    keys: list[bytes], data: st.DataObject
) -> None:
    payloads = [data.draw(st.binary(max_size=300)) for _ in keys]
    expiries = [data.draw(st.sampled_from([NO_EXPIRY, NOW_MS])) for _ in keys]
    touched = set(data.draw(st.lists(st.sampled_from(keys)))) if keys else set()
    kept, wire, size = restores(keys, payloads, expiries, touched)
    mine = [each for each in zip(keys, payloads, expiries, strict=True) if each[0] not in touched]
    assert kept == [key for key, _, _ in mine]
    assert size == sum(len(value) for _, value, _ in mine)
    assert wire == b"".join(
        encode_command(b"RESTORE", key, max(0, at), value, b"REPLACE", b"ABSTTL")
        for key, value, at in mine
    )


@pytest.mark.parametrize(
    ("a", "b", "is_sure"),
    [
        (payload(), payload(), True),
        (payload(), payload(version=80), True),
        (payload(), payload(b"y"), False),
        (payload(), payload(b"xx"), False),
        (payload(), payload(type_=1), False),
        (payload(type_=22), payload(type_=22), True),
        (payload(type_=22), payload(type_=22, version=80), False),
        (None, None, True),
        (payload(), None, False),
        (None, payload(), False),
        (ReplyError("ERR"), ReplyError("ERR"), False),
        (b"short", b"short", False),
    ],
)
def test_equal_bytes_settle_what_they_can(a: Any, b: Any, is_sure: bool) -> None:
    same = payload(b"beside it")
    found = unequal([same, a, same], [same, b, same], [1, 2, 3], [1, 2, 3], COMMON)
    assert found == ([] if is_sure else [1])


def test_expiries_that_differ_are_not_settled() -> None:
    assert unequal([payload()] * 2, [payload()] * 2, [5, NO_EXPIRY], [6, NO_EXPIRY], COMMON) == [0]


@given(KEYS, st.data())
def test_untouched_strings_are_set_by_one_command(keys: list[bytes], data: st.DataObject) -> None:
    values = [data.draw(st.binary(max_size=300)) for _ in keys]
    touched = set(data.draw(st.lists(st.sampled_from(keys)))) if keys else set()
    kept, wire, size = sets(keys, values, touched)
    mine = [each for each in zip(keys, values, strict=True) if each[0] not in touched]
    assert kept == [key for key, _ in mine]
    assert size == sum(len(value) for _, value in mine)
    assert wire == (encode_command(b"MSET", *(w for pair in mine for w in pair)) if mine else b"")


def test_strings_are_told_from_what_is_larger_and_what_is_none() -> None:
    keys = [b"a", b"b", b"c", b"d", b"e"]
    values = [b"", None, b"12345", b"1234", ReplyError("ERR")]
    assert split_strings(keys, values, 4) == ([b"a", b"d"], [b"", b"1234"], [b"c"], [b"b", b"e"])


def test_strings_that_do_not_expire_are_counted() -> None:
    payloads = [payload(), payload(type_=4), None, payload(b"y"), ReplyError("ERR"), payload()]
    assert plain_strings(payloads, [NO_EXPIRY, NO_EXPIRY, GONE, 5, NO_EXPIRY, NO_EXPIRY], 0) == 2
