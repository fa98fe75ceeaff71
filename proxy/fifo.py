# cython: boundscheck=False, wraparound=False
"""A queue, first in, first out: what waits for its reply, and what waits to be sent.

What `deque` does in plain Python. There is one step of each kind for every command, and compiled
these are a few machine instructions, without a call of a method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

# A power of two, so that a position wraps by a mask.
_SMALLEST = 8
# A ring that has grown past this is given up when it is empty.
_LARGEST_KEPT = 4096


class Fifo:
    """Objects in the order in which they came, in a ring that doubles when it is full."""

    __slots__ = ("_head", "_mask", "_ring", "_size")

    def __init__(self) -> None:
        self._ring: list[Any] = []
        self._mask = -1
        self._head = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return self._size > 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items())

    def items(self) -> list[Any]:
        """All of them, the oldest first."""
        ring = self._ring
        first = ring[self._head : self._head + self._size]
        return first + ring[: self._size - len(first)]

    def append(self, item: Any) -> None:
        if self._size > self._mask:
            self._grow()
        self._ring[(self._head + self._size) & self._mask] = item
        self._size += 1

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            self.append(item)

    def put_back(self, items: list[Any]) -> None:
        """In front of all others, in their order."""
        later = self.items()
        self.clear()
        self.extend(items)
        self.extend(later)

    def peek(self) -> Any:
        """The oldest. Raises IndexError without one."""
        if self._size == 0:
            raise IndexError("the queue is empty")
        return self._ring[self._head]

    def popleft(self) -> Any:
        """Take the oldest. Raises IndexError without one."""
        if self._size == 0:
            raise IndexError("the queue is empty")
        ring = self._ring
        item = ring[self._head]
        ring[self._head] = None
        self._head = (self._head + 1) & self._mask
        self._size -= 1
        if self._size == 0 and self._mask >= _LARGEST_KEPT:
            self.clear()
        return item

    def clear(self) -> None:
        self._ring = []
        self._mask = -1
        self._head = self._size = 0

    def _grow(self) -> None:
        items = self.items()
        room = max(_SMALLEST, 2 * len(items))
        self._ring = items + [None] * (room - len(items))
        self._mask = room - 1
        self._head = 0
