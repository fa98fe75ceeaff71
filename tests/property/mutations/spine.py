"""The rules that the design stands on: order, leases, effects, expiry, the fence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from migrator.traffic import WHOLE

from .registry import mutation

# Plain commands meet these more often than a traffic of everything.
plain = mutation(without=WHOLE)


@plain
def watch() -> None:
    """The backfill ignores `watch`: what it read is written, whatever was written meanwhile."""
    from proxy.keytable import KeyTable, Lease

    original = KeyTable.watch

    def patched(self: KeyTable, places: Sequence[Any], own: Any = None) -> Lease:
        caller = sys._getframe(1)
        is_backfill = caller.f_code.co_name == "copy" and not caller.f_locals["is_repair"]
        return Lease(self, places) if is_backfill else original(self, places, own)

    KeyTable.watch = patched  # type: ignore[method-assign]


@plain
def tickets() -> None:
    """A write goes at once, also when another lane's write of the key is not answered yet."""
    from migrator.mover import Alone
    from proxy.block import Block, Exec
    from proxy.keytable import KeyTable, Ticket
    from proxy.ops import Write

    original = KeyTable.acquire

    def patched(self: KeyTable, ticket: Ticket) -> bool:
        if isinstance(ticket, Write | Block | Exec):
            for place in ticket.places:
                entry = self.entries.get(place)
                # As if what is in flight were of the same lane; movers still have theirs alone.
                if entry is not None and not entry.queue and not isinstance(entry.lane, Alone):
                    entry.lane = ticket.lane
        return original(self, ticket)

    KeyTable.acquire = patched  # type: ignore[method-assign]


@plain
def arrival() -> None:
    """Effects are mirrored in the order in which the requests arrived, not in that of replies.

    A reply is still waited for, since the effect depends on it; an effect whose request came
    later is held back until then.
    """
    from proxy.mirror import Mirror
    from proxy.ops import Write

    # Requests by arrival; what is to be recorded once all before it have been.
    waiting: dict[int, Callable[[], None] | None] = {}
    kept: dict[int, Any] = {}
    begin, record = Write.begin, Mirror.record

    def arriving(self: Write, *args: Any) -> None:
        begin(self, *args)
        # What is its own kind of write is not held back.
        if type(self) is Write and self.command.single_key:
            waiting[id(self.request)] = None
            kept[id(self.request)] = self.request

    def settle(request: Any, work: Callable[[], None]) -> None:
        waiting[id(request)] = work
        while waiting:
            first = next(iter(waiting))
            ready = waiting[first]
            if ready is None:
                return
            del waiting[first]
            ready()
            kept.pop(first, None)

    def patched(self: Mirror, db: int, command: Any, request: Any, *rest: Any) -> None:
        if waiting.get(id(request), settle) is None and request is kept.get(id(request)):
            # Not with the entry of then (the last of them): by now the table may have let it go.
            settle(request, lambda: record(self, db, command, request, *rest[:5]))
        else:
            record(self, db, command, request, *rest)

    def settling(name: str) -> None:
        original = getattr(Write, name)

        def after(self: Write, *args: Any) -> None:
            original(self, *args)
            if waiting.get(id(self.request), settle) is None:
                settle(self.request, lambda: None)

        setattr(Write, name, after)

    settling("reply")
    settling("lost")
    Write.begin = arriving  # type: ignore[method-assign]
    Mirror.record = patched  # type: ignore[method-assign]
    # What was held back is of other steps, and other databases.
    Mirror.one_step = lambda self: nullcontext()  # type: ignore[method-assign,assignment,return-value]


@plain
def verbatim() -> None:
    """XADD with * and SPOP are replayed as they are.

    Their replies are not compared: with that the mirror finds each difference by itself.
    """
    from proxy.commands import Check, CommandTable, Effect

    def as_it_is(request: Any, *_: Any) -> list[Effect]:
        return [Effect(request.raw, Check.NO_ERROR)]

    original = CommandTable.__init__

    def patched(self: CommandTable, **options: Any) -> None:
        original(self, **options)
        for name in ("xadd", "spop"):
            command = self.named(name)
            assert command is not None
            command.effect = as_it_is
            command._probe = None

    CommandTable.__init__ = patched  # type: ignore[method-assign]


@plain
def moves_data() -> None:
    """RENAME and SUNIONSTORE during the backfill do not mark what they write."""
    from proxy.commands import CommandTable

    original = CommandTable.__init__

    def patched(self: CommandTable, **options: Any) -> None:
        original(self, **options)
        for name in ("rename", "renamenx", "sunionstore"):
            command = self.named(name)
            assert command is not None
            command.moves_data = False

    CommandTable.__init__ = patched  # type: ignore[method-assign]


@plain
def expiry() -> None:
    """Nobody listens to the stores' expired and evicted events."""
    from migrator.feed import Feed

    original = Feed.__init__

    def patched(self: Feed, store: Any, on_event: Any, *rest: Any, **options: Any) -> None:
        original(self, store, lambda db, key: None, *rest, **options)

    Feed.__init__ = patched  # type: ignore[method-assign]


@plain
def drain() -> None:
    """The flip does not wait for what is on its way to the other side."""
    from migrator import flip

    async def nothing(controller: Any) -> None:
        pass

    original = flip.blockers_of_flip

    def patched(facts: Any, *, in_fence: bool = False) -> Any:
        # What the draining would have settled is no reason to stay.
        found = original(facts, in_fence=in_fence)
        return [each for each in found if not (in_fence and each.name == "unproven_keys")]

    flip._drain = nothing
    flip.blockers_of_flip = patched


@plain
def late_reads() -> None:
    """A read on the secondary is delivered, whoever has written its key since it was sent.

    On one machine all is sent and answered at once, or nearly: some lanes are as late here as they
    may be elsewhere.
    """
    from proxy.split import SplitRead

    def patched(self: SplitRead) -> bool:
        return self.is_shifted() and self.frame is not None and self.frame[0] in b"-!"

    SplitRead.is_doubtful = patched  # type: ignore[method-assign]
    _make_late(lambda lane: lane.resp == 3)


@plain
def later_reads() -> None:
    """Where a read is asked again, those behind it keep the answers that they have."""
    from proxy.sides import Side
    from proxy.split import Split

    def patched(self: Split) -> None:
        first, *later = self.reads.items()
        self.reads.clear()
        self.size = 0
        first.split = None
        again = self.ask(first.request)
        self.reads.extend(later)
        self.size += len(later)
        self.client.ask_primary(again, again.request)

    Split._ask_again = patched  # type: ignore[method-assign]
    _make_late(lambda lane: lane.side is Side.TARGET)


def _make_late(is_late: Callable[[Any], bool]) -> None:
    """What these lanes of clients send goes 3 ms later."""
    from proxy.lane import Lane

    flush = Lane._flush

    def patched(self: Lane) -> None:
        if self.is_ready and self.name.startswith(b"keyferry-lane") and is_late(self):
            self._loop.call_later(0.003, flush, self)
        else:
            flush(self)

    Lane._flush = patched  # type: ignore[method-assign]
