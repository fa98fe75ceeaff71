"""A controller that only remembers: what the admin face's tests talk to.

It stands for our own code, not for a store: whether steps are right is the controller's own test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from migrator.errors import Blocker, Refused

Json = dict[str, Any]


def idle_status() -> Json:
    """The contract's example, at the beginning."""
    return {
        "phase": "idle",
        "primary": "source",
        "read_percent": 0,
        "source": {"engine": "redis", "version": "6.2.14", "reachable": True, "keys": 1000},
        "target": {"engine": "valkey", "version": "9.1.2", "reachable": True, "keys": 0},
        "clients": 3,
        "commands_per_second": 1234.5,
        "backfill": {
            "done": False,
            "keys_done": 0,
            "keys_total": 0,
            "bytes": 0,
            "keys_per_second": 0.0,
            "eta_seconds": None,
        },
        "mirror": {
            "connected": False,
            "lag_operations": 0,
            "lag_bytes": 0,
            "lag_ms": 0.0,
            "unproven_keys": 0,
            "divergences": 0,
        },
        "verify": {
            "running": False,
            "keys_checked": 0,
            "mismatches": 0,
            "passed": None,
            "error": None,
            "finished_at": None,
        },
        "can_cutover": False,
        "blockers": ["backfill_incomplete"],
        "can_rollback": False,
        "rollback_blockers": ["not_cut_over"],
        "last_pause_ms": None,
    }


class RememberingController:
    """Remembers calls, moves its status along, and raises what `failure` says."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.now = idle_status()
        self.failure: Exception | None = None
        self.ready = True
        self.polls_until_done = 3
        self.passes = True
        self.error: str | None = None
        self.events: asyncio.Queue[Json] = asyncio.Queue()
        self.subscribed = asyncio.Event()
        self.unsubscribed = asyncio.Event()

    def status(self) -> Json:
        self.polls_until_done -= 1
        if self.polls_until_done <= 0:
            if self.now["phase"] == "copying":
                self.now["phase"] = "mirroring"
                self.now["backfill"] |= {"done": True, "keys_done": 1000}
            if self.now["verify"]["running"]:
                self.now["verify"] |= {
                    "running": False,
                    "passed": None if self.error else self.passes,
                    "error": self.error,
                    "keys_checked": 1000,
                    "mismatches": 0 if self.passes else 2,
                }
        return self.now

    def is_ready(self) -> bool:
        return self.ready

    def _step(self, *call: Any, **changes: Any) -> Json:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        before = self._point()
        self.now |= changes
        return {"before": before, "after": self._point()}

    def _point(self) -> Json:
        return {name: self.now[name] for name in ("phase", "primary", "read_percent")}

    async def analyze(self) -> Json:
        self._step("analyze")
        warning = {
            "name": "eviction",
            "severity": "warning",
            "message": "may evict",
            "waived": True,
        }
        blocker = {"name": "modules", "severity": "blocker", "message": "no json there"}
        return {"findings": [warning, blocker]}

    async def start(self, allow: list[str]) -> Json:
        return self._step("start", allow, phase="copying")

    async def verify(self, sample: int | None, repair: bool) -> Json:
        answer = self._step("verify", sample, repair)
        self.now["verify"]["running"] = True
        return answer

    async def shift(self, percent: int) -> Json:
        return self._step("shift", percent, read_percent=percent)

    async def nice(self, level: str | None, keys_per_second: int | None) -> Json:
        answer = self._step("nice", level, keys_per_second)
        before = {"level": "normal", "keys_per_second": None}
        after = {"level": level or "normal", "keys_per_second": keys_per_second or None}
        return {
            "before": answer["before"] | {"nice": before},
            "after": answer["after"] | {"nice": after},
        }

    async def cutover(self, dry_run: bool, max_pause_ms: float) -> Json:
        answer = self._step("cutover", dry_run, max_pause_ms, phase="cutover", primary="target")
        return answer | {"pause_ms": 12.34}

    async def rollback(self, dry_run: bool, max_pause_ms: float) -> Json:
        return self._step("rollback", dry_run, max_pause_ms, phase="mirroring", primary="source")

    async def finish(self) -> Json:
        return self._step("finish", phase="finished")

    async def cancel(self) -> Json:
        return self._step("cancel", phase="idle")

    async def subscribe(self) -> AsyncIterator[Json]:
        self.subscribed.set()
        try:
            while True:
                yield await self.events.get()
        finally:
            self.unsubscribed.set()


REFUSAL = Refused(
    "gates_closed",
    "the cutover is refused",
    [
        Blocker("not_verified", "no verification has covered everything"),
        Blocker("unproven_keys", "12 keys await a copy"),
    ],
)
