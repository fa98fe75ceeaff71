"""Finds the command of a request.

Owns the table: built in, completed from each store's own COMMAND at start, and seen from one of
them: a client is answered as the primary would answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..sides import Side
from . import builtin, builtin_server, policy, texts
from .complete import Known, described
from .keys import NO_KEYS, Keys, keys
from .model import Command, Kind, Lookup
from .texts import Dialect

if TYPE_CHECKING:
    from ..resp import Request


class CommandTable(Lookup):
    """All commands that the proxy knows, and what the store of one side knows of them.

    dialect: whose wording ``check`` uses.
    in_cluster: the stores are nodes of clusters, so what speaks of those is not passed on.
    not_found: names given to ``allow`` that no store has had so far, with what to say of them.
    """

    def __init__(self, *, in_cluster: bool = False) -> None:
        super().__init__()
        self.dialect = Dialect.REDIS_7
        self.not_found: dict[str, str] = {}
        self._side = Side.SOURCE
        self._known: dict[Side, Known] = {}
        self._arities: dict[str, int] = {}
        self._all: dict[str, Command] = {}
        # As in ``_commands``: of these what the store of ``_side`` knows.
        self._subcommands: dict[bytes, dict[bytes, Command]] = {}
        for command in _builtin():
            self._add(command)
        for command in policy.cluster_commands(is_refused=in_cluster):
            self._add(command)
        self.speak_for(Side.SOURCE)

    def __iter__(self) -> Iterator[Command]:
        """Every command and subcommand; containers too."""
        return iter(self._all.values())

    def named(self, name: str) -> Command | None:
        """By the table's own name: ``get``, ``xgroup|create``."""
        return self._all.get(name)

    def has_subcommands(self, name: str) -> bool:
        return name.upper().encode("latin-1", "replace") in self._subcommands

    def check(self, req: Request) -> bytes | None:
        """The error a server answers before it looks at the command, or None: it is well formed.

        Redis 6.2 judges subcommands only when it executes them: they pass.
        """
        command = self._commands.get(req.name)
        if command is None:
            return texts.unknown_command(req, self.dialect)
        if not command.fits(req.argc):
            return texts.wrong_arity(command.name)
        if req.name not in self._subcommands or req.argc == 1:
            return None
        sub = self.lookup(req)
        if sub is None:
            return texts.unknown_subcommand(req)
        return None if sub.fits(req.argc) else texts.wrong_arity(sub.name)

    def complete(self, command_reply: list[Any], side: Side = Side.SOURCE) -> None:
        """Take in the COMMAND of a side's store: its arities, and the commands unknown so far.

        What it says is read-only becomes a READ, what it says writes a WRITE whose keys are
        copied, and what says neither is REFUSED, since nobody knows what it would do.
        """
        self._known[side], found = described(command_reply)
        for command in found:
            if command.name in self._all:
                continue
            self._add(command)
            if command.name in self.not_found:
                del self.not_found[command.name]
                try:
                    self.allow(command.name)
                except policy.NotAllowed as error:
                    self.not_found[command.name] = str(error)
        self.speak_for(self._side)

    def speak_for(self, side: Side) -> None:
        """From now on, know what the store of this side knows, and say it in its words.

        A store that ``complete`` has not seen knows everything.
        """
        self._side = side
        known = self._known.get(side)
        self.dialect = Dialect.REDIS_7 if known is None else known.dialect
        self._commands.clear()
        for subcommands in self._subcommands.values():
            subcommands.clear()
        for command in self._all.values():
            if known is not None and not known.has(command.name):
                continue
            container, _, sub = command.name.upper().encode().partition(b"|")
            (self._subcommands[container] if sub else self._commands)[sub or container] = command
            arity = None if known is None else known.arities.get(command.name)
            command.arity = self._arities[command.name] if arity is None else arity

    def lacking(self, side: Side) -> frozenset[str]:
        """The writes whose effects this side's store does not know: see ``Command.needs``."""
        known = self._known.get(side)
        if known is None:
            return frozenset()
        return frozenset(each.name for each in self if each.needs and not known.has(each.needs))

    def allow(self, name: str) -> None:
        """Serve a refused command: ``debug``, ``config|set`` or ``config set``; ``config`` is all
        of its subcommands that are refused.

        A name with a dot, as commands of modules have, may also be of a command that
        ``complete`` brings. Raises NotAllowed.
        """
        name = "|".join(name.lower().replace("|", " ").split())
        subcommands = [each for each in self if each.name.startswith(f"{name}|")]
        named = self.named(name)
        if named is None:
            if "." not in name:
                raise policy.NotAllowed(f"there is no command {name!r}")
            self.not_found[name] = f"no store has a command {name!r}"
            return
        refused = [each for each in (named, *subcommands) if each.kind is Kind.REFUSED]
        if not refused:
            raise policy.NotAllowed(f"{name!r} is not refused")
        ways = [(each, policy.allowed(each)) for each in refused]
        possible = [(each, way) for each, way in ways if way.how is not policy.Allowed.NEVER]
        if not possible:
            raise policy.NotAllowed(f"{name!r} can never be allowed: {ways[0][1].never}")
        for each, way in possible:
            self._add(policy.in_place_of(each, way.how))
        self.speak_for(self._side)

    def _add(self, command: Command) -> None:
        self._all[command.name] = command
        if command.name.startswith(builtin.OF_THE_STORE):
            command.may_shift = False
        self._arities[command.name] = command.arity
        container, _, sub = command.name.partition("|")
        if not sub:
            return
        if container not in self._all:
            self._add(Command(container, Kind.NODE, -2))
        of_container = self._subcommands.setdefault(container.upper().encode(), {})
        parent = self._all[container]
        if parent.resolve is None:
            parent.resolve = self._subcommand_of(parent, of_container)

    def _subcommand_of(
        self, parent: Command, subcommands: dict[bytes, Command]
    ) -> Callable[[Request], Command | None]:
        def resolve(req: Request) -> Command | None:
            if req.argc == 1:
                return parent
            sub = subcommands.get(req.arg(1).upper())
            if self.dialect is Dialect.REDIS_6 and not (sub and sub.fits(req.argc)):
                # It does not list its subcommands, and judges them when it executes them: let it
                # say itself what is wrong.
                return parent
            return sub

        return resolve


_MOVES_DATA = frozenset(builtin.MOVES_DATA.split())


def _builtin() -> Iterator[Command]:
    for text, kind in (
        (builtin_server.CONTAINERS, Kind.NODE),
        (builtin_server.NODES, Kind.NODE),
        (builtin_server.LOCALS, Kind.LOCAL),
        (builtin_server.OWN, Kind.OWN),
        (builtin_server.SUBSCRIPTIONS, Kind.SUBSCRIBE),
        (builtin_server.TRANSACTIONS, Kind.TRANSACTION),
    ):
        for name, arity in _rows(text, 2):
            yield Command(name, kind, int(arity))
    yield from policy.refused_commands()
    for text, kind in (
        (builtin.READS, Kind.READ),
        (builtin.WRITES, Kind.WRITE),
        (builtin.BLOCKING, Kind.BLOCKING),
        (builtin.BARRIERS, Kind.BARRIER),
        (builtin.CURSORS, Kind.CURSOR),
        (builtin.SCRIPTS, Kind.SCRIPT),
    ):
        for name, arity, where in _rows(text, 3):
            yield _with_variants(name, kind, int(arity), _keys(name, where))


def _rows(text: str, width: int) -> Iterator[list[str]]:
    words = text.split()
    assert len(words) % width == 0, "a row is incomplete"
    for i in range(0, len(words), width):
        yield words[i : i + width]


def _keys(name: str, where: str) -> Keys:
    if where == "-":
        return NO_KEYS
    return builtin.SPECIAL_KEYS[name] if where == "*" else keys(where.replace(";", " "))


def _with_variants(name: str, kind: Kind, arity: int, spec: Keys) -> Command:
    command = Command(
        name,
        kind,
        arity,
        spec,
        builtin.RULES.get(name),
        moves_data=name in _MOVES_DATA,
        verbatim_argc=builtin.VERBATIM_ARGC.get(name, 0),
        probe=builtin.PROBES.get(name),
        unknown_keys=builtin.UNKNOWN_KEYS.get(name),
        other_db=builtin.OTHER_DB.get(name),
        needs=builtin.NEEDS.get(name, ""),
    )
    writes, blocks = builtin.READ_UNLESS.get(name), builtin.BLOCKS.get(name)
    if writes is not None:
        read = Command(name, Kind.READ, arity, spec.read_only(), unknown_keys=command.unknown_keys)
        command.resolve = _choice(writes, command, read)
    elif blocks is not None:
        blocking = Command(f"{name}|block", Kind.BLOCKING, arity, spec, command.effect)
        command.resolve = _choice(blocks, blocking, command)
    return command


def _choice(
    holds: Callable[[Request], bool], then: Command, otherwise: Command
) -> Callable[[Request], Command]:
    return lambda req: then if holds(req) else otherwise
