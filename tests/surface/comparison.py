"""Compares what a server and the proxy have answered to one conversation."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.commands import CommandTable
from tests.surface.conversation import Conversation, Step, Words
from tests.surface.exceptions import REPLIES, UNSUBSCRIBED
from tests.surface.sameness import elements, is_aggregate, same_but_for_order_of_channels
from tests.surface.wires import Record

_SHOWN = 300


def differences(
    conversation: Conversation, direct: Record, proxied: Record, table: CommandTable, words: Words
) -> Iterator[str]:
    """In words, the first one per turn."""
    said: list[Step] = []
    blocks: dict[str, list[Step]] = {}
    turns = [*conversation.turns, None]
    for turn, wanted in zip(turns, direct, strict=True):
        steps = list(turn.steps) if turn else []
        said += steps
        got = proxied.pop(0) if proxied else {}
        for client, frames in wanted.items():
            answers = got.get(client, [])
            if _is_leaving(steps, table, words) and same_but_for_order_of_channels(frames, answers):
                continue
            frames, answers = _replies_first(frames), _replies_first(answers)
            is_sender = turn is not None and client == turn.client and len(frames) == len(steps)
            for at, frame in enumerate(frames):
                answer = answers[at] if at < len(answers) else b"(nothing)"
                of = [steps[at]] if is_sender else said
                block = blocks.setdefault(client, [])
                if frame != answer and not _is_excused(frame, answer, of, block, table, words):
                    what = f"{steps[at]}" if is_sender else f"{turn or 'at last'}"
                    yield _shown(conversation, what, client, frame, answer)
                    break
                if is_sender:
                    _follow(block, steps[at], frame)
            if len(answers) > len(frames):
                yield _shown(conversation, "more than", client, b"nothing", answers[len(frames)])


def _is_leaving(steps: list[Step], table: CommandTable, words: Words) -> bool:
    return len(steps) == 1 == len(steps[0].words) and (
        name_of(steps[0], table, words) in UNSUBSCRIBED
    )


def _replies_first(frames: list[bytes]) -> list[bytes]:
    """Pushes come when they come, in their own order: RESP3 has another type for them."""
    return [f for f in frames if f[:1] != b">"] + [f for f in frames if f[:1] == b">"]


def _follow(block: list[Step], step: Step, reply: bytes) -> None:
    """Which commands are queued."""
    if step.words and step.words[0].upper() in (b"EXEC", b"DISCARD", b"MULTI"):
        block.clear()
    elif reply == b"+QUEUED\r\n":
        block.append(step)


def _is_excused(
    a: bytes, b: bytes, steps: list[Step], block: list[Step], table: CommandTable, words: Words
) -> bool:
    if len(steps) == 1 and steps[0].words and steps[0].words[0].upper() == b"EXEC":
        x, y = elements(a), elements(b)
        return (
            is_aggregate(b)
            and len(x) == len(y) == len(block)
            and all(
                one == other or _is_excused(one, other, [step], [], table, words)
                for one, other, step in zip(x, y, block, strict=True)
            )
        )
    for name in {name_of(step, table, words) for step in steps}:
        why = REPLIES.get(name)
        if why is not None and why.same(a, b):
            return True
    return False


def name_of(step: Step, table: CommandTable, words: Words) -> str:
    """The command's name in the table; empty of what the table does not know."""
    request = words.request(step)
    command = None if request is None else table.lookup(request)
    return "" if command is None else command.name


def _shown(conversation: Conversation, what: str, client: str, a: bytes, b: bytes) -> str:
    return (
        f"{str(conversation)[:_SHOWN]}\n    {client}> {what}\n"
        f"      direct  {a[:_SHOWN]!r}\n      proxied {b[:_SHOWN]!r}"
    )
