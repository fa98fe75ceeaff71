"""The witness: sees which keys are written on the primary, whoever writes them.

Owns one connection with CLIENT TRACKING in broadcasting mode, switched on for a moment only: while
it is on, every write on the store costs a message. Servers send these messages before the replies
of the same turn of their event loop (beforeSleep in server.c), so whoever has the reply to a script
and then asks on the witness has all that the script wrote in front of the answer. They do not tell
the database.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .handshake import login_of
from .lane import Lane
from .op import Op
from .resp import encode_command, is_error, parse

if TYPE_CHECKING:
    from .server import Proxy

log = logging.getLogger("keyferry.witness")

ON = encode_command(b"CLIENT", b"TRACKING", b"ON", b"BCAST")
OFF = encode_command(b"CLIENT", b"TRACKING", b"OFF")
DATABASES = encode_command(b"INFO", b"keyspace")
_DATABASE = re.compile(rb"^db(\d+):", re.MULTILINE)


class Testimony(NamedTuple):
    """What was seen between the beginning and the end.

    keys: every key that was written. dbs: every database that held a key, before or after.
    everything: a whole database was flushed.
    """

    keys: frozenset[bytes]
    dbs: frozenset[int]
    everything: bool


class Witness:
    """One testimony at a time: :meth:`begin`, what is to be seen, :meth:`end`."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._lane: Lane | None = None
        self._is_watching = False
        self._has_complained = False
        # From the beginning until what was seen is marked: who waits for that.
        self._is_under_way = False
        self._waiting: list[asyncio.Future[None]] = []
        # Of the testimony under way.
        self._keys: set[bytes] = set()
        self._dbs: set[int] = set()
        self._is_flushed = False

    def close(self) -> None:
        if self._lane is not None:
            self._lane.close()

    def begin(self, then: Callable[[], None]) -> None:
        """``then`` runs when every write from now on is seen, or when it is known that none is."""
        self._is_under_way = True

        def begun(answers: list[bytes | None]) -> None:
            refused = [each for each in answers if each is None or is_error(each)]
            self._is_watching = not refused
            self._keys.clear()
            self._is_flushed = False
            if not refused:
                self._dbs = _databases(answers[1])
                self._has_complained = False
            elif not self._has_complained:
                self._has_complained = True
                log.warning("what scripts write cannot be observed: %r", refused[0])
            then()

        both = Answers(2, begun)
        self._connection().send_batch((both, both), ON + DATABASES)

    def end(self, then: Callable[[Testimony | None], None]) -> None:
        """``then`` gets what was seen since the beginning; None: nobody was looking."""
        lane = self._lane
        if lane is None or not self._is_watching:
            self._over(then, None)
            return

        def ended(answers: list[bytes | None]) -> None:
            answer = answers[0]
            if answer is None or is_error(answer):
                self._over(then, None)
                return
            dbs = self._dbs | _databases(answer)
            seen = Testimony(frozenset(self._keys), frozenset(dbs), self._is_flushed)
            self._over(then, seen)

        lane.send(Answers(1, ended), DATABASES)
        lane.send(Answers(1, lambda answers: None), OFF)

    def _over(self, then: Callable[[Testimony | None], None], testimony: Testimony | None) -> None:
        # First, since ``then`` may begin the next one.
        self._is_under_way = False
        waiting, self._waiting = self._waiting, []
        then(testimony)
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def told(self) -> None:
        """Every write that a script has made before now, and that is seen here, is marked."""
        if self._is_under_way:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def _connection(self) -> Lane:
        proxy = self._proxy
        lane = self._lane
        if lane is not None and (lane.is_lost or lane.side is not proxy.primary):
            lane.close()
            lane = None
        if lane is None:
            endpoint = proxy.endpoints[proxy.primary]
            lane = self._lane = Lane(
                endpoint,
                proxy.primary,
                user=login_of(endpoint),
                resp=3,
                name=b"keyferry-witness",
                after_batch=proxy.flush_dirty,
                on_push=self._told,
            )
        return lane

    def _told(self, frame: bytes) -> None:
        message = parse(frame)
        if message[0] == b"invalidate":
            if message[1] is None:
                self._is_flushed = True
            else:
                self._keys.update(message[1])


class Answers(Op):
    """Waits for some replies in a row; those that were lost are None."""

    __slots__ = ("count", "frames", "then")

    def __init__(self, count: int, then: Callable[[list[bytes | None]], None]) -> None:
        self.count = count
        self.then = then
        self.frames: list[bytes | None] = []

    def reply(self, frame: bytes) -> None:
        self._took(frame)

    def lost(self) -> None:
        self._took(None)

    def _took(self, frame: bytes | None) -> None:
        self.frames.append(frame)
        if len(self.frames) == self.count:
            self.then(self.frames)


def _databases(info: bytes | None) -> set[int]:
    assert info is not None
    return {int(found) for found in _DATABASE.findall(parse(info))}
