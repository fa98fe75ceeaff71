"""A server, and a proxy before another server of the same engine: one conversation on both.

Owns the order: first the server's answers, then the proxy's, then the comparison of both, and of
all stores. Each conversation has keys of its own, so what one leaves behind is there to compare.
"""

from __future__ import annotations

import enum
import itertools
import re
import time
from pathlib import Path

from migrator.bulk import Bulk
from migrator.copy import Comparer
from proxy.commands import CommandTable, Engine
from proxy.endpoint import Endpoint
from proxy.sides import Side
from tests.integration.keyferry import Migration, all_keys
from tests.servers import Server
from tests.surface.comparison import differences
from tests.surface.conversation import Conversation, Mark, Words
from tests.surface.corpus import KNOWN, lines
from tests.surface.forms import Forms
from tests.surface.wires import Direct, Proxied

USERS = {
    "all": "on >pw ~* &* +@all",
    "few": "on >pw resetchannels ~few:* &few:* -@all"
    " +get +set +mget +del +xadd +select +acl|whoami",
    "multi": "on >pw ~few:* -@all +get +set +multi +exec +discard +watch +unwatch",
    "off": "off >pw ~* +@all",
}
LIBRARY = "#!lua name=restored\nredis.register_function('restored', function() return 1 end)"
# Of a relative expiry: one side was told it later.
TOLERANCE_MS = 60_000


class Doing(enum.Enum):
    """What the proxy does meanwhile."""

    IDLE = "idle"
    MIRRORING = "mirroring"
    SHIFTED = "reads shifted"
    """It mirrors, and the secondary serves all reads of settled keys."""
    FLIPPED = "flipped"
    """The target is the primary, and its effects go to the source."""
    FLIPPING = "flipping"
    """The roles are swapped in the middle of each conversation that has several turns."""


class Stage:
    """`direct` is asked itself; it is of the engine of the primary."""

    def __init__(
        self, direct: Server, source: Server, target: Server, state: Path, doing: Doing
    ) -> None:
        primary = target if doing is Doing.FLIPPED else source
        assert direct.engine == primary.engine
        self._direct_server = direct
        self._migration = Migration(source, target, state)
        self._doing = doing
        engine = Engine.of(direct.engine.kind, ".".join(map(str, direct.engine.version)))
        self._hides_failed_logins = engine.hides_failed_logins
        self._told = 0
        self._random: list[bytes] = []

    async def open(self) -> None:
        migration, direct = self._migration, self._direct_server
        for server in (direct, migration.source, migration.target):
            for name, rules in USERS.items():
                server.cli("ACL", "SETUSER", name, *rules.split())
        known = KNOWN | _payloads(direct) | {b"big": b"0123456789" * 10_000}
        self._words = Words(int(time.time() * 1000), known)
        self._forms = Forms(self._words)
        self._table = CommandTable()
        self._table.complete(direct.cli("COMMAND"))
        await migration.open()
        self._direct = Direct(direct.port, self._words)
        self._proxied = Proxied(migration.port, self._words)
        await self._proxied.open()
        if self._doing is not Doing.IDLE:
            await migration.verified()
        if self._doing is Doing.SHIFTED:
            await migration.controller.shift(100)
        if self._doing is Doing.FLIPPED:
            await migration.cutover()

    async def close(self) -> None:
        self._direct.close()
        self._proxied.close()
        await self._migration.close()

    async def perform(self, group: str) -> list[str]:
        """What was different, in words."""
        said = lines(group)
        spoken = [each for line in said for each in self._forms.told(line)]
        spoken += self._forms.errors(said)
        if self._doing is Doing.FLIPPING:
            spoken = [each for each in spoken if len(each.turns) > 1 and not _sees_flips(each)]
        if self._hides_failed_logins:
            spoken = [each for each in spoken if Mark.NESTED not in each.marks]
        problems: list[str] = []
        for each in spoken:
            problems += await self._speak(each)
        return problems + await self._stores_differ()

    async def _speak(self, conversation: Conversation) -> list[str]:
        self._told += 1
        prefix = b"c%d:" % self._told
        if Mark.RANDOM in conversation.marks:
            self._random.append(prefix)
        record = self._direct.record(conversation, prefix)
        flips_before = len(conversation.turns) // 2 if self._doing is Doing.FLIPPING else -1

        async def before_turn(at: int) -> None:
            if at == flips_before:
                await self._flip()

        answers = await self._proxied.replay(conversation, prefix, record, before_turn)
        found = differences(conversation, record, answers, self._table, self._words)
        # What follows the first difference often follows from it.
        return [f"{prefix.decode()} {each}" for each in itertools.islice(found, 1)]

    async def _flip(self) -> None:
        is_back = self._migration.proxy.primary is Side.TARGET
        await (self._migration.rollback() if is_back else self._migration.cutover())

    async def _stores_differ(self) -> list[str]:
        problems = []
        migration = self._migration
        if self._doing is not Doing.IDLE and _can_hold_all(migration):
            problems += [f"between sides, {each}" for each in await migration.differences()]
        sides = (migration.source, migration.target)
        servers = (self._direct_server, sides[migration.proxy.primary])
        direct, primary = [
            await Bulk.open(Endpoint.parse(server.url, "test")) for server in servers
        ]
        try:
            here, there = await all_keys(direct), await all_keys(primary)
            comparer = Comparer(direct, primary, ("the server", "the proxy's primary"))
            for db in here.keys() | there.keys():
                keys = [
                    key
                    for key in sorted(here.get(db, set()) | there.get(db, set()))
                    if not key.startswith(tuple(self._random))
                ]
                for each in await comparer.compare(db, keys):
                    if not _is_later(each.what):
                        problems.append(f"db {db} {each.key!r}: {each.what}")
                        self._random.append(each.key)  # said once
        finally:
            direct.close()
            primary.close()
        return problems


def _sees_flips(conversation: Conversation) -> bool:
    """A flip breaks a WATCH and empties the caches of clients: both are meant to be noticed."""
    words = {word.upper() for step in conversation.steps for word in step.words[:2]}
    return bool(words & {b"WATCH", b"TRACKING"})


def _payloads(server: Server) -> dict[bytes, bytes]:
    """What it takes for RESTORE and FUNCTION RESTORE; it is empty behind it."""
    server.cli("SET", "k", "a value")
    payloads = {b"dumped": server.cli("DUMP", "k")}
    server.cli("DEL", "k")
    if server.engine.version[0] >= 7:
        server.cli("FUNCTION", "LOAD", LIBRARY)
        payloads[b"functions"] = server.cli("FUNCTION", "DUMP")
        server.cli("FUNCTION", "FLUSH")
    return payloads


def _can_hold_all(migration: Migration) -> bool:
    """Whether the secondary knows all that the primary does: times of fields of hashes, that is."""
    primary, secondary = migration.proxy.primary, migration.proxy.primary.other
    engines = [server.engine.version for server in (migration.source, migration.target)]
    return engines[primary] <= engines[secondary] or engines[primary] < (9,)


def _is_later(what: str) -> bool:
    """Whether an expiry differs only by when the command was sent."""
    if what.startswith("field expiries"):
        return True
    times = re.fullmatch(r"expiry: (\d+), (\d+)", what)
    return times is not None and abs(int(times[1]) - int(times[2])) <= TOLERANCE_MS
