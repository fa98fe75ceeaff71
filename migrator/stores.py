"""Keyferry's own connections to the two stores, for movers and administration.

Owns one pool of bulk connections per side, opened when wanted and replaced when
lost, and what is known of each store. It never carries a client's command.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from migrator.bulk import Bulk, ReplyError
from proxy.endpoint import Endpoint
from proxy.sides import Side

OPEN_TIMEOUT_S = 5.0
# Administration must not hang with a store that does.
ADMIN_DEADLINE_S = 3.0


class StoreUnreachable(ConnectionError):
    """A side cannot be asked; the text is one clear line."""


@dataclass
class StoreInfo:
    """What a store says of itself. ``keys_by_db`` is of its last answer."""

    engine: str = ""
    version: str = ""
    run_id: str = ""
    evicted_keys: int = 0
    used_memory: int = 0
    """Bytes, of everything that it holds."""
    is_cluster: bool = False
    keys_by_db: dict[int, int] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        return sum(self.keys_by_db.values())

    def keys_of(self, size: int, most: int) -> int:
        """About how many keys, `most` at most, hold so many bytes.

        By the mean of all: a SCAN goes by the hashes of keys, so that any page of it is a sample
        of the whole.
        """
        if not self.keys or not self.used_memory:
            return most
        return max(1, min(most, size * self.keys // self.used_memory))


class Store:
    """One side. ``is_reachable`` is of the last attempt."""

    def __init__(self, side: Side, endpoint: Endpoint) -> None:
        self.side = side
        self.endpoint = endpoint
        self.info = StoreInfo()
        self.is_reachable = False
        self._connections: dict[str, Bulk] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def connection(self, purpose: str) -> Bulk:
        """The connection that is kept for ``purpose``. Raises StoreUnreachable."""
        async with self._locks.setdefault(purpose, asyncio.Lock()):
            bulk = self._connections.get(purpose)
            if bulk is None or bulk.closed:
                bulk = self._connections[purpose] = await self._open()
                if purpose != "admin":  # A large value takes its time.
                    bulk.deadline_s = None
            return bulk

    async def _open(self) -> Bulk:
        label, address = self.side.label, self.endpoint.address
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                bulk = await Bulk.open(self.endpoint)
        except TimeoutError as error:
            self.is_reachable = False
            raise StoreUnreachable(
                f"{label} {address}: no answer in {OPEN_TIMEOUT_S:g} s"
            ) from error
        except (OSError, ReplyError) as error:
            self.is_reachable = False
            raise StoreUnreachable(f"{label} {address}: {error}") from error
        # Analysis tells our own connections from writers that go past the proxy.
        try:
            bulk.deadline_s = ADMIN_DEADLINE_S
            with contextlib.suppress(ReplyError):
                await bulk.call("CLIENT", "SETNAME", "keyferry-mover")
        except ConnectionError as error:
            self.is_reachable = False
            raise StoreUnreachable(f"{label} {address}: {error}") from error
        except BaseException:
            bulk.close()  # Nobody else knows of it yet.
            raise
        self.is_reachable = True
        return bulk

    async def refresh(self) -> StoreInfo:
        """Ask the store who it is and how many keys it has. Raises StoreUnreachable, ReplyError."""
        bulk = await self.connection("admin")
        try:
            sections = await bulk.pipeline(
                [("INFO", name) for name in ("server", "keyspace", "stats", "cluster", "memory")]
            )
        except ConnectionError as error:
            self.is_reachable = False
            raise StoreUnreachable(f"{self.side.label} {self.endpoint.address}: {error}") from error
        for section in sections:
            if isinstance(section, ReplyError):
                raise section
        text = b"\r\n".join(sections).decode(errors="replace")
        facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        is_valkey = facts.get("server_name") == "valkey" or "valkey_version" in facts
        self.info = StoreInfo(
            engine="valkey" if is_valkey else "redis",
            version=facts.get("valkey_version") or facts.get("redis_version", ""),
            run_id=facts.get("run_id", ""),
            evicted_keys=int(facts.get("evicted_keys", 0)),
            used_memory=int(facts.get("used_memory", 0)),
            is_cluster=facts.get("cluster_enabled") == "1",
            keys_by_db={
                int(name[2:]): int(value.split(",")[0].removeprefix("keys="))
                for name, value in facts.items()
                if name.startswith("db") and name[2:].isdigit()
            },
        )
        self.is_reachable = True
        return self.info

    def close(self) -> None:
        for bulk in self._connections.values():
            bulk.close()
        self._connections.clear()


async def clients_of(bulk: Bulk) -> list[dict[str, str]]:
    """The rows of CLIENT LIST. Raises ReplyError, ConnectionError."""
    text: bytes = await bulk.call("CLIENT", "LIST")
    return [
        dict(word.split("=", 1) for word in line.split() if "=" in word)
        for line in text.decode(errors="replace").splitlines()
    ]
