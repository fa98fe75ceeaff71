"""From snapshots to commands: sizes and order, without a server."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from migrator.copy.dialect import Writes
from migrator.copy.rebuild import CHUNK_BYTES, CHUNK_ELEMENTS, rebuild
from migrator.copy.snapshot import Foreign, Hash, Snapshot, SortedSet, Value

OLD = Writes(
    has_field_ttl=False,
    has_stream_counters=False,
    modules=frozenset(),
    versions=frozenset(),
    types=frozenset(),
)


def words(command: bytes) -> list[Any]:
    reader = hiredis.Reader()
    reader.feed(command)
    parsed: list[Any] = reader.gets()
    return parsed


def rebuilt(kind: str, value: Value, expires_at_ms: int = -1) -> list[list[Any]]:
    commands, loses = rebuild(Snapshot(b"k", kind, value, expires_at_ms), OLD)
    assert loses == ""
    return [words(command) for command in commands]


NAMES = [b"%d" % i for i in range(3500)]


@pytest.mark.parametrize(
    ("kind", "value", "verb", "per_element"),
    [
        ("list", NAMES, b"RPUSH", 1),
        ("set", set(NAMES), b"SADD", 1),
        ("zset", SortedSet(dict.fromkeys(NAMES, b"1")), b"ZADD", 2),
        ("hash", Hash(dict.fromkeys(NAMES, b"v")), b"HSET", 2),
    ],
)
def test_many_elements_are_cut_into_several_commands(
    kind: str, value: Value, verb: bytes, per_element: int
) -> None:
    first, *rest = rebuilt(kind, value)
    assert first == [b"UNLINK", b"k"]
    assert [len(command) - 2 for command in rest] == [
        CHUNK_ELEMENTS * per_element,
        CHUNK_ELEMENTS * per_element,
        CHUNK_ELEMENTS * per_element,
        500 * per_element,
    ]
    assert all(command[:2] == [verb, b"k"] for command in rest)


def test_big_elements_are_cut_by_size() -> None:
    elements = [b"x" * 400_000] * 5
    _, *rest = rebuilt("list", elements)
    assert [len(command) - 2 for command in rest] == [2, 2, 1]


def test_an_element_larger_than_a_chunk_stays_whole() -> None:
    elements = [b"a", b"x" * (2 * CHUNK_BYTES), b"b"]
    _, *rest = rebuilt("list", elements)
    assert [command[2:] for command in rest] == [[element] for element in elements]


def test_order_in_a_list_is_kept() -> None:
    _, *rest = rebuilt("list", NAMES)
    assert [element for command in rest for element in command[2:]] == NAMES


def test_the_expiry_is_the_last_command() -> None:
    assert rebuilt("set", {b"m"}, 1234)[-1] == [b"PEXPIREAT", b"k", b"1234"]


def test_a_string_is_one_command_with_its_expiry() -> None:
    assert rebuilt("string", b"v") == [[b"SET", b"k", b"v"]]
    assert rebuilt("string", b"v", 1234) == [[b"SET", b"k", b"v", b"PXAT", b"1234"]]


def test_what_the_other_store_cannot_hold_is_said() -> None:
    expiring = Snapshot(b"k", "hash", Hash({b"f": b"v"}, {b"f": 99}), -1)
    commands, loses = rebuild(expiring, OLD)
    assert len(commands) == 2
    assert loses == "expiry of hash fields"
    assert rebuild(Snapshot(b"k", "ReJSON-RL", Foreign(), -1), OLD) == (
        [],
        "type ReJSON-RL needs a module",
    )
