"""Scripts and functions, and what each must answer.

What they write depends on time, on chance, on what is there; some fail behind their first write.
Most name their keys, some do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from .connection import Arg, Words
from .draw import HASH, LIST, NUMBER, SET, TEXT, Choice, Draw
from .ledger import COUNTER, QUEUE
from .model import ANY, OK, Failure, Place, Step, Wrong
from .shared import Choice as SharedChoice
from .shared import SharedDraw, raised

ADD = b"return redis.call('INCRBY', KEYS[1], ARGV[1])"
ADD_UNDECLARED = b"return redis.call('INCRBY', ARGV[1], ARGV[2])"
ADD_DERIVED = b"""
local name = string.gsub(KEYS[1], '%d+$', ARGV[1])
return {redis.call('INCRBY', name, ARGV[2]), redis.call('INCRBY', KEYS[1], ARGV[2])}
"""
COMPARE_AND_SET = b"""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return 1
end
return 0
"""
PICK = b"""
local member = redis.call('SPOP', KEYS[1])
if member then redis.call('SADD', KEYS[2], member) end
return member
"""
CLOCK = b"""
local now = redis.call('TIME')
local text = now[1] .. '.' .. now[2]
redis.call('HSET', KEYS[1], 'time', text)
return text
"""
CHANCE = b"""
local number = math.random(1000000)
redis.call('HSET', KEYS[1], 'chance', number)
return number
"""
FAIL = b"""
redis.call('SET', KEYS[1], ARGV[1])
redis.call('LPUSH', KEYS[1], 'x')
return 1
"""
LEASE = b"""
redis.call('SET', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.status_reply('OK')
"""
TURN = b"""
for _ = 1, tonumber(ARGV[1]) do redis.call('RPOPLPUSH', KEYS[1], KEYS[1]) end
return redis.call('LRANGE', KEYS[1], 0, -1)
"""
TAKE_OVER = b"""
local word = redis.call('RPOP', KEYS[1])
if word then redis.call('LPUSH', KEYS[2], word) end
return word
"""
GET = b"return redis.call('GET', KEYS[1])"

BODIES = (
    ADD, ADD_UNDECLARED, ADD_DERIVED, COMPARE_AND_SET, PICK, CLOCK, CHANCE, FAIL, LEASE, TURN,
    TAKE_OVER, GET,
)  # fmt: skip

LIBRARY = b"""#!lua name=traffic
redis.register_function('add', function(keys, args)
  return redis.call('INCRBY', keys[1], args[1])
end)
redis.register_function{function_name='get', callback=function(keys, args)
  return redis.call('GET', keys[1])
end, flags={'no-writes'}}
"""


def sha(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest().encode()


# What a client says before all else: the servers must know the scripts from then on.
ARRIVAL: tuple[tuple[Words, object], ...] = tuple(
    ((b"SCRIPT", b"LOAD", body), sha(body)) for body in BODIES
)


def words_of(d: Draw, body: bytes, keys: Sequence[bytes], *arguments: Arg) -> Words:
    """In full, or by its name."""
    head: Words = (b"EVALSHA", sha(body)) if d.chance(0.6) else (b"EVAL", body)
    return (*head, len(keys), *keys, *arguments)


def _raise(d: Draw, place: Place, by: int) -> int:
    value = int(d.model.data(place, b"0")) + by
    d.model.edit(place, b"%d" % value)
    return value


def add(d: Draw) -> list[Step]:
    place, by = d.own(NUMBER), d.number(1, 90)
    words = words_of(d, ADD, [place[1]], by)
    return [Step(words, (place,), lambda _: _raise(d, place, by))]


def add_undeclared(d: Draw) -> list[Step]:
    """Nobody can tell from the request which key it writes. Seldom: it holds up everybody."""
    if d.chance(0.9):
        return add(d)
    place, by = d.own(NUMBER), d.number(1, 90)
    if d.chance(0.5):
        words = words_of(d, ADD_UNDECLARED, [], place[1], by)
        return [Step(words, (place,), lambda _: _raise(d, place, by))]
    other, number = d.own(NUMBER), place[1].rpartition(b":")[2]

    def apply(_: Any) -> object:
        d.model.value(other)
        return [_raise(d, place, by), _raise(d, other, by)]

    return [Step(words_of(d, ADD_DERIVED, [other[1]], number, by), (place, other), apply)]


def compare_and_set(d: Draw) -> list[Step]:
    place, word = d.own(TEXT), d.word()
    before = d.model.peek(place)
    wanted = before.data if before is not None and d.chance(0.7) else b"?"

    def apply(_: Any) -> object:
        if d.model.data(place) != wanted:
            return 0
        d.model.put(place, word)
        return 1

    return [Step(words_of(d, COMPARE_AND_SET, [place[1]], wanted, word), (place,), apply)]


def pick(d: Draw) -> list[Step]:
    a, b = d.two(SET)

    def apply(reply: Any) -> object:
        data, other = d.model.data(a), d.model.data(b, set())
        if data is None:
            return None
        if reply not in data:
            return Wrong("one of its members")
        d.model.edit(a, data - {reply})
        d.model.edit(b, other | {reply})
        return ANY

    return [Step(words_of(d, PICK, [a[1], b[1]]), (a, b), apply)]


def note(d: Draw) -> list[Step]:
    """The time, or a number by chance: what it was, only the reply tells."""
    place, is_time = d.own(HASH), d.chance(0.5)
    field = b"time" if is_time else b"chance"

    def apply(reply: Any) -> object:
        if not isinstance(reply, bytes if is_time else int):
            return Wrong("what it wrote")
        text = reply if isinstance(reply, bytes) else b"%d" % reply
        d.model.edit(place, d.model.data(place, {}) | {field: text})
        return ANY

    return [Step(words_of(d, CLOCK if is_time else CHANCE, [place[1]]), (place,), apply)]


def fail(d: Draw) -> list[Step]:
    """An error, and yet it has written."""
    place, word = d.own(TEXT), d.word()

    def apply(_: Any) -> object:
        d.model.put(place, word)
        return Failure(b"")

    return [Step(words_of(d, FAIL, [place[1]], word), (place,), apply, renews=True)]


def lease(d: Draw) -> list[Step]:
    place, word, ttl = d.own(TEXT), d.word(), d.ttl_ms()

    def apply(_: Any) -> object:
        d.model.put(place, word, *d.model.expiry(ttl))
        return OK

    return [Step(words_of(d, LEASE, [place[1]], word, ttl), (place,), apply, renews=True)]


def turn(d: Draw) -> list[Step]:
    place, times = d.own(LIST), d.number(1, 5)

    def apply(_: Any) -> object:
        data = d.model.data(place, [])
        for _ in range(times if data else 0):
            data = [data[-1], *data[:-1]]
        d.model.edit(place, data)
        return data

    return [Step(words_of(d, TURN, [place[1]], times), (place,), apply)]


def only_read(d: Draw, name: bytes = b"EVAL") -> list[Step]:
    place = d.own(TEXT)
    if name == b"EVAL":
        words = words_of(d, GET, [place[1]])
    elif name == b"EVAL_RO":
        words = (b"EVAL_RO", GET, 1, place[1])
    elif name == b"EVALSHA_RO":
        words = (b"EVALSHA_RO", sha(GET), 1, place[1])
    else:
        words = (d.pick((b"FCALL", b"FCALL_RO")), b"get", 1, place[1])
    return [Step(words, (place,), lambda _: d.model.data(place))]


def call_function(d: Draw) -> list[Step]:
    place, by = d.own(NUMBER), d.number(1, 90)
    words = (b"FCALL", b"add", 1, place[1], by)
    return [Step(words, (place,), lambda _: _raise(d, place, by))]


def load_library(d: Draw) -> list[Step]:
    if d.chance(0.8):
        return call_function(d)
    return [Step((b"FUNCTION", b"LOAD", b"REPLACE", LIBRARY), (), lambda _: b"traffic")]


def load_script(d: Draw) -> list[Step]:
    """One that nobody has had before; from then on its name is enough."""
    place, word = d.own(TEXT), d.word()
    body = b"return redis.call('SET', KEYS[1], '%b')" % word

    def apply(_: Any) -> object:
        d.model.put(place, word)
        return OK

    return [
        Step((b"SCRIPT", b"LOAD", body), (), lambda _: sha(body)),
        Step((b"EVALSHA", sha(body), 1, place[1]), (place,), apply, renews=True),
    ]


# -- on what all clients share -------------------------------------------------------------


def count(s: SharedDraw) -> list[Step]:
    number, by = s.number(), s.draw.number(1, 9)
    place = s.place(COUNTER, number)
    tally = s.ledger.tally(COUNTER, place, number)
    return [raised(words_of(s.draw, ADD, [place[1]], by), tally, by)]


def take_over(s: SharedDraw) -> list[Step]:
    group = s.ledger.queue(s.draw.db)
    a, b = (s.place(QUEUE, s.number())[1] for _ in range(2))

    def apply(reply: Any) -> object:
        is_right = reply is None or reply in group.asked
        return ANY if is_right else Wrong("an element that was pushed")

    return [Step(words_of(s.draw, TAKE_OVER, [a, b]), (), apply)]


CHOICES: list[Choice] = [
    add, add, add_undeclared, compare_and_set, compare_and_set, pick, pick, note, note, fail,
    lease, turn, only_read, load_script,
]  # fmt: skip
OF_SEVEN: list[Choice] = [
    call_function, call_function, load_library,
    *(partial(only_read, name=name) for name in (b"EVAL_RO", b"EVALSHA_RO", b"FCALL")),
]  # fmt: skip
SHARED: list[SharedChoice] = [count, take_over]
