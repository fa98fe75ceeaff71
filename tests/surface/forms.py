"""Makes further conversations of each line of the corpus.

Owns which: the line itself in both protocols; the same inside MULTI, in one write and in pieces;
and error forms of its commands, which nobody has to write down: keys of each wrong type, an
argument less and one more, and odd words in the place of each argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from proxy.commands import CommandTable, Kind
from tests.surface.conversation import Conversation, Mark, Step, Turn, Words, conversation

PLAIN = (Kind.READ, Kind.WRITE, Kind.NODE)

# Numbers that no command takes for a size: they are errors, or mean the last element.
ODD_WORDS = (b"BOGUS", b"-1", b"1.5", b"9223372036854775808", b"")

_OF_EACH_TYPE = conversation(
    "SET %:string v ; RPUSH %:list a ; SADD %:set a ; HSET %:hash a v ; ZADD %:zset 1 a"
    " ; XADD %:stream 1-1 a v"
).turns[0]
_TYPED = [step.words[1] for step in _OF_EACH_TYPE.steps]
# Steps of error forms in one write.
_BATCH = 40


def told(line: Conversation, table: CommandTable, words: Words) -> Iterator[Conversation]:
    """The line in both protocols, and inside of MULTI."""
    if Mark.RESP3 not in line.marks:
        yield line.formed("as it is", 2)
    if Mark.RESP2 not in line.marks:
        yield line.formed("as it is", 3)
    if Mark.ALONE not in line.marks and _is_plain(line, table, words):
        steps = [Step("a", (b"MULTI",)), *line.steps, Step("a", (b"EXEC",))]
        yield line.formed("in one block", 3, Turn("a", tuple(steps)))
        yield line.formed("in MULTI, in pieces", 2, *(Turn("a", (step,)) for step in steps))


def _is_plain(line: Conversation, table: CommandTable, words: Words) -> bool:
    return line.clients == ["a"] and all(
        kind_of(step, table, words) in PLAIN for step in line.steps
    )


def kind_of(step: Step, table: CommandTable, words: Words) -> Kind | None:
    request = words.request(step)
    command = None if request is None else table.lookup(request)
    return None if command is None else command.kind


def errors(lines: list[Conversation], table: CommandTable, words: Words) -> Iterator[Conversation]:
    """Error forms of each form of a command in the lines, each form once."""
    seen: set[tuple[bytes, ...]] = set()
    for line in lines:
        if Mark.ALONE in line.marks or not _is_plain(line, table, words):
            continue
        for at, step in enumerate(line.steps):
            form = _form(step)
            if form not in seen:
                seen.add(form)
                wrong = [*_wrong_types(step), *_odd(step)]
                before = (*_OF_EACH_TYPE.steps, *line.steps[:at])
                batches = [wrong[i : i + _BATCH] for i in range(0, len(wrong), _BATCH)]
                turns = [Turn("a", before), *(Turn("a", tuple(batch)) for batch in batches)]
                yield line.formed(f"error forms of {step}", 2, *turns)


def _form(step: Step) -> tuple[bytes, ...]:
    """The command and its options, which are written in capitals."""
    return tuple(word for word in step.words if word.isupper())


def _wrong_types(step: Step) -> Iterator[Step]:
    for at in step.keys:
        for key in _TYPED:
            yield _with(step, at, key)


def _odd(step: Step) -> Iterator[Step]:
    for count in range(1, len(step.words)):
        yield replace(step, words=step.words[:count])
    yield replace(step, words=(*step.words, b"BOGUS"))
    for at in range(1, len(step.words)):
        if at not in step.keys:
            for word in ODD_WORDS:
                yield _with(step, at, word)


def _with(step: Step, at: int, word: bytes) -> Step:
    return replace(step, words=(*step.words[:at], word, *step.words[at + 1 :]))
