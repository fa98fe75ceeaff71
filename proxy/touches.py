"""Which keys were written lately: what a read on the secondary must know when it is delivered.

Owns a count of all touches, as a part of the key table, and by place the number of the last one;
like that it is pure. If a place that was settled was not touched since a read of it was sent,
nobody has been writing it, so the secondary's answer is the primary's, at whatever moment of that
time (design, section 4). Where nothing is written that is one comparison for each read, and none
leaves anything behind that had to be given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keytable import Place

# Places that are known by name; what is older counts as touched.
REMEMBERED = 8192


class Touches:
    """`count`: of touches so far. `is_on`: whether they are noted; else nobody may ask."""

    __slots__ = ("_forgotten", "_older", "_recent", "_recent_from", "count", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        self.count = 0
        self._recent: dict[Place, int] = {}
        self._older: dict[Place, int] = {}
        # The count when `_recent` began; and up to which all may have been touched.
        self._recent_from = 0
        self._forgotten = 0

    def note(self, is_on: bool) -> None:
        """From here on note them, or do not. What was begun before that counts as touched."""
        if self.is_on is not is_on:
            self.is_on = is_on
            self.touch_all()

    def touch(self, place: Place) -> None:
        """A write of the place goes, or both sides may differ there."""
        self.count += 1
        self._recent[place] = self.count
        if len(self._recent) >= REMEMBERED:
            self._older = self._recent
            self._recent = {}
            self._forgotten = max(self._forgotten, self._recent_from)
            self._recent_from = self.count

    def touch_all(self) -> None:
        """Any place may be written now."""
        self.count += 1
        self._forgotten = self._recent_from = self.count
        self._recent = {}
        self._older = {}

    def has_touched(self, place: Place, since: int) -> bool:
        """Whether the place was touched when the count was greater than `since`."""
        if self.count == since:
            return False
        if since < self._forgotten:
            return True
        return self._recent.get(place, 0) > since or self._older.get(place, 0) > since
