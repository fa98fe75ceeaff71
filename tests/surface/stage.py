"""A server, and a proxy before another server of the same engine: one conversation on both.

Owns the order: first the server's answers, then the proxy's, then the comparison of both, and of
all stores. Each conversation has keys of its own, so what one leaves behind is there to compare.
"""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

from migrator.bulk import Bulk
from migrator.copy import Comparer
from proxy.commands import CommandTable
from proxy.endpoint import Endpoint
from tests.integration.keyferry import Migration, all_keys
from tests.servers import Server
from tests.surface.comparison import differences
from tests.surface.conversation import Conversation, Mark, Words
from tests.surface.corpus import KNOWN, lines
from tests.surface.forms import errors, told
from tests.surface.wires import Direct, Proxied

USERS = {
    "all": "on >pw ~* &* +@all",
    "few": "on >pw resetchannels ~few:* &few:* -@all"
    " +get +set +mget +del +xadd +select +acl|whoami",
    "multi": "on >pw ~few:* -@all +get +set +multi +exec +discard +watch +unwatch",
    "off": "off >pw ~* +@all",
}
# Of a relative expiry: one side was told it later.
TOLERANCE_MS = 60_000


class Stage:
    """`is_mirroring`: a migration to `target` runs meanwhile."""

    def __init__(self, direct: Server, source: Server, target: Server, state: Path) -> None:
        self._servers = (direct, source)
        self._migration = Migration(source, target, state)
        self._is_mirroring = False
        self._told = 0
        self._random: list[bytes] = []

    async def open(self, *, is_mirroring: bool) -> None:
        for server in (*self._servers, self._migration.target):
            for name, rules in USERS.items():
                server.cli("ACL", "SETUSER", name, *rules.split())
        await self._migration.open()
        direct = self._servers[0]
        known = dict(KNOWN)
        direct.cli("SET", "dumped", "a value")
        known[b"dumped"] = direct.cli("DUMP", "dumped")
        direct.cli("DEL", "dumped")
        self._words = Words(int(time.time() * 1000), known)
        self._table = CommandTable()
        self._table.complete(direct.cli("COMMAND"))
        self._direct = Direct(direct.port, self._words)
        self._proxied = Proxied(self._migration.port, self._words)
        await self._proxied.open()
        self._is_mirroring = is_mirroring
        if is_mirroring:
            await self._migration.mirroring()

    async def close(self) -> None:
        self._direct.close()
        self._proxied.close()
        await self._migration.close()

    async def perform(self, group: str) -> list[str]:
        """What was different, in words."""
        said = lines(group)
        spoken = [each for line in said for each in told(line, self._table, self._words)]
        spoken += errors(said, self._table, self._words)
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
        answers = await self._proxied.replay(conversation, prefix, record)
        found = differences(conversation, record, answers, self._table, self._words)
        # What follows the first difference often follows from it.
        return [f"{prefix.decode()} {each}" for each in itertools.islice(found, 1)]

    async def _stores_differ(self) -> list[str]:
        problems = []
        if self._is_mirroring:
            problems += [f"target: {each}" for each in await self._migration.differences()]
        direct, source = [
            await Bulk.open(Endpoint.parse(server.url, "test")) for server in self._servers
        ]
        try:
            here, there = await all_keys(direct), await all_keys(source)
            comparer = Comparer(direct, source, ("the server", "the proxy's source"))
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
            source.close()
        return problems


def _is_later(what: str) -> bool:
    """Whether an expiry differs only by when the command was sent."""
    if what.startswith("field expiries"):
        return True
    times = re.fullmatch(r"expiry: (\d+), (\d+)", what)
    return times is not None and abs(int(times[1]) - int(times[2])) <= TOLERANCE_MS
