"""Transactions that arrive in pieces, and WATCH.

Owns what these answer: a block that was refused or given up has done nothing, one whose watched
key somebody wrote neither, and any other is carried out. A flip may break a WATCH, as a failover
does: that is counted, not complained about, and whoever knows the number of flips judges it.
"""

from __future__ import annotations

from enum import Enum

from proxy.resp.values import ReplyError

from .client import Client
from .connection import Lost, Words
from .draw import TEXT
from .ledger import OPTIMISTIC, shared_key
from .model import ANY, NEVER, OK, Failure, Place, Step

# Tries of one raise of an optimistic counter: a hot one is changed often.
TRIES = 30
HOT = 6


class Watch(Enum):
    """What is watched when EXEC is sent."""

    NONE = 0
    QUIET = 1  # Nobody writes it.
    SHARED = 2  # Somebody may have written it.
    TOUCHED = 3  # It was written.


class Pieces:
    """A block on its way to the server. What is said is sent now, or with what comes next."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.steps: list[Step] = []
        self.is_refused = False
        self._home = client.draw.db
        self._held: list[tuple[Words, object]] = []

    async def say(self, words: Words, expected: object) -> None:
        self._held.append((words, expected))
        if self.client.draw.chance(0.6):
            await self.flush()

    async def flush(self) -> None:
        held, self._held = self._held, []
        if held:
            await self.client.ask(*held)

    async def queue(self, *steps: Step) -> None:
        for step in steps:
            self.steps.append(step)
            await self.say(step.args, b"QUEUED")

    async def select(self) -> None:
        """What comes after it is of another database, and so is the client behind the block."""
        draw = self.client.draw
        draw.db = draw.pick(draw.databases)
        await self.queue(Step((b"SELECT", draw.db), (), lambda _: OK))

    async def err(self) -> None:
        """Something that is refused where it is queued, and the block with it."""
        self.is_refused = True
        words: Words = self.client.draw.pick(((b"GET",), (b"SET", b"x"), (b"NOSUCHCOMMAND", b"x")))
        await self.say(words, Failure(b"ERR"))

    async def fail(self) -> None:
        """Something that fails where it is executed, and nothing else with it."""
        draw = self.client.draw
        place, word = draw.own(TEXT), draw.word()

        def put(_: object) -> object:
            draw.model.put(place, word)
            return OK

        def push(_: object) -> object:
            draw.model.value(place)
            return Failure(b"WRONGTYPE")

        await self.queue(
            Step((b"SET", place[1], word), (place,), put, renews=True),
            Step((b"LPUSH", place[1], b"x"), (place,), push),
        )

    def withdraw(self) -> None:
        """None of it was carried out."""
        self.client.draw.db = self._home
        for step in self.steps:
            step.withdraw()

    async def discard(self) -> None:
        await self._ended((b"DISCARD",), OK)
        self.withdraw()

    async def execute(self, watch: Watch = Watch.NONE) -> bool:
        """Whether it was carried out."""
        client = self.client
        reply = await self._ended((b"EXEC",), Failure(b"EXECABORT") if self.is_refused else ANY)
        if isinstance(reply, ReplyError) or (reply is None and watch is not Watch.NONE):
            self.withdraw()
            client.counts.broken_watches += reply is None and watch is Watch.QUIET
            return False
        if watch is Watch.TOUCHED:
            client.complain((b"EXEC behind a watched key that changed",), None, reply)
        client.check_block(self.steps, reply)
        return True

    async def _ended(self, words: Words, expected: object) -> object:
        try:
            self._held.append((words, expected))
            held, self._held = self._held, []
            return (await self.client.ask(*held))[-1]
        except Lost:
            for step in self.steps:
                self.client.model.doubt(step)
            raise


async def transaction(client: Client) -> None:
    """MULTI, a few commands, EXEC or DISCARD: as if somebody typed them."""
    block = Pieces(client)
    await block.say((b"MULTI",), OK)
    await _fill(block)
    if client.draw.chance(0.2):
        await block.discard()
    else:
        await block.execute()


async def _fill(block: Pieces) -> None:
    draw = block.client.draw
    for _ in range(draw.number(0, 6)):
        form = draw.number(0, 20)
        if form < 3:
            await block.select()
        elif form == 3:
            await block.err()
        elif form == 4:
            await block.fail()
        else:
            await block.queue(*block.client.steps())


async def watched(client: Client) -> None:
    """WATCH of own keys: EXEC is carried out unless one was written, and then it is not."""
    draw, model = client.draw, client.model
    places = [place for place in (draw.own(TEXT) for _ in range(3)) if _stays(client, place)]
    if not places:
        return
    db = draw.db
    await client.ask(((b"WATCH", *(place[1] for place in places)), OK))
    if draw.chance(0.3):
        await client.ask(((b"GET", places[0][1]), model.data(places[0])))
    if draw.chance(0.1):
        await client.ask(((b"SELECT", db), OK))
    watch = Watch.QUIET
    if draw.chance(0.4):
        watch = Watch.TOUCHED
        place, word = draw.pick(places), draw.word()
        words: Words = (b"SET", place[1], word)
        if draw.chance(0.7):
            try:
                client.expect(words, OK, await client.second.call(*words, db=db))
            except Lost:
                model.unsure.add(place)
                raise
        else:
            await client.ask((words, OK))
        model.put(place, word)
    if draw.chance(0.15):
        await client.ask(((b"UNWATCH",), OK))
        watch = Watch.NONE
    block = Pieces(client)
    await block.say((b"MULTI",), OK)
    await _fill(block)
    if draw.chance(0.1):
        await block.discard()
    else:
        await block.execute(watch)


def _stays(client: Client, place: Place) -> bool:
    """Whether a key is there and does not expire: its end would be a change."""
    value = client.model.peek(place)
    return value is not None and value.low == NEVER and place not in client.model.unsure


async def optimistic(client: Client) -> None:
    """A counter of everybody's, raised with WATCH; it is tried until it is done."""
    draw = client.draw
    place = draw.db, shared_key(OPTIMISTIC, draw.number(0, HOT))
    tally = client.shared.ledger.tally(OPTIMISTIC, place, 0)
    for _ in range(TRIES):
        low = tally.low
        _, found = await client.ask(((b"WATCH", place[1]), OK), ((b"GET", place[1]), ANY))
        value = int(found or 0)
        if not low <= value <= tally.asked:
            client.complain((b"GET", place[1]), f"{low} to {tally.asked}", found)
        tally.asked += 1
        block = Pieces(client)
        words: Words = (b"SET", place[1], value + 1)
        await block.say((b"MULTI",), OK)
        await block.queue(Step(words, (), lambda _: OK))
        if await block.execute(Watch.SHARED):
            tally.acked += 1
            tally.seen = max(tally.seen, value + 1)
            return
        tally.asked -= 1
