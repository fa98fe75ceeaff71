"""Scripts and functions of both stores, before a migration.

Owns these findings: functions that the target cannot have or would lose, and scripts that nobody
can copy, since no command lists them. It changes nothing.
"""

from __future__ import annotations

import re

from migrator.bulk import Bulk, ReplyError
from migrator.finding import Finding
from migrator.stores import Store


async def compare(source: Store, target: Store, known: int) -> list[Finding]:
    """``known``: so many of the source's scripts came through the proxy.

    Raises ReplyError, ConnectionError.
    """
    found: list[Finding] = []
    s, t = await source.connection("admin"), await target.connection("admin")
    here, there = await _libraries(s), await _libraries(t)
    if here and there is None:
        found.append(
            Finding(
                "functions", "blocker",
                f"the source has {len(here)} libraries of functions, the target knows no functions",
            )
        )  # fmt: skip
    extra = sorted((there or set()) - (here or set()))
    if extra:
        names = ", ".join(name.decode(errors="replace") for name in extra[:5])
        found.append(
            Finding(
                "target_functions", "blocker",
                f"the target has libraries of functions that the source has not ({names}): "
                "they would be deleted",
            )
        )  # fmt: skip
    memory: bytes = await s.call("INFO", "memory")
    cached = re.search(rb"^number_of_cached_scripts:(\d+)", memory, re.MULTILINE)
    unseen = int(cached[1]) - known if cached is not None else 0
    if unseen > 0:
        found.append(
            Finding(
                "cached_scripts", "info",
                f"the source holds {unseen} scripts that were loaded past the proxy: EVALSHA of "
                "these is slower, and after a cutover answers NOSCRIPT until they are loaded again",
            )
        )  # fmt: skip
    return found


async def _libraries(bulk: Bulk) -> set[bytes] | None:
    """The names of a store's libraries of functions; None: it knows none."""
    try:
        return {library[1] for library in await bulk.call("FUNCTION", "LIST")}
    except ReplyError as error:
        if str(error).startswith("ERR unknown command"):
            return None
        raise
