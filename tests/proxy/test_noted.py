"""What a verification compares again, of what was written while it ran."""

from __future__ import annotations

import random

import pytest

from proxy import noted
from proxy.keytable import Place, place_of
from proxy.noted import Noted

A, B, C, D = (place_of(0, key) for key in (b"a", b"b", b"c", b"d"))


def test_what_was_written_is_compared_again() -> None:
    notes = Noted()
    notes.compared([A, B])
    notes.written([A])
    notes.written([B, C])
    assert notes.close() == {A, B, C}


def test_what_was_found_equal_since_is_not_whatever_is_written_there() -> None:
    notes = Noted()
    notes.written([A, B])
    notes.compared([A, C])
    notes.written([A])
    notes.written([A, D])
    assert notes.close() == {B, D}


def test_what_has_the_data_of_others_is_until_it_is_found_equal_again() -> None:
    notes = Noted()
    notes.written([A, B])
    notes.compared([A, B])
    notes.written([A, C])
    notes.moved([A])
    notes.written([A])
    notes.moved([B])
    notes.compared([B])
    notes.written([B])
    assert notes.close() == {A, C}


def test_what_was_found_equal_is_known_wherever_its_database_is() -> None:
    notes = Noted()
    there = place_of(3, b"a")
    notes.written([A])
    notes.compared([A])
    notes.swapped(0, 3)
    notes.written([there])
    assert not notes.places
    notes.written([A])
    assert notes.places == {there}
    notes.moved([there])
    assert notes.close() == {A, there}


@pytest.mark.parametrize("is_moved", [False, True], ids=["written", "moved"])
def test_there_is_a_bound_on_what_is_to_be_compared(
    monkeypatch: pytest.MonkeyPatch, is_moved: bool
) -> None:
    monkeypatch.setattr(noted, "MOST", 2)
    notes = Noted()
    note = notes.moved if is_moved else notes.written
    note([A])
    note([A])
    assert not notes.is_closed
    note([B])
    assert notes.is_closed
    note([C])
    assert notes.close() == {A, B}


def test_there_is_a_bound_on_what_was_found_equal_and_the_rest_is_compared_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noted, "MOST", 2)
    notes = Noted()
    for place in (A, B, C):
        notes.written([place])
        notes.compared([place])
        notes.written([place])
    assert not notes.is_closed
    assert notes.close() == {C}


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_left_out_that_may_differ(seed: int) -> None:
    """Against a model of two databases whose keys are equal, or may not be."""
    chance = random.Random(seed)
    notes = Noted()
    places = [place_of(db, bytes([key])) for db in range(2) for key in range(4)]
    # By the first names: those that are not known to be equal, and whether they were written.
    doubtful: set[Place] = set()
    swapped = False

    def name(place: Place) -> Place:
        at = places.index(place)
        return places[(at + 4) % 8] if swapped else place

    for _ in range(300):
        some = chance.sample(places, chance.randint(1, 3))
        match chance.randrange(5):
            case 0 | 1:
                notes.written(some)
            case 2:
                # The first gets the data of the others.
                notes.written(some)
                notes.moved(some[:1])
                doubtful.add(name(some[0]))
            case 3:
                notes.compared(some)
                doubtful.difference_update(map(name, some))
            case 4:
                notes.swapped(0, 1)
                swapped = not swapped
        assert doubtful <= notes.places
