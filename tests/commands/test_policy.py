"""What is refused, and what becomes of it where it is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.commands import COPY_KEYS, Clock, Command, CommandTable, Kind, NotAllowed
from proxy.commands.policy import CLUSTER, REFUSED, Allowed, Refused
from proxy.resp import request

from .wire import words


def names(rows: tuple[Refused, ...], *ways: Allowed) -> list[str]:
    return [name for row in rows if row.allowed in ways for name in row.commands.split()[::2]]


EVERY_WAY = tuple(Allowed)


def one(table: CommandTable, line: str) -> Command:
    command = table.lookup(request(*words(line)))
    assert command is not None
    return command


def test_every_refusal_is_of_one_command_and_one_line() -> None:
    table = CommandTable(in_cluster=True)
    refused = names((*REFUSED, *CLUSTER), *EVERY_WAY)
    assert len(set(refused)) == len(refused)
    assert set(refused) == {each.name for each in table if each.kind is Kind.REFUSED}


@pytest.mark.parametrize("row", [*REFUSED, *CLUSTER], ids=lambda row: row.commands.split()[0])
def test_a_row_has_the_reason_of_what_it_says(row: Refused) -> None:
    assert row.note == " ".join(row.note.split())
    assert bool(row.never) == (row.allowed is Allowed.NEVER)


@pytest.mark.parametrize("name", names(REFUSED, *EVERY_WAY))
def test_what_may_be_allowed_is_served_as_its_row_says(name: str) -> None:
    table = CommandTable()
    if name in names(REFUSED, Allowed.NEVER):
        with pytest.raises(NotAllowed, match="can never be allowed"):
            table.allow(name)
        assert table.named(name).kind is Kind.REFUSED  # type: ignore[union-attr]
        return
    before = CommandTable().named(name)
    table.allow(name)
    command = table.named(name)
    assert before is not None and command is not None
    assert command.error is None
    assert command.arity == before.arity
    kinds = {Allowed.NODE: Kind.NODE, Allowed.KEYS: Kind.WRITE, Allowed.EVERYTHING: Kind.BARRIER}
    assert command.kind is next(kind for way, kind in kinds.items() if name in names(REFUSED, way))
    others = {each.name for each in table if each.kind is Kind.REFUSED}
    assert others == set(names(REFUSED, *EVERY_WAY)) - {name}


@pytest.mark.parametrize("written", ["config set", "CONFIG|SET", " Config  Set "])
def test_a_subcommand_is_named_as_it_is_typed(written: str) -> None:
    table = CommandTable()
    table.allow(written)
    assert one(table, "CONFIG SET a b").kind is Kind.NODE
    assert one(table, "CONFIG REWRITE").kind is Kind.REFUSED


def test_a_container_is_all_of_it_that_can_be_allowed() -> None:
    table = CommandTable()
    table.allow("client")
    assert one(table, "CLIENT UNPAUSE").kind is Kind.NODE
    assert one(table, "CLIENT PAUSE 100").kind is Kind.REFUSED
    table.allow("acl")
    assert not [c.name for c in table if c.kind is Kind.REFUSED and c.name.startswith("acl|")]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nosuch", "there is no command 'nosuch'"),
        ("config|nosuch", "there is no command 'config|nosuch'"),
        ("get", "'get' is not refused"),
        ("object", "'object' is not refused"),
        ("sync", "'sync' can never be allowed: it takes over its connection"),
        ("", "there is no command ''"),
    ],
)
def test_a_name_that_cannot_be_allowed_says_why(name: str, problem: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        CommandTable().allow(name)
    assert str(caught.value).startswith(problem)


MODULE: list[list[Any]] = [
    [b"my.odd", -1, [b"fast"], 0, 0, 0],
    [b"my.nameless", -2, [b"write"], 0, 0, 0],
    [b"my.stateful", -2, [b"write", b"blocking"], 1, 1, 1],
    [b"my.set", -2, [b"write"], 1, 1, 1],
]


def test_a_name_with_a_dot_may_be_of_a_module_that_a_store_has() -> None:
    table = CommandTable()
    for name in ("my.odd", "MY.NAMELESS", "my.stateful", "my.set", "my.absent"):
        table.allow(name)
    assert set(table.not_found) == {
        "my.odd", "my.nameless", "my.stateful", "my.set", "my.absent",
    }  # fmt: skip
    table.complete(MODULE)
    kinds = {c.name: c.kind for c in table if c.name.startswith("my.")}
    assert kinds == {
        "my.odd": Kind.NODE,
        "my.nameless": Kind.BARRIER,
        "my.stateful": Kind.REFUSED,
        "my.set": Kind.WRITE,
    }
    assert table.not_found.keys() == {"my.stateful", "my.set", "my.absent"}
    assert "can never be allowed" in table.not_found["my.stateful"]
    assert table.not_found["my.set"] == "'my.set' is not refused"
    assert table.not_found["my.absent"] == "no store has a command 'my.absent'"


def test_debug_that_only_looks_is_no_barrier() -> None:
    table = CommandTable()
    table.allow("debug")
    assert one(table, "DEBUG object k").kind is Kind.NODE
    assert one(table, "DEBUG SLEEP 0").kind is Kind.NODE
    assert one(table, "DEBUG RELOAD").kind is Kind.BARRIER
    assert one(table, "DEBUG NOSUCH").kind is Kind.BARRIER


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("MIGRATE h 1 k 0 10", [b"k"]),
        ('MIGRATE h 1 "" 0 10 COPY KEYS a b', [b"a", b"b"]),
        ('MIGRATE h 1 "" 0 10 AUTH keys REPLACE KEYS a', [b"a"]),
        ('MIGRATE h 1 "" 0 10 AUTH2 keys keys', []),
        ("PFDEBUG TODENSE k", [b"k"]),
        ("RESTORE-ASKING k 0 x", [b"k"]),
    ],
)
def test_what_copies_keys_names_them_all(line: str, written: list[bytes]) -> None:
    table = CommandTable()
    table.allow(words(line)[0].decode())
    command, req = one(table, line), request(*words(line))
    assert list(command.written(req)) == written
    if line.startswith(("MIGRATE", "PFDEBUG")):
        assert command.effect is not None
        assert command.effect(req, b"OK", Clock(0, 0)) is COPY_KEYS


def test_what_speaks_of_clusters_is_for_a_server_that_is_in_none() -> None:
    table = CommandTable()
    for name in names(CLUSTER, *EVERY_WAY):
        assert table.named(name).kind is Kind.NODE, name  # type: ignore[union-attr]
        with pytest.raises(NotAllowed, match="is not refused"):
            table.allow(name)
    table = CommandTable(in_cluster=True)
    for name in names(CLUSTER, *EVERY_WAY):
        assert table.named(name).kind is Kind.REFUSED, name  # type: ignore[union-attr]
    table.allow("cluster meet")
    assert one(table, "CLUSTER MEET h 1").kind is Kind.NODE
