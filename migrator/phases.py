"""The migration's phases, and which verb may be given in which, as a table.

Pure. Owns what is legal, not whether it is wise now: gates (backfill complete, nothing unproven, …)
are the controller's, who also makes the step durable.

              start                 backfill complete         cutover
    ┌──────┐ ───────▶ ┌─────────┐ ───────────────────▶ ┌───────────┐ ───────▶ ┌─────────┐
    │ idle │          │ copying │                      │ mirroring │          │ cutover │
    └──────┘ ◀─────── └─────────┘ ◀─────────────────── └───────────┘ ◀─────── └─────────┘
        ▲     cancel               new backfill needed      │ cancel  rollback     │ finish
        └───────────────────────────────────────────────────┘                      ▼
                                                                             ┌──────────┐
                                                                             │ finished │
                                                                             └──────────┘
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from migrator.errors import Refused


class Phase(enum.StrEnum):
    """Where a migration is; the value is its name in status, metrics and state."""

    IDLE = "idle"
    COPYING = "copying"
    MIRRORING = "mirroring"
    CUTOVER = "cutover"
    FINISHED = "finished"


class Verb(enum.StrEnum):
    """What an operator may ask for."""

    ANALYZE = "analyze"
    START = "start"
    VERIFY = "verify"
    SHIFT = "shift"
    CUTOVER = "cutover"
    ROLLBACK = "rollback"
    FINISH = "finish"
    CANCEL = "cancel"


# Every change of phase there is. COPYING -> MIRRORING happens by itself when the backfill is
# complete, MIRRORING -> COPYING when the bound of the unproven set is passed and all must be copied
# again; the others are verbs.
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.COPYING}),
    Phase.COPYING: frozenset({Phase.MIRRORING, Phase.IDLE}),
    Phase.MIRRORING: frozenset({Phase.COPYING, Phase.CUTOVER, Phase.IDLE}),
    Phase.CUTOVER: frozenset({Phase.MIRRORING, Phase.FINISHED}),
    Phase.FINISHED: frozenset(),
}


class Rule(NamedTuple):
    """A verb's line in the table.

    `legal`: the phases it changes something in. `leads_to`: the phase after it; None: the same.
    `done_in`: phases in which it has been given already, and which it leaves as they are.
    """

    legal: frozenset[Phase]
    leads_to: Phase | None = None
    done_in: frozenset[Phase] = frozenset()


_EVERY = frozenset(Phase)

RULES: dict[Verb, Rule] = {
    Verb.ANALYZE: Rule(_EVERY),
    Verb.START: Rule(
        frozenset({Phase.IDLE}),
        Phase.COPYING,
        frozenset({Phase.COPYING, Phase.MIRRORING}),
    ),
    Verb.VERIFY: Rule(frozenset({Phase.MIRRORING, Phase.CUTOVER})),
    Verb.SHIFT: Rule(frozenset({Phase.MIRRORING, Phase.CUTOVER})),
    Verb.CUTOVER: Rule(frozenset({Phase.MIRRORING}), Phase.CUTOVER, frozenset({Phase.CUTOVER})),
    # After `finish` the source is behind for good: there is no way back.
    Verb.ROLLBACK: Rule(frozenset({Phase.CUTOVER}), Phase.MIRRORING, frozenset({Phase.MIRRORING})),
    Verb.FINISH: Rule(frozenset({Phase.CUTOVER}), Phase.FINISHED, frozenset({Phase.FINISHED})),
    Verb.CANCEL: Rule(
        frozenset({Phase.COPYING, Phase.MIRRORING}), Phase.IDLE, frozenset({Phase.IDLE})
    ),
}


class IllegalStep(Refused):
    """A verb in a phase that does not know it; `needed` are the phases that do."""

    def __init__(self, verb: Verb, phase: Phase) -> None:
        self.verb = verb
        self.phase = phase
        self.needed = tuple(p for p in Phase if p in RULES[verb].legal)
        needed = " or ".join(self.needed)
        super().__init__("illegal_step", f"{verb} needs phase {needed}, and this is {phase}")


def check(verb: Verb, phase: Phase) -> bool:
    """Whether the verb has something to do: False when it was given before (no harm done).

    Raises IllegalStep, naming the phase it needs.
    """
    rule = RULES[verb]
    if phase in rule.legal:
        return True
    if phase in rule.done_in:
        return False
    raise IllegalStep(verb, phase)


def after(verb: Verb, phase: Phase) -> Phase:
    """The phase once the verb is done. Raises IllegalStep."""
    leads_to = RULES[verb].leads_to
    return leads_to if check(verb, phase) and leads_to is not None else phase


def check_transition(old: Phase, new: Phase) -> None:
    """The last guard before a phase is made durable: a change outside the table is a defect."""
    if new is not old and new not in TRANSITIONS[old]:
        raise AssertionError(f"no transition {old} -> {new}: the controller checks verbs first")
