"""What is written while a verification runs: it compares that again before its verdict.

Pure. Owns the set of what was written, with its bound, and where databases have gone.

A key that was found equal stays equal, unless what is written there comes from a key that is not:
by RENAME, SUNIONSTORE and their kin (`Command.moves_data`). And a walk by SCAN may miss a key that
was not there all the while. Both is a matter of keys that were written, so these are looked at
again, but for those that were found equal since: of keys that are written all the time, that is
most. While it is done, what comes of other keys is copied, as it is while a backfill runs: so the
last look is the last.

Databases are known by where they were at the beginning, whatever SWAPDB has done since.
"""

from __future__ import annotations

from collections.abc import Iterable

from .keytable import Place, db_and_key, place_of

# Keys that are remembered by name: so many to look at again, and as many found equal.
MOST = 1_000_000


class Noted:
    """One verification's. `places`: to look at again.

    is_closed: what is written is not noted any more, and what moves data is copied. If it is so
    before the walk's end too much was written to remember it.
    swaps: of databases, so far.
    """

    def __init__(self) -> None:
        self.places: set[Place] = set()
        self.is_closed = False
        self.swaps = 0
        # Found equal once they were written, so that only data of others brings them back.
        self._equal: set[Place] = set()
        self._now: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def written(self, places: Iterable[Place]) -> None:
        """An effect on these was appended; with what it only reads."""
        if not self.is_closed:
            self._note(set(self._first_names(places)) - self._equal)

    def moved(self, places: Iterable[Place]) -> None:
        """These were among them, and have the data of other keys now."""
        if not self.is_closed:
            self._note(self._first_names(places))

    def _note(self, named: Iterable[Place]) -> None:
        self.places.update(named)
        self.is_closed = len(self.places) >= MOST

    def compared(self, places: Iterable[Place]) -> None:
        """They are equal now: nobody has touched them since before the stores were asked."""
        found = self.places.intersection(self._first_names(places))
        self.places -= found
        if len(self._equal) < MOST:
            self._equal |= found

    def swapped(self, a: int, b: int) -> None:
        """Two databases changed places, as far as the primary is concerned."""
        self.swaps += 1
        before = self._before
        before[a], before[b] = before.get(b, b), before.get(a, a)
        self._now = {first: now for now, first in before.items()}

    def db_now(self, first: int) -> int:
        """Where a database is that was `first` at the beginning."""
        return self._now.get(first, first)

    def first_name(self, place: Place) -> Place:
        """What a place would have been called at the beginning."""
        if not self.swaps:
            return place
        db, key = db_and_key(place)
        return place_of(self._before.get(db, db), key)

    def _first_names(self, places: Iterable[Place]) -> Iterable[Place]:
        return map(self.first_name, places) if self.swaps else places

    def close(self) -> set[Place]:
        """The last look begins; returns what it is of, by the first names."""
        self.is_closed = True
        places, self.places = self.places, set()
        self._equal.clear()
        return places
