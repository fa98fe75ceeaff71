"""Which arguments of a request are keys, and which of them may be written.

A :class:`Keys` is made from a short text, one word per range of keys, in argument order:

    r1        argument 1, read            w1..      every argument from 1 on, written
    w1../2    1, 3, 5, … to the end       r1..-2    from 1 to the last but one
    w1+2      two arguments from 1        r#2       argument 2 is a number n, n keys follow it
    w#1/2     the same with key, value, key, value

``r`` is read only, ``w`` is written (it may be read too). Ranges end where the request ends, and
a number that is not one gives no keys: the server refuses such a request, nobody else needs to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..resp import Request

_WORD = re.compile(
    r"(?P<access>[rw])"
    r"(?:\#(?P<count_at>\d+)|(?P<first>\d+)(?:\+(?P<number>\d+)|(?P<open>\.\.)(?P<last>-\d+)?)?)"
    r"(?:/(?P<step>\d+))?$"
)

Indexes = Callable[["Request"], Sequence[int]]


class Keys:
    """Where a command has its keys.

    is_positional: which of its arguments are written depends on their number alone.
    """

    __slots__ = ("_all", "_written", "is_first_argument", "is_positional", "text")

    def __init__(
        self,
        text: str,
        read: Sequence[Indexes],
        written: Sequence[Indexes],
        *,
        is_positional: bool = False,
    ) -> None:
        self.text = text
        self.is_first_argument = text in ("r1", "w1")
        self.is_positional = is_positional
        self._all = (*read, *written)
        self._written = tuple(written)

    @property
    def may_write(self) -> bool:
        return bool(self._written)

    def read_only(self) -> Keys:
        """The same keys, none of them written."""
        same = Keys(self.text, self._all, ())
        same.is_first_argument = self.is_first_argument
        return same

    def keys(self, req: Request) -> list[bytes]:
        return _collect(req, self._all)

    def written(self, req: Request) -> list[bytes]:
        return _collect(req, self._written)

    def all_at(self, req: Request) -> list[int]:
        """Which arguments are keys."""
        return [i for indexes in self._all for i in indexes(req)]

    def written_at(self, req: Request) -> list[int]:
        """Which arguments are keys that it may write."""
        return [i for indexes in self._written for i in indexes(req)]


def _collect(req: Request, ranges: tuple[Indexes, ...]) -> list[bytes]:
    if len(ranges) == 1:
        return [req.arg(i) for i in ranges[0](req)]
    return [req.arg(i) for i in sorted({i for indexes in ranges for i in indexes(req)})]


def keys(text: str, *, read: Indexes | None = None, write: Indexes | None = None) -> Keys:
    """The text of the module docstring, plus functions for keys that a keyword announces."""
    reads = [] if read is None else [read]
    writes = [] if write is None else [write]
    for word in text.split():
        match = _WORD.match(word)
        if match is None:
            raise AssertionError(f"not a key range: {word!r}")
        (writes if match["access"] == "w" else reads).append(_range(match))
    is_positional = write is None and not re.search(r"w\#", text)
    shown = text if read is None and write is None else text + " …"
    return Keys(shown, reads, writes, is_positional=is_positional)


def _range(match: re.Match[str]) -> Indexes:
    step = int(match["step"] or 1)
    if match["count_at"]:
        return counted(int(match["count_at"]), int(match["count_at"]) + 1, step)
    first = int(match["first"])
    if match["open"]:
        last = int(match["last"] or -1)
        return lambda req: range(first, req.argc + last + 1, step)
    number = int(match["number"] or 1)
    return lambda req: range(first, min(first + number * step, req.argc), step)


def counted(count_at: int, first: int, step: int = 1) -> Indexes:
    """Argument ``count_at`` says how many keys there are, from ``first`` on."""

    def indexes(req: Request) -> Sequence[int]:
        number = whole_number(req.arg(count_at)) if req.argc > count_at else None
        if number is None or number <= 0:
            return ()
        return range(first, min(first + number * step, req.argc), step)

    return indexes


def whole_number(text: bytes) -> int | None:
    """The number as the servers read it (``string2ll``): no spaces, no plus, no leading zero."""
    if not text.isdigit() and not (text[:1] == b"-" and text[1:].isdigit()):
        return None
    number = int(text)
    return number if str(number).encode() == text else None


def after_last(*keywords: bytes, first: int) -> Indexes:
    """The argument behind the last of these keywords: SORT … STORE, GEORADIUS … STORE.

    The servers take the last one when several are given.
    """

    def indexes(req: Request) -> Sequence[int]:
        for i in range(req.argc - 2, first - 1, -1):
            if req.arg(i).upper() in keywords:
                return (i + 1,)
        return ()

    return indexes


def xread_options(req: Request) -> dict[bytes, int]:
    """Where the options of XREAD or XREADGROUP stand, up to STREAMS: behind it are keys and ids."""
    found: dict[bytes, int] = {}
    i = 1
    while i < req.argc and b"STREAMS" not in found:
        word = req.arg(i).upper()
        found[word] = i
        i += _XREAD_OPTIONS.get(word, 1)
    return found


_XREAD_OPTIONS = {b"BLOCK": 2, b"COUNT": 2, b"GROUP": 3, b"NOACK": 1, b"CLAIM": 2}


def streams(req: Request) -> Sequence[int]:
    """The first half of what follows STREAMS; the other half are ids."""
    at = xread_options(req).get(b"STREAMS")
    if at is None:
        return ()
    return range(at + 1, at + 1 + (req.argc - at - 1) // 2)


NO_KEYS = keys("")
