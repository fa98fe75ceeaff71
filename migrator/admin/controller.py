"""What the admin face needs of the controller: the verbs, the status, the events.

Verbs raise Refused (409) or BadInput (400) from migrator.errors and answer
`{"before": point, "after": point, ...}`, where a point is `{"phase", "primary", "read_percent"}`.
`start` and `verify` answer when they have begun; the status tells how far they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

Json = dict[str, Any]


class Controller(Protocol):
    """Runs the migration's steps, one at a time."""

    def status(self) -> Json:
        """The status as docs and dashboards know it; never waits for a store."""

    def is_ready(self) -> bool:
        """Whether clients can be served now."""

    async def analyze(self) -> Json:
        """A compatibility report; changes nothing. Its shape: `findings`, a list of
        `{"name", "severity": "blocker" | "warning" | "info", "message", "waived": bool}`."""

    async def start(self, allow: list[str]) -> Json:
        """Mirror and backfill begin; `allow` waives findings by name."""

    async def verify(self, sample: int | None, repair: bool) -> Json:
        """A verification begins: of `sample` keys, or of all."""

    async def shift(self, percent: int) -> Json:
        """This share of reads (0 to 100), by key, goes to the target."""

    async def nice(self, level: str | None, keys_per_second: int | None) -> Json:
        """How far movers stand back for clients; None: as it was, 0 keys: no limit."""

    async def cutover(self, dry_run: bool, max_pause_ms: float) -> Json:
        """Gates, fence, flip. `dry_run`: the gates only. Answers `pause_ms` as well."""

    async def rollback(self, dry_run: bool, max_pause_ms: float) -> Json:
        """Gates, fence, flip back. Answers `pause_ms` as well."""

    async def finish(self) -> Json:
        """The mirror ends; nothing leads back."""

    async def cancel(self) -> Json:
        """Mirror and backfill end; the target keeps what it has."""

    def subscribe(self) -> AsyncIterator[Json]:
        """What happens from now on: dicts with `event` (its kind) and `message`, and facts."""
