"""Looks at both stores before a migration: what would break it, and what to know.

Owns the findings. It changes nothing on either store. A finding of severity
*blocker* stops ``start``, one of *warning* stops ``cutover``; both can be waived by
name.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from migrator import compatibility, feed, scripts
from migrator.bulk import Bulk, ReplyError
from migrator.clock import measure_offset
from migrator.copy import make_reader
from migrator.finding import Finding
from migrator.stores import Store, StoreUnreachable, clients_of
from proxy.commands import CommandTable
from proxy.sides import Side

CLOCK_TOLERANCE_MS = 1000.0
# What no operator can want: each write would be done twice, or nothing could be exact.
NEVER_WAIVED = frozenset(
    {"same_store", "source_unreachable", "target_unreachable", "analysis_incomplete"}
)
# How long ago a write past the proxy still counts, before the mirror began.
RECENT_S = 60.0


async def analyze(
    source: Store,
    target: Store,
    table: CommandTable,
    is_write: Callable[[bytes], bool],
    known_scripts: int = 0,
) -> list[Finding]:
    """All findings. Raises nothing: a store that cannot be asked is a finding.

    ``known_scripts``: so many of the source's have been seen.
    """
    findings: list[Finding] = []
    reachable = True
    for store in (source, target):
        try:
            await store.refresh()
        except (StoreUnreachable, ReplyError) as error:
            reachable = False
            name = f"{store.side.label}_unreachable"
            findings.append(Finding(name, "blocker", str(error)))
    if not reachable:
        return findings
    findings.append(
        Finding(
            "stores", "info",
            f"{source.info.engine} {source.info.version} with {source.info.keys} keys → "
            f"{target.info.engine} {target.info.version}",
        )
    )  # fmt: skip
    try:
        findings += await _between(source, target)
        findings += await compatibility.compare(source, target, table)
        findings += await scripts.compare(source, target, known_scripts)
        for store in (source, target):
            findings += await _of_one(store)
        findings += await other_writers(source, is_write, RECENT_S)
    except (ConnectionError, ReplyError) as error:
        findings.append(Finding("analysis_incomplete", "blocker", str(error)))
    return findings


async def _between(source: Store, target: Store) -> list[Finding]:
    found: list[Finding] = []
    s, t = await source.connection("admin"), await target.connection("admin")
    if source.info.run_id and source.info.run_id == target.info.run_id:
        found.append(Finding("same_store", "blocker", "source and target are the same store"))
    if target.info.keys:
        found.append(
            Finding(
                "target_not_empty", "blocker",
                f"the target holds {target.info.keys} keys: they would be overwritten or removed",
            )
        )  # fmt: skip
    reader = await make_reader(s, t)
    back = await make_reader(t, s)
    found.append(
        Finding(
            "copy", "info",
            f"keys are copied by {type(reader).__name__.removesuffix('Reader').lower()} reads, "
            f"and by {type(back).__name__.removesuffix('Reader').lower()} reads on the way back",
        )
    )  # fmt: skip
    most = max(source.info.keys_by_db, default=0)
    databases, offered = await _databases(t), await _databases(s)
    if databases is not None and offered is not None and most < databases < offered:
        found.append(
            Finding(
                "fewer_databases",
                "info",
                f"the source has {offered} databases, the target {databases}: a key written to a "
                "database that is not there blocks the cutover",
            )
        )
    found += await _untold_events(s, t)
    if databases is not None and most >= databases:
        found.append(
            Finding(
                "databases", "blocker",
                f"the source uses database {most}, the target has {databases} databases",
            )
        )  # fmt: skip
    return found


async def _untold_events(source: Bulk, target: Bulk) -> list[Finding]:
    """Who subscribes to the store's own events hears those of the primary."""
    flags = []
    for bulk in (source, target):
        try:
            flags.append((await bulk.call("CONFIG", "GET", "notify-keyspace-events"))[1].decode())
        except (ReplyError, IndexError):
            return []  # A finding of its own.
    untold = feed.untold(*flags)
    if not untold:
        return []
    return [
        Finding(
            "keyspace_events", "warning",
            f"notify-keyspace-events of the source is {flags[0]!r}, and {flags[1]!r} on the "
            f"target: behind a cutover subscribers would not hear of '{untold}'; set it there",
        )
    ]  # fmt: skip


async def _of_one(store: Store) -> list[Finding]:
    found: list[Finding] = []
    label = store.side.label
    bulk = await store.connection("admin")
    if store.info.is_cluster:
        found.append(
            Finding(
                f"{label}_is_cluster", "blocker", f"the {label} is a cluster: not supported yet"
            )
        )
    role: Any = await bulk.call("ROLE")
    if role[0] != b"master":
        found.append(
            Finding(f"{label}_is_replica", "blocker", f"the {label} is a replica: name its primary")
        )
    try:
        reply = await bulk.call("CONFIG", "GET", "notify-keyspace-events")
        flags = reply[1].decode()
        if feed.merged(flags) != flags:
            found.append(
                Finding(
                    f"{label}_events", "info",
                    f"notify-keyspace-events of the {label} is {flags!r}; start sets "
                    f"{feed.merged(flags)!r}, finish and cancel restore it",
                )
            )  # fmt: skip
    except (ReplyError, IndexError) as error:
        found.append(
            Finding(
                f"{label}_events_refused", "blocker",
                f"the {label} does not let us see its expiry events (CONFIG): {error}",
            )
        )  # fmt: skip
    clock = await _clock(store)
    if clock is not None:
        found.append(clock)
    return found


async def _clock(store: Store) -> Finding | None:
    offset = await measure_offset(await store.connection("admin"))
    if abs(offset.offset_ms) <= CLOCK_TOLERANCE_MS:
        return None
    label = store.side.label
    return Finding(
        f"{label}_clock",
        "warning",
        f"the clock of the {label} is {offset.offset_ms:+.0f} ms off: keys expire that much "
        "earlier or later there",
    )


async def _databases(bulk: Bulk) -> int | None:
    try:
        return int((await bulk.call("CONFIG", "GET", "databases"))[1])
    except (ReplyError, IndexError):
        return None


async def other_writers(
    source: Store, is_write: Callable[[bytes], bool], within_s: float, ours: Container[str] = ()
) -> list[Finding]:
    """Clients that go past the proxy and wrote in the last ``within_s`` seconds.

    What they write is not mirrored. CLIENT LIST tells a client's last command and for
    how long it has been idle; one that only ever reads is no harm. ``ours`` are the
    addresses of the proxy's own connections: not every user may name them.
    Raises ConnectionError.
    """
    bulk = await source.connection("admin")
    try:
        clients = await clients_of(bulk)
    except ReplyError as error:
        return [Finding("other_clients_unknown", "info", f"CLIENT LIST is refused: {error}")]
    writers = [
        client.get("addr", "?")
        for client in clients
        if not client.get("name", "").startswith("keyferry-")
        and client.get("addr") not in ours
        and "S" not in client.get("flags", "")
        # One that waits in a blocking command will write when it is served.
        and (float(client.get("idle", 0)) < within_s or "b" in client.get("flags", ""))
        and is_write(client.get("cmd", "").encode())
    ]
    if not writers:
        return []
    return [
        Finding(
            "other_clients",
            "warning",
            f"{len(writers)} client(s) write to the {source.side.label} past the proxy "
            f"({', '.join(writers[:5])}): that is not mirrored",
        )
    ]


async def standing_warnings(primary: Store, secondary: Store, table: CommandTable) -> list[Finding]:
    """What stops a flip and may change while the mirror runs. Raises ConnectionError."""
    found = await compatibility.missing_indexes(primary, secondary)
    if primary.side is Side.TARGET:
        # On the way back every command of the new store may have been used by now.
        return found
    clocks = [await _clock(store) for store in (primary, secondary)]
    found += [each for each in clocks if each is not None]
    found += await _untold_events(
        await primary.connection("admin"), await secondary.connection("admin")
    )
    return found + await compatibility.standing(primary, secondary, table)
