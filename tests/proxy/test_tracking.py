"""CLIENT TRACKING and its kin: the same frames as from the store, in the same places."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from proxy.cursors import TAG
from tests.servers import Server, every_engine

from .clients import Client, Proxied, connected, encoded, until

MARKER = b"$6\r\nmarker\r\n"
PONG = b"*2\r\n$4\r\npong\r\n$6\r\nmarker\r\n"


class Talk:
    """Some clients of one port, by letter; `{a}` in a line is the number of client a."""

    def __init__(self, clients: dict[str, Client], numbers: dict[str, str]) -> None:
        self.clients = clients
        self.numbers = numbers
        self.subscribed: set[str] = set()
        self.resp3: set[str] = set()
        self.last = self.line = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, port: int, letters: str) -> AsyncIterator[Talk]:
        async with connected(*[port] * (len(letters) + 1)) as (*opened, _):
            clients = dict(zip(letters, opened, strict=True))
            numbers = {}
            for letter, client in clients.items():
                await client.call("CLIENT SETNAME marker")
                numbers[letter] = (await client.call("CLIENT ID"))[1:-2].decode()
            yield cls(clients, numbers)

    def send(self, step: str) -> None:
        letter, self.line = step.split(": ", 1)
        self.last = letter
        line = self.line
        if line == "hang up":
            self.clients[letter].writer.close()
        else:
            self.clients[letter].send(*line.format(**self.numbers).split("; "))
        if line == "HELLO 3":
            self.resp3.add(letter)
        if line.startswith("SUBSCRIBE") and letter not in self.resp3:
            # Such a client may not say much.
            self.subscribed.add(letter)
        elif line.startswith(("UNSUBSCRIBE", "RESET", "HELLO")):
            self.subscribed.discard(letter)

    async def heard(self) -> dict[str, list[bytes]]:
        """What has come to each of them, until each is answered once more."""
        found = {}
        # Whoever has spoken first: its answer tells that it has been done.
        for letter, client in sorted(self.clients.items(), key=lambda each: each[0] != self.last):
            if client.writer.is_closing():
                continue
            is_subscribed = letter in self.subscribed
            client.send("PING marker" if is_subscribed else "CLIENT GETNAME")
            frames: list[bytes] = []
            while (frame := (await client.replies(1))[0]) != (PONG if is_subscribed else MARKER):
                frames.append(self.masked(frame))
            found[letter] = frames
        return found

    async def take(self, counts: dict[str, int]) -> dict[str, list[bytes]]:
        return {
            letter: [self.masked(frame) for frame in await self.clients[letter].replies(count)]
            for letter, count in counts.items()
        }

    def masked(self, frame: bytes) -> bytes:
        if b"server" in frame:
            return b"a greeting"
        if b"redir" not in frame and not self.line.endswith("GETREDIR"):
            return frame
        for letter, number in self.numbers.items():
            frame = frame.replace(f":{number}\r\n".encode(), f":{letter}\r\n".encode())
        return frame


async def compare(beside: Proxied, letters: str, steps: list[str]) -> list[dict[str, list[bytes]]]:
    """Whoever gets what, step by step: from the store, and then the same through the proxy."""
    wanted = []
    beside.source.cli("FLUSHALL")
    async with Talk.of(beside.source.port, letters) as talk:
        for step in steps:
            talk.send(step)
            wanted.append(await talk.heard())
    beside.source.cli("FLUSHALL")
    async with Talk.of(beside.port, letters) as talk:
        for step, expected in zip(steps, wanted, strict=True):
            talk.send(step)
            got = await talk.take({letter: len(frames) for letter, frames in expected.items()})
            assert (step, got) == (step, expected)
        assert not any((await talk.heard()).values())
    return wanted


@pytest.fixture
async def beside(server: Server, proxies: Callable[..., Awaitable[Proxied]]) -> Proxied:
    """A proxy before one engine, which is asked directly, too."""
    return await proxies(server, server)


TALKS = {
    "reads are tracked": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: GET k", "b: SET k 1", "b: SET k 2", "a: GET k",
        "a: MGET k l m", "b: MSET k 3 l 4 n 5", "a: HGETALL h", "b: HSET h f v", "a: EXISTS e",
        "b: LPUSH e x", "a: CLIENT TRACKINGINFO", "a: CLIENT GETREDIR", "a: CLIENT TRACKING OFF",
        "a: GET k", "b: SET k 6", "a: CLIENT TRACKINGINFO", "a: CLIENT GETREDIR",
    ],
    "own writes": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: GET k", "a: SET k 1", "a: GET k",
        "a: CLIENT TRACKING ON NOLOOP", "a: GET k", "a: SET k 2", "a: GET k", "b: SET k 3",
        "a: CLIENT TRACKINGINFO",
    ],
    "flush": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: GET k", "b: FLUSHALL", "a: GET k", "b: FLUSHDB",
        "a: GET k", "b: SET k 1", "a: CLIENT TRACKING ON NOLOOP", "a: FLUSHALL",
    ],
    "broadcast": [
        "a: HELLO 3", "a: CLIENT TRACKING ON BCAST PREFIX a PREFIX b", "b: SET a1 1", "b: SET c1 1",
        "b: MSET a2 1 b2 1 c2 1", "a: CLIENT TRACKINGINFO", "a: CLIENT TRACKING ON BCAST PREFIX c",
        "b: SET c1 1", "a: CLIENT TRACKINGINFO", "a: CLIENT TRACKING ON BCAST PREFIX ab",
        "a: CLIENT TRACKING ON", "a: CLIENT TRACKING OFF", "b: SET a1 1",
        "a: CLIENT TRACKING ON BCAST NOLOOP", "a: SET x 1", "b: SET x 1", "b: FLUSHALL",
    ],
    "opt in": [
        "a: HELLO 3", "a: CLIENT TRACKING ON OPTIN", "a: GET k", "b: SET k 1",
        "a: CLIENT CACHING YES", "a: CLIENT TRACKINGINFO", "a: GET k", "a: CLIENT TRACKINGINFO",
        "a: GET l", "b: MSET k 2 l 2", "a: CLIENT CACHING NO", "a: CLIENT CACHING maybe",
        "a: CLIENT CACHING YES", "a: PING", "a: GET k", "b: SET k 3", "a: CLIENT CACHING YES",
        "a: NoSuch", "a: GET k", "b: SET k 4", "a: CLIENT CACHING YES", "a: UNWATCH", "a: GET k",
        "b: SET k 5", "a: CLIENT CACHING YES", "a: CLIENT GETREDIR", "a: GET k", "b: SET k 6",
        "a: CLIENT CACHING YES", "a: SELECT 1", "a: GET k", "a: SELECT 0", "b: SET k 7",
        "a: CLIENT CACHING YES", "a: GET k x", "a: GET k", "b: SET k 8",
    ],
    "opt in, a block": [
        "a: HELLO 3", "a: CLIENT TRACKING ON OPTIN", "a: CLIENT CACHING YES",
        "a: MULTI; GET k; GET l; EXEC", "a: GET m", "b: MSET k 1 l 1 m 1",
        "a: CLIENT CACHING YES", "a: MULTI; DISCARD", "a: GET k", "b: SET k 2",
        "a: MULTI; GET k; EXEC", "b: SET k 3", "a: CLIENT CACHING YES",
        "a: WATCH k; MULTI; GET k; EXEC", "b: SET k 4", "a: CLIENT CACHING YES",
        "a: MULTI; GET k; SELECT 1; GET k; EXEC", "b: SET k 4", "a: SELECT 0",
    ],
    "opt out": [
        "a: HELLO 3", "a: CLIENT TRACKING ON OPTOUT", "a: CLIENT CACHING YES",
        "a: CLIENT CACHING NO", "a: CLIENT TRACKINGINFO", "a: GET k", "b: SET k 1", "a: GET k",
        "b: SET k 2", "a: CLIENT CACHING NO", "a: UNWATCH", "a: GET k", "b: SET k 3",
        "a: CLIENT CACHING NO", "a: FLUSHALL x", "a: GET k", "b: SET k 4",
    ],
    "mistakes": [
        "a: CLIENT TRACKING maybe", "a: CLIENT TRACKING ON BAR",
        "a: CLIENT TRACKING ON OPTIN OPTOUT",
        "a: CLIENT TRACKING ON BCAST OPTIN", "a: CLIENT TRACKING ON PREFIX a",
        "a: CLIENT TRACKING ON BCAST PREFIX a PREFIX ab", "a: CLIENT TRACKING ON REDIRECT 99999",
        "a: CLIENT TRACKING ON REDIRECT 0", "a: CLIENT TRACKING ON REDIRECT x",
        "a: CLIENT TRACKING ON REDIRECT", "a: CLIENT TRACKING ON PREFIX", "a: CLIENT TRACKING",
        "a: CLIENT TRACKING ON REDIRECT {b} REDIRECT {b}", "a: CLIENT TRACKING OFF BCAST",
        "a: CLIENT CACHING YES", "a: CLIENT CACHING", "a: CLIENT TRACKINGINFO x",
        "a: CLIENT TRACKINGINFO", "a: CLIENT GETREDIR", "a: CLIENT TRACKING ON OPTIN",
        "a: CLIENT TRACKING ON OPTOUT", "a: CLIENT TRACKING ON BCAST", "a: CLIENT TRACKINGINFO",
        "a: CLIENT TRACKING OFF", "a: CLIENT TRACKING ON BCAST PREFIX a",
        "a: CLIENT TRACKING ON BCAST PREFIX a", "a: CLIENT TRACKINGINFO",
    ],
    "redirect to a subscriber": [
        "b: SUBSCRIBE __redis__:invalidate", "a: CLIENT TRACKING ON REDIRECT {b}", "a: GET k",
        "c: SET k 1", "a: CLIENT TRACKINGINFO", "a: CLIENT GETREDIR", "a: MGET k l",
        "c: MSET k 2 l 2", "a: GET k", "c: FLUSHALL", "a: CLIENT TRACKING ON", "a: GET k",
        "c: SET k 3", "a: CLIENT TRACKINGINFO", "a: CLIENT TRACKING ON REDIRECT {b} NOLOOP",
        "a: GET k", "a: SET k 4", "a: GET k", "c: SET k 5",
    ],
    "redirect to whom it may concern": [
        "a: CLIENT TRACKING ON REDIRECT {b}", "a: GET k", "c: SET k 1", "b: SUBSCRIBE x",
        "a: GET k", "c: SET k 2", "b: UNSUBSCRIBE", "a: GET k", "c: SET k 3", "b: HELLO 3",
        "a: GET k", "c: SET k 4", "b: RESET; CLIENT SETNAME marker", "a: GET k", "c: SET k 5",
    ],
    "redirect of a broadcast": [
        "b: HELLO 3", "a: CLIENT TRACKING ON REDIRECT {b} BCAST PREFIX a", "c: SET a1 1",
        "c: SET b1 1", "c: FLUSHALL", "a: CLIENT TRACKING OFF", "c: SET a1 1",
    ],
    "redirect to oneself": [
        "a: HELLO 3", "a: CLIENT TRACKING ON REDIRECT {a}", "a: GET k", "c: SET k 1",
        "a: CLIENT TRACKINGINFO", "a: CLIENT GETREDIR",
    ],
    "redirect to one that leaves": [
        "a: HELLO 3", "a: CLIENT TRACKING ON REDIRECT {b}", "a: GET k", "c: SET k 1", "b: hang up",
        "a: CLIENT TRACKINGINFO", "a: GET k", "c: SET k 2", "a: CLIENT TRACKINGINFO",
        "a: CLIENT GETREDIR", "a: GET k", "c: SET k 3", "a: CLIENT TRACKING ON", "a: GET k",
        "c: SET k 4", "a: CLIENT TRACKINGINFO",
    ],
    "another protocol": [
        "a: CLIENT TRACKING ON", "a: GET k", "b: SET k 1", "a: HELLO 3", "a: GET k", "b: SET k 2",
        "a: HELLO 2", "a: GET k", "b: SET k 3", "a: CLIENT TRACKINGINFO", "a: HELLO 3",
        "a: CLIENT TRACKINGINFO", "a: HGETALL h", "b: HSET h f v",
    ],
    "another user": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: GET k", "a: AUTH reader pw", "b: SET k 1",
        "a: GET k", "a: SET k 2", "b: SET k 3", "a: AUTH reader wrong", "a: GET k", "b: SET k 4",
        "a: HELLO 3 AUTH default any SETNAME marker", "a: SET k 5", "a: ACL WHOAMI", "a: GET k",
        "b: SET k 6",
    ],
    "another database": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: SELECT 3", "a: GET k", "b: SET k 1",
        "a: SET k 2", "a: GET k", "a: SELECT 0", "a: GET k", "a: SELECT 99", "a: SELECT x",
        "b: SET k 3",
    ],
    "reset": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: GET k", "a: RESET; CLIENT SETNAME marker",
        "b: SET k 1", "a: CLIENT TRACKINGINFO", "a: HELLO 3", "a: GET k", "b: SET k 2",
    ],
    "blocks": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: MULTI; GET k; SET k 0; GET l; EXEC",
        "b: MSET k 1 l 1", "a: WATCH k", "a: GET k", "b: SET k 2", "a: MULTI; SET k 3; EXEC",
        "a: GET k", "a: MULTI; SET k 4; SELECT 1; GET k; EXEC", "a: GET k", "a: SELECT 0",
        "b: SET k 5",
    ],
    "tracking in a block": [
        "a: HELLO 3", "a: MULTI; GET j; CLIENT TRACKING ON; GET k; CLIENT TRACKINGINFO; EXEC",
        "b: MSET j 1 k 1", "a: GET k", "b: SET k 2", "a: MULTI; CLIENT TRACKING OFF; GET k; EXEC",
        "b: SET k 3", "a: CLIENT TRACKINGINFO", "a: MULTI; CLIENT TRACKING ON; DISCARD",
        "a: CLIENT TRACKINGINFO", "a: MULTI; CLIENT TRACKING ON; CLIENT TRACKING maybe; EXEC",
        "a: CLIENT TRACKINGINFO", "a: GET k", "b: SET k 4", "a: CLIENT TRACKING OFF",
        "a: MULTI; CLIENT TRACKING ON; CLIENT TRACKING OFF; CLIENT GETREDIR; EXEC", "a: GET k",
        "b: SET k 5", "a: MULTI; CLIENT TRACKING ON; GET; EXEC", "a: CLIENT TRACKINGINFO",
        "a: CLIENT TRACKING ON OPTIN", "a: MULTI; GET j; CLIENT CACHING YES; GET k; EXEC; GET l",
        "b: MSET j 1 k 1 l 1", "a: MULTI; CLIENT CACHING maybe; CLIENT GETREDIR; EXEC",
    ],
    "a scan": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "b: HSET h f v", "a: HSCAN h 0", "b: HSET h f w",
        "a: SCAN 0", "b: SET k 1",
    ],
    "expiry": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "b: SET k 1", "a: GET k", "b: PEXPIRE k 100000",
        "a: GET k", "b: PEXPIRE k -1", "a: GET k",
    ],
    "scripts": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: EVAL return(redis.call('get',KEYS[1])) 1 k",
        "b: SET k 1", "a: EVAL redis.call('set',KEYS[1],'x')return(1) 1 k", "a: GET k",
        "b: EVAL redis.call('set',KEYS[1],'x')return(1) 1 k", "a: EVALSHA 00 0",
        "a: EVAL return(redis.call('get','l')) 0", "b: SET l 1",
    ],
    "waiting": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: LLEN l", "b: RPUSH l a b", "a: BLPOP l 1",
        "a: LRANGE l 0 -1", "b: LPOP l", "a: XREAD BLOCK 1 STREAMS x $", "a: BLPOP none 0.01",
        "a: XADD x 1-1 a b", "a: XREAD BLOCK 1 STREAMS x 0", "b: XADD x 2-1 a b",
    ],
    "subscriptions": [
        "a: HELLO 3", "a: CLIENT TRACKING ON", "a: SUBSCRIBE c", "a: GET k", "b: SET k 1",
        "b: PUBLISH c m", "a: UNSUBSCRIBE", "a: GET k", "b: SET k 2", "b: PUBLISH c m",
        "a: CLIENT TRACKING OFF", "a: SUBSCRIBE c", "b: PUBLISH c m",
    ],
    "silence": [
        "a: HELLO 3", "a: CLIENT TRACKING ON BCAST", "a: CLIENT REPLY SKIP; GET k",
        "b: SET k 2",
    ],
}  # fmt: skip


@every_engine
@pytest.mark.parametrize("name", TALKS)
async def test_everybody_hears_what_the_store_says(beside: Proxied, name: str) -> None:
    beside.source.cli("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+client", "+hello")
    await compare(beside, "abc", TALKS[name])


@pytest.mark.parametrize("name", TALKS)
async def test_the_same_while_writes_are_mirrored(mirrored: Proxied, name: str) -> None:
    mirrored.source.cli(
        "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+client", "+hello"
    )
    await compare(mirrored, "abc", TALKS[name])
    await mirrored.applied()
    sizes = [each.cli("DBSIZE") for each in (mirrored.source, mirrored.target)]
    assert sizes[0] == sizes[1]


@every_engine
async def test_a_user_without_the_right_is_refused_by_the_store(beside: Proxied) -> None:
    beside.source.cli("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+get", "+ping")
    for line in ("CLIENT TRACKING ON", "CLIENT TRACKING OFF", "CLIENT TRACKINGINFO",
                 "CLIENT GETREDIR", "CLIENT CACHING YES", "CLIENT TRACKING ON BCAST"):  # fmt: skip
        answers = []
        for port in (beside.source.port, beside.port):
            async with connected(port) as client:
                await client.call("AUTH weak pw")
                answers.append(await client.call(line))
        assert answers[0] == answers[1] and answers[0].startswith(b"-NOPERM")
    assert not beside.proxy._own


@every_engine
async def test_a_client_that_leaves_no_trace_leaves_none(beside: Proxied) -> None:
    """CLIENT NO-TOUCH: its reads do not count as a use of the key."""
    beside.source.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    heard = []
    for port in (beside.source.port, beside.port):
        beside.source.cli("FLUSHALL")
        async with connected(port, port) as (one, other):
            uses = []
            await other.call("SET k 1")
            answer = await one.call("CLIENT NO-TOUCH ON")
            for lines in (["GET k"] * 30, ["CLIENT NO-TOUCH OFF", *["GET k"] * 30]):
                await one.calls(*lines)
                uses.append(int((await other.call("OBJECT FREQ k"))[1:-2]))
            # How often uses are counted is left to chance, but for the first one.
            heard.append((answer, [min(count, 6) for count in uses]))
    assert heard[1] == heard[0]
    assert heard[0][1] == ([5, 6] if heard[0][0] == b"+OK\r\n" else [6, 6])
    assert not any(session.pinned for session in beside.proxy.sessions)
    beside.source.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")


# -- connections ---------------------------------------------------------------------------------


async def test_the_store_knows_the_connection_by_our_name_whatever_the_clients_is(
    proxied: Proxied,
) -> None:
    async with proxied.client() as client:
        await client.calls("CLIENT TRACKING ON", "HELLO 3 SETNAME theirs", "CLIENT SETNAME other")
        assert await client.call("CLIENT GETNAME") == b"$5\r\nother\r\n"
        listed = proxied.source.cli("CLIENT", "LIST").decode()
        assert "name=other" not in listed and "name=theirs" not in listed
        assert " name=keyferry-lane:" in listed


async def test_with_tracking_off_the_client_is_back_on_the_lanes(proxied: Proxied) -> None:
    async with proxied.client() as client:
        (session,) = proxied.proxy.sessions
        for _ in range(3):
            await client.calls("HELLO 3", "CLIENT TRACKING ON", "SET k v", "GET k")
            assert len(proxied.proxy._own) == 1
            assert session.primary_lane() in proxied.proxy._own
            await client.calls("CLIENT TRACKING OFF", "GET k")
            assert not proxied.proxy._own
            assert session.primary_lane() not in proxied.proxy._own
    await until(lambda: not proxied.proxy.sessions)
    assert not proxied.proxy.pins._all


@pytest.mark.parametrize("ends", ["hang up", "QUIT", "RESET", "kill"])
async def test_a_client_that_goes_takes_its_connections_along(proxied: Proxied, ends: str) -> None:
    async with proxied.client(3) as (one, other, killer):
        number = (await one.call("CLIENT ID"))[1:-2].decode()
        await one.call(f"CLIENT TRACKING ON REDIRECT {number}")
        await other.call(f"CLIENT TRACKING ON REDIRECT {number}")
        assert len(proxied.proxy._own) == 3
        if ends == "hang up":
            await one.close()
        elif ends == "kill":
            await killer.call(f"CLIENT KILL ID {number}")
        else:
            await one.call(ends)
        # RESET ends tracking; the client is there and may be redirected to.
        await until(lambda: len(proxied.proxy._own) == (2 if ends == "RESET" else 1))
        await other.call("CLIENT TRACKING OFF")
        assert not proxied.proxy._own
        assert not proxied.proxy.pins._inboxes


async def test_many_clients_share_the_inbox_of_the_one_they_redirect_to(proxied: Proxied) -> None:
    async with proxied.client(6) as (listener, writer, *trackers):
        await listener.call("HELLO 3")
        number = (await listener.call("CLIENT ID"))[1:-2].decode()
        for at, each in enumerate(trackers):
            await each.calls(f"CLIENT TRACKING ON REDIRECT {number}", f"GET k{at}")
        assert len(proxied.proxy._own) == len(trackers) + 1
        await writer.call("MSET k0 1 k1 1 k2 1 k3 1 other 1")
        frames = await listener.replies(4)
        assert sorted(frames) == [
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$2\r\nk%d\r\n" % at for at in range(4)
        ]


async def test_a_block_that_turns_tracking_on_and_off_leaves_nothing(proxied: Proxied) -> None:
    async with proxied.client() as client:
        for lines, left in (
            (["MULTI", "CLIENT TRACKING ON", "EXEC"], 1),
            (["MULTI", "CLIENT TRACKING OFF", "EXEC"], 0),
            (["MULTI", "CLIENT TRACKING ON", "DISCARD"], 0),
            (["MULTI", "CLIENT TRACKING ON", "GET", "EXEC"], 0),
            (["MULTI", "CLIENT TRACKING ON", "CLIENT TRACKING OFF", "EXEC"], 0),
        ):
            for line in lines:
                await client.call(line)
            assert len(proxied.proxy.pins._all) == left, lines
        assert await client.call("SET k v") == b"+OK\r\n"


async def test_a_lost_connection_ends_the_client_whose_cache_nobody_would_invalidate(
    proxied: Proxied,
) -> None:
    async with proxied.client(2) as (one, other):
        await one.calls("HELLO 3", "CLIENT TRACKING ON", "GET k")
        await other.call("GET k")
        (lane,) = proxied.proxy._own
        proxied.source.cli("CLIENT", "KILL", "ID", lane.client_id)
        assert await one.rest() == b""
        assert await other.call("SET k v") == b"+OK\r\n"


async def test_a_lost_inbox_ends_those_who_redirect_to_it(proxied: Proxied) -> None:
    async with proxied.client(2) as (listener, tracker):
        await listener.call("HELLO 3")
        number = (await listener.call("CLIENT ID"))[1:-2].decode()
        await tracker.call(f"CLIENT TRACKING ON REDIRECT {number}")
        inbox = proxied.proxy.pins._inboxes[int(number)]
        proxied.source.cli("CLIENT", "KILL", "ID", inbox.wire.lane.client_id)
        assert await tracker.rest() == b""
        assert await listener.call("PING") == b"+PONG\r\n"


async def test_a_watch_is_broken_by_a_change_of_connection_and_told_as_a_change_of_the_key(
    proxied: Proxied,
) -> None:
    for before, after in (
        (["WATCH k", "CLIENT TRACKING ON"], []),
        (["CLIENT TRACKING ON", "WATCH k", "CLIENT TRACKING OFF"], []),
    ):
        async with proxied.client() as client:
            await client.calls(*before)
            assert (await client.calls("MULTI", "INCR k", "EXEC"))[-1] == b"*-1\r\n"
            assert (await client.calls("MULTI", "INCR k", "EXEC"))[-1].startswith(b"*1\r\n")
            await client.calls("CLIENT TRACKING OFF", *after)


async def test_writes_of_a_client_that_tracks_are_in_order_with_everybody_elses(
    mirrored: Proxied,
) -> None:
    async with mirrored.client(4) as clients:
        for client in clients[:2]:
            await client.calls("HELLO 3", "CLIENT TRACKING ON BCAST PREFIX none")
        for at in range(300):
            for number, client in enumerate(clients):
                client.send(f"SET k {number}-{at}", f"RPUSH l {number}-{at}", "INCR n")
        for client in clients:
            await client.replies(900)
    await mirrored.applied()
    for key, command in (("k", "GET"), ("n", "GET")):
        assert mirrored.target.cli(command, key) == mirrored.source.cli(command, key)
    everything = [
        mirrored.source.cli("LRANGE", "l", 0, -1),
        mirrored.target.cli("LRANGE", "l", 0, -1),
    ]
    assert everything[0] == everything[1] and len(everything[0]) == 1200
    assert mirrored.target.cli("GET", "n") == b"1200"


async def test_reads_of_a_client_that_tracks_are_never_shifted(mirrored: Proxied) -> None:
    def shifted() -> bool:
        return "cmdstat_get" in mirrored.target.info("commandstats")

    mirrored.proxy.shift(100)
    async with mirrored.client(2) as (one, other):
        await one.calls("HELLO 3", "CLIENT TRACKING ON", "SET k 1")
        await other.call("HELLO 3")
        await mirrored.applied()
        while not shifted():
            await other.call("GET k")
        mirrored.target.cli("CONFIG", "RESETSTAT")
        await one.calls(*["GET k"] * 20)
        assert not shifted()
        await other.call("SET k 2")
        assert await one.replies(1) == [b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"]


async def test_a_scan_of_the_other_side_begins_anew_where_it_is_tracked(proxied: Proxied) -> None:
    proxied.source.cli("HSET", "h", "f", "v")
    async with proxied.client(2) as (one, other):
        await one.calls("HELLO 3", "CLIENT TRACKING ON")
        frame = await one.call(f"HSCAN h {TAG | 5}")
        assert frame == b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"
        await other.call("HSET h f w")
        assert await one.replies(1) == [b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nh\r\n"]


async def test_pipelined_with_its_reads(beside: Proxied) -> None:
    heard = []
    for port in (beside.source.port, beside.port):
        beside.source.cli("FLUSHALL")
        async with connected(port, port) as (one, other):
            one.writer.write(
                encoded(
                    "HELLO 3", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES", "GET a", "GET b",
                    "CLIENT CACHING YES", "MULTI", "GET c", "GET d", "EXEC", "GET e",
                )
            )  # fmt: skip
            frames = (await one.replies(11))[1:]
            await other.call("MSET a 1 b 1 c 1 d 1 e 1")
            heard.append(frames + await one.replies(3))
            assert await one.call("PING") == b"+PONG\r\n"
    assert heard[1] == heard[0]
