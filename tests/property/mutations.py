"""Ways to break the product on purpose, each the opposite of one rule that makes it exact.

Each is a patch over the product's modules, applied in a process of its own, before it starts:

    python -c "from tests.property.mutations import main; main('watch')" run --source …

The product reads nothing of this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

MUTATIONS: dict[str, Callable[[], None]] = {}


def mutation(patch: Callable[[], None]) -> Callable[[], None]:
    MUTATIONS[patch.__name__] = patch
    return patch


@mutation
def watch() -> None:
    """The backfill ignores `watch`: what it read is written, whatever was written meanwhile."""
    from proxy.keytable import KeyTable, Lease

    original = KeyTable.watch

    def patched(self: KeyTable, places: Sequence[Any], own: Any = None) -> Lease:
        caller = sys._getframe(1)
        is_backfill = caller.f_code.co_name == "copy" and not caller.f_locals["is_repair"]
        return Lease(self, places) if is_backfill else original(self, places, own)

    KeyTable.watch = patched  # type: ignore[method-assign]


@mutation
def tickets() -> None:
    """A write goes at once, also when another lane's write of the key is not answered yet."""
    from migrator.mover import Alone
    from proxy.keytable import KeyTable, Ticket
    from proxy.ops import Block, Write

    original = KeyTable.acquire

    def patched(self: KeyTable, ticket: Ticket) -> bool:
        if isinstance(ticket, Write | Block):
            for place in ticket.places:
                entry = self.entries.get(place)
                # As if what is in flight were of the same lane; movers still have theirs alone.
                if entry is not None and not entry.queue and not isinstance(entry.lane, Alone):
                    entry.lane = ticket.lane
        return original(self, ticket)

    KeyTable.acquire = patched  # type: ignore[method-assign]


@mutation
def arrival() -> None:
    """Effects are mirrored in the order in which the requests arrived, not in that of replies.

    A reply is still waited for, since the effect depends on it; an effect whose request came
    later is held back until then.
    """
    from proxy import ops, session
    from proxy.commands import Kind
    from proxy.mirror import Mirror
    from proxy.resp import RequestScanner

    # Requests by arrival; what is to be recorded once all before it have been.
    waiting: dict[int, Callable[[], None] | None] = {}
    kept: dict[int, Any] = {}
    table: list[Any] = []

    class Scanner(RequestScanner):
        def feed(self, data: bytes) -> list[Any]:
            requests = super().feed(data)
            for request in requests:
                command = table[0].lookup(request)
                is_write = command is not None and command.kind is Kind.WRITE
                if is_write and command.single_key and not command.probe(request):
                    waiting[id(request)] = None
                    kept[id(request)] = request
            return requests

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

    record = Mirror.record

    def patched(self: Mirror, db: int, command: Any, request: Any, *rest: Any) -> None:
        if waiting.get(id(request), settle) is None and request is kept.get(id(request)):
            settle(request, lambda: record(self, db, command, request, *rest))
        else:
            record(self, db, command, request, *rest)

    def settling(cls: Any, requests: Callable[[Any], list[Any]]) -> None:
        for name in ("reply", "lost"):
            original = getattr(cls, name)

            def after(self: Any, *args: Any, original: Any = original) -> None:
                done = requests(self)
                original(self, *args)
                for request in done:
                    if waiting.get(id(request), settle) is None:
                        settle(request, lambda: None)

            setattr(cls, name, after)

    settling(ops.Write, lambda op: [op.request])
    settling(
        ops.Block,
        lambda op: [r for _, r in op.items] if op.index >= len(op.items) + 1 else [],
    )
    from proxy.server import Proxy

    init = Proxy.__init__

    def with_table(self: Proxy, endpoints: Any, commands: Any, **options: Any) -> None:
        table[:] = [commands]
        init(self, endpoints, commands, **options)

    Proxy.__init__ = with_table  # type: ignore[method-assign]
    Mirror.record = patched  # type: ignore[method-assign]
    # What was held back is of other steps, and other databases.
    Mirror.one_step = lambda self: nullcontext()  # type: ignore[method-assign,assignment,return-value]
    session.RequestScanner = Scanner  # type: ignore[misc]


@mutation
def verbatim() -> None:
    """XADD with * and SPOP are replayed as they are.

    Their replies are not compared: with that the mirror finds each difference by itself.
    """
    from proxy.commands import Check, CommandTable, Effect

    def as_it_is(request: Any, *_: Any) -> list[Effect]:
        return [Effect(request.raw, Check.NO_ERROR)]

    original = CommandTable.__init__

    def patched(self: CommandTable) -> None:
        original(self)
        for name in ("xadd", "spop"):
            command = self.named(name)
            assert command is not None
            command.effect = as_it_is
            command._probe = None

    CommandTable.__init__ = patched  # type: ignore[method-assign]


@mutation
def moves_data() -> None:
    """RENAME and SUNIONSTORE during the backfill do not mark what they write."""
    from proxy.commands import CommandTable

    original = CommandTable.__init__

    def patched(self: CommandTable) -> None:
        original(self)
        for name in ("rename", "renamenx", "sunionstore"):
            command = self.named(name)
            assert command is not None
            command.moves_data = False

    CommandTable.__init__ = patched  # type: ignore[method-assign]


@mutation
def expiry() -> None:
    """Nobody listens to the stores' expired and evicted events."""
    from migrator.feed import Feed

    original = Feed.__init__

    def patched(self: Feed, store: Any, on_event: Any, *rest: Any, **options: Any) -> None:
        original(self, store, lambda db, key: None, *rest, **options)

    Feed.__init__ = patched  # type: ignore[method-assign]


@mutation
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


def main(name: str) -> None:
    """Runs the command line with one rule broken."""
    MUTATIONS[name]()
    from migrator.cli import main as keyferry

    keyferry()
