"""What a Lua script does with KEYS and ``redis.call``, whatever way it runs.

Owns one look at a whole text: where ``redis.call`` is called, and where a value that reaches it may
come from (:class:`Source`). It follows a key from KEYS, ARGV or a literal through local variables
and parameters of local functions, and gives up (``is_lost``) on whatever could carry KEYS or
``redis.call`` itself past its eyes: metatables, environments, loaded code, a name it does not know.

One thing is beyond it: Redis 6.2 lets one script replace functions in the tables of Lua's library,
and that of all scripts behind it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import zip_longest
from typing import NamedTuple

from .known import (
    CALLERS,
    FUNCTIONS,
    HARMLESS,
    HOSTS,
    LIBRARIES,
    has_no_writes,
    is_reader,
    member,
    runs_what_it_is_given,
)
from .parser import parse
from .tree import (
    And,
    Assign,
    Call,
    Computed,
    Constant,
    Expression,
    ForIn,
    Function,
    Global,
    Index,
    Iterated,
    Length,
    Local,
    Method,
    Number,
    Or,
    Table,
    Text,
    Variable,
    literal,
    may_be_many,
)  # fmt: skip


class Origin(Enum):
    """Where a key comes from."""

    KEYS = "KEYS"
    ARGV = "ARGV"
    LITERAL = "literal"


class Source(NamedTuple):
    """``which``: the text of a literal, or the index in KEYS or ARGV, from 1 (0: any of them)."""

    origin: Origin
    which: int | bytes


Sources = frozenset[Source]
NOTHING: Sources = frozenset()
ANY = 0

# An array of the caller's: a global name, or the parameter of a library's function.
_Array = tuple[Origin, str | Variable]


class Reading:
    """One text, looked at whole. Flow of control is left out: what holds, holds on every path."""

    def __init__(self, text: bytes, *, is_library: bool) -> None:
        self.functions: list[Function] = []
        # By the function that they stand in.
        self.calls: defaultdict[Function, list[Call]] = defaultdict(list)
        # Of a library, by name; whether its flags forbid it to write.
        self.registered: dict[bytes, tuple[Function, bool]] = {}
        # Something was seen that could do anything.
        self.is_lost = False
        self._is_library = is_library
        self._inner: defaultdict[Function, list[Function]] = defaultdict(list)
        self._uses: defaultdict[Function, set[Variable]] = defaultdict(set)
        # Arrays that are changed, or handed to somebody who may.
        self._changed: set[str | Variable] = set()
        # Variables that are used as values, and where they are called.
        self._escaped: set[Variable] = set()
        self._called: defaultdict[Variable, list[Call]] = defaultdict(list)
        self._holders: dict[Function, Variable] = {}
        # Functions that are run where they stand, and kept by nobody.
        self._run_once: set[Function] = set()
        self._callbacks: set[Function] = set()
        self._parameters: dict[Variable, tuple[Function, int]] = {}
        self._callers: dict[Variable, bool] = {}
        self._function(parse(text))

    # -- the walk --------------------------------------------------------------------------

    def _function(self, function: Function) -> None:
        self.functions.append(function)
        for position, variable in enumerate(function.parameters):
            self._parameters[variable] = (function, position)
        for step in function.steps:
            if isinstance(step, Assign):
                self._assign(function, step)
            elif isinstance(step, ForIn):
                if self._looped(step.expressions) is None:
                    self._visit_all(function, step.expressions)
            else:
                self._visit(function, step)

    def _assign(self, within: Function, step: Assign) -> None:
        for target in step.targets:
            if isinstance(target, Global):
                self.is_lost = True  # It may be KEYS, or a function that everybody calls.
            elif isinstance(target, Index):
                array = self._array(target.base)
                if array is not None:
                    self._changed.add(array[1])
                else:
                    # Of Lua's own tables too: `_visit` lets none of them be used as a value.
                    self._visit(within, target.base)
                self._visit(within, target.key)
        for target, value in zip_longest(step.targets, step.values):
            if isinstance(target, Local) and value is not None:
                if self._is_caller(value) and self._is_caller(target):
                    continue
                if self._array(target) is not None:
                    continue
                if isinstance(value, Function):
                    self._holders[value] = target.variable
            if value is not None:
                self._visit(within, value)

    def _visit_all(self, within: Function, expressions: Iterable[Expression]) -> None:
        for each in expressions:
            self._visit(within, each)

    def _visit(self, within: Function, expression: Expression) -> None:
        """Look at an expression whose value goes anywhere."""
        array = self._array(expression)
        if array is not None:
            self._changed.add(array[1])
        elif isinstance(expression, Local):
            self._uses[within].add(expression.variable)
            self._escaped.add(expression.variable)
            if self._is_caller(expression):
                self.is_lost = True
        elif isinstance(expression, Global):
            self.is_lost = self.is_lost or expression.name not in FUNCTIONS
        elif isinstance(expression, Index):
            self._index(within, expression)
        elif isinstance(expression, Call):
            self._call(within, expression)
        elif isinstance(expression, Method):
            self._visit(within, expression.base)
            self._visit_all(within, expression.arguments)
        elif isinstance(expression, Function):
            self._inner[within].append(expression)
            self._function(expression)
        elif isinstance(expression, Length):
            if self._array(expression.part) is None:
                self._visit(within, expression.part)
        elif isinstance(expression, And | Or | Computed):
            self._visit_all(within, expression.parts)
        elif isinstance(expression, Table):
            for key, value in expression.fields:
                if key is not None:
                    self._visit(within, key)
                self._visit(within, value)

    def _index(self, within: Function, expression: Index) -> None:
        base = expression.base
        if isinstance(base, Global) and base.name in HOSTS:
            # What is left is ``call`` itself, which must not go round, and who knows what.
            self.is_lost = self.is_lost or member(expression) not in HARMLESS
            return
        if isinstance(base, Global) and base.name in LIBRARIES:
            if not isinstance(expression.key, Text):
                self._visit(within, expression.key)
            return
        if self._array(base) is None:
            self._visit(within, base)
        self._visit(within, expression.key)

    def _call(self, within: Function, call: Call) -> None:
        function = call.function
        if self._is_caller(function):
            self.calls[within].append(call)
        elif self._is_library and member(function) == b"register_function":
            self._register(within, call)
            return
        elif isinstance(function, Local) and self._array(function) is None:
            self._uses[within].add(function.variable)
            self._called[function.variable].append(call)
        elif is_reader(function):
            self._visit_all(within, [each for each in call.arguments if self._array(each) is None])
            return
        else:
            self._visit(within, function)
        if isinstance(function, Function):
            self._run_once.add(function)
        elif runs_what_it_is_given(function):
            self._run_once.update(each for each in call.arguments if isinstance(each, Function))
        self._visit_all(within, call.arguments)

    def _register(self, within: Function, call: Call) -> None:
        """``register_function(name, callback)``, or with a table of both and flags."""
        arguments = call.arguments
        only_reads = False
        if len(arguments) == 1 and isinstance(arguments[0], Table):
            fields = {
                key.value: value for key, value in arguments[0].fields if isinstance(key, Text)
            }
            if len(fields) != len(arguments[0].fields):
                self.is_lost = True
                return
            name, callback = fields.get(b"function_name"), fields.get(b"callback")
            only_reads = has_no_writes(fields.get(b"flags"))
        elif len(arguments) == 2:
            name, callback = arguments
        else:
            name = callback = None
        if isinstance(callback, Local):
            variable = callback.variable
            if len(variable.values) == 1 and isinstance(variable.values[0], Function):
                self._uses[within].add(variable)
                callback = variable.values[0]
        elif isinstance(callback, Function):
            self._function(callback)
        if not isinstance(name, Text) or not isinstance(callback, Function):
            self.is_lost = True
            return
        self._callbacks.add(callback)
        self.registered[name.value] = (callback, only_reads)

    # -- what an expression is -------------------------------------------------------------

    def _is_caller(self, expression: Expression) -> bool:
        """``redis.call`` or ``redis.pcall``, or a variable that is nothing else."""
        if isinstance(expression, Index):
            return member(expression) in CALLERS
        if not isinstance(expression, Local):
            return False
        variable = expression.variable
        if variable not in self._callers:
            # Of a ring of variables none is. One that takes ``redis.call`` then loses it all.
            self._callers[variable] = False
            values = variable.values
            self._callers[variable] = bool(values) and all(map(self._is_caller, values))
        return self._callers[variable]

    def _array(self, expression: Expression) -> _Array | None:
        """KEYS or ARGV, by any name; a callback's first parameter is its KEYS."""
        if isinstance(expression, Global):
            if self._is_library:
                return None
            name = expression.name
            return (Origin[name], name) if name in ("KEYS", "ARGV") else None
        if not isinstance(expression, Local):
            return None
        variable = expression.variable
        parameter = self._parameters.get(variable)
        if parameter is not None:
            # Of any function of a library: only a callback's is one in the end.
            if variable.values or parameter[1] > 1 or not self._is_library:
                return None
            return (Origin.KEYS if parameter[1] == 0 else Origin.ARGV, variable)
        if len(variable.values) == 1 and not isinstance(variable.values[0], Local):
            return self._array(variable.values[0])
        return None

    def _looped(self, over: list[Expression]) -> _Array | None:
        """The array of ``in ipairs(KEYS)``."""
        if len(over) != 1 or not isinstance(over[0], Call) or len(over[0].arguments) != 1:
            return None
        function = over[0].function
        is_iterator = isinstance(function, Global) and function.name in ("ipairs", "pairs")
        return self._array(over[0].arguments[0]) if is_iterator else None

    # -- where a value comes from ----------------------------------------------------------

    def sources(self, expression: Expression) -> Sources | None:
        """Where the value may come from; None: it may be anything.

        nil and false come from nowhere: no command takes them.
        """
        found: set[Source] = set()
        todo = [expression]
        seen: set[Variable] = set()
        while todo:
            each = todo.pop()
            text = literal(each)
            if text is not None:
                found.add(Source(Origin.LITERAL, text))
            elif isinstance(each, And):
                todo.append(each.parts[-1])
            elif isinstance(each, Or):
                todo += each.parts
            elif isinstance(each, Local):
                values = self._values(each.variable)
                if values is None:
                    return None
                if each.variable not in seen:
                    seen.add(each.variable)
                    todo += values
            elif not isinstance(each, Constant):
                elements = self._elements(each)
                if elements is None:
                    return None
                found |= elements
        return frozenset(found)

    def _values(self, variable: Variable) -> list[Expression] | None:
        """All that it may hold; None: nobody knows what a function is given."""
        parameter = self._parameters.get(variable)
        if parameter is None:
            return variable.values
        function, position = parameter
        holder = self._only_holder(function)
        if holder is None or function in self._callbacks:
            return None
        passed = (each for call in self._called[holder] for each in _passed(call, position))
        return [*variable.values, *passed]

    def _elements(self, expression: Expression) -> Sources | None:
        """``KEYS[…]``, ``unpack(KEYS)``, the value of a loop over ``ipairs(KEYS)``."""
        key: Expression | None = None
        if isinstance(expression, Index):
            array, key = self._array(expression.base), expression.key
        elif isinstance(expression, Iterated):
            array = self._looped(expression.expressions) if expression.position == 1 else None
        elif isinstance(expression, Call) and expression.arguments:
            function = expression.function
            is_unpack = isinstance(function, Global) and function.name == "unpack"
            array = self._array(expression.arguments[0]) if is_unpack else None
        else:
            return None
        if array is None or not self._is_as_given(array):
            return None
        which = int(key.text) if isinstance(key, Number) and key.text.isdigit() else ANY
        # KEYS[0] is nil.
        is_nil = isinstance(key, Number) and key.text == "0"
        return NOTHING if is_nil else frozenset((Source(array[0], which),))

    def _is_as_given(self, array: _Array) -> bool:
        """Whether it is what the caller of the script gave, and nothing else ever."""
        _, holder = array
        if holder in self._changed:
            return False
        if isinstance(holder, str):
            return True
        function, _ = self._parameters[holder]
        variable = self._holders.get(function)
        if function not in self._callbacks:
            return False
        return variable is None or (
            self._only_holder(function) is variable and not self._called[variable]
        )

    def _only_holder(self, function: Function) -> Variable | None:
        """The variable through which alone a function is called, if there is one."""
        variable = self._holders.get(function)
        return None if variable is None or variable in self._escaped else variable

    def reached(self, function: Function) -> set[Function]:
        """All functions that a call of this one may run."""
        todo = [function]
        # Of these nobody can tell who calls them.
        todo += [
            each
            for each in self.functions[1:]
            if self._only_holder(each) is None
            and each not in self._callbacks
            and each not in self._run_once
        ]
        return self._closure(todo)

    def may_last(self, functions: Iterable[Function]) -> bool:
        """Whether one of these goes round: a loop, or a function that may call itself."""
        return any(each.has_loop or each in self._closure(self._next(each)) for each in functions)

    def _closure(self, todo: list[Function]) -> set[Function]:
        found: set[Function] = set()
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += self._next(each)
        return found

    def _next(self, function: Function) -> list[Function]:
        """The functions that are made in this one, or that a variable in it holds."""
        variables = (variable.values for variable in self._uses[function])
        named = [each for values in variables for each in values if isinstance(each, Function)]
        return self._inner[function] + named


def _passed(call: Call, position: int) -> Iterator[Expression]:
    """What a call gives to a parameter: nothing is nil."""
    arguments = call.arguments
    if position < len(arguments):
        yield arguments[position]
    elif arguments and may_be_many(arguments[-1]):
        yield arguments[-1]
