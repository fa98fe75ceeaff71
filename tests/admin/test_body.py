"""Options of verbs, for whatever JSON somebody sends."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.admin.body import DEFAULT_MAX_PAUSE_MS, Body
from migrator.errors import BadInput

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_value_is_taken_or_refused_but_nothing_else_happens(value: object) -> None:
    for read in (
        lambda body: body.names("x"),
        lambda body: body.flag("x"),
        lambda body: body.count("x"),
        lambda body: body.percent("x"),
        lambda body: body.choice("x", ("a", "b")),
        lambda body: body.limit("x"),
    ):
        body = Body({"x": value})
        with suppress(BadInput):
            read(body)
        body.refuse_rest()


def test_a_pause_has_a_default_and_an_upper_bound() -> None:
    assert Body({}).max_pause_ms() == DEFAULT_MAX_PAUSE_MS
    with pytest.raises(BadInput):
        Body({"max_pause_ms": 60_001}).max_pause_ms()
