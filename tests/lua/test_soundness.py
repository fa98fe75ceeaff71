"""What the verdict names is all that a script writes: random scripts, on real servers."""

from __future__ import annotations

from typing import Any

import hiredis

from proxy.commands import CommandTable
from proxy.lua import ANY, Origin, Script, read_body
from tests.servers import Server, every_engine

from .generator import ARGV, KEYS, Drawn

SCRIPTS = 1500
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


@every_engine
def test_no_script_writes_a_key_that_its_verdict_does_not_name(server: Server) -> None:
    table = CommandTable()
    table.complete(server.cli("COMMAND"))
    told = wrote = 0
    for seed in range(SCRIPTS):
        body = Drawn(seed).body
        script = read_body(body, table)
        if script.written is None:
            continue
        told += 1
        server.cli("FLUSHALL")
        for key, value in UNTOUCHED.items():
            server.cli("SET", key, value)
        before = contents(server)
        try:
            server.cli("EVAL", body, len(KEYS), *KEYS, *ARGV)
        except hiredis.ReplyError as error:
            assert "compil" not in str(error), f"{error}\n{body.decode()}"
        after = contents(server)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        wrote += bool(changed)
        assert changed <= named(script), f"seed {seed}: {changed}\n{body.decode()}"
    # The generator draws what can be told and what cannot, and it writes.
    assert SCRIPTS * 0.25 < told < SCRIPTS * 0.9
    assert wrote > told * 0.6
