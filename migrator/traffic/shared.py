"""Commands on the keys that all clients write at once, and what each may answer.

A reply is checked against the ledger as it was when the command was sent: what was acknowledged
to anybody by then must show, wherever the read was served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .connection import Words
from .draw import Draw
from .ledger import (
    BAG,
    CHAOS,
    COUNTER,
    COUNTERS,
    DUEL,
    EVENTS,
    FIELD,
    LOG,
    PAIR,
    QUEUE,
    STAIRS,
    TOKEN,
    TRIPLE,
    Group,
    Ledger,
    Tally,
    shared_key,
)  # fmt: skip
from .model import ANY, OK, Between, Failure, OneOf, Place, Step, Wrong, fits, nothing, pairs
from .streams import parse_id

# Commands on one duel before the next one begins.
ROUND = 24
# How many keys the exactly-once groups spread over.
SPREAD = 12
# Counters of which each is raised behind the one before it.
STEPS = "abcd"


class SharedDraw:
    """The choices of one client among shared keys."""

    def __init__(self, draw: Draw, ledger: Ledger) -> None:
        self.draw = draw
        self.ledger = ledger

    def number(self) -> int:
        """Half of the time a hot key; else any, copied or not."""
        sizes = self.ledger.sizes
        draw = self.draw
        return draw.number(0, min(SPREAD, sizes.shared) if draw.chance(0.5) else sizes.shared)

    def place(self, kind: str, number: int, part: str = "") -> Place:
        return self.draw.db, shared_key(kind, number, part)


Choice = Callable[[SharedDraw], list[Step]]


def one(
    args: Words, apply: Callable[[Any], object], withdraw: Callable[[], None] = nothing
) -> list[Step]:
    return [Step(args, (), apply, withdraw=withdraw)]


def raised(args: Words, tally: Tally, by: int) -> Step:
    """A command that raises a counter, and answers what it is then."""
    low = tally.low + by
    tally.asked += by

    def apply(reply: Any) -> object:
        tally.acked += by
        if not fits(Between(low, tally.asked), reply):
            return Between(low, tally.asked)
        tally.seen = max(tally.seen, int(float(reply)))
        return ANY

    def withdraw() -> None:
        tally.asked -= by

    return Step(args, (), apply, withdraw=withdraw)


def added(
    args: Words, group: Group, tokens: Sequence[bytes], is_right: Callable[[Any], bool]
) -> Step:
    """A command that puts tokens, which nobody else has, into a group."""
    group.asked.update(tokens)

    def apply(reply: Any) -> object:
        group.acked.update(tokens)
        return ANY if is_right(reply) else Wrong("what this command answers")

    return Step(args, (), apply, withdraw=lambda: group.asked.difference_update(tokens))


def taken(args: Words, group: Group, count: int = 0) -> Step:
    """A command that takes one token out of a group, or with `count` a list of them."""
    group.unknown += count or 1

    def withdraw() -> None:
        group.unknown -= count or 1

    def apply(reply: Any) -> object:
        withdraw()
        tokens = (reply or []) if count else [reply] if reply is not None else []
        return ANY if group.take(tokens) else Wrong("elements that are there")

    return Step(args, (), apply, withdraw=withdraw)


def _shows(tally: Tally) -> Callable[[Any], object]:
    low = tally.low

    def apply(reply: Any) -> object:
        if not fits(Between(low, tally.asked), reply):
            return Between(low, tally.asked)
        tally.seen = max(tally.seen, int(float(reply)))
        return ANY

    return apply


def count(s: SharedDraw) -> list[Step]:
    number, kind, by = s.number(), s.draw.pick(COUNTERS), s.draw.number(1, 9)
    place = s.place(kind, number)
    tally = s.ledger.tally(kind, place, number)
    args: Words
    if s.draw.chance(0.3):
        args = ((b"GET", place[1]) if kind == COUNTER else (b"HGET", place[1], b"n")
                if kind == FIELD else (b"ZSCORE", place[1], b"n"))  # fmt: skip
        return one(args, _shows(tally))
    if kind == COUNTER:
        is_one = s.draw.chance(0.5)
        args = (b"INCR", place[1]) if is_one else (b"INCRBY", place[1], by)
        return [raised(args, tally, 1 if is_one else by)]
    args = (b"HINCRBY", place[1], b"n", by)
    return [raised(args if kind == FIELD else (b"ZINCRBY", place[1], by, b"n"), tally, by)]


def log(s: SharedDraw) -> list[Step]:
    place, token = s.place(LOG, s.number()), s.draw.token()
    ledger, group = s.ledger, s.ledger.log(place)
    low = ledger.log_size[place]
    if s.draw.chance(0.25):

        def check(reply: Any) -> object:
            is_whole = isinstance(reply, int) and reply >= low and reply % TOKEN == 0
            return ANY if is_whole else Wrong(f"a length of {low} or more")

        return one((b"STRLEN", place[1]), check)
    group.asked.add(token)

    def apply(reply: Any) -> object:
        group.acked.add(token)
        if not isinstance(reply, int) or reply < low + TOKEN or reply % TOKEN:
            return Wrong(f"a length of {low + TOKEN} or more")
        ledger.log_size[place] = max(ledger.log_size[place], reply)
        return ANY

    return one((b"APPEND", place[1], token), apply, lambda: group.asked.discard(token))


def queue(s: SharedDraw) -> list[Step]:
    d = s.draw
    group = s.ledger.queue(d.db)
    place, other = s.place(QUEUE, s.number()), s.place(QUEUE, s.number())
    form = d.number(0, 10)
    if form < 4:
        tokens = [d.token() for _ in range(d.pick((1, 1, 2)))]
        args: Words = (d.pick((b"LPUSH", b"RPUSH")), place[1], *tokens)
        return [added(args, group, tokens, is_length)]
    if form < 7:

        def moved(reply: Any) -> object:
            if reply is not None and reply not in group.asked:
                return Wrong("an element that was pushed")
            return ANY

        if d.chance(0.5):
            return one((b"RPOPLPUSH", place[1], other[1]), moved)
        return one((b"LMOVE", place[1], other[1], b"LEFT", b"RIGHT"), moved)
    number = d.pick((0, 0, 2))
    args = (d.pick((b"LPOP", b"RPOP")), place[1])
    return [taken((*args, number) if number else args, group, number)]


def bag(s: SharedDraw) -> list[Step]:
    d = s.draw
    group = s.ledger.bag(d.db)
    place, other = s.place(BAG, s.number()), s.place(BAG, s.number())
    form = d.number(0, 10)
    if form < 6:
        token = d.token()
        step = added((b"SADD", place[1], token), group, [token], lambda reply: reply == 1)
        if form < 5:
            return [step]
        return [step, Step((b"SMOVE", place[1], other[1], token), (), is_flag)]
    number = d.pick((0, 0, 2))
    return [taken((b"SPOP", place[1], *((number,) if number else ())), group, number)]


def is_length(reply: Any) -> bool:
    return isinstance(reply, int) and reply > 0


def is_flag(reply: Any) -> object:
    return ANY if reply in (0, 1) else Wrong("0 or 1")


def events(s: SharedDraw) -> list[Step]:
    d, ledger = s.draw, s.ledger
    place = s.place(EVENTS, s.number() % SPREAD)
    low = ledger.last_id[place]
    if d.chance(0.6):
        ledger.maybe_added[place] += 1

        def withdraw() -> None:
            ledger.maybe_added[place] -= 1

        def appended(reply: Any) -> object:
            ledger.added[place] += 1
            if not isinstance(reply, bytes) or parse_id(reply) <= low:
                return Wrong(f"an id above {low}")
            ledger.last_id[place] = max(ledger.last_id[place], parse_id(reply))
            return ANY

        return one((b"XADD", place[1], b"*", b"f", d.word()), appended, withdraw)
    if d.chance(0.3):
        length = ledger.added[place]

        def long(reply: Any) -> object:
            return Between(length, ledger.maybe_added[place])

        return one((b"XLEN", place[1]), long)
    seen = ledger.delivered[place]

    def delivered(reply: Any) -> object:
        if reply is None:
            return None
        entries = [entry for entry, _ in pairs(reply)[place[1]]]
        if seen.intersection(entries):
            return Wrong("entries that nobody was given")
        seen.update(entries)
        return ANY

    args: Words = (b"XREADGROUP", b"GROUP", b"g", b"c%d" % d.client, b"COUNT", 3)
    return one((*args, b"STREAMS", place[1], b">"), delivered)


def triple(s: SharedDraw) -> list[Step]:
    number, word = s.number(), s.draw.word()
    keys = [shared_key(TRIPLE, number, part) for part in ("a", "b", "c")]
    if s.draw.chance(0.5):
        flat = [each for key in keys for each in (key, word)]
        return one((b"MSET", *flat), lambda _: OK)

    def same(reply: Any) -> object:
        is_same = isinstance(reply, list) and reply[0] is not None and len(set(reply)) == 1
        return ANY if is_same else Wrong("three times the same")

    return one((b"MGET", *keys), same)


def pair(s: SharedDraw) -> list[Step]:
    """For a block: both are raised together, so they are the same for ever."""
    number = s.number()
    a, b = (s.place(PAIR, number, part) for part in ("a", "b"))
    first = raised((b"INCR", a[1]), s.ledger.tally(PAIR, a, number), 1)
    second = raised((b"INCR", b[1]), s.ledger.tally(PAIR, b, number), 1)
    seen: list[Any] = []

    def left(reply: Any) -> object:
        seen.append(reply)
        return first.apply(reply)

    def right(reply: Any) -> object:
        return second.apply(reply) if seen == [reply] else Wrong(f"{seen} again")

    return [first._replace(apply=left), second._replace(apply=right)]


def read_pair(s: SharedDraw) -> list[Step]:
    number = s.number()
    keys = [shared_key(PAIR, number, part) for part in ("a", "b")]

    def same(reply: Any) -> object:
        is_same = isinstance(reply, list) and reply[0] is not None and reply[0] == reply[1]
        return ANY if is_same else Wrong("twice the same")

    return one((b"MGET", *keys), same)


def stairs(s: SharedDraw) -> list[Step]:
    """Counters of which no one is ever above the one before it: in a pipeline, too.

    Who has seen a step as high as it is must not see an earlier one lower behind that.
    """
    d, number = s.draw, s.number() % SPREAD
    keys = [s.place(STAIRS, number, part)[1] for part in STEPS]
    if d.chance(0.3):
        return [Step((b"INCR", key), (), _is_number) for key in keys]
    seen = [0] * len(STEPS)

    def shows(at: int) -> Callable[[Any], object]:
        def apply(reply: Any) -> object:
            least = max(seen[at:])
            if not (reply or b"0").isdigit() or int(reply or 0) < least:
                return Wrong(f"{least} or more, behind {seen}")
            seen[at] = max(seen[at], int(reply or 0))
            return ANY

        return apply

    order = [d.number(0, len(STEPS)) for _ in range(8)]
    return [Step((b"GET", keys[at]), (), shows(at)) for at in order]


def duel(s: SharedDraw) -> list[Step]:
    """All clients on the same few keys, then on others: the last write of each stays."""
    ledger, d = s.ledger, s.draw
    ledger.turn += 1
    number, form = ledger.turn // ROUND, d.number(0, 4)
    word = b"%d.%b" % (d.client, d.word())
    if form < 2:
        return one((b"SET", shared_key(DUEL, number), word), lambda _: OK)
    if form == 2:
        return one((b"HSET", shared_key(DUEL, number, "h"), b"f", word), is_flag)
    return one((b"ZADD", shared_key(DUEL, number, "z"), d.number(0, 99), b"m"), is_flag)


def chaos(s: SharedDraw) -> list[Step]:
    """Sets that are renamed and merged by everybody: only the kind of a reply is known."""
    d = s.draw
    a, b, c = (s.place(CHAOS, s.number())[1] for _ in range(3))
    if a == b:
        return triple(s)
    form = d.number(0, 12)
    member = b"%d" % d.number(0, 40)
    args: Words = (
        (b"SADD", a, member), (b"SADD", a, member, b"w%d" % d.number(0, 300)), (b"SREM", a, member),
        (b"SUNIONSTORE", a, b, c), (b"SUNIONSTORE", a, b, c), (b"SINTERSTORE", a, b, c),
        (b"SDIFFSTORE", a, b, c), (b"SMOVE", a, b, member), (b"COPY", a, b, b"REPLACE"),
        (b"RENAME", a, b), (b"RENAMENX", a, b), (b"SPOP", a),
    )[form]  # fmt: skip
    if form in (9, 10):
        # Made sure of in the same breath; another may still come between, so not of the reply.
        first = Step((b"SADD", a, b"w%d" % d.number(0, 300)), (), _is_number)
        return [first, Step(args, (), _renamed)]
    return one(args, _is_popped if form == 11 else _is_number)


def _is_number(reply: Any) -> object:
    return ANY if isinstance(reply, int) else Wrong("a number")


def _is_popped(reply: Any) -> object:
    return ANY if reply is None or isinstance(reply, bytes) else Wrong("a member or nothing")


def _renamed(reply: Any) -> object:
    return OneOf((OK, 0, 1, Failure(b"ERR no such key")))


CHOICES: list[Choice] = [
    count, count, count, count, log, queue, queue, bag, bag, events, events, triple, duel, duel,
    duel, chaos, chaos, chaos, read_pair, stairs, stairs,
]  # fmt: skip
