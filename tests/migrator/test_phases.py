"""The table of phases and verbs."""

import pytest

from migrator.phases import (
    RULES,
    TRANSITIONS,
    IllegalStep,
    Phase,
    Verb,
    after,
    check,
    check_transition,
)

IDLE, COPYING, MIRRORING, CUTOVER, FINISHED = Phase

# verb -> what it leads to in idle, copying, mirroring, cutover, finished; None: refused.
EXPECTED = {
    Verb.ANALYZE: (IDLE, COPYING, MIRRORING, CUTOVER, FINISHED),
    Verb.START: (COPYING, COPYING, MIRRORING, None, None),
    Verb.VERIFY: (None, None, MIRRORING, CUTOVER, None),
    Verb.SHIFT: (None, None, MIRRORING, CUTOVER, None),
    Verb.CUTOVER: (None, None, CUTOVER, CUTOVER, None),
    Verb.ROLLBACK: (None, None, MIRRORING, MIRRORING, None),
    Verb.FINISH: (None, None, None, FINISHED, FINISHED),
    Verb.CANCEL: (IDLE, IDLE, IDLE, None, None),
}


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("phase", Phase)
def test_each_verb_leads_where_the_contract_says(verb: Verb, phase: Phase) -> None:
    expected = EXPECTED[verb][list(Phase).index(phase)]
    if expected is None:
        with pytest.raises(IllegalStep):
            after(verb, phase)
    else:
        assert after(verb, phase) is expected


@pytest.mark.parametrize("verb", [v for v in Verb if RULES[v].leads_to])
def test_a_verb_given_twice_does_no_harm(verb: Verb) -> None:
    for phase in RULES[verb].legal:
        once = after(verb, phase)
        assert check(verb, once) is False
        assert after(verb, once) is once


@pytest.mark.parametrize("verb", Verb)
def test_every_verb_stays_within_the_transitions(verb: Verb) -> None:
    for phase in RULES[verb].legal:
        check_transition(phase, after(verb, phase))


def test_a_refusal_names_the_phase_that_is_needed() -> None:
    with pytest.raises(IllegalStep, match="cutover needs phase mirroring, and this is copying"):
        check(Verb.CUTOVER, COPYING)
    with pytest.raises(IllegalStep) as caught:
        check(Verb.SHIFT, IDLE)
    assert caught.value.needed == (MIRRORING, CUTOVER)
    assert caught.value.name == "illegal_step"


def test_nothing_leads_out_of_finished() -> None:
    assert TRANSITIONS[FINISHED] == frozenset()
    with pytest.raises(IllegalStep):
        check(Verb.ROLLBACK, FINISHED)


def test_a_transition_outside_the_table_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        check_transition(COPYING, CUTOVER)
