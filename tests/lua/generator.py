"""Random Lua scripts, tame and wild: keys that go through locals, functions, loops and tables.

Owns the grammar of what is drawn. Every script runs on a server without an error that would cut it
short: each write stands in a pcall of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

KEYS = (b"k1", b"k2", b"k3")
ARGV = (b"a1", b"a2", b"3")


class Drawn:
    """One script: ``Drawn(seed).body`` is its text, ``library`` the same as a function."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        # Wild ones do what hides a key; in a tame one there is nothing of it.
        self.is_wild = self.random.random() < 0.5
        self.names: list[str] = []
        self.functions: list[str] = []
        self.callers = ["redis.call", "redis.pcall"]
        self.arrays = {"KEYS": 3, "ARGV": 3}
        self.tables: list[str] = []
        self.count = 0
        lines = [self.statement(0) for _ in range(self.random.randint(2, 9))]
        lines.append(self.write())
        self.body = "\n".join([*lines, "return 1"]).encode()

    @property
    def library(self) -> bytes:
        """The same as a function of a library, and another function, which calls what it calls."""
        text = self.body.replace(b"KEYS", b"keys").replace(b"ARGV", b"args")
        helper = b"local function f1(v1, v2) pcall(function() redis.call('DEL', v1, v2) end) end\n"
        return (
            b"#!lua name=drawn\n"
            + helper
            + b"local function drawn(keys, args)\n" + text + b"\nend\n"
            + b"redis.register_function('drawn', drawn)\n"
            + b"redis.register_function('other', function(keys) f1('made', keys[1] .. 'x') end)\n"
        )  # fmt: skip

    def new(self, prefix: str) -> str:
        self.count += 1
        # Names come again, so that scopes hide each other.
        return f"{prefix}{self.random.randint(1, 4)}"

    def pick(self, *options: Callable[[], str]) -> str:
        return self.random.choice(options)()

    # -- keys ------------------------------------------------------------------------------

    def key(self, depth: int = 0) -> str:
        tame: list[Callable[[], str]] = [
            self.element, self.element, self.element, self.known, self.known, self.literal,
        ]  # fmt: skip
        if depth < 2:
            tame += [
                lambda: f"({self.key(depth + 1)})",
                lambda: f"{self.key(depth + 1)} or {self.key(depth + 1)}",
                lambda: f"{self.condition()} and {self.key(depth + 1)} or {self.key(depth + 1)}",
            ]
        wild: list[Callable[[], str]] = [
            lambda: f"{self.element()} .. 'x'",
            lambda: "'lit' .. 'eral'",
            lambda: "('%s'):format('made')",
            lambda: f"string.lower({self.literal()})",
            lambda: f"tostring({self.element()})",
            lambda: "(function() return 'made' end)()",
        ]
        if self.tables:
            wild.append(lambda: f"{self.random.choice(self.tables)}[{self.random.randint(1, 2)}]")
        rare = self.is_wild and self.random.random() < 0.3
        return self.random.choice(wild if rare else tame)()

    def element(self) -> str:
        array = self.random.choice(list(self.arrays))
        return self.pick(
            lambda: f"{array}[{self.random.randint(0, 4)}]",
            lambda: f"{array}[{self.random.randint(1, 3)}]",
            lambda: f"{array}[#{array}]",
            lambda: f"{array}[1 + {self.random.randint(0, 2)}]",
        )

    def known(self) -> str:
        return self.random.choice(self.names) if self.names else self.element()

    def literal(self) -> str:
        return self.random.choice(["'l1'", '"l2"', "[[l3]]", r"'\108\49'", "'k2'"])

    def condition(self) -> str:
        return self.random.choice(["#KEYS > 2", "ARGV[1] == 'a1'", "true", "not ARGV[9]", "nil"])

    # -- writes ----------------------------------------------------------------------------

    def write(self) -> str:
        caller = self.random.choice(self.callers)
        key = self.key
        array = self.random.choice(list(self.arrays))
        call = self.pick(
            lambda: f"{caller}('SET', {key()}, 'v')",
            lambda: f"{caller}('set', {key()}, ARGV[1])",
            lambda: f"{caller}('APPEND', {key()}, '+')",
            lambda: f"{caller}('DEL', {key()}, {key()})",
            lambda: f"{caller}('MSET', {key()}, '1', {key()}, '2')",
            lambda: f"{caller}('RENAME', {key()}, {key()})",
            lambda: f"{caller}('COPY', {key()}, {key()}, 'REPLACE')",
            lambda: f"{caller}('BITOP', 'OR', {key()}, {key()}, {key()})",
            lambda: f"{caller}('SORT', {key()}, 'STORE', {key()})",
            lambda: f"{caller}('DEL', unpack({array}))",
            lambda: f"{caller}('MSET', 'l1', 'v', unpack({array}))",
            lambda: f"{caller}('SET', unpack({array}))",
            lambda: f"{caller}('GET', {key()})",
            lambda: f"{caller}({key()}, {key()})",
            lambda: f"{caller}('INCRBY', {key()}, tonumber(ARGV[3]))",
        )
        return f"pcall(function() return {call} end)"

    # -- statements ------------------------------------------------------------------------

    def statement(self, depth: int) -> str:
        options: list[Callable[[], str]] = [
            self.local, self.local, self.two_locals, self.assign, self.write, self.alias_of_call,
        ]  # fmt: skip
        if depth < 2:
            options += [
                lambda: self.block(depth, f"if {self.condition()} then", "end"),
                lambda: self.block(depth, "do", "end"),
                lambda: self.block(depth, "for i = 1, 2 do", "end"),
                lambda: self.loop(depth),
                lambda: self.function(depth),
                self.use,
                self.use,
            ]
        if self.is_wild:
            options += [self.alias_of_array, self.change, self.table, self.pass_on]
        return self.random.choice(options)()

    def local(self) -> str:
        key, name = self.key(), self.new("v")
        self.names.append(name)
        return f"local {name} = {key}"

    def two_locals(self) -> str:
        first, second = self.key(), self.key()
        names = self.new("v"), self.new("w")
        self.names += names
        values = self.random.choice([f"{first}, {second}", "unpack(KEYS)", first])
        return f"local {', '.join(names)} = {values}"

    def assign(self) -> str:
        if not self.names:
            return self.local()
        return f"{self.random.choice(self.names)} = {self.key()}"

    def alias_of_call(self) -> str:
        name = self.new("call")
        target = self.random.choice(self.callers)
        self.callers.append(name)
        return f"local {name} = {target}"

    def alias_of_array(self) -> str:
        name, target = self.new("array"), self.random.choice(list(self.arrays))
        self.arrays[name] = 3
        return f"local {name} = {target}"

    def change(self) -> str:
        array = self.random.choice(list(self.arrays))
        return self.pick(
            lambda: f"{array}[{self.random.randint(1, 3)}] = {self.key()}",
            lambda: f"table.insert({array}, 1, 'made')",
            lambda: f"rawset({array}, 1, 'made')",
            lambda: f"{array} = {{'made', 'made2'}}",
            lambda: f"do (function(t) t[1] = 'made' end)({array}) end",
        )

    def table(self) -> str:
        name = self.new("table")
        self.tables.append(name)
        return f"local {name} = {{{self.key()}, {self.key()}}}"

    def pass_on(self) -> str:
        return self.pick(
            lambda: f"pcall({self.random.choice(self.callers)}, 'SET', {self.key()}, 'v')",
            lambda: (
                f"do (function(f, k) pcall(f, 'SET', k, 'v') end)(redis.call, {self.key()}) end"
            ),
            lambda: f"local box = {{f = redis.call}}; pcall(box.f, 'SET', {self.key()}, 'v')",
        )

    def block(self, depth: int, head: str, tail: str) -> str:
        saved = (
            list(self.names), list(self.functions), list(self.callers), dict(self.arrays),
            list(self.tables),
        )  # fmt: skip
        inner = [self.statement(depth + 1) for _ in range(self.random.randint(1, 3))]
        self.names, self.functions, self.callers, self.arrays, self.tables = saved
        return "\n".join([head, *inner, tail])

    def loop(self, depth: int) -> str:
        name = self.new("v")
        array = self.random.choice(list(self.arrays))
        before = list(self.names)
        self.names.append(name)
        iterator = self.random.choice(["ipairs", "pairs"])
        text = self.block(depth, f"for _, {name} in {iterator}({array}) do", "end")
        self.names = before
        return text

    def function(self, depth: int) -> str:
        name, parameters = self.new("f"), [self.new("v"), self.new("w")]
        before = list(self.names)
        self.names += parameters
        head = self.random.choice(
            [f"local function {name}({{}})", f"local {name} = function({{}})"]
        ).format(", ".join(parameters))
        text = self.block(depth, head, self.write() + "\nend")
        self.names = before
        self.functions.append(name)
        return text

    def use(self) -> str:
        if not self.functions:
            return self.write()
        name = self.random.choice(self.functions)
        arguments = self.pick(
            lambda: f"{self.key()}, {self.key()}",
            lambda: self.key(),
            lambda: "unpack(KEYS)",
        )
        if self.is_wild and self.random.random() < 0.3:
            return f"pcall({name}, 'made', {arguments})"
        return f"pcall(function() {name}({arguments}) end)"
