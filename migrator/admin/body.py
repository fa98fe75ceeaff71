"""The options in a verb's JSON body: read one by one, and nothing else may be there.

Pure. Every problem is a BadInput which names the option.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Self

from migrator.errors import BadInput
from migrator.units import duration_ms

DEFAULT_MAX_PAUSE_MS = 1000.0
# Refuses infinity, and a fence that would outlast the patience of every client.
LONGEST_MAX_PAUSE_MS = 60_000.0


class Body:
    """Every reader takes its option out; `refuse_rest` complains about what is left."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    @classmethod
    def parse(cls, text: str) -> Self:
        """An empty text is an empty object. Raises BadInput."""
        try:
            options = json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise BadInput(f"the body is not JSON: {error}") from None
        if not isinstance(options, dict):
            raise BadInput("the body must be a JSON object")
        return cls(options)

    def refuse_rest(self) -> None:
        if self._options:
            raise BadInput(f"unknown option: {', '.join(sorted(self._options))}")

    def names(self, name: str) -> list[str]:
        value = self._options.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadInput(f"{name}: a list of names is needed")
        return value

    def flag(self, name: str) -> bool:
        value = self._options.pop(name, False)
        if not isinstance(value, bool):
            raise BadInput(f"{name}: true or false is needed")
        return value

    def count(self, name: str) -> int | None:
        value = self._options.pop(name, None)
        if value is None:
            return None
        if not _is_integer(value) or value < 1:
            raise BadInput(f"{name}: a whole number from 1 up is needed")
        return int(value)

    def choice(self, name: str, of: Iterable[str]) -> str | None:
        value = self._options.pop(name, None)
        words = list(of)
        if value is not None and value not in words:
            raise BadInput(f"{name}: one of {', '.join(words)} is needed")
        return None if value is None else str(value)

    def limit(self, name: str) -> int | None:
        """None where it is not given; 0 is no limit."""
        value = self._options.pop(name, None)
        if value is not None and (not _is_integer(value) or value < 0):
            raise BadInput(f"{name}: a whole number from 0 up is needed")
        return None if value is None else int(value)

    def percent(self, name: str) -> int:
        value = self._options.pop(name, None)
        if not _is_integer(value) or not 0 <= value <= 100:
            raise BadInput(f"{name}: a whole number from 0 to 100 is needed")
        return int(value)

    def max_pause_ms(self) -> float:
        """`max_pause_ms`, a number, or `max_pause` as it is given on the command line: `"1s"`."""
        value = self._options.pop("max_pause_ms", None)
        text = self._options.pop("max_pause", None)
        if value is not None and text is not None:
            raise BadInput("max_pause: max_pause_ms is given as well")
        if text is not None:
            try:
                value = duration_ms(str(text))
            except ValueError as error:
                raise BadInput(f"max_pause: {error}") from None
        if value is None:
            return DEFAULT_MAX_PAUSE_MS
        if not (_is_integer(value) or isinstance(value, float)) or not (
            0 < value <= LONGEST_MAX_PAUSE_MS
        ):
            raise BadInput(
                f"max_pause_ms: a number above 0, up to {LONGEST_MAX_PAUSE_MS:g}, is needed"
            )
        return float(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
