"""What the mirror does first on a connection to the secondary, command by command.

Owns the questions and the orders themselves; when they are due is for the mirror to say.
"""

from __future__ import annotations

import logging

from .lane import Lane
from .resp.values import is_error, parse

log = logging.getLogger("keyferry.mirror")


def run_id_of(info: bytes) -> str:
    """The run id in an INFO server: another one is another process, with perhaps other data."""
    for line in info.split(b"\r\n"):
        if line.startswith(b"run_id:"):
            return line[7:].decode()
    raise AssertionError("INFO server names no run_id")


async def end_predecessors(lane: Lane, name: bytes) -> None:
    """Bytes of a dead connection of ours may still be read by the store: end it there first.

    It may be one of a process before us, so it is known by its name.
    """
    clients = await lane.call(b"CLIENT", b"LIST")
    if is_error(clients):
        log.warning("the %s does not let us see its clients", lane.side.label)
        return
    for line in parse(clients).splitlines():
        facts = dict(word.split(b"=", 1) for word in line.split() if b"=" in word)
        if facts.get(b"name") == name and facts[b"id"] != b"%d" % (lane.client_id or 0):
            await lane.call(b"CLIENT", b"KILL", b"ID", facts[b"id"])


async def flush(lane: Lane, db: int | None) -> bool:
    """Carry out an owed flush. False: the secondary refused it, or has no such database."""
    if db is None:
        return not is_error(await lane.call(b"FLUSHALL"))
    if is_error(await lane.call(b"SELECT", b"%d" % db)):
        return False
    flushed = await lane.call(b"FLUSHDB")
    await lane.call(b"SELECT", b"0")
    return not is_error(flushed)
