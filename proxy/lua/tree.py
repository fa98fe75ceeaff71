"""What a Lua chunk is made of, as far as one must know it to see what a script does.

Owns the nodes. Statements are left out: a function is the expressions that it evaluates, and a
local variable is all that is ever assigned to it, for whoever asks wants what holds on every path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Expression:
    """Compared by identity: each stands for one place in the text."""


@dataclass(eq=False, slots=True)
class Variable:
    """One local variable; ``values`` is everything that is assigned to it anywhere."""

    values: list[Expression] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Local(Expression):
    variable: Variable


@dataclass(eq=False, slots=True)
class Global(Expression):
    name: str


@dataclass(eq=False, slots=True)
class Text(Expression):
    value: bytes


@dataclass(eq=False, slots=True)
class Number(Expression):
    text: str


@dataclass(eq=False, slots=True)
class Constant(Expression):
    """nil, true or false."""


@dataclass(eq=False, slots=True)
class Index(Expression):
    base: Expression
    key: Expression


@dataclass(eq=False, slots=True)
class Call(Expression):
    function: Expression
    arguments: list[Expression]


@dataclass(eq=False, slots=True)
class Method(Expression):
    """``object:name(arguments)``."""

    base: Expression
    arguments: list[Expression]


@dataclass(eq=False, slots=True)
class Vararg(Expression):
    """``...``: any number of values."""


@dataclass(eq=False, slots=True)
class And(Expression):
    parts: list[Expression]


@dataclass(eq=False, slots=True)
class Or(Expression):
    parts: list[Expression]


@dataclass(eq=False, slots=True)
class Length(Expression):
    part: Expression


@dataclass(eq=False, slots=True)
class Computed(Expression):
    """One new value made of others: arithmetic, comparison, concatenation, parentheses."""

    parts: list[Expression]


@dataclass(eq=False, slots=True)
class Table(Expression):
    """``{…}``: pairs of key and value; a positional value has no key."""

    fields: list[tuple[Expression | None, Expression]]


@dataclass(eq=False, slots=True)
class Iterated(Expression):
    """The value that variable ``position`` of a ``for … in`` takes."""

    expressions: list[Expression]
    position: int


@dataclass(eq=False, slots=True)
class Assign:
    """``targets = values``, local or not."""

    targets: list[Expression]
    values: list[Expression]


@dataclass(eq=False, slots=True)
class ForIn:
    expressions: list[Expression]


@dataclass(eq=False, slots=True)
class Function(Expression):
    """``parameters`` have no values but those that the body itself assigns."""

    parameters: list[Variable] = field(default_factory=list)
    steps: list[Expression | Assign | ForIn] = field(default_factory=list)
    has_loop: bool = False


def may_be_many(expression: Expression) -> bool:
    """Whether it gives any number of values where it stands last in a list."""
    return isinstance(expression, Call | Method | Vararg)


def literal(expression: Expression) -> bytes | None:
    """The argument that a command is given for it, where that is written out."""
    if isinstance(expression, Text):
        return expression.value
    if isinstance(expression, Number) and re.fullmatch("0|[1-9][0-9]{0,14}", expression.text):
        return expression.text.encode()
    return None
