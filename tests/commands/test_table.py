"""The table against real servers: it knows all they know, and says what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.commands import COPY_KEYS, Clock, Command, CommandTable, Dialect, Kind
from proxy.resp import parse, request
from proxy.sides import Side
from tests.servers import REDIS_6, VALKEY_9, Server, every_engine

from .cases import cases, filled_in
from .test_keys import CALLS
from .wire import Wire, words

SERVED = {Kind.READ, Kind.WRITE, Kind.BARRIER, Kind.CURSOR, Kind.NODE}


def described(server: Server) -> list[Any]:
    """The server's COMMAND."""
    with Wire(server) as wire:
        reply: list[Any] = parse(wire.call("COMMAND"))
    return reply


def flat(entries: list[Any]) -> list[tuple[str, int, set[str]]]:
    """(name, arity, flags) of every command and subcommand."""
    found = []
    for entry in entries:
        subs = entry[9] if len(entry) > 9 else []
        found += flat(subs)
        if not subs or entry[0] == b"command":
            found.append((entry[0].decode(), entry[1], {f.decode() for f in entry[2]}))
    return found


def one(table: CommandTable, line: str) -> Command | None:
    return table.lookup(request(*words(line)))


@every_engine
def test_every_command_of_the_server_is_in_the_table_on_purpose(server: Server) -> None:
    table = CommandTable(in_cluster=True)  # else the servers say themselves that they are in none
    containers = {c.name.partition("|")[0] for c in table if "|" in c.name}
    for name, _, flags in flat(described(server)):
        command = table.named(name)
        assert command is not None, name
        if name in containers:
            continue  # Redis 6.2 gives the flags of all its subcommands at once
        if command.kind is Kind.READ:
            assert "readonly" in flags, name
        if command.kind in (Kind.READ, Kind.CURSOR, Kind.NODE):
            assert "write" not in flags, name
        if "write" in flags:
            writing = (Kind.WRITE, Kind.BARRIER, Kind.BLOCKING, Kind.REFUSED)
            assert command.writes or command.kind in (*writing, Kind.SCRIPT), name
        if "blocking" in flags and name not in ("xread", "xreadgroup"):
            waiting = (Kind.BLOCKING, Kind.OWN)
            assert command.kind in waiting, name
        if "no_auth" in flags:
            assert command.kind is Kind.LOCAL, name


def test_the_arities_are_those_of_the_newest_server(server: Server) -> None:
    table = CommandTable()
    for name, arity, _ in flat(described(server)):
        command = table.named(name)
        assert command is not None
        assert command.arity == arity, name


def test_the_table_has_no_command_that_no_server_has(
    server_factory: Callable[..., Server],
) -> None:
    engines = (REDIS_6, VALKEY_9)
    known = {entry[0].decode() for e in engines for entry in described(server_factory(e))}
    assert {command.name.partition("|")[0] for command in CommandTable()} <= known | {"quit"}


@pytest.mark.parametrize(
    ("line", "kind", "name"),
    [
        ("GET k", Kind.READ, "get"),
        ("get k", Kind.READ, "get"),
        ("SET k v", Kind.WRITE, "set"),
        ("FLUSHALL ASYNC", Kind.BARRIER, "flushall"),
        ("SCAN 0", Kind.CURSOR, "scan"),
        ("hscan h 0", Kind.CURSOR, "hscan"),
        ("INFO", Kind.NODE, "info"),
        ("COMMAND", Kind.NODE, "command"),
        ("COMMAND COUNT", Kind.NODE, "command|count"),
        ("CONFIG GET x", Kind.NODE, "config|get"),
        ("CONFIG SET x y", Kind.REFUSED, "config|set"),
        ("object encoding k", Kind.READ, "object|encoding"),
        ("XGROUP CREATE s g $", Kind.WRITE, "xgroup|create"),
        ("client setname x", Kind.LOCAL, "client|setname"),
        ("CLIENT KILL ID 4", Kind.LOCAL, "client|kill"),
        ("MULTI", Kind.TRANSACTION, "multi"),
        ("WATCH k", Kind.TRANSACTION, "watch"),
        ("PUBLISH c m", Kind.NODE, "publish"),
        ("SUBSCRIBE c", Kind.SUBSCRIBE, "subscribe"),
        ("EVAL_RO x 0", Kind.SCRIPT, "eval_ro"),
        ("SCRIPT LOAD x", Kind.SCRIPT, "script|load"),
        ("SCRIPT KILL", Kind.OWN, "script|kill"),
        ("FUNCTION LIST", Kind.NODE, "function|list"),
        ("MIGRATE h p k 0 5", Kind.REFUSED, "migrate"),
        ("POST / HTTP/1.1", Kind.LOCAL, "post"),
        ("SORT l", Kind.READ, "sort"),
        ("SORT l GET store", Kind.READ, "sort"),
        ("SORT l STORE d", Kind.WRITE, "sort"),
        ("GEORADIUS g 1 2 3 km", Kind.READ, "georadius"),
        ("GEORADIUS g 1 2 3 km storedist d", Kind.WRITE, "georadius"),
        ("BITFIELD k GET u8 0", Kind.READ, "bitfield"),
        ("BITFIELD k GET u8 0 incrby u8 0 1", Kind.WRITE, "bitfield"),
        ("PFCOUNT a", Kind.WRITE, "pfcount"),
        ("PFCOUNT a b", Kind.READ, "pfcount"),
        ("XREAD STREAMS block 0", Kind.READ, "xread"),
        ("XREAD COUNT 1 block 0 STREAMS a 0", Kind.BLOCKING, "xread|block"),
        ("XREADGROUP GROUP block block STREAMS a >", Kind.WRITE, "xreadgroup"),
        ("XREADGROUP GROUP g c BLOCK 5 STREAMS a >", Kind.BLOCKING, "xreadgroup|block"),
    ],
)
def test_lookup(line: str, kind: Kind, name: str) -> None:
    command = one(CommandTable(), line)
    assert command is not None
    assert (command.kind, command.name) == (kind, name)


def test_what_nobody_knows_is_not_found() -> None:
    table = CommandTable()
    assert one(table, "NOSUCH k") is None
    assert one(table, "XGROUP NOSUCH k") is None


def test_what_is_not_served_says_what_and_why() -> None:
    for command in CommandTable():
        if command.kind is Kind.REFUSED:
            assert command.error is not None
            assert command.note
            error = command.error.decode("ascii")
            assert error.startswith("-ERR Keyferry ")
            assert error.endswith("\r\n")
            assert f"'{command.name.replace('|', ' ')}'" in error
        else:
            assert command.error is None


def test_a_refusal_is_one_line_that_names_the_command() -> None:
    command = one(CommandTable(), "SAVE")
    assert command is not None
    assert command.error == (
        b"-ERR Keyferry refuses 'save': it would stop or disturb a store in use;"
        b" send it to the store directly\r\n"
    )


MALFORMED = [
    "NOSUCH",
    "NoSuch a b c",
    "NOSUCH " + "x" * 200 + " y z",
    "NOSUCH " + " ".join(f"argument{i}" for i in range(30)),
    "N" * 300,
    "GET",
    "GET a b",
    "set k",
    "MSET a",
    "DBSIZE now",
    "EXPIRE k",
    "ZUNIONSTORE d 1",
    "XREAD STREAMS",
    "XGROUP",
    "CONFIG",
    "SELECT",
    "AUTH",
    "MULTI now",
    "BLPOP k",
    "CLIENT",
    "EVAL x",
]
MALFORMED_SUBCOMMANDS = [
    "client SETNAME",
    "CLIENT SETNAME a b",
    "CLIENT ID x",
    "xgroup CREATE k",
    "OBJECT ENCODING",
    "XINFO STREAM",
    "MEMORY USAGE",
    "CLIENT NoSuch a",
    "CLIENT " + "N" * 300,
    "XGROUP NoSuch k",
    "CONFIG NoSuch",
    "ACL NoSuch",
    "COMMAND NoSuch",
]


@every_engine
def test_check_says_what_the_server_says(server: Server) -> None:
    table = CommandTable()
    table.complete(described(server))
    is_6 = server.engine.version[0] < 7
    assert table.dialect is (Dialect.REDIS_6 if is_6 else Dialect.REDIS_7)
    calls = [words(line) for line in MALFORMED + ([] if is_6 else MALFORMED_SUBCOMMANDS)]
    calls += [[b"no\r\nsuch", b"a\r\nb"], [b"no\0such", b"a\0b"], [b"\xff\xfe", b"'\\"]]
    with Wire(server) as wire:
        for args in calls:
            req = request(*args)
            assert table.check(req) == wire.exchange(req.raw, 1)[0], args


def test_redis_6_is_asked_about_subcommands_that_it_does_not_know(
    server_factory: Callable[..., Server],
) -> None:
    table = CommandTable()
    table.complete(described(server_factory(REDIS_6)))
    later = ["CLIENT NO-TOUCH on", "client setinfo LIB-NAME x", "MODULE LOADEX x"]
    for line in MALFORMED_SUBCOMMANDS + later:
        assert table.check(request(*words(line))) is None, line
        command = one(table, line)
        assert command is not None
        assert command.kind is Kind.NODE


def test_what_does_not_fit_has_an_error() -> None:
    for dialect in Dialect:
        table = CommandTable()
        table.dialect = dialect
        is_7 = dialect is Dialect.REDIS_7
        for line in MALFORMED + (MALFORMED_SUBCOMMANDS if is_7 else []):
            command = one(table, line)
            if command is None or not command.fits(len(words(line))):
                assert table.check(request(*words(line))) is not None, line


def test_what_is_well_formed_passes() -> None:
    table = CommandTable()
    for line in [*CALLS.split("\n")[1:-1], "PING", "PING x", "COMMAND", "CLIENT ID", "QUIT"]:
        assert table.check(request(*words(line))) is None, line


def test_the_table_knows_what_the_side_knows_that_it_speaks_for(
    server_factory: Callable[..., Server],
) -> None:
    table = CommandTable()
    for side, engine in ((Side.SOURCE, REDIS_6), (Side.TARGET, VALKEY_9)):
        table.complete(described(server_factory(engine)), side)
    newer = ("MSETEX 1 k v", "GETX", "EXPIRE k 1 NX", "LCS a b", "CLIENT NO-TOUCH on")

    def fitting() -> list[str]:
        found = [(line, one(table, line)) for line in newer]
        return [
            line for line, c in found if c and c.kind is not Kind.NODE and c.fits(len(words(line)))
        ]

    assert fitting() == []
    assert table.check(request(b"LCS", b"a")) == (
        b"-ERR unknown command `LCS`, with args beginning with: `a`, \r\n"
    )
    table.speak_for(Side.TARGET)
    assert fitting() == [line for line in newer if line != "GETX"]
    assert table.check(request(b"LCS")) == b"-ERR wrong number of arguments for 'lcs' command\r\n"
    assert one(table, "STRALGO LCS KEYS a b") is None
    table.speak_for(Side.SOURCE)
    assert fitting() == [] and one(table, "STRALGO LCS KEYS a b") is not None


@every_engine
def test_complete_takes_the_arities_of_the_server(server: Server) -> None:
    table = CommandTable()
    entries = described(server)
    table.complete(entries)
    for name, arity, _ in flat(entries):
        command = table.named(name)
        assert command is not None
        assert command.arity == arity, name
    # Those of another table are untouched.
    fresh = CommandTable().named("expire")
    assert fresh is not None
    assert fresh.arity == -3


def under_other_names(entries: list[Any]) -> list[Any]:
    """As if every command were one of a module that nobody has heard of."""
    renamed = []
    for entry in entries:
        subs = [under_other_names(entry[9])] if len(entry) > 9 else []
        renamed.append([b"my." + entry[0], *entry[1:9], *subs])
    return renamed


@every_engine
@pytest.mark.parametrize("resp", [2, 3])
def test_complete_finds_keys_and_kinds_as_the_server_describes_them(
    server: Server, resp: int
) -> None:
    known, table = CommandTable(), CommandTable()
    with Wire(server, resp) as wire:
        table.complete(under_other_names(parse(wire.call("COMMAND"))))
    calls = [*CALLS.split("\n")[1:-1], *(filled_in(c.removeprefix("!"), 9)[1] for c in cases())]
    compared = 0
    for line in calls:
        first, *rest = words(line)
        renamed, plain = request(b"my." + first, *rest), request(first, *rest)
        found, wanted = table.lookup(renamed), known.lookup(plain)
        assert wanted is not None
        if found is None or wanted.name.partition("|")[1]:
            continue
        compared += 1
        if found.kind is Kind.REFUSED:
            blocking = first in (b"XREAD", b"XREADGROUP")
            assert blocking or found.note.endswith("that it does not name"), line
            continue
        assert set(wanted.keys(plain)) <= set(found.keys(renamed)) or found.unknown_keys(renamed)
        if first != b"PFCOUNT":  # Redis 6.2 does not say that it writes
            assert set(wanted.written(plain)) <= set(found.written(renamed)), line
        if found.kind is Kind.WRITE:
            assert found.effect is not None
            assert found.effect(renamed, b"OK", Clock(0, 0)) is COPY_KEYS
    assert compared > 150


def test_complete_refuses_what_nobody_can_judge() -> None:
    table = CommandTable()
    table.complete(
        [
            [b"my.state", -1, [b"fast"], 0, 0, 0],
            [b"my.write", -2, [b"write"], 0, 0, 0],
            [b"my.movable", -2, [b"write", b"movablekeys"], 1, 1, 1],
            [b"my.block", -2, [b"write", b"blocking"], 1, 1, 1],
            [b"my.set", -2, [b"write"], 1, -1, 2],
            [b"my.get", 2, [b"readonly"], 1, 1, 1],
            [b"my.info", 1, [b"readonly"], 0, 0, 0],
            [b"my.find", -2, [b"readonly", b"movablekeys"], 1, 1, 1],
        ]
    )
    kinds = {c.name: c.kind for c in table if c.name.startswith("my.")}
    assert kinds == {
        "my.state": Kind.REFUSED,
        "my.write": Kind.REFUSED,
        "my.movable": Kind.REFUSED,
        "my.block": Kind.REFUSED,
        "my.set": Kind.WRITE,
        "my.get": Kind.READ,
        "my.info": Kind.NODE,
        "my.find": Kind.READ,
    }
    req = request(b"MY.SET", b"a", b"1", b"b", b"2")
    command = table.lookup(req)
    assert command is not None
    assert list(command.written(req)) == [b"a", b"b"]
    find = one(table, "my.find a")
    assert find is not None
    assert find.unknown_keys(request(b"MY.FIND", b"a"))


def test_complete_keeps_what_is_built_in(server: Server) -> None:
    table = CommandTable()
    before = {c.name: c.kind for c in table}
    table.complete(described(server))
    after = {c.name: c.kind for c in table}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == set(), "all of this server is known"
