"""What must outlive the process: the migration's phase, which side is primary, how far the copy is.

Owns the state directory: a SQLite database and a lock. Never talks to a store and decides nothing.
Calls block (each change is one fsynced transaction, some milliseconds); they may come from any
thread, so that only a flip needs to run on the event loop.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from migrator.errors import StateError
from migrator.phases import Phase, check_transition
from migrator.throttle import Level, Nice
from proxy.sides import Side

DATABASE = "state.sqlite"
LOCK = "lock"
_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE migration (field TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE unproven (db INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (db, key)) WITHOUT ROWID;
PRAGMA user_version = {_SCHEMA_VERSION};
"""


@dataclass(frozen=True)
class Backfill:
    """How far the backfill is: the next SCAN is `cursor` in `db`, on the store with `run_id`.

    A cursor means nothing to another process of the source: with another run id, begin anew.
    """

    db: int = 0
    cursor: int = 0
    keys_done: int = 0
    bytes_done: int = 0
    is_done: bool = False
    run_id: str = ""
    was_empty: bool = False
    """The other side held nothing when the mirror began: it has no key that is only there."""


@dataclass(frozen=True)
class Verification:
    """The last verification that ended. `stale`: something since then has made it worth nothing."""

    passed: bool
    covered_all: bool
    checked: int
    mismatches: int
    finished_at: float
    """Unix time, seconds."""
    stale: bool = False


@dataclass(frozen=True)
class StoreMark:
    """A store when the process stopped: if either has changed since, it may have lost effects."""

    run_id: str
    evicted_keys: int


@dataclass(frozen=True)
class CleanStop:
    """Left by an orderly stop. Without it, everything is unproven."""

    source: StoreMark | None
    target: StoreMark | None


@dataclass(frozen=True)
class Migration:
    """All that is durable, but for the unproven keys (see State.unproven_keys)."""

    migration_id: str
    source: str
    """Its address as Endpoint.address prints it: without a password."""
    target: str
    phase: Phase = Phase.IDLE
    primary: Side = Side.SOURCE
    epoch: int = 0
    """Raised by every flip."""
    read_percent: int = 0
    backfill: Backfill = field(default_factory=Backfill)
    verification: Verification | None = None
    waivers: frozenset[str] = frozenset()
    """Names of warnings that the operator allows."""
    notify_events: tuple[str | None, str | None] = (None, None)
    """notify-keyspace-events as each side had it before us, by Side; None: not changed by us."""
    clean_stop: CleanStop | None = None
    nice: Nice | None = None
    """What was asked for while it ran; it holds as long as the settings are `nice_settings`."""
    nice_settings: Nice | None = None


# Fields that directories of older versions do not have.
_LATER = ("nice", "nice_settings")


class State:
    """An opened state directory, locked until `close`. `migration` is None until `claim`."""

    def __init__(self, directory: Path, database: sqlite3.Connection, lock: int) -> None:
        self.directory = directory
        self._database = database
        self._lock_file = lock
        self._mutex = threading.Lock()
        self._migration = _load(database)
        self.is_new = self._migration is None

    @classmethod
    def open(cls, directory: str | Path) -> Self:
        """Opens it, making it where there is none.

        Raises StateError: used by another process, corrupt, not writable, of a newer version.
        """
        path = Path(directory)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock(path)
        except OSError as error:
            raise StateError(f"state directory {path}: {error.strerror}") from error
        try:
            return cls(path, _open_database(path), lock)
        except sqlite3.Error as error:
            os.close(lock)
            raise StateError(f"state directory {path}: {DATABASE} is unusable: {error}") from error
        except (LookupError, TypeError, ValueError) as error:
            os.close(lock)
            raise StateError(f"state directory {path}: {DATABASE} is corrupt: {error}") from error
        except StateError:
            os.close(lock)
            raise

    def close(self) -> None:
        """Gives the directory free. What was saved stays saved."""
        self._database.close()
        os.close(self._lock_file)

    @property
    def migration(self) -> Migration:
        assert self._migration is not None, "claim comes first"
        return self._migration

    def claim(self, source: str, target: str) -> Migration:
        """The migration between these two addresses: the one that is here, or a new one.

        A new one is in memory only until the first change. Raises StateError if the directory is of
        another migration.
        """
        if self._migration is None:
            self._migration = Migration(secrets.token_hex(8), source, target)
        for side, ours, theirs in (
            ("source", self._migration.source, source),
            ("target", self._migration.target, target),
        ):
            if ours != theirs:
                raise StateError(
                    f"state directory {self.directory}: it is of a migration whose {side} is"
                    f" {ours}, not {theirs}"
                )
        return self._migration

    def save(self, migration: Migration) -> None:
        """Makes all fields durable, in one transaction."""
        with self._mutex:
            self._write(migration)

    def update(self, **changes: Any) -> Migration:
        """Makes these fields durable, in one transaction, and answers the whole."""
        with self._mutex:
            migration = replace(self.migration, **changes)
            self._write(migration)
            return migration

    def flip(self, primary: Side, phase: Phase, epoch: int, read_percent: int) -> Migration:
        """The commit of a cutover or rollback: one durable transaction.

        After an error its outcome is unknown: the process must end, and the next one reads what is
        true.
        """
        assert epoch > self.migration.epoch, "a flip raises the epoch"
        return self.update(primary=primary, phase=phase, epoch=epoch, read_percent=read_percent)

    def mark_running(self) -> None:
        """From here on a stop without `mark_clean` leaves everything unproven."""
        with self._mutex:
            self._write(replace(self.migration, clean_stop=None), unproven=())

    def mark_clean(self, clean_stop: CleanStop, unproven: Iterable[tuple[int, bytes]]) -> None:
        """The last act of an orderly stop: what is not among `unproven` (db, key) is proven."""
        with self._mutex:
            self._write(replace(self.migration, clean_stop=clean_stop), unproven=unproven)

    def unproven_keys(self) -> list[tuple[int, bytes]]:
        """What `mark_clean` was given; nothing once `mark_running` was called."""
        with self._mutex:
            return self._database.execute("SELECT db, key FROM unproven").fetchall()

    def _write(
        self, migration: Migration, unproven: Iterable[tuple[int, bytes]] | None = None
    ) -> None:
        old = self.migration
        assert migration.migration_id == old.migration_id, "a state directory has one migration"
        check_transition(old.phase, migration.phase)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT INTO migration VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
                _dump(migration).items(),
            )
            if unproven is not None:
                self._database.execute("DELETE FROM unproven")
                self._database.executemany("INSERT OR IGNORE INTO unproven VALUES (?, ?)", unproven)
        self._migration = migration


def _lock(directory: Path) -> int:
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise StateError(
            f"state directory {directory}: another keyferry uses it (process {holder or 'unknown'})"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _open_database(directory: Path) -> sqlite3.Connection:
    database = sqlite3.connect(
        directory / DATABASE, isolation_level=None, check_same_thread=False, timeout=5
    )
    try:
        # Not WAL: its commits survive the process, and the machine only after a checkpoint.
        # EXTRA: with FULL, a power cut right after a commit can bring the deleted rollback journal
        # back, and with it the side from before a flip.
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA synchronous = EXTRA")
        (complaint,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if complaint != "ok":
            raise sqlite3.DatabaseError(complaint)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise StateError(
                f"state directory {directory}: {DATABASE} has format {version}; this keyferry"
                f" knows {_SCHEMA_VERSION}"
            )
    except BaseException:
        database.close()
        raise
    return database


def _dump(migration: Migration) -> dict[str, str]:
    return {
        name: json.dumps(sorted(value) if isinstance(value, frozenset) else value)
        for name, value in asdict(migration).items()
    }


def _load(database: sqlite3.Connection) -> Migration | None:
    saved = dict(database.execute("SELECT field, value FROM migration"))
    if not saved:
        return None
    value = {name: json.loads(text) for name, text in saved.items()}
    value = dict.fromkeys(_LATER) | value
    if missing := {f.name for f in fields(Migration)} - value.keys():
        raise LookupError(f"no {', '.join(sorted(missing))}")
    clean = value["clean_stop"]
    verification = value["verification"]
    value |= {
        "phase": Phase(value["phase"]),
        "primary": Side(value["primary"]),
        "backfill": Backfill(**value["backfill"]),
        "verification": verification and Verification(**verification),
        "waivers": frozenset(value["waivers"]),
        "notify_events": tuple(value["notify_events"]),
        "nice": _nice(value["nice"]),
        "nice_settings": _nice(value["nice_settings"]),
        "clean_stop": clean and CleanStop(_mark(clean["source"]), _mark(clean["target"])),
    }
    return Migration(**value)


def _nice(value: dict[str, Any] | None) -> Nice | None:
    return Nice(Level(value["level"]), value["keys_per_second"]) if value else None


def _mark(value: dict[str, Any] | None) -> StoreMark | None:
    return StoreMark(**value) if value else None
