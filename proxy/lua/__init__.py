"""Lua scripts, read to see which keys they may write. Pure: texts in, verdicts out.

``tokens`` and ``parser`` make a ``tree``; ``reading`` follows keys and ``redis.call`` through it;
``verdict`` says what a script may write, with the command table's help.
"""

from .reading import ANY, Origin, Source
from .verdict import UNKNOWN, Script, library_name, read_body, read_library, speaks_of_swapdb

__all__ = [
    "ANY",
    "UNKNOWN",
    "Origin",
    "Script",
    "Source",
    "library_name",
    "read_body",
    "read_library",
    "speaks_of_swapdb",
]
