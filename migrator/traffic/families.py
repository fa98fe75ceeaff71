"""The parts of the command surface that an application may use besides plain commands, by name.

Owns the names. What the parts do is in a module each.
"""

from __future__ import annotations

PIECES = "pieces"  # MULTI … EXEC in pieces
WATCH = "watch"  # WATCH, and counters that are raised with it
RESIDENT = "databases"  # a client with two databases of its own: SWAPDB, FLUSHDB, DBSIZE, KEYS
SCRIPTS = "scripts"  # EVAL, EVALSHA, SCRIPT LOAD
BLOCKING = "blocking"  # one connection waits, the other one gives
WORK = "work"  # queues of jobs, and workers that wait for them
PUBSUB = "pubsub"  # messages, and subscribers that get each one
CURSORS = "cursors"  # iterations that take their time
CACHING = "caching"  # caches that the server invalidates
SEVEN = "seven"  # what servers know from version 7 on: FUNCTION, EVAL_RO, BLMPOP, SPUBLISH

# Plain commands, and blocks of them that arrive whole.
QUICK: frozenset[str] = frozenset()
WHOLE = frozenset(
    {PIECES, WATCH, RESIDENT, SCRIPTS, BLOCKING, WORK, PUBSUB, CURSORS, CACHING, SEVEN}
)


def known_to(families: frozenset[str], *versions: tuple[int, ...]) -> frozenset[str]:
    """Those of them that servers of these versions serve."""
    return families if min(versions) >= (7,) else families - {SEVEN}
