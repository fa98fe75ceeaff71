"""Writes the list of all commands: ``python -m proxy.commands.document > docs/commands.md``.

Owns what a row of the table is in words. Pure but for its last line.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator

from . import builtin, policy
from .catalog import ENGINES, GROUPS, MIRRORED, NOTES
from .complete import copy_keys
from .model import Command, Kind
from .policy import Allowed
from .table import CommandTable

KINDS = {
    Kind.READ: "by key, on the primary or, where reads are shifted, on a side that has it proven",
    Kind.WRITE: "on the primary's lane, under a ticket for its keys; then it is mirrored",
    Kind.BARRIER: "a write of whole databases: alone, ordered against everything; then mirrored",
    Kind.BLOCKING: "parked in the proxy until it can be answered; then as a write or a read",
    Kind.SCRIPT: "on the primary's lane, under a ticket for the keys that it may write, or alone",
    Kind.CURSOR: "on the side that gave the cursor",
    Kind.NODE: "asks the server: always the primary, and nothing follows from it",
    Kind.OWN: "on the primary, on a connection of the client's own",
    Kind.SUBSCRIBE: "on the primary, on a connection of the client's own, which follows a flip",
    Kind.TRANSACTION: "as one block on the lane, or stepwise on a connection of the client's own",
    Kind.LOCAL: "the proxy answers: it is about the client's connection",
    Kind.REFUSED: "answered by an error, unless an operator allows it by name",
}
"""How each kind is served. The order is that of the page."""

_INTRODUCTION = """
# Commands

Every command of Redis 6.2 to 7.4 and Valkey 8 to 9.1: how the proxy serves it, and what the
mirror sends to the other side for it. Written by `make docs` from the table in
`proxy/commands`; a test compares the two, and another asks each engine for commands that are
not in the table.

**Mirrored.** *As it is*: the same command, whose reply must be the primary's. Other texts say
what is sent instead: what was *done*, never under which condition. *Keys copied*: no command
says what exactly happened, so the keys that it wrote are read from the primary and copied.
Where a rule cannot tell (an option that the table does not know, a clock that is too vague),
they are copied as well, and so is what the other side does not know or refuses. Nothing here:
nothing is written.

**Moves data**: what it writes depends on other keys than those that it writes. While one of
these is unproven, and while the backfill runs, what it wrote is copied.

**Engines**: which have it, if not all do.

## Kinds
"""

_CLUSTER = """
Clusters are not supported yet. A store that is in none answers all of these itself. In front of a
node of a cluster the refusals below hold.
"""

_MODULES = """
## Commands of modules, and of newer servers

What is not in this list is taken from COMMAND of both stores at start:

- A command of a module that only reads goes to the primary, whatever it names. Others that only
  read are served as reads.
- One that writes goes to the primary, and the keys that COMMAND says it names are copied, also
  when it answers an error. Behind `FT.DROPINDEX … DD`, `FT.DROP` and `TS.CREATERULE` everything
  is copied, since they write keys that nobody names.
- One that writes keys which it does not name, one that says neither, and one that would hold or
  change the connection are refused. The first two can be [allowed by
  name](operations.md#allowing-a-refused-command).

Tested with the modules of Redis Stack 7.4 (JSON, Bloom, TimeSeries, search), in
`tests/integration/test_modules.py`. What a module keeps outside of keys is not mirrored: see
[limits](limits.md#stores).
"""


def _prose(wrapped: str) -> list[str]:
    """Paragraphs and items of lists, each a line; an empty line between paragraphs."""
    lines: list[str] = []
    for paragraph in wrapped.strip().split("\n\n"):
        items = re.split(r"\n(?=- )", paragraph)
        lines += [*(" ".join(item.split()) for item in items), ""]
    return lines


def text(table: CommandTable | None = None) -> str:
    """The page."""
    table = table or CommandTable(in_cluster=True)
    commands = {command.name: command for command in table}
    counts = Counter(command.kind for command in commands.values())
    lines = [*_prose(_INTRODUCTION), "| kind | commands | served |", "|---|---|---|"]
    lines += [
        f"| {kind.value} | {counts[kind]} | {KINDS[kind]} |" for kind in KINDS if counts[kind]
    ]
    lines += ["", f"{len(commands)} in all, subcommands and containers counted.", ""]
    for title, names in GROUPS.items():
        lines += [f"## {title}", "", *(_prose(_CLUSTER) if title == "Cluster" else ())]
        lines.append("| command | kind | mirrored | engines | note |")
        lines.append("|---|---|---|---|---|")
        for name in names.split():
            container = commands.pop(name)
            subcommands = [each for each in commands if each.startswith(f"{name}|")]
            of_container = [commands.pop(each) for each in sorted(subcommands)]
            if not of_container or name == "command":
                lines.append(_row(container))
            lines += [_row(each) for each in of_container]
        lines.append("")
    assert not commands, f"in no group: {', '.join(commands)}"
    return "\n".join([*lines, *_prose(_MODULES)]).rstrip() + "\n"


def _row(command: Command) -> str:
    name = command.name.replace("|", " ").upper()
    cells = (
        f"`{name}`",
        _kind(command),
        _mirrored(command),
        _engines(command.name),
        _note(command),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(command: Command) -> str:
    if command.name in builtin.READ_UNLESS:
        return "write, read"
    return command.kind.value


_OF_SCRIPTS = {"script|flush": "as it is", "script|load": "as it is"}


def _mirrored(command: Command) -> str:
    if command.name in MIRRORED:
        return MIRRORED[command.name]
    if command.kind is Kind.BARRIER:
        return "as it is"
    if command.kind is Kind.SCRIPT:
        if command.name.startswith("function|"):
            return "libraries copied"
        return "keys copied" if command.spec.may_write else _OF_SCRIPTS.get(command.name, "")
    if not command.writes:
        return ""
    if command.effect is None:
        return "as it is"
    if command.effect is copy_keys:
        return "keys copied"
    return in_words(command)


def in_words(command: Command) -> str:
    """What the rule of a command sends: the first line of its docstring."""
    document = command.effect.__doc__
    assert document, f"the rule of {command.name} does not say what it sends"
    first = document.strip().partition("\n")[0].removesuffix(".")
    return re.sub(r"\bAs it is\b", "as it is", first)


def _engines(name: str) -> str:
    return next((engines for engines, names in ENGINES.items() if name in names.split()), "")


def _note(command: Command) -> str:
    return "; ".join(_notes(command))


def _notes(command: Command) -> Iterator[str]:
    name = command.name
    if command.note:
        yield command.note
    if command.kind is Kind.REFUSED:
        how, never = policy.allowed(command)
        if how is Allowed.NEVER:
            yield f"**never allowed**: {never}"
        else:
            yield f"**allowed**: {how.value}"
    if name in NOTES:
        yield NOTES[name]
    if command.moves_data:
        yield "moves data"


if __name__ == "__main__":
    sys.stdout.write(text())
