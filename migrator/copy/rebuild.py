"""From a snapshot to the commands that make it on another store.

Pure. Owns the order and the size of these commands; they travel in a pipeline that others share,
so none is much larger than a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from migrator.bulk import Arg, pack

from .dialect import Writes
from .expiry import NO_EXPIRY
from .snapshot import Foreign, Hash, Snapshot, SortedSet
from .streams import Stream, rebuild_stream

CHUNK_ELEMENTS = 1000
CHUNK_BYTES = 1024 * 1024

Args = tuple[Arg, ...]


def rebuild(snapshot: Snapshot, dialect: Writes) -> tuple[list[bytes], str]:
    """The commands in wire form, and what they lose: "" when nothing (see KeyCopy).

    Until the last of them the key is incomplete there. `dialect` is the other store's.
    """
    key, value, expires_at = snapshot.key, snapshot.value, snapshot.expires_at_ms
    if isinstance(value, Foreign):
        return [], f"type {snapshot.kind} needs a module"
    if isinstance(value, bytes):
        # SET replaces any type, and the expiry, in one step.
        expiry: Args = () if expires_at == NO_EXPIRY else ("PXAT", expires_at)
        return [pack(("SET", key, value, *expiry))], ""
    commands: list[Args] = [("UNLINK", key)]
    loses = ""
    if isinstance(value, list):
        commands += _chunks(("RPUSH", key), ((element,) for element in value))
    elif isinstance(value, set):
        commands += _chunks(("SADD", key), ((member,) for member in value))
    elif isinstance(value, SortedSet):
        commands += _chunks(("ZADD", key), ((s, member) for member, s in value.scores.items()))
    elif isinstance(value, Hash):
        commands += _chunks(("HSET", key), value.fields.items())
        if value.expiries and not dialect.has_field_ttl:
            loses = "expiry of hash fields"
        else:
            commands += _field_expiries(key, value)
    else:
        assert isinstance(value, Stream)
        commands += rebuild_stream(key, value, dialect)
    if expires_at != NO_EXPIRY:
        commands.append(("PEXPIREAT", key, expires_at))
    return [pack(command) for command in commands], loses


def _field_expiries(key: bytes, value: Hash) -> Iterator[Args]:
    by_time: dict[int, list[bytes]] = {}
    for name, expires_at in value.expiries.items():
        by_time.setdefault(expires_at, []).append(name)
    for expires_at, names in by_time.items():
        for start in range(0, len(names), CHUNK_ELEMENTS):
            page = names[start : start + CHUNK_ELEMENTS]
            yield ("HPEXPIREAT", key, expires_at, "FIELDS", len(page), *page)


def _chunks(head: tuple[str, bytes], elements: Iterable[tuple[bytes, ...]]) -> Iterator[Args]:
    """`head` with as many elements behind it as go into one command; an element stays whole."""
    chunk: list[bytes] = []
    count = size = 0
    for element in elements:
        element_size = sum(map(len, element))
        if count and (count == CHUNK_ELEMENTS or size + element_size > CHUNK_BYTES):
            yield (*head, *chunk)
            chunk, count, size = [], 0, 0
        chunk += element
        count += 1
        size += element_size
    if chunk:
        yield (*head, *chunk)
