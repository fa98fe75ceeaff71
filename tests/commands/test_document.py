"""docs/commands.md: it is what the table gives, and what it says of engines is so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.commands import CommandTable, Kind, document
from proxy.commands.builtin import READ_UNLESS, RULES
from proxy.commands.catalog import ENGINES, GROUPS, MIRRORED, NOTES
from proxy.resp import is_error, parse
from tests.servers import VALKEY_9, Server, every_engine

from .test_table import described
from .wire import Wire

PAGE = Path(__file__).parent.parent.parent / "docs" / "commands.md"
# Not in any COMMAND: a line of HTTP, and Redis 6.2's QUIT.
UNLISTED = {"host:", "post", "quit"}


def test_the_page_is_what_the_table_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == document.text(), "run `make docs`"


def test_every_kind_is_told() -> None:
    assert set(document.KINDS) == set(Kind)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_what_it_sends(name: str) -> None:
    command = CommandTable().named(name)
    assert command is not None
    assert 3 < len(document.in_words(command)) < 100


def test_notes_are_of_commands_and_tell_when_a_write_only_reads() -> None:
    names = {command.name for command in CommandTable()}
    assert set(NOTES) <= names
    assert set(MIRRORED) <= names
    assert set(READ_UNLESS) <= set(NOTES)


def test_groups_are_the_servers(server_factory: Callable[..., Server]) -> None:
    with Wire(server_factory(VALKEY_9)) as wire:
        docs = parse(wire.call("COMMAND", "DOCS"))
    of_server = {
        name.decode(): dict(zip(facts[::2], facts[1::2], strict=True))[b"group"]
        for name, facts in zip(docs[::2], docs[1::2], strict=True)
    }
    for title, names in GROUPS.items():
        found = {of_server[name] for name in names.split() if name in of_server}
        assert len(found) == 1, title
    known = {name for names in GROUPS.values() for name in names.split()}
    assert set(of_server) <= known


@every_engine
def test_engines_are_those_that_have_a_command(server: Server) -> None:
    engine = server.engine
    short = ".".join(map(str, engine.version[:2]))
    for command in CommandTable():
        if command.name in UNLISTED:
            continue
        text = next((e for e, names in ENGINES.items() if command.name in names.split()), "")
        is_told = {
            "": True,
            "Redis 6.2 only": engine.kind == "redis" and short == "6.2",
            "Redis 7.0, Valkey": short != "6.2",
            "Redis 7.4, Valkey": engine.kind == "valkey" or short == "7.4",
            "Redis 7.4, Valkey 9": short in ("7.4", "9.1"),
            "Valkey": engine.kind == "valkey",
            "Valkey 9": short == "9.1",
        }[text]
        assert is_told == (command.name in names_of(server)), command.name


_NAMES: dict[str, set[str]] = {}


def names_of(server: Server) -> set[str]:
    """All that the server knows. Redis 6.2 lists no subcommands, so it is asked for each."""
    if server.engine.name not in _NAMES:
        listed = described(server)
        names = {entry[0].decode() for entry in listed}
        names |= {sub[0].decode() for entry in listed if len(entry) > 9 for sub in entry[9]}
        if server.engine.version[0] < 7:
            with Wire(server) as wire:
                names |= {c.name for c in CommandTable() if _is_subcommand(wire, c.name, names)}
        _NAMES[server.engine.name] = names
    return _NAMES[server.engine.name]


def _is_subcommand(wire: Wire, name: str, listed: set[str]) -> bool:
    container, _, sub = name.partition("|")
    if not sub or container not in listed:
        return False
    if container == "cluster":  # it says nothing else where it is no cluster's
        return name not in " ".join(text for e, text in ENGINES.items() if e).split()
    if sub == "help":
        return container not in ("command", "module") or not is_error(wire.call(container, sub))
    reply = parse(wire.call(container, "HELP"))
    lines = [line.decode().lower() for line in reply if not line.startswith(b" ")]
    return any(sub in line.split()[0].strip("(").split("|") for line in lines[1:] if line.split())
