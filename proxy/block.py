"""A MULTI … EXEC on its way: what is written of it, and what follows from its replies.

Owns the moment in which EXEC is answered: the effects of all its commands are appended as
one step, in the databases they were executed in, the ticket is released, and the client
gets the server's bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from . import client_block, login
from .commands import Command, Kind
from .cursors import tagged
from .keytable import Place, Ticket
from .lane import Lane
from .lua import UNKNOWN, Script
from .ops import record_barrier
from .own import Borrowed
from .places import places_of, written_places
from .resp import Request, is_error
from .resp.encoder import array
from .sent import ERROR_BYTES, EXEC, MULTI, is_executed, split_array
from .sides import Side
from .unnamed import mark_seen

if TYPE_CHECKING:
    from .server import Proxy
    from .session import Session
    from .witness import Testimony

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"


_INDEX = re.compile(rb"0|[1-9][0-9]{0,8}")


def database(request: Request) -> int | None:
    """What a SELECT asks for; None: it is no index."""
    index = request.arg(1) if request.argc == 2 else b""
    return int(index) if _INDEX.fullmatch(index) else None


class Item(NamedTuple):
    """One command of a block.

    raw: what the server is sent. is_local: the proxy answers it; ``raw`` stands for it.
    """

    command: Command
    request: Request
    raw: bytes
    is_local: bool = False


def places_of_items(proxy: Proxy, db: int, items: Iterable[Item]) -> tuple[Place, ...] | None:
    """All places that a block may read or write; None: nobody can name them all."""
    dbs = {db}
    places: dict[Place, None] = {}
    for command, request, *_ in items:
        if command.name == "select":
            index = database(request)
            # Whether it will succeed is not known yet.
            dbs |= set() if index is None else {index}
        elif command.kind is Kind.BARRIER or (command.writes and command.unknown_keys(request)):
            return None
        elif command.kind is Kind.SCRIPT:
            for each in dbs:
                touched = proxy.scripting.touched(each, command, request)
                if touched is None:
                    return None
                places.update(dict.fromkeys(touched))
        else:
            for each in dbs:
                places.update(dict.fromkeys(places_of(each, command, request)))
    return tuple(places)


def record(
    proxy: Proxy, db: int, items: Sequence[Item], answers: Sequence[bytes], sent_at: float
) -> int:
    """Append what a block did, as one step; returns the database that it ends in."""
    mirror = proxy.mirror
    with ExitStack() as step:
        if mirror is not None:
            step.enter_context(mirror.one_step())
        for (command, request, *_), frame in zip(items, answers, strict=True):
            if command.name == "select":
                index = database(request)
                db = index if frame == OK and index is not None else db
            elif command.kind is Kind.SCRIPT:
                proxy.scripting.remember(command, request, frame)
            elif mirror is None or (frame[0] in ERROR_BYTES and not command.writes_on_error):
                continue
            elif command.kind is Kind.BARRIER:
                # It is of all keys, so it cannot be undone with the rest: a step of its own.
                step.close()
                record_barrier(proxy, db, command, request)
                step.enter_context(mirror.one_step())
            elif command.writes and command.unknown_keys(request):
                for place in written_places(db, command, request):
                    proxy.table.mark_unproven(place)
            elif command.writes:
                places = places_of(db, command, request)
                mirror.record(db, command, request, places, frame, sent_at)
    return db


class _Scripts(NamedTuple):
    """What scripts in a block may write: these places, and keys that only the witness can tell."""

    places: set[Place]
    dbs: set[int]
    unnamed: list[tuple[Script, Request]]


def _scripts(proxy: Proxy, db: int, items: Iterable[Item]) -> _Scripts:
    scripting = proxy.scripting
    found = _Scripts(set(), {db}, [])
    changes_functions = False
    for command, request, *_ in items:
        index = database(request) if command.name == "select" else None
        if index is not None:
            found.dbs.add(index)
        if command.kind is Kind.SCRIPT:
            if command.name.startswith("function|"):
                changes_functions = True
            elif command.name == "fcall" and changes_functions and proxy.mirror is not None:
                # Not the function that is known by this name now.
                found.unnamed.append((UNKNOWN, request))
            elif scripting.is_unnamed(command, request):
                found.unnamed.append((scripting.verdict(command, request), request))
            for each in found.dbs:
                found.places.update(scripting.touched(each, command, request) or ())
    return found


def mark_written(proxy: Proxy, db: int, items: Iterable[Item]) -> None:
    """The connection was lost: nobody knows what a block has done."""
    if proxy.mirror is None:
        return
    dbs = {db}
    for command, request, *_ in items:
        index = database(request) if command.name == "select" else None
        dbs |= set() if index is None else {index}
        if command.writes:
            for each in dbs:
                for place in written_places(each, command, request):
                    proxy.table.mark_unproven(place)


class Block(Ticket):
    """A whole block on the primary's lane, of commands that cannot change a connection."""

    __slots__ = ("db", "index", "is_unwrapped", "items", "queued", "sent_at", "session")

    lane: Lane

    def __init__(
        self,
        session: Session,
        lane: Lane,
        items: Sequence[Item],
        places: Sequence[Place],
        sent_at: float,
    ) -> None:
        self.session = session
        self.lane = lane
        self.db = session.db
        self.items = items
        self.places = places
        self.sent_at = sent_at
        self.index = 0
        self.is_unwrapped = False
        # Those of the items that the server has queued: EXEC answers these.
        self.queued: list[Item] = []

    def go(self) -> None:
        self.sent_at = self.session.proxy.now()
        self.dispatch()
        self.session.unhold()

    def dispatch(self) -> None:
        raw = b"".join(item.raw for item in self.items)
        self.lane.send_batch([self] * (len(self.items) + 2), MULTI + raw + EXEC)

    def reply(self, frame: bytes) -> None:
        self.index += 1
        if self.index == 1:
            # A user who may not run MULTI has its commands executed one by one.
            self.is_unwrapped = frame != OK
        elif self.index == len(self.items) + 2:
            self._executed(frame)
        elif self.is_unwrapped:
            self._record((self.items[self.index - 2],), (frame,))
        elif frame == QUEUED:
            self.queued.append(self.items[self.index - 2])
        self.session.reply(frame)

    def _executed(self, frame: bytes) -> None:
        try:
            if is_executed(frame):
                self._record(self.queued, split_array(frame))
        finally:
            self.session.proxy.table.release(self)

    def _record(self, items: Sequence[Item], answers: Sequence[bytes]) -> None:
        record(self.session.proxy, self.db, items, answers, self.sent_at)

    def lost(self) -> None:
        total = len(self.items) + 2
        if self.index == total:
            return
        self.index = total
        proxy = self.session.proxy
        mark_written(proxy, self.db, self.items)
        proxy.table.release(self)
        self.session.lost()


class Exec(Ticket):
    """The EXEC of a block that stands queued on a connection of the client's own.

    ``places`` None: it is ordered against everything. What scripts in it may write is not
    mirrored but copied: all of it as soon as it was executed, in whatever order.
    """

    __slots__ = (
        "_is_changed", "_scripts", "borrowed", "db", "is_alone", "items", "raw", "sent_at",
        "session",
    )  # fmt: skip

    lane: Lane

    def __init__(
        self,
        session: Session,
        borrowed: Borrowed,
        items: Sequence[Item],
        places: Sequence[Place] | None,
        raw: bytes,
    ) -> None:
        self.session = session
        self.borrowed = borrowed
        self.lane = borrowed.lane
        self.db = session.db
        self.items = items
        self.is_alone = places is None
        self.places = places or ()
        self.raw = raw
        self.sent_at = session.proxy.now()
        # Another user or protocol is in the connection now than it was borrowed for.
        self._is_changed = False
        self._scripts = _scripts(session.proxy, self.db, items)

    def start(self) -> None:
        """Send it as soon as it may go; the session waits meanwhile."""
        table = self.session.proxy.table
        self.session.hold()
        if self.is_alone:
            table.close(self.go)
        elif table.acquire(self):
            self.go()
        parking = self.session.proxy.parking
        if parking.waiting:
            parking.behind_block(self.session, self.lane, self.db, self.items)

    def go(self) -> None:
        proxy = self.session.proxy
        if self.is_alone:
            proxy.table.touch_everything()
        if self._scripts.unnamed:
            proxy.scripting.witness.begin(self._send)
        else:
            self._send()

    def _send(self) -> None:
        self.sent_at = self.session.proxy.now()
        self.lane.send(self, self.raw)

    def reply(self, frame: bytes) -> None:
        try:
            if is_executed(frame):
                frame = self._executed(frame)
        finally:
            self._give_back()
            self.session.reply(frame)
            self._end()

    def _executed(self, frame: bytes) -> bytes:
        session = self.session
        answers = self.split(frame)
        if self.is_alone:
            # A copy may have been read since it was sent, before it was executed.
            session.proxy.table.touch_everything()
        db = record(session.proxy, self.db, self.items, answers, self.sent_at)
        # Behind all of it: a FLUSHALL in the block forgets what was marked before.
        self._mark_scripted()
        if any(item.command.kind in (Kind.LOCAL, Kind.CURSOR) for item in self.items):
            frame = self.joined(list(map(self._answer, self.items, answers)))
        if db != session.db:
            self.lane.db = db
            session.to_database(db)
        return frame

    def split(self, frame: bytes) -> list[bytes]:
        """The answers to its commands."""
        return split_array(frame)

    def joined(self, answers: Sequence[bytes]) -> bytes:
        return array(answers)

    def _give_back(self) -> None:
        if self._is_changed:
            self.borrowed.discard()
        else:
            self.borrowed.give_back(self.session)

    def _answer(self, item: Item, frame: bytes) -> bytes:
        if item.is_local:
            return client_block.answered(
                self.session, item.command, item.request, frame, len(self.items)
            )
        if item.command.name in login.IN_BLOCKS and not is_error(frame):
            self._is_changed = True
            return login.accepted(self.session, item.request, frame)
        if item.command.kind is Kind.CURSOR and self.lane.side is Side.TARGET:
            return tagged(frame)
        return frame

    def lost(self) -> None:
        proxy = self.session.proxy
        if self.is_alone and proxy.mirror is not None:
            proxy.table.mark_everything_unproven()
        mark_written(proxy, self.db, self.items)
        self._mark_scripted()
        self.session.lost()
        self._end()

    def _mark_scripted(self) -> None:
        proxy = self.session.proxy
        if proxy.mirror is not None:
            # A SWAPDB behind the script has taken along what it wrote.
            for place in self._scripts.places:
                proxy.table.mark_wherever(place)

    def _end(self) -> None:
        proxy = self.session.proxy
        if not self._scripts.unnamed:
            self._done()
            return

        def told(testimony: Testimony | None) -> None:
            mark_seen(proxy, testimony, self._scripts.dbs, self._scripts.unnamed)
            self._done()

        proxy.scripting.witness.end(told)

    def _done(self) -> None:
        table = self.session.proxy.table
        if self.is_alone:
            table.open()
        else:
            table.release(self)
        self.session.unhold()
