"""Messages over flips: each subscriber gets each of them once, and each publisher's in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from migrator.errors import Refused
from proxy.subscribing import Subscriber as Inner
from tests.integration.clients import POLL_S, Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, refusal
from tests.servers import engine_pairs

SUBSCRIBERS = 200
PUBLISHERS = 20
CHANNELS = 5
# Of each publisher, at least, before, between and behind the flips.
MESSAGES = 15
# 200 subscribers are read by this one process, too.
PATIENCE_S = 60.0


class Subscriber:
    """Reads all that comes, and keeps it by publisher."""

    def __init__(self, client: Client, channels: set[int]) -> None:
        self.client = client
        self.channels = channels
        self.heard: defaultdict[int, list[int]] = defaultdict(list)

    async def listen(self) -> None:
        async for message in self.client.messages():
            assert message[0].endswith(b"message"), message
            publisher, number = message[-1].split()
            self.heard[int(publisher)].append(int(number))


async def subscribed(migration: Migration, at: int, *, shards: bool) -> Subscriber:
    """Every kind of subscription in turn, in both protocols."""
    client = await migration.client()
    if at % 2:
        await client.call("HELLO", 3)
    channels = {at % CHANNELS, (at + 1) % CHANNELS}
    name = "shard" if shards else "channel"
    names = [f"{name}:{channel}" for channel in channels]
    if shards:
        words = ["SSUBSCRIBE", *names]
    elif at % 4 < 2:
        words = ["SUBSCRIBE", *names]
    else:
        channels = set(range(CHANNELS))
        words = ["PSUBSCRIBE", f"{name}:*"]
    client.send(*words)
    for _ in words[1:]:
        await client.reply()
    return Subscriber(client, channels)


class Publisher:
    """Publishes numbers, in one of several ways, and checks who was reached."""

    def __init__(self, client: Client, at: int, name: str, receivers: list[int]) -> None:
        self.client = client
        self.at = at
        self.name = name
        self.receivers = receivers
        self.count = 0

    def next(self) -> tuple[str, str, str]:
        channel = f"{self.name}:{self.count % CHANNELS}"
        message = f"{self.at} {self.count}"
        self.count += 1
        return ("SPUBLISH" if self.name == "shard" else "PUBLISH", channel, message)

    async def publish(self) -> None:
        """As many as there are channels, so that each is reached once."""
        client, commands = self.client, [self.next() for _ in range(CHANNELS)]
        way = self.at % 5
        if way == 0:
            reached = [await client.call(*command) for command in commands]
        elif way == 1:
            for command in commands:
                client.send(*command)
            reached = [await client.reply() for _ in commands]
        elif way == 2:
            reached = await client.block(*commands)
        elif way == 3:
            script = "return redis.call(ARGV[1], ARGV[2], ARGV[3])"
            reached = [await client.call("EVAL", script, 0, *command) for command in commands]
        else:
            await client.call("MULTI")
            for command in commands:
                await client.call(*command)
            reached = await client.call("EXEC")
        assert reached == self.receivers


@engine_pairs
@pytest.mark.parametrize("shards", [False, True], ids=["channels", "shard channels"])
async def test_each_message_comes_once_and_in_order_over_three_flips(
    migration: Migration, shards: bool
) -> None:
    if shards and not all(s.engine.version >= (7,) for s in (migration.source, migration.target)):
        pytest.skip("Redis 6.2 has no shard channels")
    await migration.verified()
    subscribers = [await subscribed(migration, at, shards=shards) for at in range(SUBSCRIBERS)]
    receivers = [sum(channel in s.channels for s in subscribers) for channel in range(CHANNELS)]
    name = "shard" if shards else "channel"
    publishers = [
        Publisher(await migration.client(), at, name, receivers) for at in range(PUBLISHERS)
    ]
    ended = asyncio.Event()

    async def work(publisher: Publisher) -> None:
        while not ended.is_set():
            # Nobody runs away from the slowest: what it publishes, hundreds have to read.
            if publisher.count <= min(each.count for each in publishers) + MESSAGES:
                await publisher.publish()
            else:
                await asyncio.sleep(POLL_S)

    async with asyncio.TaskGroup() as tasks:
        listening = [tasks.create_task(each.listen()) for each in subscribers]
        working = [tasks.create_task(work(each)) for each in publishers]
        for flip in (migration.cutover, migration.rollback, migration.cutover, None):
            before = [each.count for each in publishers]
            await until(
                lambda before=before: all(
                    each.count >= count + MESSAGES
                    for each, count in zip(publishers, before, strict=True)
                ),
                "everybody has published",
                PATIENCE_S,
            )
            if flip is not None:
                await flip()
        ended.set()
        await asyncio.gather(*working)
        for each in subscribers:
            await until(
                lambda each=each: all(
                    each.heard[at][-1:]
                    == [max(n for n in range(p.count) if n % CHANNELS in each.channels)]
                    for at, p in enumerate(publishers)
                ),
                "the last messages have come",
                PATIENCE_S,
            )
        for task in listening:
            task.cancel()
    for each in subscribers:
        for at, publisher in enumerate(publishers):
            wanted = [n for n in range(publisher.count) if n % CHANNELS in each.channels]
            assert each.heard[at] == wanted


def only_subscriber(migration: Migration) -> Inner:
    (subscriber,) = migration.proxy.subscriptions._all
    return subscriber


async def test_a_message_on_its_way_to_us_holds_the_flip(
    migration: Migration, wires: Wires
) -> None:
    await migration.verified()
    client, publisher = await migration.client(), await migration.client()
    assert await client.call("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
    receiver = only_subscriber(migration).receiver
    wires.hold_replies(receiver.lane)
    assert await publisher.call("PUBLISH", "c", "before") == 1
    flip = asyncio.create_task(migration.cutover())
    await until(lambda: flip.done() or receiver._awaited, "its connection is asked")
    assert not flip.done()
    wires.release_replies(receiver.lane)
    await flip
    assert await publisher.call("PUBLISH", "c", "behind") == 1
    assert await client.reply() == [b"message", b"c", b"before"]
    assert await client.reply() == [b"message", b"c", b"behind"]


async def test_what_a_subscriber_publishes_itself_is_answered_before_others_are_asked(
    migration: Migration, wires: Wires
) -> None:
    await migration.verified()
    client, publisher = await migration.client(), await migration.client()
    await client.call("SUBSCRIBE", "c")
    receiver = only_subscriber(migration).receiver
    await publisher.call("HELLO", 3)
    await publisher.call("SUBSCRIBE", "d")
    (own,) = {each.receiver for each in migration.proxy.subscriptions._all} - {receiver}
    wires.hold_sending(own.lane)
    publisher.send("PUBLISH", "c", "before")
    await until(lambda: own.is_asked, "it is on its way")
    wires.hold_replies(receiver.lane)
    flip = asyncio.create_task(migration.cutover())
    await until(lambda: len(own._awaited) == 2, "its connection is asked")
    assert not receiver.is_asked
    wires.release_sending(own.lane)
    await until(lambda: receiver.is_asked, "then the others are")
    wires.release_replies(receiver.lane)
    await flip
    assert await publisher.reply() == 1
    assert await publisher.call("PUBLISH", "c", "behind") == 1
    assert [await client.reply() for _ in range(2)] == [
        [b"message", b"c", b"before"],
        [b"message", b"c", b"behind"],
    ]


async def test_what_a_client_that_tracks_publishes_is_answered_before_subscribers_are_asked(
    migration: Migration, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migration.verified()
    client, publisher = await migration.client(), await migration.client()
    await client.call("SUBSCRIBE", "c")
    receiver = only_subscriber(migration).receiver
    await publisher.call("HELLO", 3)
    await publisher.call("CLIENT", "TRACKING", "ON")
    pins = migration.proxy.pins
    (pinned,) = pins._all.values()
    settle = pins.settle
    settling = asyncio.Event()

    async def told() -> None:
        settling.set()
        await settle()

    monkeypatch.setattr(pins, "settle", told)
    lane = pinned._wire.lane
    wires.hold_sending(lane)
    publisher.send("PUBLISH", "c", "before")
    await until(lambda: lane.ops, "it is on its way")
    wires.hold_replies(receiver.lane)
    flip = asyncio.create_task(migration.cutover())
    await until(lambda: settling.is_set() or receiver.is_asked, "the flip settles")
    assert not receiver.is_asked
    wires.release_sending(lane)
    await until(lambda: receiver.is_asked, "then the subscriber is asked")
    wires.release_replies(receiver.lane)
    await flip
    assert await client.reply() == [b"message", b"c", b"before"]


async def test_what_a_script_publishes_in_a_loop_is_answered_before_subscribers_are_asked(
    migration: Migration, wires: Wires
) -> None:
    await migration.verified()
    client, publisher = await migration.client(), await migration.client()
    await client.call("SUBSCRIBE", "c")
    receiver = only_subscriber(migration).receiver
    script = "for i = 1, 1 do redis.call('PUBLISH', 'c', ARGV[1]) end"
    await publisher.call("EVAL", script, 0, "first")
    assert await client.reply() == [b"message", b"c", b"first"]
    (lane,) = migration.proxy.scripting._lanes.values()
    wires.hold_sending(lane)
    publisher.send("EVAL", script, 0, "before")
    await until(lambda: lane.ops, "it is on its way")
    wires.hold_replies(receiver.lane)
    flip = asyncio.create_task(migration.cutover())
    await until(lambda: len(lane.ops) > 1 or receiver.is_asked, "the flip settles")
    assert not receiver.is_asked
    wires.release_sending(lane)
    await until(lambda: receiver.is_asked, "then the subscriber is asked")
    wires.release_replies(receiver.lane)
    await flip
    assert await client.reply() == [b"message", b"c", b"before"]


# -- the store's own events -----------------------------------------------------------------------


async def test_the_events_of_writes_come_once_and_in_order_over_flips(
    migration: Migration,
) -> None:
    for server in (migration.source, migration.target):
        server.cli("CONFIG", "SET", "notify-keyspace-events", "KEA")
    await migration.verified()
    client, writer = await migration.client(), await migration.client()
    assert await client.call("PSUBSCRIBE", "__keyspace@0__:number:*")
    count = 0
    for flip in (migration.cutover, migration.rollback, migration.cutover, None):
        for _ in range(100):
            count += 1
            writer.send("SET", f"number:{count}", count)
        for _ in range(100):
            assert await writer.reply() == b"OK"
        if flip is not None:
            await flip()
    for number in range(1, count + 1):
        event = b"__keyspace@0__:number:%d" % number
        assert await client.reply() == [b"pmessage", b"__keyspace@0__:number:*", event, b"set"]


async def test_events_that_the_target_would_not_tell_of_block_the_cutover(
    migration: Migration,
) -> None:
    migration.source.cli("CONFIG", "SET", "notify-keyspace-events", "KA")
    report = await migration.controller.analyze()
    (finding,) = [each for each in report["findings"] if each["name"] == "keyspace_events"]
    assert finding["severity"] == "warning" and "'$Kdeghlstxz'" in finding["message"]
    await migration.verified()
    assert await refusal(migration.cutover()) == {"keyspace_events"}
    migration.target.cli("CONFIG", "SET", "notify-keyspace-events", "KEA")
    await migration.cutover()


async def test_who_cannot_subscribe_on_the_other_store_refuses_the_flip(
    migration: Migration,
) -> None:
    for server, channels in ((migration.source, "&*"), (migration.target, "&other")):
        server.cli("ACL", "SETUSER", "some", "on", ">pw", "+@all", "~*", "resetchannels", channels)
    await migration.verified()
    client = await migration.client(user="some", password="pw")
    await client.call("SUBSCRIBE", "c")
    with pytest.raises(Refused, match="a subscriber cannot follow: some: NOPERM"):
        await migration.cutover()
    migration.target.cli("ACL", "SETUSER", "some", "&c")
    await migration.cutover()
    publisher = await migration.client()
    assert await publisher.call("PUBLISH", "c", "1") == 1
    assert await client.reply() == [b"message", b"c", b"1"]
