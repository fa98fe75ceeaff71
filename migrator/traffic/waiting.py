"""Commands that wait: for nothing, and for what a second connection of the same client gives.

Owns what they answer. With a short timeout they are commands as others are, in pipelines and in
blocks too; `handover` is a conversation over two connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from . import streams
from .client import Client, Talk
from .connection import Words
from .draw import LIST, STREAM, ZSET, Choice, Draw
from .families import SCRIPTS, SEVEN
from .model import ANY, Failure, OneOf, Place, Step, Wrong
from .zsets import ranked, with_scores

# Nobody gives anything while a batch waits so long; every empty wait costs it.
BRIEF_S = 0.01
BRIEF_MS = 10
# Nobody waits so long: what is given comes long before.
LONG_S = 30
PUSH = b"return redis.call('RPUSH', KEYS[1], unpack(ARGV))"


# -- on own keys, which nobody else writes ---------------------------------------------------


def _first(d: Draw, places: tuple[Place, ...]) -> Place | None:
    """The first of them that holds anything. Raises Unsure."""
    found = [place for place in places if d.model.value(place) is not None]
    return found[0] if found else None


def pop(d: Draw) -> list[Step]:
    places, is_left = d.two(LIST), d.chance(0.5)

    def apply(_: Any) -> object:
        place = _first(d, places)
        if place is None:
            return None
        data = d.model.data(place)
        d.model.edit(place, data[1:] if is_left else data[:-1])
        return [place[1], data[0 if is_left else -1]]

    name = b"BLPOP" if is_left else b"BRPOP"
    return [Step((name, places[0][1], places[1][1], BRIEF_S), places, apply)]


def move(d: Draw) -> list[Step]:
    a, b = d.two(LIST)
    to_left = d.chance(0.5)

    def apply(_: Any) -> object:
        data, other = d.model.data(a), d.model.data(b, [])
        if data is None:
            return None
        word = data[-1]
        d.model.edit(a, data[:-1])
        d.model.edit(b, [word, *other] if to_left else [*other, word])
        return word

    words: Words = (b"BRPOPLPUSH", a[1], b[1], BRIEF_S)
    if not to_left:
        words = (b"BLMOVE", a[1], b[1], b"RIGHT", b"RIGHT", BRIEF_S)
    return [Step(words, (a, b), apply)]


def pop_scored(d: Draw) -> list[Step]:
    places, is_min = d.two(ZSET), d.chance(0.5)

    def apply(reply: Any) -> object:
        place = _first(d, places)
        if place is None:
            return None
        data = d.model.data(place)
        member = ranked(data)[0 if is_min else -1]
        d.model.edit(place, {each: score for each, score in data.items() if each != member})
        return [place[1], member, data[member]]

    name = b"BZPOPMIN" if is_min else b"BZPOPMAX"
    return [Step((name, places[0][1], places[1][1], BRIEF_S), places, apply)]


def pop_many(d: Draw) -> list[Step]:
    """BLMPOP and BZMPOP, of servers from 7 on."""
    family = d.pick((LIST, ZSET))
    places, count, is_low = d.two(family), d.number(1, 4), d.chance(0.5)
    ends = (b"LEFT", b"RIGHT") if family == LIST else (b"MIN", b"MAX")

    def apply(reply: Any) -> object:
        place = _first(d, places)
        if place is None:
            return None
        data = d.model.data(place)
        order = list(data) if family == LIST else ranked(data)
        order = (order if is_low else order[::-1])[:count]
        if family == LIST:
            d.model.edit(place, data[count:] if is_low else data[: -len(order)])
            return [place[1], order]
        d.model.edit(place, {each: score for each, score in data.items() if each not in order})
        wanted = [(member, data[member]) for member in order]
        is_right = isinstance(reply, list) and reply[0] == place[1]
        return ANY if is_right and with_scores(reply[1]) == wanted else Wrong(f"{wanted}")

    name = b"BLMPOP" if family == LIST else b"BZMPOP"
    keys = (place[1] for place in places)
    words: Words = (name, BRIEF_S, 2, *keys, ends[not is_low], b"COUNT", count)
    return [Step(words, places, apply)]


def read(d: Draw) -> list[Step]:
    place, count = d.own(STREAM), d.number(1, 4)
    before = d.model.peek(place)
    ids = list(before.data.entries) if before is not None else []
    last = d.pick(ids) if ids else (0, 0)

    def apply(reply: Any) -> object:
        value = d.model.value(place)
        found = [each for each in value.data.entries if each > last] if value is not None else []
        if value is None or not found:
            return None
        return streams.delivered(place, value.data.listed(found[:count]), reply)

    words = (b"XREAD", b"COUNT", count, b"BLOCK", BRIEF_MS)
    return [Step((*words, b"STREAMS", place[1], streams.write_id(last)), (place,), apply)]


def read_group(d: Draw) -> list[Step]:
    return streams.xreadgroup(d, (b"BLOCK", BRIEF_MS))


CHOICES: list[Choice] = [pop, pop, move, pop_scored, read, read_group, read_group]
OF_SEVEN: list[Choice] = [pop_many, pop_many]


# -- one connection waits, the other one gives -----------------------------------------------


class Wait(NamedTuple):
    """What waits, what `give` is, the answer, and what a look behind it must show."""

    words: Words
    gives: tuple[Words, ...]
    wanted: object
    look: Words
    left: object


def _wait(client: Client, a: bytes, b: bytes) -> Wait:
    """Both keys are not there; what is given is for one of them."""
    d = client.draw
    key, one, two = d.pick((a, b)), d.token(), d.token()
    form = d.number(0, 6 if SEVEN in client.families else 5)
    if form == 0:
        words: Words = (b"BLPOP", a, b, LONG_S)
        given = _pushes(client, key, one, two)
        return Wait(words, given, [key, one], (b"LRANGE", key, 0, -1), [two])
    if form == 1:
        words, given = (b"BRPOP", a, b, LONG_S), _pushes(client, key, one, two)
        return Wait(words, given, [key, two], (b"LRANGE", key, 0, -1), [one])
    if form == 2:
        words, given = (b"BLMOVE", a, b, b"LEFT", b"LEFT", LONG_S), _pushes(client, a, one, two)
        return Wait(words, given, one, (b"LRANGE", b, 0, -1), [one])
    if form == 3:
        words, given = (b"BZPOPMAX", a, b, LONG_S), ((b"ZADD", key, 1, one, 2, two),)
        return Wait(words, given, [key, two, 2.0], (b"ZCARD", key), 1)
    if form == 4:
        words = (b"XREAD", b"BLOCK", LONG_S * 1000, b"STREAMS", a, b, b"0", b"0")
        given = ((b"XADD", key, b"5-1", b"f", one),)
        return Wait(words, given, {key: [[b"5-1", [b"f", one]]]}, (b"XLEN", key), 1)
    words = (b"BLMPOP", LONG_S, 2, a, b, b"LEFT", b"COUNT", 5)
    given = _pushes(client, key, one, two)
    return Wait(words, given, [key, [one, two]], (b"EXISTS", key), 0)


def _pushes(client: Client, key: bytes, one: bytes, two: bytes) -> tuple[Words, ...]:
    """Two elements at once, in one of the ways that wake who waits."""
    form = client.draw.number(0, 5 if SCRIPTS in client.families else 4)
    push: Words = (b"RPUSH", key, one, two)
    if form == 1:
        return ((b"MULTI",), (b"RPUSH", key, one), (b"RPUSH", key, two), (b"EXEC",))
    if form == 2:
        other = b"%b:renamed" % key
        return ((b"RPUSH", other, one, two), (b"RENAME", other, key))
    if form == 3:
        other = b"%b:stored" % key
        store = (b"SORT", other, b"BY", b"nosort", b"STORE", key)
        return ((b"RPUSH", other, one, two), store, (b"DEL", other))
    return ((b"EVAL", PUSH, 1, key, one, two),) if form == 4 else (push,)


async def handover(client: Client) -> None:
    """The main connection waits, and gets what the second one gives. Raises Lost."""
    d = client.draw
    name = b"park:%d:%d" % (client.number, d.number(0, 6))
    a, b = name + b":a", name + b":b"
    await client.second.call(b"DEL", a, b, db=d.db)
    wait = _wait(client, a, b)

    async def give(_: Waiting) -> None:
        await asyncio.sleep(d.pick((0.0, 0.0, 0.0, 0.001, 0.01, 0.02, 0.2)))
        replies = await client.second.ask(*wait.gives)
        client.counts.commands += len(replies)
        for words, reply in zip(wait.gives, replies, strict=True):
            client.expect(words, ANY, reply)

    reply = await _together(client, wait.words, give)
    client.expect(wait.words, wait.wanted, reply)
    await client.ask((wait.look, wait.left))


Waiting = asyncio.Future[Any]


async def _together(
    client: Client, words: Words, give: Callable[[Waiting], Awaitable[None]]
) -> Any:
    """The reply to what waits while something is given. Raises Lost."""
    client.counts.commands += 1
    waiting = asyncio.ensure_future(client.main.call(*words))
    try:
        await give(waiting)
        return await waiting
    finally:
        if not waiting.done():
            client.main.close()  # What it will be answered, nobody waits for any more.
        await asyncio.gather(waiting, return_exceptions=True)


async def nothing_comes(client: Client) -> None:
    """A timeout answers nil, and not before its time. Raises Lost."""
    d = client.draw
    key, timeout = b"park:%d:never" % client.number, d.number(5, 60) / 1000.0
    words: Words = d.pick(
        (
            (b"BLPOP", key, timeout), (b"BRPOPLPUSH", key, key, timeout),
            (b"BZPOPMIN", key, timeout),
            (b"XREAD", b"BLOCK", int(timeout * 1000), b"STREAMS", key, b"$"),
        )
    )  # fmt: skip
    began = time.monotonic()
    await client.ask((words, None))
    waited = time.monotonic() - began
    if waited < timeout - 0.002:
        client.complain(words, f"nothing before {timeout} s", f"nil after {waited:.4f} s")


async def from_now_on(client: Client) -> None:
    """XREAD from `$` gets the first entry behind it; where that is, nobody can say from outside."""
    key, db = b"park:%d:stream" % client.number, client.draw.db
    added: list[Any] = []

    async def give(waiting: Waiting) -> None:
        while not waiting.done():
            words: Words = (b"XADD", key, b"MAXLEN", 50, b"*", b"f", b"1")
            added.append(await client.second.call(*words, db=db))
            await asyncio.wait([waiting], timeout=0.02)

    words = (b"XREAD", b"COUNT", 1, b"BLOCK", LONG_S * 1000, b"STREAMS", key, b"$")
    reply = await _together(client, words, give)
    expected = OneOf(tuple({key: [[entry, [b"f", b"1"]]]} for entry in added))
    client.expect(words, expected, reply)


async def unblocked(client: Client) -> None:
    """CLIENT UNBLOCK by the second connection: nil, or an error. Raises Lost."""
    d = client.draw
    (number,) = await client.ask(((b"CLIENT", b"ID"), ANY))
    way = d.pick((b"TIMEOUT", b"ERROR"))
    words: Words = (b"BLPOP", b"park:%d:never" % client.number, LONG_S)

    async def give(waiting: Waiting) -> None:
        unblock: Words = (b"CLIENT", b"UNBLOCK", number, way)
        while not waiting.done() and (reply := await client.second.call(*unblock)) != 1:
            client.expect(unblock, 0, reply)  # It may not wait yet.
            await asyncio.wait([waiting], timeout=0.01)

    reply = await _together(client, words, give)
    client.expect(words, None if way == b"TIMEOUT" else Failure(b"UNBLOCKED"), reply)


TALKS: list[tuple[Talk, int]] = [
    (handover, 8), (nothing_comes, 2), (from_now_on, 2), (unblocked, 2),
]  # fmt: skip
