"""The state directory: what is saved is there again, and only one process may have it."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.errors import StateError
from migrator.phases import Phase
from migrator.state import (
    DATABASE,
    Backfill,
    CleanStop,
    Migration,
    State,
    StoreMark,
    Verification,
)
from migrator.throttle import Level, Nice
from proxy.sides import Side

ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State.open(tmp_path)
    state.claim(*ADDRESSES)
    yield state
    state.close()


def reopened(state: State) -> State:
    state.close()
    again = State.open(state.directory)
    # The fixture closes what it has opened.
    state._database, state._lock_file = again._database, again._lock_file
    return again


def test_an_empty_directory_is_a_new_migration(state: State) -> None:
    assert state.is_new
    assert state.migration.phase is Phase.IDLE
    assert state.migration.primary is Side.SOURCE
    assert len(state.migration.migration_id) == 16


def test_nothing_is_saved_before_the_first_change(state: State) -> None:
    assert reopened(state).is_new


def test_everything_comes_back(state: State) -> None:
    state.save(
        Migration(
            migration_id=state.migration.migration_id,
            source=ADDRESSES[0],
            target=ADDRESSES[1],
            phase=Phase.COPYING,
            primary=Side.TARGET,
            epoch=7,
            read_percent=50,
            backfill=Backfill(3, 1 << 63, 100, 5000, False, "abc"),
            verification=Verification(True, True, 100, 0, 12.5, stale=True),
            waivers=frozenset({"other_clients", "eviction"}),
            notify_events=("KEA", None),
            clean_stop=CleanStop(StoreMark("abc", 4), None),
            nice=Nice(Level.GENTLE, 500),
            nice_settings=Nice(),
        )
    )
    saved = state.migration
    again = reopened(state)
    assert not again.is_new
    assert again.claim(*ADDRESSES) == saved
    assert isinstance(again.migration.phase, Phase)
    assert isinstance(again.migration.primary, Side)


def test_a_directory_from_before_nice_is_read(state: State) -> None:
    state.update(phase=Phase.COPYING, nice=Nice(Level.FULL))
    state._database.execute("DELETE FROM migration WHERE field LIKE 'nice%'")
    again = reopened(state).migration
    assert (again.phase, again.nice) == (Phase.COPYING, None)


def test_an_update_changes_only_what_it_names(state: State) -> None:
    before = state.update(phase=Phase.COPYING)
    state.update(read_percent=10)
    assert reopened(state).migration == replace(before, read_percent=10)


def test_updates_from_threads_do_not_lose_each_other(state: State) -> None:
    def count(name: str) -> None:
        for n in range(10):
            state.update(**{name: n})

    threads = [threading.Thread(target=count, args=(name,)) for name in ("epoch", "read_percent")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = reopened(state).migration
    assert (again.epoch, again.read_percent) == (9, 9)


def test_a_flip_is_one_change(state: State) -> None:
    state.update(phase=Phase.COPYING)
    state.update(phase=Phase.MIRRORING)
    state.flip(Side.TARGET, Phase.CUTOVER, epoch=1, read_percent=100)
    again = reopened(state).migration
    assert (again.primary, again.phase, again.epoch) == (Side.TARGET, Phase.CUTOVER, 1)
    with pytest.raises(AssertionError):
        state.flip(Side.SOURCE, Phase.MIRRORING, epoch=1, read_percent=0)


def test_a_transition_outside_the_table_is_not_saved(state: State) -> None:
    with pytest.raises(AssertionError):
        state.update(phase=Phase.FINISHED)
    assert reopened(state).is_new


def test_unproven_keys_come_back_after_a_clean_stop_only(state: State) -> None:
    keys = [(0, b"a"), (0, b"\xff\x00"), (5, b"a")]
    state.mark_running()
    state.mark_clean(CleanStop(StoreMark("s", 0), StoreMark("t", 9)), [*keys, (0, b"a")])
    again = reopened(state)
    assert sorted(again.unproven_keys()) == keys
    assert again.migration.clean_stop == CleanStop(StoreMark("s", 0), StoreMark("t", 9))

    again.mark_running()
    after_crash = reopened(again)
    assert after_crash.migration.clean_stop is None
    assert after_crash.unproven_keys() == []


def test_kill_at_any_point_of_a_flip_leaves_one_side_or_the_other(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from migrator.state import *\n"
        "state = State.open(sys.argv[1])\n"
        "state.claim('a', 'b')\n"
        "state.update(phase=Phase.COPYING)\n"
        "state.update(phase=Phase.MIRRORING)\n"
        "epoch = 0\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for side, phase in ((Side.TARGET, Phase.CUTOVER), (Side.SOURCE, Phase.MIRRORING)):\n"
        "        epoch += 1\n"
        "        state.flip(side, phase, epoch, 100 * side)\n"
    )
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        with subprocess.Popen(
            [sys.executable, "-c", program, directory], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02 + attempt * 0.007)
            process.send_signal(signal.SIGKILL)
        state = State.open(directory)
        migration = state.claim("a", "b")
        state.close()
        is_target = migration.primary is Side.TARGET
        assert migration.phase is (Phase.CUTOVER if is_target else Phase.MIRRORING)
        assert migration.epoch % 2 == is_target
        assert migration.read_percent == 100 * is_target


def test_a_second_process_is_told_who_uses_the_directory(state: State) -> None:
    program = "import sys; from migrator.state import State; State.open(sys.argv[1])"
    second = subprocess.run(
        [sys.executable, "-c", program, state.directory], capture_output=True, text=True
    )
    assert second.returncode != 0
    said = second.stderr.splitlines()[-1]
    assert f"another keyferry uses it (process {os.getpid()})" in said
    state.update(read_percent=1)


def test_a_closed_directory_can_be_opened_again(state: State) -> None:
    reopened(reopened(state))


@pytest.mark.parametrize("side", ["source", "target"])
def test_another_migrations_directory_is_refused(state: State, side: str) -> None:
    state.update(phase=Phase.COPYING)
    again = reopened(state)
    addresses = {"source": ADDRESSES[0], "target": ADDRESSES[1]} | {side: "elsewhere:3"}
    with pytest.raises(StateError, match=f"whose {side} is 127.0.0.1:., not elsewhere:3"):
        again.claim(**addresses)


@pytest.mark.parametrize("damage", ["text", "cut", "table", "field", "value", "newer"])
def test_a_corrupt_database_is_refused(tmp_path: Path, damage: str) -> None:
    state = State.open(tmp_path)
    state.claim(*ADDRESSES)
    state.mark_clean(CleanStop(None, None), [(0, f"key:{n}".encode() * 10) for n in range(2000)])
    state.close()
    path = tmp_path / DATABASE
    sql = {
        "table": "DROP TABLE migration",
        "field": "DELETE FROM migration WHERE field = 'primary'",
        "value": "UPDATE migration SET value = '\"nowhere\"' WHERE field = 'phase'",
        "newer": "PRAGMA user_version = 99",
    }
    if damage == "text":
        path.write_text("this is not a database" * 100)
    elif damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        database = sqlite3.connect(path)
        database.execute(sql[damage])
        database.commit()
        database.close()

    with pytest.raises(StateError, match=str(tmp_path)):
        State.open(tmp_path)
    # The lock is free again: a repaired directory can be opened.
    path.unlink()
    State.open(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="Not a directory"):
        State.open(tmp_path / "file" / "state")


def test_others_cannot_read_the_directory(tmp_path: Path) -> None:
    State.open(tmp_path / "new").close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
