"""All of them, by name."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

Patch = Callable[[], None]


@dataclass(frozen=True)
class Mutation:
    """`rule`: what is broken, in a line. `without`: families of traffic that would hide it."""

    rule: str
    apply: Patch
    without: frozenset[str]


MUTATIONS: dict[str, Mutation] = {}


def mutation(without: Set[str] = frozenset()) -> Callable[[Patch], Patch]:
    """Known by the function's name; the first line of its docstring is the rule."""

    def note(patch: Patch) -> Patch:
        rule = (patch.__doc__ or "").partition("\n")[0]
        MUTATIONS[patch.__name__] = Mutation(rule, patch, frozenset(without))
        return patch

    return note
