"""The marker: a key in db 0 of both stores that says whose migration they are in.

It keeps a process with a lost or an old state directory from serving the wrong side. `read`,
`write` and `remove` are its I/O; `check` is the decision, and pure. Backfill and verification leave
the key out. A store that is flushed loses it, so that a missing marker proves nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from migrator.bulk import Bulk, ReplyError
from migrator.errors import MarkerError
from migrator.phases import Phase
from migrator.state import Migration
from proxy.sides import Side

KEY = b"keyferry:migration"


@dataclass(frozen=True)
class Marker:
    """`id`: the migration's. `epoch`: of its last flip. `role`: "source" or "target" in it."""

    id: str
    epoch: int
    role: str
    finished: bool = False
    """It stays on the source of a finished migration, whose data is old from then on."""


def of(migration: Migration, side: Side) -> Marker:
    """The marker that this side should carry now."""
    return Marker(
        migration.migration_id, migration.epoch, side.label, migration.phase is Phase.FINISHED
    )


async def read(bulk: Bulk, db: int = 0) -> Marker | None:
    """The store's marker. Raises MarkerError when the key holds something else."""
    try:
        raw = await bulk.call("GET", KEY, db=db)
        if raw is None:
            return None
        marker = Marker(**json.loads(raw))
        if [type(value) for value in asdict(marker).values()] == [str, int, str, bool]:
            return marker
    except ReplyError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
    except (TypeError, ValueError):
        pass
    raise MarkerError(
        f"{bulk.endpoint.address}: key {KEY.decode()} in db {db} is not a marker of keyferry"
    )


async def write(bulk: Bulk, marker: Marker) -> None:
    await bulk.call("SET", KEY, json.dumps(asdict(marker)), db=0)


async def remove(bulk: Bulk, migration_id: str, db: int = 0) -> None:
    """Removes the marker of this migration; another one's stays."""
    marker = await read(bulk, db)
    if marker is not None and marker.id == migration_id:
        await bulk.call("DEL", KEY, db=db)


def check(
    migration: Migration | None, source_marker: Marker | None, target_marker: Marker | None
) -> None:
    """Whether a process with this state (None: an empty one) may serve these stores.

    Raises MarkerError, which says what to do.
    """
    for side, marker in ((Side.SOURCE, source_marker), (Side.TARGET, target_marker)):
        if marker is not None:
            _check_side(migration, side, marker)


def _check_side(migration: Migration | None, side: Side, marker: Marker) -> None:
    its = f"{side.label}: it"
    if migration is not None and marker.id == migration.migration_id:
        if marker.role != side.label:
            raise MarkerError(f"{its} is the {marker.role} of this migration: are both swapped?")
        # The state is made durable before the markers: a marker can be behind, never ahead.
        if marker.epoch > migration.epoch or (
            marker.finished and migration.phase is not Phase.FINISHED
        ):
            raise MarkerError(
                f"{its} is in epoch {marker.epoch} of migration {marker.id}, and the state"
                f" directory in {migration.epoch}: an old copy of it; use the newest"
            )
        return
    if marker.finished:
        # A retired source is old. As the target of another migration its data is replaced anyway.
        if side is Side.SOURCE:
            raise MarkerError(
                f"{its} was retired by the finished migration {marker.id}, and its data is old;"
                f" delete {KEY.decode()} there if it shall be a source again"
            )
        return
    whose = "and the state directory is empty" if migration is None else "another one"
    raise MarkerError(
        f"{its} is the {marker.role} of migration {marker.id}, {whose}; use that migration's state"
        f" directory, or delete {KEY.decode()} on both of its stores if it is over"
    )
