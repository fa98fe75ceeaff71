"""What is refused, why, and what becomes of it where an operator allows it by name.

The one policy table: ``--allow-commands`` takes its names from here. What is allowed goes to the
primary as if Keyferry were not there, in the way that its row says; rows that are ``NEVER`` have
the reason.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .complete import NAMELESS, STATEFUL, UNKNOWN, copy_keys
from .effect import Rule
from .effects.generic import restore
from .keys import Keys, keys
from .model import Command, Kind

if TYPE_CHECKING:
    from ..resp import Request


class Allowed(enum.Enum):
    """How a refused command is served where it is allowed."""

    NODE = "as it is, and nothing follows from it"
    KEYS = "as it is, and the keys that it names are copied again"
    EVERYTHING = "alone, and everything is copied again"
    NEVER = "never"


class Refused(NamedTuple):
    """Rows for one reason.

    note: the end of the error that a client gets: why, and what to do instead.
    commands: name and arity of each.
    never: why it cannot be allowed, for operators; only where ``allowed`` is NEVER.
    """

    note: str
    allowed: Allowed
    commands: str
    never: str = ""


_CHANGES_A_STORE = (
    "it would change or empty a store behind the migration; finish or cancel the migration first,"
    " then send it to the store directly"
)
_DISTURBS = "it would stop or disturb a store in use; send it to the store directly"
_STATISTICS = (
    "it sets back counters that the migration reads; send it to the store directly, before the"
    " migration or behind it"
)
_TAKES_OVER = "it takes over its connection, which is one that many clients share"

REFUSED: tuple[Refused, ...] = (
    Refused(
        "it would stop every client; the proxy holds writes itself when it has to",
        Allowed.NEVER,
        "client|pause -3",
        "it would stop the connections of Keyferry's own too, and a CLIENT UNBLOCK of what it holds"
        " ends many servers",
    ),
    Refused(
        "it ends a pause that Keyferry has not begun; send it to the store directly",
        Allowed.NODE,
        "client|unpause 2",
    ),
    Refused(
        "it changes how a store expires keys, which the migration relies on",
        Allowed.NEVER,
        "client|import-source 3",
        "it changes its connection, which is one that many clients share",
    ),
    Refused(_CHANGES_A_STORE, Allowed.EVERYTHING, "failover -1  replicaof 3  slaveof 3"),
    Refused(
        _CHANGES_A_STORE, Allowed.NEVER, "psync -3  replconf -1  sync 1", _TAKES_OVER
    ),
    Refused(_DISTURBS, Allowed.NODE, "bgrewriteaof 1  bgsave -1  pfselftest 1  save 1"),
    Refused(_DISTURBS, Allowed.EVERYTHING, "debug -2  shutdown -1"),
    Refused(_DISTURBS, Allowed.KEYS, "pfdebug 3"),
    Refused(
        "it makes the connection a debugger's; debug scripts on a store directly",
        Allowed.NEVER,
        "script|debug -3",
        _TAKES_OVER,
    ),
    Refused(
        "it moves keys to a server that the migration does not know; copy with DUMP and RESTORE",
        Allowed.KEYS,
        "migrate -6  restore-asking -4",
    ),
    Refused(
        "settings belong to one store, so clients would lose them at the cutover; change them on"
        " source and target directly",
        Allowed.NODE,
        "config|rewrite 2  config|set -4",
    ),
    Refused(_STATISTICS, Allowed.NODE, "config|resetstat 2"),
    Refused(
        "users must be alike on both stores; change them on source and target directly",
        Allowed.NODE,
        "acl|deluser -3  acl|load 2  acl|save 2  acl|setuser -3",
    ),
    Refused(
        "modules change what commands a store knows; load them on both stores before the migration",
        Allowed.NODE,
        "module|load -3  module|loadex -3  module|unload 3",
    ),
)  # fmt: skip

# On a server that is no node of a cluster these are answered by an error, or change nothing:
# there they are the server's to answer.
CLUSTER: tuple[Refused, ...] = (
    Refused(
        "it changes a cluster behind the migration; send it to the store directly",
        Allowed.NODE,
        """
        cluster|addslots -3  cluster|addslotsrange -4  cluster|bumpepoch 2
        cluster|cancelslotmigrations 2  cluster|delslots -3  cluster|delslotsrange -4
        cluster|failover -2  cluster|flushslot -3  cluster|flushslots 2  cluster|forget 3
        cluster|meet -4  cluster|migrateslots -4  cluster|replicate -3  cluster|reset -2
        cluster|saveconfig 2  cluster|set-config-epoch 3  cluster|setslot -4
        """,
    ),
    Refused(
        "it changes a cluster behind the migration; send it to the store directly",
        Allowed.NEVER,
        "cluster|syncslots -3",
        _TAKES_OVER,
    ),
    Refused(
        "clusters are not supported yet; ask the store directly",
        Allowed.NEVER,
        "asking 1  clusterscan -2  readonly 1  readwrite 1",
        "it is of its connection, which is one that many clients share",
    ),
)

# What DEBUG only looks at, or does to no key.
_DEBUG_LOOKS = frozenset(
    b"DIGEST DIGEST-VALUE ERROR HELP HTSTATS HTSTATS-KEY JMAP LISTPACK LOG MALLCTL MALLCTL-STR "
    b"OBJECT PROTOCOL QUICKLIST SDSLEN SLEEP STRINGMATCH-LEN STRUCTSIZE ZIPLIST".split()
)


_MIGRATE_OPTIONS = {b"AUTH": 2, b"AUTH2": 3}


def _of_migrate(req: Request) -> Sequence[int]:
    """MIGRATE host port key … or, with "" for the key, … KEYS key key …"""
    if req.argc > 3 and req.arg(3):
        return (3,)
    i = 6
    while i < req.argc:
        option = req.arg(i).upper()
        if option == b"KEYS":
            return range(i + 1, req.argc)
        i += _MIGRATE_OPTIONS.get(option, 1)
    return ()


_KEYS: dict[str, tuple[Keys, Rule]] = {
    "migrate": (keys("", write=_of_migrate), copy_keys),
    "pfdebug": (keys("w2"), copy_keys),
    "restore-asking": (keys("w1"), restore),
}


class Way(NamedTuple):
    """How a refused command may be served; ``never`` is the reason where it may not."""

    how: Allowed
    never: str = ""


_WAYS = {
    name: Way(row.allowed, row.never)
    for row in (*REFUSED, *CLUSTER)
    for name in row.commands.split()[::2]
}
# What ``complete`` found and refused, by its note.
_WAYS_OF_UNKNOWN = {
    UNKNOWN: Way(Allowed.NODE),
    NAMELESS: Way(Allowed.EVERYTHING),
    STATEFUL: Way(Allowed.NEVER, "it changes or holds its connection, which many clients share"),
}


class NotAllowed(ValueError):
    """A name that cannot be allowed, and why, for operators."""


def refused_commands(rows: Sequence[Refused] = REFUSED) -> Iterator[Command]:
    for row in rows:
        words = row.commands.split()
        for name, arity in zip(words[::2], words[1::2], strict=True):
            yield Command(name, Kind.REFUSED, int(arity), note=row.note)


def cluster_commands(*, is_refused: bool) -> Iterator[Command]:
    for command in refused_commands(CLUSTER):
        yield command if is_refused else in_place_of(command, Allowed.NODE)


def allowed(command: Command) -> Way:
    """How this refused command may be served."""
    return _WAYS.get(command.name) or _WAYS_OF_UNKNOWN[command.note]


def in_place_of(refused: Command, how: Allowed) -> Command:
    """What serves it where it is allowed."""
    name, arity = refused.name, refused.arity
    if how is Allowed.KEYS:
        spec, rule = _KEYS[name]
        # MIGRATE may have moved some of several keys when it fails.
        return Command(name, Kind.WRITE, arity, spec, rule, writes_on_error=name == "migrate")
    node = Command(name, Kind.NODE, arity)
    if how is Allowed.NODE:
        return node
    assert how is Allowed.EVERYTHING, f"{refused} can never be allowed"
    everything = Command(name, Kind.BARRIER, arity)
    if name == "debug":
        everything.resolve = lambda req: (
            node if req.argc > 1 and req.arg(1).upper() in _DEBUG_LOOKS else everything
        )
    return everything
