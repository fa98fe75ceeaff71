"""What must be true for a flip, and the names of what is not.

Pure: facts in, blockers out. The names are stable; operators script against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from migrator.errors import Blocker
from migrator.phases import Phase
from migrator.state import Verification
from proxy.sides import Side

# Outside the fence live traffic always leaves some keys unproven; they are settled
# inside it. More than these would not be settled within a pause.
SETTLED_IN_FENCE = 1000


@dataclass(frozen=True)
class Facts:
    """What the gates look at, at one moment."""

    phase: Phase
    primary: Side
    backfill_done: bool
    verification: Verification | None
    unproven_keys: int
    failing: Sequence[str] = ()
    """Why copies of unproven keys are refused, one text per key."""
    mirror_connected: bool = False
    mirror_refusal: str | None = None
    mirror_lag_ms: float = 0.0
    max_lag_ms: float = 1000.0
    feeds_connected: bool = True
    missing_users: Sequence[str] = ()
    """Users in use that cannot log in to the secondary, with the store's words."""
    warnings: Sequence[tuple[str, str]] = field(default=())
    """Open findings of the analysis that nobody has waived: (name, message)."""


def blockers_of_flip(facts: Facts, *, in_fence: bool = False) -> list[Blocker]:
    """Why the primary cannot be swapped now; empty: it can.

    ``in_fence``: nothing may be left that a fence settles.
    """
    found: list[Blocker] = []
    secondary = facts.primary.other.label

    def block(name: str, message: str) -> None:
        found.append(Blocker(name, message))

    if not facts.backfill_done:
        block("backfill_incomplete", "not every key has been copied yet")
    found += _verification(facts.verification)
    if not facts.mirror_connected:
        block(f"{secondary}_unreachable", f"the mirror to the {secondary} is not connected")
    elif facts.mirror_refusal is not None:
        block(f"{secondary}_refuses", f"the {secondary} refuses writes: {facts.mirror_refusal}")
    if facts.unproven_keys:
        if facts.failing:
            block(
                "unproven_keys",
                f"{facts.unproven_keys} keys may differ, and cannot be copied: {facts.failing[0]}",
            )
        elif in_fence or facts.unproven_keys > SETTLED_IN_FENCE:
            block("unproven_keys", f"{facts.unproven_keys} keys may differ and await a copy")
    if facts.mirror_lag_ms > facts.max_lag_ms:
        block(
            "mirror_lag",
            f"the mirror is {facts.mirror_lag_ms:.0f} ms behind, {facts.max_lag_ms:.0f} allowed",
        )
    if not facts.feeds_connected:
        block("expiry_events", "the stores' expiry events are not being heard")
    found += [
        Blocker("user_missing", f"a user in use cannot log in to the {secondary}: {words}")
        for words in facts.missing_users
    ]
    found += [Blocker(name, message) for name, message in facts.warnings]
    return found


def _verification(last: Verification | None) -> list[Blocker]:
    if last is None:
        return [Blocker("not_verified", "no verification has ended yet: run verify")]
    if last.stale:
        return [Blocker("not_verified", "something made the last verification stale: verify again")]
    if not last.covered_all:
        return [Blocker("not_verified", "the last verification was of a sample: verify all keys")]
    if not last.passed:
        return [
            Blocker(
                "not_verified",
                f"the last verification found {last.mismatches} keys that differ: verify --repair",
            )
        ]
    return []


# What is in the way of a migration that has not begun, beside that.
_NOT_BEGUN = ("backfill_incomplete", "not_verified")


def blockers_of_cutover(facts: Facts) -> list[Blocker]:
    """As :func:`blockers_of_flip`, with what the phase says."""
    if facts.phase is Phase.CUTOVER:
        return [Blocker("already_cut_over", "the target is the primary already")]
    if facts.phase in (Phase.IDLE, Phase.FINISHED):
        started = Blocker("not_started", f"no mirror runs in phase {facts.phase}")
        if facts.phase is Phase.FINISHED:
            return [started]
        return [
            started,
            *(each for each in blockers_of_flip(facts) if each.name in _NOT_BEGUN),
        ]
    return blockers_of_flip(facts)


def blockers_of_rollback(facts: Facts) -> list[Blocker]:
    if facts.phase is not Phase.CUTOVER:
        return [Blocker("not_cut_over", "the source is the primary")]
    return blockers_of_flip(facts)
