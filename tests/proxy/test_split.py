"""Reads on both sides at once: every order of a few reads and writes, and what is touched."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proxy.keytable import KeyTable
from proxy.touches import REMEMBERED, Touches

from .operations import Copy, CopyAlone, Fence, Flush, Mark, Unnamed, Write
from .reading_world import ReadingWorld
from .world import explore

A, B = b"a", b"b"
ALL = ("secondary", "log", "B")

# What a scenario is about: writers, what a client reads in its order, and the rest. Reads of a (in
# some of b) are the secondary's. Of two keys that are written in an order, a client that sees the
# later write must not miss the earlier one behind it.
SCENARIOS: dict[str, tuple[list[list[Any]], list[list[str]], dict[str, Any]]] = {
    "a is written, then b; b is read of the primary, then a of the secondary": (
        [[Write("a", "B"), Write("b", "B")]],
        [["b", "a"]],
        {},
    ),
    "b is written, then a; a is read of the secondary, then b of the primary": (
        [[Write("b", "B"), Write("a", "B")]],
        [["a", "b"]],
        {"at_once": ALL},
    ),
    "the same on one lane": (
        [[Write("b"), Write("a")]],
        [["a", "b"]],
        {},
    ),
    "reads of both sides in turns, and a writer of both": (
        [[Write("b", "B"), Write("a", "B")]],
        [["a", "b", "a"]],
        {"at_once": ALL},
    ),
    "the primary's first": (
        [[Write("a", "B"), Write("b", "B")]],
        [["b", "a", "b"]],
        {"at_once": ALL},
    ),
    "both keys are the secondary's": (
        [[Write("a", "B"), Write("b", "B")]],
        [["b", "a", "b"]],
        {"shifted": "ab", "at_once": ALL},
    ),
    "several keys in one read": (
        [[Write("b", "B"), Write("a", "B")]],
        [["ab", "b"]],
        {"at_once": ALL},
    ),
    "several keys in one read, behind one of the primary": (
        [[Write("a", "B"), Write("b", "B")]],
        [["b", "ac"]],
        {"at_once": ALL, "keys": "abc"},
    ),
    "two readers of one place": (
        [[Write("a", "B")]],
        [["a", "b"], ["a"]],
        {"at_once": ALL},
    ),
    "one write, and whatever may lie waiting": (
        [[Write("a", "B")]],
        [["b", "a"]],
        {"at_once": ()},
    ),
    "a key that is written twice": (
        [[Write("a", "B"), Write("a", "B")]],
        [["a", "a"]],
        {"at_once": ALL},
    ),
    "a flush of both": (
        [[Flush("B")]],
        [["a", "b"]],
        {},
    ),
    "a script of keys that nobody can name": (
        [[Unnamed("ab", "B")]],
        [["a", "b"]],
        {},
    ),
    "such a script, and the primary's read first": (
        [[Unnamed("ab", "B")]],
        [["b", "a"]],
        {},
    ),
    "a mark, a copy and a write": (
        [[Mark("a"), Copy("a")], [Write("a", "B")]],
        [["b", "a"]],
        {"at_once": ALL},
    ),
    "a copy under a ticket": (
        [[CopyAlone("a")], [Write("ab", "B")]],
        [["b", "a"]],
        {"at_once": ALL},
    ),
    "a fence": (
        [[Fence()], [Write("ab", "B")]],
        [["b", "a"]],
        {"at_once": ALL},
    ),
}


def world_of(name: str) -> ReadingWorld:
    writers, readers, options = SCENARIOS[name]
    return ReadingWorld(*writers, readers=readers, **{"shifted": "a"} | options)


@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_the_order_a_client_sees_what_the_primary_could_have_answered(name: str) -> None:
    assert explore(lambda: world_of(name)) > 10


@pytest.mark.parametrize("seed", range(300))
def test_many_readers_and_writers_in_any_order(seed: int) -> None:
    rng = random.Random(seed)

    def keys(most: int) -> str:
        return "".join(rng.sample("abcd", rng.randint(1, most)))

    writers = [
        [Write(keys(2), rng.choice("AB")) for _ in range(rng.randint(1, 5))] for _ in range(3)
    ]
    for _ in range(rng.randint(0, 2)):
        extra = rng.choice([Mark("a"), Copy("ab"), Flush("B"), Unnamed("bc", "B"), Fence()])
        writers.append([extra])  # type: ignore[list-item]
    readers = [[keys(2) for _ in range(rng.randint(2, 12))] for _ in range(2)]
    world = ReadingWorld(*writers, readers=readers, shifted=keys(3), keys="abcd")
    while events := world.enabled():
        world.step(rng.choice(events))
    world.finish()


def test_where_nobody_writes_nothing_is_asked_again() -> None:
    again = []

    def make() -> ReadingWorld:
        world = ReadingWorld([Write("c")], readers=[["a", "b"]], shifted="a", keys="abc")
        again.append(world)
        return world

    explore(make)
    assert not any(world.asked_again for world in again)


def test_a_place_is_touched_from_its_touch_on_and_for_who_began_before() -> None:
    touches = Touches()
    touches.note(True)
    before = touches.count
    touches.touch(A)
    behind = touches.count
    assert touches.has_touched(A, before) and not touches.has_touched(B, before)
    assert not touches.has_touched(A, behind)
    touches.touch(B)
    assert not touches.has_touched(A, behind) and touches.has_touched(B, behind)
    touches.touch_all()
    assert touches.has_touched(A, behind) and touches.has_touched(b"c", behind)
    assert not touches.has_touched(A, touches.count)


def test_what_is_not_remembered_any_more_counts_as_touched() -> None:
    touches = Touches()
    touches.note(True)
    began = []
    for at in range(3 * REMEMBERED):
        began.append((at, touches.count))
        touches.touch(b"%d" % at)
    for at, since in began:
        assert touches.has_touched(b"%d" % at, since)
    last, since = began[-2]
    assert not touches.has_touched(b"%d" % (last - 1), since)
    assert touches.has_touched(b"never", began[0][1])
    assert not touches.has_touched(b"never", began[-REMEMBERED][1])


def test_where_touches_were_not_noted_everything_counts_as_touched() -> None:
    touches = Touches()
    touches.note(True)
    before = touches.count
    touches.note(True)
    assert not touches.has_touched(A, before)
    touches.note(False)
    touches.note(True)
    assert touches.has_touched(A, before)


def test_everything_that_ends_a_movers_lease_touches_for_reads() -> None:
    table = KeyTable()
    table.touches.note(True)
    for happens in (
        lambda: table.touch(A),
        lambda: table.mark_unproven(A),
        table.touch_everything,
        table.mark_everything_unproven,
    ):
        for has_mover in (False, True):
            mover = table.watch([A] if has_mover else [])
            since = table.touches.count
            happens()
            assert table.touches.has_touched(A, since)
            assert mover.touched == ({A} if has_mover else set())
