"""Reads a server's COMMAND reply: what each command is, as the server itself describes it.

Redis 6.2 describes a command by flags and one range of keys, later servers by key specifications
and with subcommands (https://valkey.io/commands/command/, https://valkey.io/topics/key-specs/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import modules
from .effect import COPY_KEYS, Clock, Outcome, Value
from .keys import Indexes, Keys, counted
from .model import Command, Kind
from .texts import Dialect

if TYPE_CHECKING:
    from ..resp import Request

UNKNOWN = "it is not known to Keyferry, and the server does not say that it only reads"
NAMELESS = "it is not known to Keyferry, and writes keys that it does not name"
Resolve = Callable[["Request"], Command | None]
_STATEFUL_FLAGS = {"blocking", "pubsub", "no_auth"}
STATEFUL = "it is not known to Keyferry, and changes or holds the connection"

# What servers know and do not list: Redis 6.2 QUIT, the later ones the lines of HTTP.
_UNLISTED = frozenset(("quit", "post", "host:"))
# Redis 6.2 lists no subcommands. These of its containers came later.
_LATER = """
    acl|dryrun client|capa client|import-source client|no-evict client|no-touch client|setinfo
    cluster|addslotsrange cluster|cancelslotmigrations cluster|delslotsrange cluster|flushslot
    cluster|getslotmigrations cluster|links cluster|migrateslots cluster|myshardid cluster|shards
    cluster|slot-stats cluster|syncslots command|docs command|getkeysandflags command|help
    command|list latency|histogram module|help module|loadex pubsub|shardchannels
    pubsub|shardnumsub script|show
"""
_LATER_SUBCOMMANDS = frozenset(_LATER.split())


class Known(NamedTuple):
    """What one server knows: its wording, and the arity of each command that it lists."""

    dialect: Dialect
    arities: dict[str, int]

    @classmethod
    def of(cls, command_reply: list[Any]) -> Known:
        """As COMMAND says it."""
        return described(command_reply)[0]

    def has(self, name: str) -> bool:
        """Of a subcommand that a server would not list: whether there may be one."""
        if name in self.arities or name in _UNLISTED:
            return True
        container, _, sub = name.partition("|")
        if not sub or self.dialect is not Dialect.REDIS_6:
            return False
        return container in self.arities and name not in _LATER_SUBCOMMANDS


def described(command_reply: list[Any]) -> tuple[Known, list[Command]]:
    """What the server knows, and every command and subcommand that it describes."""
    dialect = Dialect.REDIS_7 if any(len(e) > 8 for e in command_reply) else Dialect.REDIS_6
    commands = [command for entry in command_reply for command in _commands(entry)]
    return Known(dialect, {command.name: command.arity for command in commands}), commands


def copy_keys(req: Request, value: Value, clock: Clock) -> Outcome:
    """Its keys are copied.

    Of a write that only the server knows.
    """
    return COPY_KEYS


class _Description(NamedTuple):
    """The keys as described: ranges that are only read, ranges that may be written, and whether
    that is all of them."""

    read: list[Indexes]
    written: list[Indexes]
    is_complete: bool


def _commands(entry: list[Any]) -> Iterator[Command]:
    flags = {_text(flag) for flag in entry[2]}
    keys = _specified(entry[8]) if len(entry) > 8 else _classic(entry, flags)
    yield _command(_text(entry[0]), int(entry[1]), flags, keys)
    if len(entry) > 9:
        for sub in entry[9]:
            yield from _commands(sub)


def _command(name: str, arity: int, flags: set[str], keys: _Description) -> Command:
    if flags & _STATEFUL_FLAGS:
        return Command(name, Kind.REFUSED, arity, note=STATEFUL)
    if "module" in flags and "readonly" in flags:
        return Command(name, Kind.NODE, arity)
    if "write" in flags:
        # Redis flags the keys of XREADGROUP as read: what a write names is taken as written.
        if not (keys.read or keys.written) or not keys.is_complete:
            return Command(name, Kind.REFUSED, arity, note=NAMELESS)
        spec = modules.KEYS.get(name) or _spec([], keys.read + keys.written)
        # Nor does anybody know what it has done when it fails.
        command = Command(name, Kind.WRITE, arity, spec, copy_keys, writes_on_error=True)
        if name in modules.WRITES_ANYTHING:
            command.resolve = _anything_if(modules.WRITES_ANYTHING[name], command)
        return command
    if "readonly" in flags:
        if keys.written:  # like PFCOUNT
            return Command(name, Kind.WRITE, arity, _spec(keys.read, keys.written), copy_keys)
        unknown = None if keys.is_complete else _always
        if not keys.read and unknown is None:
            return Command(name, Kind.NODE, arity)
        return Command(name, Kind.READ, arity, _spec(keys.read, []), unknown_keys=unknown)
    return Command(name, Kind.REFUSED, arity, note=UNKNOWN)


def _anything_if(holds: Callable[[Request], bool], command: Command) -> Resolve:
    anything = Command(command.name, Kind.BARRIER, command.arity)
    return lambda req: anything if holds(req) else command


def _spec(read: list[Indexes], written: list[Indexes]) -> Keys:
    return Keys("COMMAND", read, written)


def _always(req: Request) -> bool:
    return True


def _text(word: bytes | str) -> str:
    return (word.decode() if isinstance(word, bytes) else word).lower()


def _classic(entry: list[Any], flags: set[str]) -> _Description:
    """First key, last key and step: all that Redis 6.2 says, and not all of it with movablekeys."""
    first, last, step = int(entry[3]), int(entry[4]), int(entry[5])
    ranges = [_from_to(first, last, step)] if first > 0 else []
    return _Description(ranges, [], "movablekeys" not in flags)


def _from_to(first: int, last: int, step: int) -> Indexes:
    """last: an argument, or counted from the end when negative."""

    def indexes(req: Request) -> Sequence[int]:
        end = req.argc + last if last < 0 else min(last, req.argc - 1)
        return range(first, end + 1, max(step, 1))

    return indexes


def _specified(specs: list[Any]) -> _Description:
    """Key specifications; not complete when one of them is unknown or says so itself."""
    found = _Description([], [], True)
    for spec in specs:
        fields = _map(spec)
        flags = {_text(flag) for flag in fields["flags"]}
        if "not_key" in flags:
            continue
        indexes = _indexes(_map(fields["begin_search"]), _map(fields["find_keys"]))
        if indexes is None or "incomplete" in flags:
            found = found._replace(is_complete=False)
        if indexes is not None:
            (found.read if "ro" in flags else found.written).append(indexes)
    return found


def _indexes(begin: dict[str, Any], find: dict[str, Any]) -> Indexes | None:
    begins, finds = _text(begin["type"]), _text(find["type"])
    if begins not in ("index", "keyword") or finds not in ("range", "keynum"):
        return None
    at, how = _map(begin["spec"]), _map(find["spec"])

    def indexes(req: Request) -> Sequence[int]:
        first = int(at["index"]) if begins == "index" else _behind(req, at)
        if first is None or first >= req.argc:
            return ()
        if finds == "keynum":
            number_at, first_at = int(how["keynumidx"]), int(how["firstkey"])
            return counted(first + number_at, first + first_at, int(how["keystep"]))(req)
        last, limit = int(how["lastkey"]), int(how["limit"])
        end = first + last
        if last < 0:
            end = req.argc + last
            if limit > 1:
                end = first + (end - first + 1) // limit - 1
        return range(first, min(end, req.argc - 1) + 1, max(int(how["keystep"]), 1))

    return indexes


def _behind(req: Request, at: dict[str, Any]) -> int | None:
    """The argument behind a keyword, searched from a start that may count from the end."""
    keyword = _text(at["keyword"]).upper().encode()
    start = int(at["startfrom"])
    places = range(start, req.argc) if start > 0 else range(req.argc + start, 0, -1)
    for i in places:
        if 0 < i < req.argc and req.arg(i).upper() == keyword:
            return i + 1
    return None


def _map(value: Any) -> dict[str, Any]:
    """A map of RESP3, or its flat list of RESP2."""
    pairs = value.items() if isinstance(value, dict) else zip(value[::2], value[1::2], strict=True)
    return {_text(key): item for key, item in pairs}
