"""The queue of what waits: the same as a deque, whatever happens to it in which order."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.fifo import Fifo

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("extend"), st.integers(0, 40)),
        st.tuples(st.just("popleft"), st.integers(1, 40)),
        st.tuples(st.just("put_back"), st.integers(0, 20)),
        st.tuples(st.just("clear"), st.just(1)),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_holds_what_a_deque_holds(steps: list[tuple[str, int]]) -> None:
    queue, same = Fifo(), deque[int]()
    number = 0
    for step, times in steps:
        new = list(range(number, number + times))
        number += times
        if step == "append":
            for each in new:
                queue.append(each)
                same.append(each)
        elif step == "extend":
            queue.extend(new)
            same.extend(new)
        elif step == "put_back":
            queue.put_back(new)
            same.extendleft(reversed(new))
        elif step == "clear":
            queue.clear()
            same.clear()
        else:
            for _ in range(min(times, len(same))):
                assert queue.peek() == same[0]
                assert queue.popleft() == same.popleft()
        assert (list(queue), len(queue), bool(queue)) == (list(same), len(same), bool(same))


def test_an_empty_queue_has_no_oldest() -> None:
    queue = Fifo()
    queue.append(1)
    assert queue.popleft() == 1
    with pytest.raises(IndexError):
        queue.peek()
    with pytest.raises(IndexError):
        queue.popleft()


def test_a_queue_that_was_large_and_is_empty_is_used_again() -> None:
    queue = Fifo()
    queue.extend(range(10_000))
    for _ in range(10_000):
        queue.popleft()
    queue.append(1)
    assert list(queue) == [1]
