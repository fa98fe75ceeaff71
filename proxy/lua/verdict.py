"""Which keys a Lua script may write, told from its text.

Owns the verdict on a body of EVAL (:func:`read_body`) and on the functions of a library
(:func:`read_library`). It is one-sided: what it names is all that any run of the script can
write, and where it cannot be sure of that it says so. How keys and calls are followed is in
:mod:`proxy.lua.reading`; what a call writes, the command table knows.

What a script only reads does not matter: its effect is a copy of what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..commands.model import Command, Kind
from ..resp.requests import request
from .reading import NOTHING, Reading, Sources
from .tokens import NotLua
from .tree import Call, Expression, Function, literal, may_be_many

if TYPE_CHECKING:
    from ..commands import CommandTable

# Longer texts are not looked at: that would hold everybody up.
MAX_BYTES = 64 * 1024

_PLAIN_KINDS = (Kind.READ, Kind.CURSOR, Kind.NODE)
# Stands for an argument that is not known: no word that a command looks for, and no number.
_UNKNOWN_WORD = b"\0?"
# How many arguments ``unpack(…)`` may stand for: with more, the pattern of keys only repeats.
_LENGTHS = range(4)


@dataclass(frozen=True)
class Script:
    """What a script may write.

    written: all keys, by where they come from; None: nobody can tell. Empty: it only reads.
    stays: it leaves the databases that it is not called in alone.
    may_last: it has a loop, or a function that may call itself.
    swaps: its text speaks of SWAPDB, of which no store tells anybody.
    """

    written: Sources | None
    stays: bool
    may_last: bool
    swaps: bool = False

    def read_only(self) -> Script:
        """The same where the server sees to it that nothing is written."""
        return Script(NOTHING, stays=True, may_last=self.may_last)


UNKNOWN = Script(None, stays=False, may_last=True)


def read_body(body: bytes, table: CommandTable) -> Script:
    """The verdict on a body of EVAL or SCRIPT LOAD."""
    reading = _read(body, is_library=False)
    verdict = UNKNOWN if reading is None else _verdict(reading, reading.functions, table)
    if _forbids_writes(body):
        return verdict.read_only()
    return replace(verdict, swaps=speaks_of_swapdb(body))


def read_library(code: bytes, table: CommandTable) -> dict[bytes, Script]:
    """The verdicts on the functions of a FUNCTION LOAD, by name; what is missing is UNKNOWN."""
    reading = _read(code, is_library=True)
    if reading is None:
        return {}
    swaps = speaks_of_swapdb(code)
    found = {}
    for name, (function, only_reads) in reading.registered.items():
        verdict = _verdict(reading, reading.reached(function), table)
        found[name] = verdict.read_only() if only_reads else replace(verdict, swaps=swaps)
    return found


def speaks_of_swapdb(text: bytes) -> bool:
    """Of a script, or of the arguments that it is given."""
    return b"swapdb" in text.lower()


def library_name(code: bytes) -> bytes | None:
    """As ``#!lua name=…`` gives it."""
    for word in _shebang(code):
        if word.startswith(b"name="):
            return word[5:]
    return None


def _read(text: bytes, *, is_library: bool) -> Reading | None:
    if len(text) > MAX_BYTES:
        return None
    try:
        reading = Reading(text, is_library=is_library)
    except (NotLua, RecursionError):
        return None
    return None if reading.is_lost else reading


def _shebang(text: bytes) -> list[bytes]:
    return text.split(b"\n", 1)[0].split() if text.startswith(b"#!") else []


def _forbids_writes(body: bytes) -> bool:
    """``#!lua flags=no-writes``: the server sees to it. Redis 6.2 runs no such body at all."""
    return any(
        b"no-writes" in word[6:].split(b",")
        for word in _shebang(body)
        if word.startswith(b"flags=")
    )


def _verdict(reading: Reading, functions: Iterable[Function], table: CommandTable) -> Script:
    functions = list(functions)
    written: list[Sources | None] = []
    stays = True
    for function in functions:
        for call in reading.calls[function]:
            command, words = _command(call, table)
            if command is None or _may_leave(command, words):
                stays = False
                written.append(None)
            else:
                written.append(_written(reading, call, command, words))
    return Script(_joined(written), stays, reading.may_last(functions))


def _command(call: Call, table: CommandTable) -> tuple[Command | None, list[bytes | None]]:
    """What is called, if that is written out; and its arguments, None where they are not."""
    words = list(map(literal, call.arguments))
    if not words or words[0] is None:
        return None, words
    name = words[0].decode("latin-1").lower()
    if "." in name:
        return None, words  # A module's: it may write more than the keys that it names.
    if not table.has_subcommands(name):
        return (None if "|" in name else table.named(name)), words
    if len(words) < 2 or words[1] is None:
        return None, words
    return table.named(f"{name}|{words[1].decode('latin-1').lower()}"), words


def _may_leave(command: Command, words: list[bytes | None]) -> bool:
    """Whether it may write in another database, or do what is not known."""
    if command.kind in _PLAIN_KINDS:
        return False
    if command.kind not in (Kind.WRITE, Kind.BLOCKING):
        return True
    if not command.may_leave_db:
        return False
    made = request(*_filled(words))
    keys = command.spec.all_at(made)
    if any(word is None and at not in keys for at, word in enumerate(words)):
        return True
    return command.other_db(made) is not None


def _written(
    reading: Reading, call: Call, command: Command, words: list[bytes | None]
) -> Sources | None:
    """Where the keys come from that one call writes."""
    if command.kind in _PLAIN_KINDS:
        return NOTHING
    arguments = call.arguments
    spec = command.spec
    if not may_be_many(arguments[-1]):
        made = request(*_filled(words))
        indexes = set(spec.written_at(made))
        if not spec.is_positional:
            keys = set(spec.all_at(made))
            # What is not known might be a number of keys, or the word in front of one.
            if any(word is None and at not in keys for at, word in enumerate(words)):
                return None
    elif spec.is_positional:
        filled = _filled(words[:-1])
        indexes = {
            at
            for length in _LENGTHS
            for at in spec.written_at(request(*filled, *[_UNKNOWN_WORD] * length))
        }
    else:
        return None
    values: list[Expression] = [arguments[min(at, len(arguments) - 1)] for at in indexes]
    return _joined(map(reading.sources, values))


def _filled(words: list[bytes | None]) -> list[bytes]:
    return [_UNKNOWN_WORD if word is None else word for word in words]


def _joined(every: Iterable[Sources | None]) -> Sources | None:
    found = NOTHING
    for each in every:
        if each is None:
            return None
        found |= each
    return found
