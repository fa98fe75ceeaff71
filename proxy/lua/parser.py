"""Parses Lua 5.1 into functions and variables, with scopes resolved.

Owns the grammar (https://www.lua.org/manual/5.1/manual.html, section 8). That some text passes
which the interpreter refuses is no harm: such a script never runs.
"""

from __future__ import annotations

from .tokens import NotLua, Token, tokens
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
    Vararg,
    Variable,
    may_be_many,
)  # fmt: skip

# The interpreter allows 200 levels; deeper text than this is nobody's handwriting.
MAX_DEPTH = 60

_BLOCK_ENDS = frozenset(("end", "else", "elseif", "until"))
_OPERATORS = frozenset(("+", "-", "*", "/", "%", "^", "..", "<", "<=", ">", ">=", "==", "~="))


def parse(text: bytes) -> Function:
    """The chunk as a function without parameters. Raises NotLua."""
    try:
        return _Parser(tokens(text)).chunk()
    except RecursionError:
        raise NotLua("too deep") from None


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0
        self._scopes: list[dict[str, Variable]] = []
        self._function = Function()

    # tokens

    def _is(self, mark: str) -> bool:
        return self._tokens[self._at] == ("mark", mark)

    def _accept(self, mark: str) -> bool:
        if self._tokens[self._at] == ("mark", mark):
            self._at += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        if not self._accept(mark):
            raise NotLua(f"{mark!r} expected near {self._tokens[self._at][1]!r}")

    def _name(self) -> str:
        kind, word = self._tokens[self._at]
        if kind != "name" or not isinstance(word, str):
            raise NotLua(f"name expected near {word!r}")
        self._at += 1
        return word

    # scopes

    def _declare(self, name: str, variable: Variable) -> None:
        self._scopes[-1][name] = variable

    def _resolve(self, name: str) -> Expression:
        for scope in reversed(self._scopes):
            if name in scope:
                return Local(scope[name])
        return Global(name)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotLua("too deep")

    # blocks and statements

    def chunk(self) -> Function:
        self._block()
        if self._tokens[self._at][0] != "end":
            raise NotLua(f"unexpected {self._tokens[self._at][1]!r}")
        return self._function

    def _block(self, *declared: tuple[str, Variable], until: bool = False) -> None:
        """Up to what ends it, which is left; with ``until`` also that and its condition."""
        self._deeper()
        self._scopes.append(dict(declared))
        while not self._at_block_end():
            if self._accept("return"):
                if not self._at_block_end() and not self._is(";"):
                    self._function.steps += self._expressions()
                self._accept(";")
                break
            self._statement()
            self._accept(";")
        if until:
            # The condition sees the locals of the block.
            self._expect("until")
            self._function.steps.append(self._expression())
        self._scopes.pop()
        self._depth -= 1

    def _at_block_end(self) -> bool:
        kind, word = self._tokens[self._at]
        return kind == "end" or (kind == "mark" and word in _BLOCK_ENDS)

    def _statement(self) -> None:
        steps = self._function.steps
        if self._is("for") or self._is("while") or self._is("repeat"):
            self._function.has_loop = True
        if self._accept("local"):
            self._local()
        elif self._accept("if"):
            self._if()
        elif self._accept("for"):
            self._for()
        elif self._accept("function"):
            self._named_function()
        elif self._accept("while"):
            steps.append(self._expression())
            self._expect("do")
            self._block()
            self._expect("end")
        elif self._accept("do"):
            self._block()
            self._expect("end")
        elif self._accept("repeat"):
            self._block(until=True)
        elif not self._accept("break"):
            self._assignment_or_call()

    def _local(self) -> None:
        if self._accept("function"):
            variable = Variable()
            self._declare(self._name(), variable)
            self._assign([Local(variable)], [self._body()])
            return
        names = [self._name()]
        while self._accept(","):
            names.append(self._name())
        values = self._expressions() if self._accept("=") else []
        variables = [Variable() for _ in names]
        self._assign([Local(variable) for variable in variables], values)
        # Only now: ``local x = x`` reads the outer one.
        for name, variable in zip(names, variables, strict=True):
            self._declare(name, variable)

    def _assign(self, targets: list[Expression], values: list[Expression]) -> None:
        self._function.steps.append(Assign(targets, values))
        for at, target in enumerate(targets):
            if not isinstance(target, Local):
                continue
            if at < len(values):
                target.variable.values.append(values[at])
            elif values and may_be_many(values[-1]):
                target.variable.values.append(values[-1])
            # Else nil, which nothing can be done with.

    def _if(self) -> None:
        self._function.steps.append(self._expression())
        self._expect("then")
        self._block()
        while self._accept("elseif"):
            self._function.steps.append(self._expression())
            self._expect("then")
            self._block()
        if self._accept("else"):
            self._block()
        self._expect("end")

    def _for(self) -> None:
        names = [self._name()]
        if self._accept("="):
            bounds = self._expressions()
            self._function.steps += bounds
            declared = [(names[0], Variable([Computed(bounds)]))]
        else:
            while self._accept(","):
                names.append(self._name())
            self._expect("in")
            over = self._expressions()
            self._function.steps.append(ForIn(over))
            declared = [
                (name, Variable([Iterated(over, position)])) for position, name in enumerate(names)
            ]
        self._expect("do")
        self._block(*declared)
        self._expect("end")

    def _named_function(self) -> None:
        target = self._resolve(self._name())
        while self._accept("."):
            target = Index(target, Text(self._name().encode()))
        is_method = self._accept(":")
        if is_method:
            target = Index(target, Text(self._name().encode()))
        self._assign([target], [self._body(is_method=is_method)])

    def _assignment_or_call(self) -> None:
        first = self._suffixed()
        if isinstance(first, Call | Method):
            self._function.steps.append(first)
            return
        targets = [first]
        while self._accept(","):
            targets.append(self._suffixed())
        if not all(isinstance(target, Local | Global | Index) for target in targets):
            raise NotLua("syntax error")
        self._expect("=")
        self._assign(targets, self._expressions())

    # expressions

    def _expressions(self) -> list[Expression]:
        found = [self._expression()]
        while self._accept(","):
            found.append(self._expression())
        return found

    def _expression(self) -> Expression:
        """``or`` binds less than ``and``, and that less than all the rest."""
        self._deeper()
        options = [self._conjunction()]
        while self._accept("or"):
            options.append(self._conjunction())
        self._depth -= 1
        return options[0] if len(options) == 1 else Or(options)

    def _conjunction(self) -> Expression:
        parts = [self._operation()]
        while self._accept("and"):
            parts.append(self._operation())
        return parts[0] if len(parts) == 1 else And(parts)

    def _operation(self) -> Expression:
        """Whatever binds closer makes a new value, so in which order does not matter."""
        parts = [self._operand()]
        while self._tokens[self._at][0] == "mark" and self._tokens[self._at][1] in _OPERATORS:
            self._at += 1
            parts.append(self._operand())
        return parts[0] if len(parts) == 1 else Computed(parts)

    def _operand(self) -> Expression:
        if self._accept("not") or self._accept("-"):
            self._deeper()
            operand: Expression = Computed([self._operand()])
            self._depth -= 1
            return operand
        if self._accept("#"):
            self._deeper()
            operand = Length(self._operand())
            self._depth -= 1
            return operand
        kind, word = self._tokens[self._at]
        if kind == "number" and isinstance(word, str):
            self._at += 1
            return Number(word)
        if kind == "text" and isinstance(word, bytes):
            self._at += 1
            return Text(word)
        if self._accept("nil") or self._accept("true") or self._accept("false"):
            return Constant()
        if self._accept("..."):
            return Vararg()
        if self._is("{"):
            return self._table()
        if self._accept("function"):
            return self._body()
        return self._suffixed()

    def _suffixed(self) -> Expression:
        if self._accept("("):
            inner = self._expression()
            self._expect(")")
            # One value, also of a call that gives many.
            found: Expression = Computed([inner]) if may_be_many(inner) else inner
        else:
            found = self._resolve(self._name())
        while True:
            kind, word = self._tokens[self._at]
            if kind != "text" and (kind != "mark" or word not in (".", "[", ":", "(", "{")):
                return found
            if self._accept("."):
                found = Index(found, Text(self._name().encode()))
            elif self._accept("["):
                key = self._expression()
                self._expect("]")
                found = Index(found, key)
            elif self._accept(":"):
                self._name()
                found = Method(found, self._arguments())
            else:
                found = Call(found, self._arguments())

    def _arguments(self) -> list[Expression]:
        kind, word = self._tokens[self._at]
        if kind == "text" and isinstance(word, bytes):
            self._at += 1
            return [Text(word)]
        if self._is("{"):
            return [self._table()]
        self._expect("(")
        if self._accept(")"):
            return []
        found = self._expressions()
        self._expect(")")
        return found

    def _table(self) -> Table:
        self._expect("{")
        fields: list[tuple[Expression | None, Expression]] = []
        while not self._accept("}"):
            key: Expression | None = None
            if self._accept("["):
                key = self._expression()
                self._expect("]")
                self._expect("=")
            elif self._tokens[self._at][0] == "name" and self._tokens[self._at + 1] == (
                "mark",
                "=",
            ):
                key = Text(self._name().encode())
                self._expect("=")
            fields.append((key, self._expression()))
            if not self._accept(",") and not self._accept(";"):
                self._expect("}")
                break
        return Table(fields)

    def _body(self, *, is_method: bool = False) -> Function:
        outer, self._function = self._function, Function()
        inner = self._function
        self._expect("(")
        declared: list[tuple[str, Variable]] = [("self", Variable())] if is_method else []
        while not self._accept(")"):
            if self._accept("..."):
                # What Lua 5.0 called its arguments is still there.
                declared.append(("arg", Variable([Vararg()])))
                self._expect(")")
                break
            declared.append((self._name(), Variable()))
            if not self._accept(","):
                self._expect(")")
                break
        inner.parameters = [variable for _, variable in declared]
        self._block(*declared)
        self._expect("end")
        self._function = outer
        return inner
