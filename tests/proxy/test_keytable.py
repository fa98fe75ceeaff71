"""The key table: every order of a few operations, and what it says of single keys."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.keytable import KeyTable, Place, Ticket, db_and_key, place_of

from .operations import Copy, CopyAlone, Fence, Flush, Lose, Mark, Op, Unnamed, Write
from .world import World, explore

A, B = b"a", b"b"

# What a scenario is about, its clients, and the options of its world.
SCENARIOS: dict[str, tuple[list[list[Op]], dict[str, object]]] = {
    "writes of one key on two lanes": (
        [[Write("a")], [Write("a", "B")], [Write("a")]],
        {},
    ),
    "writes of two keys in opposite orders on three lanes": (
        [[Write("ab")], [Write("ba", "B")], [Write("b", "C")]],
        {},
    ),
    "a ring of pairs of keys, each pair on its own lane": (
        [[Write("ab")], [Write("bc", "B")], [Write("ca", "C")], [Write("b")]],
        {"keys": "abc", "is_eager": True},
    ),
    "two clients who write two keys crosswise": (
        [[Write("a"), Write("b")], [Write("b", "B"), Write("a", "B")]],
        {"is_eager": True},
    ),
    "pipelines that go on behind a command that waited": (
        [[Write("a"), Write("ab")], [Write("ab", "B"), Write("a", "B")], [Write("b")]],
        {"is_eager": True, "pipelines": True},
    ),
    "a waiter between two of its own lane": (
        [[Write("a")], [Write("ab", "B")], [Write("a"), Write("b")], [Write("b")]],
        {"is_eager": True},
    ),
    "a copy under a lease, and writes on two lanes": (
        [[Write("a")], [Write("ab", "B")], [Copy("ab")]],
        {"is_eager": True},
    ),
    "a copy under a lease, executions and answers apart": (
        [[Write("a")], [Write("a", "B")], [Copy("a")]],
        {},
    ),
    "a copy of an unproven key between two writes of one client": (
        [[Write("a"), Write("a")], [Copy("a")]],
        {"unproven": "a"},
    ),
    "two copies of the same key, one written meanwhile": (
        [[Copy("a")], [Copy("ab")], [Write("a")]],
        {"unproven": "a"},
    ),
    "a copy under a ticket between writers of two lanes": (
        [[Write("a")], [Write("a", "B")], [CopyAlone("a")]],
        {"unproven": "a"},
    ),
    "two copies under tickets and a writer of both keys": (
        [[CopyAlone("a"), CopyAlone("b")], [Write("ab")], [CopyAlone("b")]],
        {"unproven": "ab", "is_eager": True},
    ),
    "a key marked again while its copy is on the way": (
        [[Write("a")], [Mark("a")], [Copy("a")], [Mark("a")]],
        {"unproven": "a"},
    ),
    "a flush, a write and a copy": (
        [[Write("a")], [Flush("B")], [Copy("ab")]],
        {},
    ),
    "a script of keys that nobody can name, a copy and a write of one of them": (
        [[Unnamed("a")], [Copy("ab")], [Write("a", "B")]],
        {},
    ),
    "a copy under a ticket between two such scripts": (
        [[Unnamed("ab"), Unnamed("a")], [CopyAlone("a")], [Write("b", "B")]],
        {"unproven": "a", "is_eager": True},
    ),
    "such a script whose connection is lost while a copy is read": (
        [[Unnamed("a")], [Copy("a")], [Lose("A")]],
        {},
    ),
    "two flushes and writes behind them": (
        [[Flush("A"), Write("a")], [Flush("B"), Write("b")], [Write("ab")]],
        {"is_eager": True},
    ),
    "a flush behind writes that wait for each other": (
        [[Write("a")], [Write("a", "B"), Flush("B")], [Write("ab"), Write("b")]],
        {"is_eager": True, "pipelines": True},
    ),
    "a fence, a flush, and writes on two lanes": (
        [[Fence()], [Flush("A")], [Write("a")], [Write("a", "B")]],
        {"is_eager": True},
    ),
    "a fence that may give up while it waits": (
        [[Fence(gives_up=True)], [Write("a")], [Write("a", "B")], [Copy("a")]],
        {"is_eager": True},
    ),
    "a lane lost under two writes, and a copy": (
        [[Write("a"), Write("a")], [Lose("A")], [Copy("a")]],
        {},
    ),
    "a lane lost while another's write waits for it": (
        [[Write("ab")], [Write("b", "B"), Write("a", "B")], [Lose("A")], [Copy("b")]],
        {"is_eager": True},
    ),
    "a lane lost under a flush": (
        [[Flush("A")], [Lose("A")], [Write("a", "B")], [Copy("a")]],
        {"is_eager": True},
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_order_of_events_keeps_the_rules(name: str) -> None:
    clients, options = SCENARIOS[name]
    assert explore(lambda: World(*clients, **options)) > 10  # type: ignore[arg-type]


OPERATIONS = st.one_of(
    st.builds(
        Write,
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True).map("".join),
        st.sampled_from("ABC"),
    ),
    st.builds(Copy, st.sampled_from(["a", "b", "ab", "abc"])),
    st.builds(CopyAlone, st.sampled_from("abc")),
    st.builds(Flush, st.sampled_from("AB")),
    st.builds(Unnamed, st.sampled_from(["a", "bc"]), st.sampled_from("AB")),
    st.builds(Fence, st.booleans()),
    st.builds(Mark, st.sampled_from("abc")),
    st.builds(Lose, st.sampled_from("AB")),
)


@settings(max_examples=1500, deadline=None)
@given(
    clients=st.lists(st.lists(OPERATIONS, max_size=6), min_size=2, max_size=6),
    pipelines=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_long_runs_of_random_operations_keep_the_rules(
    clients: list[list[Op]], pipelines: bool, seed: int
) -> None:
    choices = random.Random(seed)
    world = World(*clients, keys="abc", unproven="b", pipelines=pipelines)
    while events := world.enabled():
        world.step(choices.choice(events))
    world.finish()


# -- single keys -----------------------------------------------------------------------


class Waiter(Ticket):
    """A ticket that remembers in `went` that it was told to go."""

    def __init__(self, lane: object, *places: Place, went: list[Waiter] | None = None) -> None:
        self.lane = lane
        self.places = places
        self.went = [] if went is None else went

    def go(self) -> None:
        self.went.append(self)


class Bystander(Waiter):
    """Its lane is gone by the time it may go, so it is done at once."""

    table: KeyTable

    def go(self) -> None:
        self.went.append(self)
        self.table.release(self)


@pytest.fixture
def table() -> KeyTable:
    table = KeyTable(unproven_limit=3)
    table.is_everything_unproven = False
    return table


def copy(table: KeyTable, place: Place) -> None:
    table.copies_applied((place,), table.copies_appended((place,)))


def test_a_key_of_database_0_is_its_own_place() -> None:
    assert place_of(0, A) == A
    assert place_of(1, A) == (1, A) != place_of(2, A)
    assert [db_and_key(place_of(db, A)) for db in (0, 7)] == [(0, A), (7, A)]


def test_an_operation_without_keys_goes_at_once_and_leaves_nothing(table: KeyTable) -> None:
    ticket = Waiter("lane")
    assert table.acquire(ticket)
    table.release(ticket)
    assert not table.entries and not table.active


def test_an_old_table_knows_nothing_and_trusts_nothing() -> None:
    assert not KeyTable().is_settled(A)


def test_a_key_is_settled_unless_something_goes_on_with_it(table: KeyTable) -> None:
    assert table.is_settled(A)
    ticket = Waiter("lane", A)
    table.acquire(ticket)
    assert not table.is_settled(A) and table.is_settled(B)
    table.appended([A])
    table.release(ticket)
    assert not table.is_settled(A)  # answered, and not applied yet
    table.applied([A])
    assert table.is_settled(A)
    table.unapplied_everywhere += 1
    assert not table.is_settled(A)


def test_effects_outlive_each_other_in_any_order(table: KeyTable) -> None:
    table.appended([A, B])
    table.appended([A])
    table.applied([A, B])
    assert not table.is_settled(A) and table.is_settled(B)
    table.applied([A])
    assert table.is_settled(A) and not table.entries


def test_waiters_of_one_lane_follow_each_other_without_waiting(table: KeyTable) -> None:
    first = Waiter("A", A)
    table.acquire(first)
    went: list[Waiter] = []
    same = [Waiter("B", A, went=went), Waiter("B", A, B, went=went), Waiter("B", B, went=went)]
    other = Waiter("A", B, went=went)
    for waiter in (*same, other):
        assert not table.acquire(waiter)
    table.release(first)
    assert went == same


def test_many_lost_waiters_of_alternating_lanes_are_all_told(table: KeyTable) -> None:
    # Two users' lanes to a store that was killed, and a key that all their clients write.
    first = Waiter("A", A)
    table.acquire(first)
    went: list[Waiter] = []
    waiters = [Bystander("BA"[at % 2], A, went=went) for at in range(2000)]
    for waiter in waiters:
        waiter.table = table
        assert not table.acquire(waiter)
    table.release(first)
    assert went == waiters and not table.entries and not table.active


def test_a_second_lease_of_a_key_is_touched_and_leaves_the_first_alone(table: KeyTable) -> None:
    first = table.watch([A, B])
    second = table.watch([B])
    assert (first.touched, second.touched) == (set(), {B})
    second.end()
    table.touch(B)
    assert first.touched == {B}
    first.end()
    assert not table.leases


def test_a_lease_under_a_ticket_of_ones_own_is_not_touched_by_it(table: KeyTable) -> None:
    mover = Waiter(None, A)
    mover.lane = mover
    table.acquire(mover)
    assert not table.watch([A], own=mover).touched
    assert table.watch([A]).touched == {A}


def test_a_mark_ends_the_lease_also_of_a_key_that_is_marked_already(table: KeyTable) -> None:
    table.mark_unproven(A)
    lease = table.watch([A])
    table.mark_unproven(A)
    assert lease.touched == {A}


def test_everything_unproven_ends_every_lease_and_counts_a_generation(table: KeyTable) -> None:
    table.mark_unproven(B)
    lease = table.watch([A, B])
    table.mark_everything_unproven()
    assert lease.touched == {A, B}
    assert table.generation == 1 and not table.unproven and not table.has_owed
    assert not table.is_settled(A)


def test_effects_are_dropped_until_the_copy_is_appended(table: KeyTable) -> None:
    table.mark_unproven(A)
    assert table.drops([B, A]) and not table.drops([B])
    number = table.copies_appended((A,))
    assert not table.drops([A]) and not table.is_settled(A)
    table.copies_applied((A,), number)
    assert table.is_settled(A)


def test_a_key_marked_again_behind_its_copy_needs_another(table: KeyTable) -> None:
    table.mark_unproven(A)
    number = table.copies_appended((A,))
    table.mark_unproven(A)
    assert table.drops([A])
    second = table.copies_appended((A,))
    table.copies_applied((A,), number)
    assert not table.is_settled(A)
    table.copies_applied((A,), second)
    assert table.is_settled(A)


def test_keys_that_were_copied_together_are_proven_one_by_one(table: KeyTable) -> None:
    table.mark_unproven(A)
    table.mark_unproven(B)
    number = table.copies_appended((A, B))
    assert not table.drops([A, B])
    table.mark_unproven(B)
    table.copies_applied((A, B), number)
    assert table.is_settled(A) and table.drops([B])


def test_a_copy_of_a_proven_key_proves_and_unproves_nothing(table: KeyTable) -> None:
    number = table.copies_appended((A,))
    assert table.is_settled(A)
    table.mark_unproven(A)
    table.copies_applied((A,), number)
    assert table.drops([A])


def test_what_is_owed_is_taken_once_and_oldest_first(table: KeyTable) -> None:
    rung: list[bool] = []
    table.on_owed = lambda: rung.append(True)
    places: Sequence[Place] = [B, A, (1, A)]
    for place in places:
        table.mark_unproven(place)
    table.mark_unproven(B)
    assert len(rung) == 3  # the second mark of a key owes nothing more
    assert table.take_owed(2) == [B, A]
    assert table.take_owed(2) == [(1, A)]
    assert not table.has_owed and len(table.unproven) == 3
    table.owe_again([A])
    assert table.take_owed(9) == [A]


def test_what_was_copied_meanwhile_is_not_owed_again(table: KeyTable) -> None:
    table.mark_unproven(A)
    table.mark_unproven(B)
    copy(table, A)
    assert table.take_owed(9) == [B]
    copy(table, B)
    table.owe_again([A, B])
    assert not table.has_owed


def test_what_is_set_aside_is_unproven_and_asked_of_nobody(table: KeyTable) -> None:
    table.mark_unproven(A)
    table.set_aside([A])
    assert not table.has_owed and table.drops([A])
    table.owe_again([A])
    assert table.take_owed(1) == [A]


def test_past_its_limit_the_set_is_everything(table: KeyTable) -> None:
    for key in (A, B, b"c"):
        table.mark_unproven(key)
    table.mark_unproven(A)  # known already: no news
    assert not table.has_overflowed
    lease = table.watch([b"z"])
    table.mark_unproven(b"d")
    assert table.has_overflowed and table.is_everything_unproven and table.generation == 1
    assert lease.touched == {b"z"}


def test_a_flush_forgets_what_it_wiped_and_no_other_database(table: KeyTable) -> None:
    for place in (A, (1, A), (1, B)):
        table.mark_unproven(place)
    table.forget(1)
    assert list(table.unproven) == [A] and table.take_owed(9) == [A]
    table.mark_unproven((1, A))
    table.forget(None)
    assert not table.unproven and not table.has_owed


def test_a_swap_takes_along_what_is_owed_on_its_way_and_in_somebodys_hands() -> None:
    table = KeyTable()
    for key in (b"owed", b"taken", b"sent", b"elsewhere"):
        table.mark_unproven((5 if key == b"elsewhere" else 3, key))
    taken = [(3, b"taken"), (3, b"sent"), (5, b"elsewhere")]
    assert table.take_owed(9) == [(3, b"owed"), *taken]
    table.owe_again([(3, b"owed")])
    number = table.copies_appended(((3, b"sent"),))
    table.swap(0, 3)
    # Whoever has one in hand knows it by its old name: that says nothing any more.
    table.copies_applied(((3, b"sent"),), number)
    table.owe_again([(3, b"taken")])
    assert set(table.unproven) == {b"owed", b"taken", b"sent", (5, b"elsewhere")}
    assert set(table.take_owed(9)) == {b"owed", b"taken", b"sent"}
    number = table.copies_appended((b"sent",))
    table.copies_applied((b"sent",), number)
    assert b"sent" not in table.unproven


def test_an_expiry_counts_by_every_name_that_a_swap_may_have_given() -> None:
    table = KeyTable()
    table.mark_wherever(b"a")
    assert set(table.unproven) == {b"a"}
    table.swap(0, 3)
    table.swap(3, 4)
    table.unproven.clear()
    table.mark_wherever((4, b"a"))
    table.mark_wherever((5, b"b"))
    assert set(table.unproven) == {b"a", (3, b"a"), (4, b"a"), (5, b"b")}


def test_a_second_barrier_is_a_defect_of_the_caller(table: KeyTable) -> None:
    table.close(lambda: None)
    with pytest.raises(AssertionError, match="second barrier"):
        table.close(lambda: None)


def test_the_gate_opens_in_order_of_arrival_until_somebody_closes_it(table: KeyTable) -> None:
    came: list[str] = []
    table.close(lambda: None)
    table.when_open(lambda: came.append("first"))
    table.when_open(lambda: (came.append("barrier"), table.close(lambda: None)))
    table.when_open(lambda: came.append("last"))
    table.open()
    assert came == ["first", "barrier"]
    table.open()
    assert came == ["first", "barrier", "last"]
