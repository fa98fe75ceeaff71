"""What the verdict names is all that a script writes: random scripts, on real servers."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from proxy.commands import CommandTable
from proxy.lua import ANY, UNKNOWN, Origin, Script, read_body, read_library
from tests.servers import Server, every_engine

from .generator import ARGV, KEYS, Drawn

SCRIPTS = 1500
FUNCTIONS = 1000
UNTOUCHED = {b"l1": b"one", b"k2": b"two", b"made": b"m", b"k1x": b"x", b"literal": b"l"}


def named(script: Script) -> set[bytes]:
    """The keys that a verdict stands for."""
    assert script.written is not None
    found: set[bytes] = set()
    for origin, which in script.written:
        if isinstance(which, bytes):
            found.add(which)
            continue
        array = KEYS if origin is Origin.KEYS else ARGV
        found.update(array if which == ANY else array[which - 1 : which])
    return found


def contents(server: Server) -> dict[bytes, Any]:
    return {key: server.cli("DUMP", key) for key in server.cli("KEYS", "*")}


def written(server: Server, *call: str | bytes | int) -> set[bytes]:
    """The keys that a call changes, on a store that holds `UNTOUCHED`."""
    server.cli("FLUSHALL")
    for key, value in UNTOUCHED.items():
        server.cli("SET", key, value)
    before = contents(server)
    try:
        server.cli(*call, len(KEYS), *KEYS, *ARGV)
    except hiredis.ReplyError as error:
        assert "compil" not in str(error), f"{error}\n{call!r}"
    after = contents(server)
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


@pytest.fixture
def table(server: Server) -> CommandTable:
    table = CommandTable()
    table.complete(server.cli("COMMAND"))
    return table


@every_engine
def test_no_script_writes_a_key_that_its_verdict_does_not_name(
    server: Server, table: CommandTable
) -> None:
    told = wrote = 0
    for seed in range(SCRIPTS):
        body = Drawn(seed).body
        script = read_body(body, table)
        if script.written is None:
            continue
        told += 1
        changed = written(server, "EVAL", body)
        wrote += bool(changed)
        assert changed <= named(script), f"seed {seed}: {changed}\n{body.decode()}"
    # The generator draws what can be told and what cannot, and it writes.
    assert SCRIPTS * 0.25 < told < SCRIPTS * 0.9
    assert wrote > told * 0.6


@every_engine
def test_no_function_writes_a_key_that_its_verdict_does_not_name(
    server: Server, table: CommandTable
) -> None:
    if server.engine.version < (7,):
        pytest.skip("Redis 6.2 has no functions")
    told = wrote = 0
    for seed in range(FUNCTIONS):
        code = Drawn(seed).library
        script = read_library(code, table).get(b"drawn", UNKNOWN)
        if script.written is None:
            continue
        told += 1
        server.cli("FUNCTION", "LOAD", "REPLACE", code)
        changed = written(server, "FCALL", "drawn")
        wrote += bool(changed)
        assert changed <= named(script), f"seed {seed}: {changed}\n{code.decode()}"
    assert FUNCTIONS * 0.2 < told < FUNCTIONS * 0.9
    assert wrote > told * 0.6
