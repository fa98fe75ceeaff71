"""The language of the corpus: conversations of clients with a store, one per line.

    SET %k v ; GET %k               two commands in one write
    SET %k v | GET %k               the second one when the first is answered
    BLPOP %l 0 | b> RPUSH %l x      by another client (the first is `a`); one waits for answers
                                    before another goes on
    BLPOP %l 0.01 | a?              waits until the client has a reply to each command
    raw "PING\\r\\n"                  bytes as they are

``%k`` is a key of this conversation alone. ``"two words\\x00"`` is one word, ``""`` an empty one.
What stands in braces is filled in (`Words`). A line that ends in ``\\`` goes on in the next, and
in front of a line stands, in brackets, what is special about it (`Mark`).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxy.resp import Request, encode_command, request


class Mark(enum.Enum):
    """What is special about a line."""

    RANDOM = "random"
    """What it leaves behind depends on chance or on the time: two stores need not agree."""
    RESP2 = "resp2"
    """Only in that protocol."""
    RESP3 = "resp3"
    NESTED = "nested"
    """A login inside MULTI, which is refused before Redis from 7.2 on (see `LEFT_OUT`)."""
    ALONE = "alone"
    """Not inside MULTI, and no error forms are made from it."""


_MARKS = re.compile(r"\[([a-z0-9 ]+)\]\s*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_FILLED = re.compile(rb"\{(\w+)\}")
_CLIENT = re.compile(r"[a-z][0-9]?[>?]")
# A ``%`` that was not written as an escape.
_KEY = b"\x01"


@dataclass(frozen=True)
class Step:
    """One command, or raw bytes and then no `words`; keys and braces are still to be filled in."""

    client: str
    words: tuple[bytes, ...] = ()
    raw: bytes = b""

    def __str__(self) -> str:
        words = [repr(self.raw)[1:]] if self.raw else map(_shown, self.words)
        return " ".join(words).replace("\x01", "%")

    @property
    def keys(self) -> list[int]:
        """Which words are keys, or patterns of keys."""
        return [at for at, word in enumerate(self.words) if _KEY in word]


def _shown(word: bytes) -> str:
    return word.decode() if re.fullmatch(rb"[!-~\x01]+", word) else f'"{str(word)[2:-1]}"'


@dataclass(frozen=True)
class Turn:
    """What one client sends in one write; nothing: it waits for its replies."""

    client: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{self.client}> {' ; '.join(map(str, self.steps))}"


@dataclass(frozen=True)
class Conversation:
    """`resp` is the protocol in which its clients begin, `form` says what was made of the line."""

    turns: tuple[Turn, ...]
    marks: frozenset[Mark] = frozenset()
    resp: int = 2
    form: str = "as it is"

    def __str__(self) -> str:
        return f"[{self.form}, RESP{self.resp}] {' | '.join(map(str, self.turns))}"

    @property
    def steps(self) -> list[Step]:
        return [step for turn in self.turns for step in turn.steps]

    @property
    def clients(self) -> list[str]:
        return list(dict.fromkeys(turn.client for turn in self.turns))

    def formed(self, form: str, resp: int, *turns: Turn) -> Conversation:
        """The same with other turns, if any are given."""
        return replace(self, form=form, resp=resp, turns=turns or self.turns)


def conversations(text: str) -> Iterator[Conversation]:
    """Of a corpus; empty lines and lines that begin with ``#`` are none."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.strip().startswith("#"):
            yield conversation(line.strip())


def conversation(line: str) -> Conversation:
    """Of one line."""
    marks: list[Mark] = []
    if match := _MARKS.match(line):
        marks = [Mark(word) for word in match[1].split()]
        line = line[match.end() :]
    turns: list[Turn] = []
    steps: list[Step] = []
    words: list[str] = []
    client = "a"

    def end_step() -> None:
        if words:
            steps.append(_step(client, words))
            words.clear()

    def end_turn() -> None:
        end_step()
        if steps:
            turns.append(Turn(client, tuple(steps)))
            steps.clear()

    for token in _TOKEN.findall(line):
        if token == ";":
            end_step()
        elif token == "|":
            end_turn()
        elif not words and _CLIENT.fullmatch(token):
            end_turn()
            client = token[:-1]
            if token[-1] == "?":
                turns.append(Turn(client, ()))
        else:
            words.append(token)
    end_turn()
    return Conversation(tuple(turns), frozenset(marks))


def _step(client: str, words: list[str]) -> Step:
    parsed = [_word(word) for word in words]
    if words[0] == "raw":
        return Step(client, raw=b"".join(parsed[1:]))
    return Step(client, tuple(parsed))


def _word(token: str) -> bytes:
    token = token.replace("%", _KEY.decode())
    if token.startswith('"'):
        return token[1:-1].encode().decode("unicode_escape").encode("latin-1")
    return token.encode()


class Words:
    """Makes wire bytes of steps.

    What it fills in is fixed for a whole run, since both sides must be sent the same: times as of
    `now_ms`, and `known`, by the name in the braces.
    """

    def __init__(self, now_ms: int, known: dict[bytes, bytes]) -> None:
        self._known = known | {
            b"future": b"%d" % (now_ms // 1000 + 3600),
            b"future_ms": b"%d" % (now_ms + 3600_250),
            b"past": b"%d" % (now_ms // 1000 - 5),
            b"past_ms": b"%d" % (now_ms - 5000),
        }

    def encoded(self, step: Step, prefix: bytes = b"") -> bytes:
        if step.raw:
            return self._filled(step.raw, prefix)
        return encode_command(*(self._filled(word, prefix) for word in step.words))

    def request(self, step: Step) -> Request | None:
        """None of raw bytes."""
        return request(*(self._filled(word, b"") for word in step.words)) if step.words else None

    def _filled(self, word: bytes, prefix: bytes) -> bytes:
        word = word.replace(_KEY, prefix)
        return _FILLED.sub(lambda match: self._known.get(match[1], match[0]), word)
