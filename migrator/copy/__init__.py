"""Keys from one store to another, and whether they are equal there.

`make_reader` reads keys as commands for the other side; `Comparer` tells what differs. Neither
writes to a store.
"""

from .comparer import Comparer, Difference
from .reader import KeyCopy, Page, Reader, make_reader

__all__ = ["Comparer", "Difference", "KeyCopy", "Page", "Reader", "make_reader"]
