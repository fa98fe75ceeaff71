"""Which databases the store behind a connection has.

Owns what is known of that, and the asking. An effect behind a SELECT that failed would be
carried out in another database, so it is not sent to one that the store is not known to have.
"""

from __future__ import annotations

import asyncio
from functools import partial

from .lane import Call, Lane
from .resp import encode_command
from .resp.values import is_error

OK = b"+OK\r\n"
# Those that are asked for when the connection is made; others when they are first used.
LIKELY = 16


class Databases:
    """Of one store; ``learn`` begins anew with another connection."""

    def __init__(self) -> None:
        self._known = {0}
        self._asked: set[int] = set()

    async def learn(self, lane: Lane) -> None:
        """Ask for the likely ones, and leave the connection in database 0."""
        self._known = {0}
        for db in range(1, LIKELY):
            if is_error(await lane.call(b"SELECT", b"%d" % db)):
                break
            self._known.add(db)
        await lane.call(b"SELECT", b"0")

    def has(self, lane: Lane, db: int, current: int) -> bool:
        """Whether there is certainly a ``db``; if that is not known, the store is asked.

        ``current``: the database that the connection is in.
        """
        if db in self._known:
            return True
        if db not in self._asked:
            self._asked.add(db)
            # There and back in one write: nothing can come between the two.
            asked, back = Call(), Call()
            words = encode_command(b"SELECT", b"%d" % db) + encode_command(
                b"SELECT", b"%d" % current
            )
            lane.send_batch((asked, back), words)
            asked.future.add_done_callback(partial(self._answered, db))
        return False

    def _answered(self, db: int, answer: asyncio.Future[bytes]) -> None:
        self._asked.discard(db)
        if answer.exception() is None and answer.result() == OK:
            self._known.add(db)
