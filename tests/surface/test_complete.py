"""Nothing is left out by accident: each command of an engine is told, or it is written why not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.commands import CommandTable, Kind
from tests.commands.test_table import described
from tests.servers import Server, every_engine
from tests.surface.conversation import Words
from tests.surface.corpus import GROUPS, lines
from tests.surface.exceptions import NOT_TOLD, REPLIES

WORDS = Words(0, {})


def told(*, well_formed: bool) -> Iterator[str]:
    """The names of all commands and subcommands in the conversations."""
    table = CommandTable()
    for group in GROUPS:
        for line in lines(group):
            for request in filter(None, map(WORDS.request, line.steps)):
                command = table.lookup(request)
                if command is not None and (command.fits(request.argc) or not well_formed):
                    yield command.name.removesuffix("|block")


def to_be_told(table: CommandTable) -> set[str]:
    """Not containers, which are nothing without a subcommand, nor what the proxy refuses."""
    containers = {command.name.partition("|")[0] for command in table if "|" in command.name}
    return {
        command.name
        for command in table
        if command.kind is not Kind.REFUSED and command.name not in containers - {"command"}
    } - set(NOT_TOLD)


@every_engine
def test_every_command_of_the_engine_is_told(server: Server) -> None:
    table = CommandTable()
    known = {command.name for command in table}
    names = set()
    for entry in described(server):
        names |= {entry[0], *(sub[0] for sub in (entry[9] if len(entry) > 9 else ()))}
    unknown = {name.decode() for name in names} - known
    assert not unknown
    missing = to_be_told(table) & {name.decode() for name in names} - set(told(well_formed=True))
    assert not missing


def test_every_command_that_the_proxy_knows_is_told() -> None:
    missing = to_be_told(CommandTable()) - set(told(well_formed=True))
    assert not missing


def test_nothing_is_told_that_the_proxy_refuses() -> None:
    refused = {command.name for command in CommandTable() if command.kind is Kind.REFUSED}
    assert not refused & set(told(well_formed=True))
    assert refused & set(told(well_formed=False))


@pytest.mark.parametrize("table", [REPLIES, NOT_TOLD])
def test_exceptions_are_of_commands_that_there_are(table: dict[str, object]) -> None:
    gone = set(table) - {command.name for command in CommandTable()}
    assert not gone
