"""What a command is to the proxy: its kind, its keys, and the rule of its effect.

Owns the vocabulary (:class:`Kind`, :class:`Command`). It knows no command by name: the rows are in
:mod:`proxy.commands.builtin`, and :mod:`proxy.commands.table` finds the row of a request.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .keys import NO_KEYS, Keys

if TYPE_CHECKING:
    from ..resp.requests import Request
    from .effect import Rule


class Kind(enum.Enum):
    """How the proxy serves a command."""

    READ = "read"
    """Reads the keys it names and changes nothing: either side may serve it."""
    WRITE = "write"
    """Goes to the primary; its effect is mirrored."""
    BARRIER = "barrier"
    """FLUSHALL, FLUSHDB and SWAPDB: a write of every key of a database, or of all databases.
    Also what may change anything, where it is allowed: DEBUG, say."""
    CURSOR = "cursor"
    """SCAN and its kin: the cursor means something only to the side that gave it."""
    NODE = "node"
    """Asks the server, not a key: always the primary."""
    LOCAL = "local"
    """Changes or shows the state of the connection: the proxy answers."""
    TRANSACTION = "transaction"
    """MULTI, EXEC, DISCARD, WATCH, UNWATCH."""
    BLOCKING = "blocking"
    """Waits for a key to hold something: the client is parked in the proxy."""
    SCRIPT = "script"
    """Scripts and functions, and the store's memory of them."""
    SUBSCRIBE = "subscribe"
    """Subscriptions to channels, and their undoing."""
    OWN = "own"
    """Would hold up everybody on a lane: once, on a connection of its own."""
    REFUSED = "refused"
    """Refused because it would break the migration or the proxy."""


class Command:
    """One command, or one subcommand of a container.

    Objects belong to one table, which may correct ``arity`` from a server's own COMMAND.

    name: lower case, subcommands as the servers write them: ``xgroup|create``.
    arity: arguments with the name, as the servers count: negative is a minimum.
    effect: the rule that gives what the mirror sends, or None: replayed verbatim, and the two
        replies must be the same (``proxy.resp.same_reply``).
    moves_data: what it writes depends on other keys than those it writes, so an unproven input
        makes its outputs unproven.
    writes: its effect is mirrored, key by key.
    needs: the command that the secondary must know, so that effects of this one can be sent to
        it; else the keys are copied. "": any server takes them.
    writes_on_error: it may have written before it failed: an error makes its keys unproven.
    single_key: exactly one key, argument 1, and in the current database only.
    verbatim_argc: with this many arguments the effect is the command itself, rule or not: for the
        hot path (0: never).
    may_shift: a READ that the secondary may serve as well.
    error: the whole error reply of what is REFUSED, else None.
    note: the reason within that error.
    """

    __slots__ = (
        "_other_db",
        "_probe",
        "_unknown_keys",
        "arity",
        "effect",
        "error",
        "kind",
        "may_shift",
        "moves_data",
        "name",
        "needs",
        "note",
        "resolve",
        "single_key",
        "spec",
        "verbatim_argc",
        "writes",
        "writes_on_error",
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        arity: int,
        spec: Keys = NO_KEYS,
        effect: Rule | None = None,
        *,
        moves_data: bool = False,
        verbatim_argc: int = 0,
        note: str = "",
        probe: Callable[[Request], bytes | None] | None = None,
        unknown_keys: Callable[[Request], bool] | None = None,
        other_db: Callable[[Request], int | None] | None = None,
        resolve: Callable[[Request], Command | None] | None = None,
        writes_on_error: bool = False,
        needs: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.arity = arity
        self.spec = spec
        self.effect = effect
        self.may_shift = kind is Kind.READ
        self.moves_data = moves_data
        self.note = note
        # MOVE's one key is two places.
        self.single_key = spec.is_first_argument and other_db is None
        # BLPOP and its kin write, too; XREAD that waits does not.
        self.writes = kind is Kind.WRITE or (kind is Kind.BLOCKING and spec.may_write)
        self.writes_on_error = writes_on_error
        self.needs = name if self.writes and effect is None else needs
        self.error = _refusal(name, kind, note)
        self.verbatim_argc = verbatim_argc
        self.resolve = resolve
        self._probe = probe
        self._unknown_keys = unknown_keys
        self._other_db = other_db

    def __repr__(self) -> str:
        return f"<Command {self.name} {self.kind.value}>"

    def fits(self, argc: int) -> bool:
        """Whether a server would take this number of arguments (the name counts)."""
        return argc == self.arity if self.arity >= 0 else argc >= -self.arity

    def keys(self, req: Request) -> Sequence[bytes]:
        """All keys read or written, in argument order, repeated where the request repeats them.

        Never raises: of a request the server will refuse it gives the keys that are there.
        """
        if self.single_key:
            return (req.arg(1),) if req.argc > 1 else ()
        return self.spec.keys(req)

    def written(self, req: Request) -> Sequence[bytes]:
        """The keys it may write, the same way. Nothing for a command that is not a WRITE."""
        return self.spec.written(req)

    @property
    def may_leave_db(self) -> bool:
        """Whether ``other_db`` may name one."""
        return self._other_db is not None

    def other_db(self, req: Request) -> int | None:
        """MOVE and COPY … DB: the database in which the last key of ``keys`` is written; else None.

        MOVE's only key is written there and in the current database.
        """
        return None if self._other_db is None else self._other_db(req)

    def unknown_keys(self, req: Request) -> bool:
        """Whether it also touches keys that the request does not name: SORT BY or GET patterns."""
        return False if self._unknown_keys is None else self._unknown_keys(req)

    def probe(self, req: Request) -> bytes | None:
        """A read to send right behind it on the same lane, because its reply does not tell enough.

        The rule is then called with ``(reply, answer)`` as its value.
        """
        return None if self._probe is None else self._probe(req)


class Lookup:
    """Base of the command table: what the hot path asks of it."""

    __slots__ = ("_commands",)

    def __init__(self) -> None:
        # By their names in requests.
        self._commands: dict[bytes, Command] = {}

    def lookup(self, req: Request) -> Command | None:
        """The command of a request; None: unknown here, or to the store that is spoken for.

        Options that change the kind are taken into account: SORT without STORE is a READ, XREAD
        with BLOCK is BLOCKING.
        """
        command = self._commands.get(req.name)
        if command is None or command.resolve is None:
            return command
        return command.resolve(req)


def _refusal(name: str, kind: Kind, note: str) -> bytes | None:
    if kind is not Kind.REFUSED:
        return None
    return f"-ERR Keyferry refuses '{name.replace('|', ' ')}': {note}\r\n".encode()
