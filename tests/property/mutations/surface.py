"""The rules of what is not a plain command: blocks, scripts, waiting, messages, cursors, caches."""

from __future__ import annotations

import asyncio
from typing import Any

from migrator.traffic.families import RESIDENT

from .registry import mutation


@mutation()
def exec_ticket() -> None:
    """EXEC on a connection of the client's own goes without a ticket for its keys."""
    from proxy.block import Exec

    init = Exec.__init__

    def patched(self: Exec, *args: Any) -> None:
        init(self, *args)
        self.places = ()

    Exec.__init__ = patched  # type: ignore[method-assign]


@mutation()
def epoch() -> None:
    """A WATCH outlives a flip: EXEC goes where it would have gone before."""
    from proxy.own import Borrowed

    Borrowed.is_void = lambda self, session: self.lane.is_lost  # type: ignore[method-assign]


@mutation()
def parked() -> None:
    """What a waiting client was given is not mirrored."""
    from proxy.attempt import Attempt

    def nothing(self: Attempt, part: Any, frame: bytes) -> None:
        pass

    Attempt._record = nothing  # type: ignore[method-assign]


@mutation()
def script_keys() -> None:
    """The keys that a script names are not marked."""
    from proxy.block import Exec
    from proxy.scripting import ScriptCall

    ScriptCall._mark = lambda self: None  # type: ignore[method-assign]
    Exec._mark_scripted = lambda self: None  # type: ignore[method-assign]


@mutation()
def witness() -> None:
    """Of a script that names no keys nobody looks at what it writes."""
    from proxy import block, unnamed

    def nothing(*args: Any) -> None:
        pass

    unnamed.mark_seen = block.mark_seen = nothing


@mutation()
def subscribers() -> None:
    """The old connections of subscribers are not heard out at a flip.

    On one machine their messages are there with the replies to PUBLISH, or nearly: they are as
    late here as they may be elsewhere.
    """
    from proxy.receiver import Receiver
    from proxy.subscriptions import Subscriptions

    received = Receiver._received

    def heard(self: Receiver, frame: bytes) -> None:
        if not self.lane.is_lost:
            received(self, frame)

    def late(self: Receiver, frame: bytes) -> None:
        asyncio.get_running_loop().call_later(0.15, heard, self, frame)

    async def nothing(self: Subscriptions) -> None:
        pass

    Receiver._received = late  # type: ignore[method-assign]
    Subscriptions.settle = nothing  # type: ignore[method-assign]


@mutation()
def swap() -> None:
    """SWAPDB is not mirrored."""
    from proxy.mirror import Mirror

    Mirror.append_swap = lambda self, a, b, raw: None  # type: ignore[method-assign]


@mutation()
def swap_names() -> None:
    """Behind a SWAPDB, copies that are owed are looked for by their old names."""
    from proxy.keytable import KeyTable

    KeyTable.swap = lambda self, a, b: None  # type: ignore[method-assign]


@mutation()
def cursors() -> None:
    """A cursor goes to the primary, whichever side has given it."""
    from proxy import cursors

    def issued_by(request: Any) -> Any:
        _, raw = original(request)
        return None, raw

    original = cursors.issued_by
    cursors.issued_by = issued_by


# Every FLUSHDB makes all caches forget.
@mutation(without={RESIDENT})
def caches() -> None:
    """Caches are told nothing at a flip."""
    from proxy import pinned

    pinned.EVERYTHING = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nnone\r\n"
