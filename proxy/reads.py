"""Reads under way on the secondary: whether a key was written meanwhile.

Owns the leases of such reads, as a part of the key table; like that it is pure. While the lease of
a place that is settled is not touched, nobody has been writing it, so the secondary's answer is the
primary's, at whatever moment of that time (design, section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keytable import Place


class ReadLease:
    """What all reads of one place share that are under way at once.

    is_touched: since the first of them began a write of the place was dispatched, or both sides
    were found to differ there, perhaps. Then no new read shares it.
    """

    __slots__ = ("is_touched", "place", "readers")

    place: Place
    readers: int
    is_touched: bool


class ReadLeases:
    """All leases of reads that are not touched, by place."""

    __slots__ = ("by_place",)

    def __init__(self) -> None:
        self.by_place: dict[Place, ReadLease] = {}

    def begin(self, place: Place) -> ReadLease:
        """A read begins of a place that is settled. Ends with :meth:`end`, once."""
        lease = self.by_place.get(place)
        if lease is None:
            lease = ReadLease()
            lease.place = place
            lease.readers = 1
            lease.is_touched = False
            self.by_place[place] = lease
        else:
            lease.readers += 1
        return lease

    def end(self, lease: ReadLease) -> None:
        """A read is delivered, or given up."""
        lease.readers -= 1
        if not lease.readers and not lease.is_touched:
            del self.by_place[lease.place]

    def touch(self, place: Place) -> None:
        """The place is being written, or may differ."""
        lease = self.by_place.pop(place, None)
        if lease is not None:
            lease.is_touched = True

    def touch_all(self) -> None:
        """Any place may be written now."""
        for lease in self.by_place.values():
            lease.is_touched = True
        self.by_place.clear()
