"""Makes further conversations of each line of the corpus.

Owns which: the line itself in both protocols, and in small letters; the same inside MULTI, in one
write and in pieces; and error forms of its commands, which nobody has to write down: keys of each
wrong type, an argument less and one more, and odd words in the place of each argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from proxy.commands import Command, CommandTable, Kind
from tests.surface.conversation import Conversation, Mark, Step, Turn, Words, conversation

PLAIN = (Kind.READ, Kind.WRITE, Kind.NODE)
# What a block may have: a single client that waits would wait for ever.
IN_BLOCKS = (*PLAIN, Kind.CURSOR, Kind.SCRIPT, Kind.OWN, Kind.BLOCKING)
# What is tried with wrong arguments.
TRIED = (*PLAIN, Kind.CURSOR, Kind.SCRIPT, Kind.OWN, Kind.LOCAL, Kind.BLOCKING)
# Wrong arguments might do more than fail: end other connections, or hush this one.
NOT_TRIED = ("client|kill", "client|reply", "reset", "quit", "post", "host:")

# Numbers that no command takes for a size: they are errors, or mean the last element.
ODD_WORDS = (b"BOGUS", b"-1", b"1.5", b"9223372036854775808", b"")

_OF_EACH_TYPE = conversation(
    "SET %:string v ; RPUSH %:list a ; SADD %:set a ; HSET %:hash a v ; ZADD %:zset 1 a"
    " ; XADD %:stream 1-1 a v"
).turns[0]
_TYPED = [step.words[1] for step in _OF_EACH_TYPE.steps]
# Steps of error forms in one write.
_BATCH = 40


class Forms:
    """What lines are told as. `words` are those of the run."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._table = CommandTable()

    def told(self, line: Conversation) -> Iterator[Conversation]:
        """The line in both protocols, in small letters, and inside of MULTI."""
        if Mark.RESP3 not in line.marks:
            yield line.formed("as it is", 2)
        if Mark.RESP2 not in line.marks:
            yield line.formed("as it is", 3)
            yield line.formed("in small letters", 3, *map(_in_small_letters, line.turns))
        if Mark.ALONE not in line.marks and self._is_of(line, IN_BLOCKS):
            steps = [Step("a", (b"MULTI",)), *line.steps, Step("a", (b"EXEC",))]
            yield line.formed("in one block", 3, Turn("a", tuple(steps)))
            yield line.formed("in MULTI, in pieces", 2, *(Turn("a", (step,)) for step in steps))

    def errors(self, lines: list[Conversation]) -> Iterator[Conversation]:
        """Error forms of each form of a command in the lines, each form once."""
        seen: set[tuple[bytes, ...]] = set()
        for line in lines:
            is_told = Mark.ALONE not in line.marks and Mark.RESP3 not in line.marks
            if not is_told or not self._is_of(line, TRIED):
                continue
            for at, step in enumerate(line.steps):
                form = _form(step)
                if form not in seen:
                    seen.add(form)
                    command = self._command(step)
                    blocks = command is not None and command.kind is Kind.BLOCKING
                    turns = _turns(line.steps[:at], step, blocks=blocks)
                    yield line.formed(f"error forms of {step}", 2, *turns)

    def _is_of(self, line: Conversation, kinds: tuple[Kind, ...]) -> bool:
        """Whether one client says it, all of it of these kinds."""
        commands = [self._command(step) for step in line.steps]
        return line.clients == ["a"] and not any(
            command is not None and (command.kind not in kinds or command.name in NOT_TRIED)
            for command in commands
        )

    def _command(self, step: Step) -> Command | None:
        request = self._words.request(step)
        return None if request is None else self._table.lookup(request)


def _in_small_letters(turn: Turn) -> Turn:
    """Names of commands and options may be written as one likes."""

    def small(step: Step) -> Step:
        return replace(step, words=tuple(w.lower() if w.isupper() else w for w in step.words))

    return replace(turn, steps=tuple(map(small, turn.steps)))


def _turns(before: list[Step], step: Step, *, blocks: bool) -> Iterator[Turn]:
    said = [*_OF_EACH_TYPE.steps, *before, *_of_another_length(step)]
    wrong = [*_wrong_types(step), *_odd(step)]
    # Inside MULTI nothing waits.
    said += [Step("a", (b"MULTI",)), *wrong, Step("a", (b"EXEC",))] if blocks else wrong
    # Behind an answer that is not written yet not every server answers a failed login.
    logs_in = any(each.words[0] in (b"AUTH", b"HELLO") for each in (*before, step))
    batch = 1 if logs_in else _BATCH
    for at in range(0, len(said), batch):
        yield Turn("a", tuple(said[at : at + batch]))


def _form(step: Step) -> tuple[bytes, ...]:
    """The command and its options, which are written in capitals."""
    return tuple(word for word in step.words if word.isupper())


def _wrong_types(step: Step) -> Iterator[Step]:
    for at in step.keys:
        for key in _TYPED:
            yield _with(step, at, key)


def _of_another_length(step: Step) -> Iterator[Step]:
    for count in range(1, len(step.words)):
        yield replace(step, words=step.words[:count])
    yield replace(step, words=(*step.words, b"BOGUS"))


def _odd(step: Step) -> Iterator[Step]:
    for at in range(1, len(step.words)):
        if at not in step.keys:
            for word in ODD_WORDS:
                yield _with(step, at, word)


def _with(step: Step, at: int, word: bytes) -> Step:
    return replace(step, words=(*step.words[:at], word, *step.words[at + 1 :]))
