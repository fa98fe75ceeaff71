"""The rule for commands of modules, and the few that need one of their own.

What a module's command does to keys only the server can say, in its COMMAND. The rule:

- One that is flagged ``readonly`` goes to the primary, whatever keys it names: it may look at
  indexes and other things of the module's, which the secondary may not have.
- One that writes goes to the primary as it is, and the keys that it names are copied.
- One that writes and names no key, or says neither, is refused (:mod:`proxy.commands.policy`).

Read on Redis Stack 7.4.0-v1: JSON 2.8, Bloom 2.8, TimeSeries 1.12, search 2.10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .keys import Keys, keys

if TYPE_CHECKING:
    from ..resp import Request

# COMMAND names the source only; the destination is of no source any more.
KEYS: dict[str, Keys] = {
    "ts.deleterule": keys("w1+2"),
}


def _deletes_documents(req: Request) -> bool:
    """FT.DROPINDEX index [DD]."""
    return req.argc > 2 and req.arg(2).upper() == b"DD"


def _keeps_no_documents(req: Request) -> bool:
    """FT.DROP index [KEEPDOCS]."""
    return not (req.argc > 2 and req.arg(2).upper() == b"KEEPDOCS")


def _always(req: Request) -> bool:
    return True


# Writes of keys that nobody names, when this holds of the request: everything is copied behind.
# TS.CREATERULE is the first of such writes: each sample may go into the other series as well.
# While there is a rule no copy of the series is exact, so no flip is possible; and once it is gone
# everything has to be verified anew.
WRITES_ANYTHING: dict[str, Callable[[Request], bool]] = {
    "ft.drop": _keeps_no_documents,
    "ft._dropifx": _keeps_no_documents,
    "ft.dropindex": _deletes_documents,
    "ft._dropindexifx": _deletes_documents,
    "ts.createrule": _always,
}
