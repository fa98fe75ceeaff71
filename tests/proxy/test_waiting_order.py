"""First come, first served: each interleaving of pushes, pops and tries by its name."""

from __future__ import annotations

import pytest

from proxy.sides import Side
from tests.integration.holds import Wires
from tests.servers import REDIS_6, VALKEY_9, Pair, Server

from .clients import Client, Proxied, connected, until
from .test_blocking import equal

JOB = b"*2\r\n$1\r\nq\r\n$1\r\n%b\r\n"
# A try for whoever waits, of which nobody knows in advance whether it brings something.
DOUBTFUL = (
    "EVAL return(ARGV[1]and(redis.call('rpush',KEYS[1],1)+redis.call('rpush',KEYS[2],1))) 2 q r"
)


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> Wires:
    return Wires(monkeypatch)


@pytest.fixture
async def mirrored(wires: Wires, proxied: Proxied) -> Proxied:
    """As that of everybody, but that its lanes can be held."""
    await proxied.start_mirror()
    return proxied


def lane(proxied: Proxied, resp: int = 2, user: tuple[bytes, bytes] | None = None):
    return proxied.proxy._lanes[(Side.SOURCE, user, 0, resp)]


async def parked(proxied: Proxied, count: int) -> None:
    """So many clients wait, and nothing is under way for them."""
    proxy = proxied.proxy

    def do_wait() -> bool:
        waiters = [each.waiter for each in proxy.sessions if each.waiter is not None]
        is_still = all(each.is_parked and not each.claims for each in waiters)
        return len(waiters) == count and is_still and not proxy.table.active

    await until(do_wait, f"{count} clients wait")


async def tried_for(proxied: Proxied, count: int = 1) -> None:
    """So many clients are named in tries that are under way, or wait for their turn."""
    waiters = lambda: {w for each in proxied.proxy.waiting.values() for w in each}  # noqa: E731
    await until(lambda: sum(bool(each.claims) for each in waiters()) == count)


async def in_resp3(*clients: Client) -> None:
    for client in clients:
        await client.call("HELLO 3")


async def test_a_push_then_an_lpop_by_another_lane_before_the_try_is_answered(
    mirrored: Proxied, wires: Wires
) -> None:
    async with mirrored.client(3) as (worker, producer, thief):
        await in_resp3(thief)
        worker.send("BLPOP q 0")
        await parked(mirrored, 1)
        await thief.call("GET x")
        wires.hold_sending(lane(mirrored))
        producer.send("RPUSH q a")
        await tried_for(mirrored)
        thief.send("LPOP q")
        await until(lambda: mirrored.proxy.table.entries[b"q"].queue)
        wires.release_sending(lane(mirrored))
        assert await worker.replies(1) == [JOB % b"a"]
        assert await thief.replies(1) == [b"_\r\n"]
        assert await equal(mirrored) == []


async def test_two_pushes_by_two_lanes_serve_two_clients_in_their_order(
    mirrored: Proxied, wires: Wires
) -> None:
    async with mirrored.client(4) as (first, second, one, other):
        await in_resp3(first, other)
        first.send("BLPOP q 0")
        await parked(mirrored, 1)
        second.send("BLPOP q 0")
        await parked(mirrored, 2)
        for resp in (2, 3):
            wires.hold_sending(lane(mirrored, resp))
        one.send("RPUSH q a")
        await tried_for(mirrored, 1)
        other.send("RPUSH q b")
        await tried_for(mirrored, 2)
        for resp in (3, 2):
            wires.release_sending(lane(mirrored, resp))
        assert await first.replies(1) == [JOB % b"a"]
        assert await second.replies(1) == [JOB % b"b"]
        assert await one.replies(1) == await other.replies(1) == [b":1\r\n"]


async def test_who_waits_for_two_keys_and_is_served_from_one_leaves_the_other_to_the_next(
    mirrored: Proxied, wires: Wires
) -> None:
    async with mirrored.client(4) as (first, second, one, other):
        first.send("BLPOP q r 0")
        await parked(mirrored, 1)
        second.send("BLPOP r 0")
        await parked(mirrored, 2)
        await one.call("GET x")
        wires.hold_replies(lane(mirrored))
        one.send("RPUSH q a")
        await tried_for(mirrored, 1)
        other.send("RPUSH r b")
        await tried_for(mirrored, 2)
        wires.release_replies(lane(mirrored))
        assert await first.replies(1) == [JOB % b"a"]
        assert await second.replies(1) == [(JOB % b"b").replace(b"q", b"r")]


async def test_a_try_that_brings_nothing_then_a_push_serves_who_came_first(
    mirrored: Proxied, wires: Wires
) -> None:
    """The second client may not be served while nobody knows whether the first one was."""
    async with mirrored.client(5) as (first, second, one, other, thief):
        first.send("BLPOP q r 0")
        await parked(mirrored, 1)
        second.send("BLPOP r 0")
        await parked(mirrored, 2)
        wires.hold_replies(lane(mirrored))
        one.send(DOUBTFUL)
        await tried_for(mirrored, 2)
        other.send("RPUSH r b")
        await until(lambda: mirrored.proxy.table.active > 2)
        thief.send("LPOP r")
        wires.release_replies(lane(mirrored))
        assert await first.replies(1) == [b"*2\r\n$1\r\nr\r\n$1\r\nb\r\n"]
        assert await thief.replies(1) == [b"$-1\r\n"]
        await parked(mirrored, 1)


async def test_pushes_while_first_tries_are_unanswered_serve_those_clients(
    mirrored: Proxied, wires: Wires
) -> None:
    async with mirrored.client(4) as (first, second, one, other):
        await one.call("GET x")
        wires.hold_replies(lane(mirrored))
        for worker in (first, second):
            worker.send("BLPOP q 0")
        await tried_for(mirrored, 2)
        one.send("RPUSH q a")
        other.send("RPUSH q b")
        await until(lambda: mirrored.proxy.table.active == 4)
        wires.release_replies(lane(mirrored))
        assert await first.replies(1) == [JOB % b"a"]
        assert await second.replies(1) == [JOB % b"b"]
        await parked(mirrored, 0)


async def test_a_client_leaves_while_its_first_try_is_unanswered_and_others_wait_for_that(
    mirrored: Proxied, wires: Wires
) -> None:
    async with mirrored.client(3) as (leaving, worker, producer):
        await producer.call("GET x")
        wires.hold_replies(lane(mirrored))
        leaving.send("BLPOP q 0")
        await tried_for(mirrored)
        (session,) = [each for each in mirrored.proxy.sessions if each.waiter is not None]
        session.transport.abort()
        await until(lambda: session.is_closed)
        wires.release_replies(lane(mirrored))
        await parked(mirrored, 0)
        worker.send("BLPOP q 0")
        await parked(mirrored, 1)
        assert await producer.call("RPUSH q a") == b":1\r\n"
        assert await worker.replies(1) == [JOB % b"a"]


async def test_pushes_that_fail_and_one_that_does_not_while_they_are_unanswered(
    mirrored: Proxied, wires: Wires
) -> None:
    """What was to serve the first one has failed: it is tried for again."""
    async with mirrored.client(3) as (worker, one, other):
        worker.send("BLPOP q 0")
        await parked(mirrored, 1)
        wires.hold_replies(lane(mirrored))
        one.send("SET q x", "RPUSH q a", "DEL q", "RPUSH q b")
        await until(lambda: mirrored.proxy.table.active > 3)
        other.send("LPOP q")
        wires.release_replies(lane(mirrored))
        replies = await one.replies(4)
        assert replies[1].startswith(b"-WRONGTYPE") and replies[3] == b":1\r\n"
        assert await worker.replies(1) == [JOB % b"b"]
        assert await other.replies(1) == [b"$-1\r\n"]


async def test_a_pipeline_sees_what_it_would_see_on_a_server_whoever_waits(
    mirrored: Proxied,
) -> None:
    async with mirrored.client(3) as (two, three, producer):
        await in_resp3(three)
        for worker in (two, three):
            for _ in range(20):
                worker.send("BLPOP q 0")
                await parked(mirrored, 1)
                assert await producer.calls("RPUSH q a", "LLEN q") == [b":1\r\n", b":0\r\n"]
                assert await worker.replies(1) == [JOB % b"a"]


async def test_a_client_leaves_while_its_try_is_under_way_and_that_succeeds(
    mirrored: Proxied, wires: Wires
) -> None:
    """As with a server whose client has just gone: the element is, too. On both sides."""
    async with mirrored.client(3) as (leaving, worker, producer):
        leaving.send("BLPOP q 0")
        await parked(mirrored, 1)
        worker.send("BLPOP q 0")
        await parked(mirrored, 2)
        wires.hold_replies(lane(mirrored))
        producer.send("RPUSH q a")
        await tried_for(mirrored)
        await leaving.close()
        await until(lambda: len(mirrored.proxy.waiting[b"q"]) == 1)
        wires.release_replies(lane(mirrored))
        await parked(mirrored, 1)
        await producer.replies(1)
        assert await producer.calls("LLEN q", "RPUSH q b") == [b":0\r\n", b":1\r\n"]
        assert await worker.replies(1) == [JOB % b"b"]
        assert await equal(mirrored) == []


async def test_a_client_leaves_while_its_try_waits_for_its_turn(
    mirrored: Proxied, wires: Wires
) -> None:
    """Nothing was sent for it: the next one has the element."""
    async with mirrored.client(4) as (leaving, worker, producer, other):
        await in_resp3(leaving, worker)
        leaving.send("BLPOP q 0")
        await parked(mirrored, 1)
        worker.send("BLPOP q 0")
        await parked(mirrored, 2)
        await other.call("GET x")
        wires.hold_replies(lane(mirrored))
        producer.send("RPUSH q a")
        await tried_for(mirrored)
        await leaving.close()
        await until(lambda: len(mirrored.proxy.waiting[b"q"]) == 1)
        wires.release_replies(lane(mirrored))
        assert await worker.replies(1) == [JOB % b"a"]
        assert await other.call("LLEN q") == b":0\r\n"


@pytest.mark.parametrize("push", ["RPUSH q a", DOUBTFUL])
async def test_a_timeout_while_a_try_is_under_way_waits_for_that(
    mirrored: Proxied, wires: Wires, push: str
) -> None:
    async with mirrored.client(2) as (worker, producer):
        worker.send("BLPOP q 0.05")
        await parked(mirrored, 1)
        (session,) = [each for each in mirrored.proxy.sessions if each.waiter is not None]
        wires.hold_replies(lane(mirrored))
        producer.send(push)
        await tried_for(mirrored)
        await until(lambda: session.waiter.is_expired)
        wires.release_replies(lane(mirrored))
        expected = JOB % b"a" if push.startswith("RPUSH") else b"*-1\r\n"
        assert await worker.replies(1) == [expected]


@pytest.mark.parametrize("pair", [Pair(VALKEY_9, VALKEY_9)], ids=str, indirect=True)
async def test_a_timeout_while_a_try_fails_and_the_one_behind_it_takes_something(
    mirrored: Proxied, wires: Wires
) -> None:
    async with mirrored.client(2) as (worker, producer):
        worker.send("BLPOP q r 0.05")
        await parked(mirrored, 1)
        (session,) = [each for each in mirrored.proxy.sessions if each.waiter is not None]
        wires.hold_replies(lane(mirrored))
        # For each of its keys there is a try, and both look at both.
        producer.send(DOUBTFUL)
        await tried_for(mirrored)
        await until(lambda: session.waiter.is_expired)
        # Past the proxy, between the two.
        mirrored.source.cli("RPUSH", "q", "a")
        wires.release_replies(lane(mirrored))
        assert await worker.replies(1) == [JOB % b"a"]
        assert await producer.replies(1) == [b"$-1\r\n"]
        assert await producer.call("LLEN q") == b":0\r\n"


async def test_unblocked_while_a_try_is_under_way(mirrored: Proxied, wires: Wires) -> None:
    """What the try brings is the answer, and CLIENT UNBLOCK was too late; or it was not."""
    async with mirrored.client(3) as (worker, producer, other):
        number = int((await worker.call("CLIENT ID"))[1:])
        await in_resp3(other)
        for push, answer, count in (
            ("RPUSH q a", JOB % b"a", b":0\r\n"),
            (DOUBTFUL, b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n", b":1\r\n"),
        ):
            worker.send("BLPOP q 0")
            await parked(mirrored, 1)
            wires.hold_replies(lane(mirrored))
            producer.send(push)
            await tried_for(mirrored)
            other.send(f"CLIENT UNBLOCK {number} ERROR")
            (session,) = [each for each in mirrored.proxy.sessions if each.waiter is not None]
            await until(lambda session=session: session.waiter.then is not None)
            wires.release_replies(lane(mirrored))
            assert await worker.replies(1) == [answer]
            assert await other.replies(1) == [count]
            await producer.replies(1)


async def test_the_lane_is_lost_with_a_try_under_way(mirrored: Proxied, wires: Wires) -> None:
    """Its client is closed, for nobody knows what it has taken; who was not tried for waits on."""
    async with mirrored.client(3) as (tried, worker, producer):
        await in_resp3(producer)
        tried.send("BLPOP q 0")
        await parked(mirrored, 1)
        worker.send("BLPOP q 0")
        await parked(mirrored, 2)
        wires.hold_replies(lane(mirrored))
        assert await producer.call("RPUSH q a") == b":1\r\n"
        await tried_for(mirrored)
        lane(mirrored).close()
        assert await tried.rest() == b""
        assert b"q" in mirrored.proxy.table.unproven
        await parked(mirrored, 1)
        assert await producer.call("RPUSH q b") == b":1\r\n"
        assert await worker.replies(1) == [JOB % b"b"]


async def test_a_lane_that_is_lost_while_nothing_is_under_way_ends_no_wait(
    mirrored: Proxied,
) -> None:
    async with mirrored.client(2) as (worker, producer):
        worker.send("BLPOP q 0")
        await parked(mirrored, 1)
        lane(mirrored).close()
        assert await producer.call("RPUSH q a") == b":1\r\n"
        assert await worker.replies(1) == [JOB % b"a"]


async def test_a_store_that_is_full_for_a_while_does_not_end_a_wait(
    mirrored: Proxied, wires: Wires
) -> None:
    async with mirrored.client(2) as (worker, producer):
        await in_resp3(worker)
        worker.send("BLMOVE q r LEFT RIGHT 0")
        await parked(mirrored, 1)
        wires.hold_sending(lane(mirrored, 3))
        assert await producer.call("RPUSH q a") == b":1\r\n"
        await tried_for(mirrored)
        mirrored.source.cli("CONFIG", "SET", "maxmemory", "1")
        wires.release_sending(lane(mirrored, 3))
        await parked(mirrored, 1)
        mirrored.source.cli("CONFIG", "SET", "maxmemory", "0")
        assert await worker.replies(1) == [b"$1\r\na\r\n"]


# -- users who may not do everything ------------------------------------------------------------

RIGHTS = {
    "no multi": "+@all -multi",
    "no type": "+@all -type",
    "no xinfo": "+@all -xinfo",
    "only the command": "-@all +blpop +blmove +xread +xreadgroup +bzpopmin",
}


@pytest.mark.parametrize("rights", RIGHTS)
@pytest.mark.parametrize("pair", [Pair(REDIS_6, VALKEY_9), Pair(VALKEY_9, REDIS_6)], indirect=True)
async def test_a_user_who_may_only_wait_is_served(mirrored: Proxied, rights: str) -> None:
    for store in (mirrored.source, mirrored.target):
        store.cli("ACL", "SETUSER", "worker", "on", ">pw", "~*", *RIGHTS[rights].split())
    async with mirrored.client(3) as (worker, second, producer):
        for each in (worker, second):
            assert await each.call("AUTH worker pw") == b"+OK\r\n"
        await producer.calls("XADD s 5-1 a b", "XGROUP CREATE s g $")
        for wait, push, answer in (
            ("BLPOP q 0", "RPUSH q a", JOB % b"a"),
            ("BLPOP r q 0", "RPUSH q a", JOB % b"a"),
            ("BLMOVE q p LEFT RIGHT 0", "RPUSH q a", b"$1\r\na\r\n"),
            ("BZPOPMIN z 0", "ZADD z 1 a", b"*3\r\n$1\r\nz\r\n$1\r\na\r\n$1\r\n1\r\n"),
            ("XREAD BLOCK 0 STREAMS s $", "XADD s 6-1 a b", None),
            ("XREADGROUP GROUP g c BLOCK 0 STREAMS s >", "XADD s 7-1 a b", None),
        ):
            if "GROUP" in wait:
                await producer.call("XGROUP SETID s g $")
            worker.send(wait)
            await parked(mirrored, 1)
            second.send(wait)
            await parked(mirrored, 2)
            await producer.call(push)
            heard = (await worker.replies(1))[0]
            identity = push.split()[2].encode()
            assert heard == answer if answer is not None else identity in heard, wait
            if "XREAD " not in wait:
                await parked(mirrored, 1)
                await producer.call(push.replace("7-1", "8-1"))
            await second.replies(1)
        assert await producer.calls("SET d x", "RPUSH q a", "DEL q", "SET q x") is not None
        worker.send("BLMOVE q d LEFT RIGHT 0")
        assert (await worker.replies(1))[0].startswith(b"-WRONGTYPE")
        await producer.call("DEL q")
        worker.send("BLMOVE q p LEFT RIGHT 0")
        await parked(mirrored, 1)
        await producer.calls("SET q x", "DEL q", "RPUSH q a")
        assert await worker.replies(1) == [b"$1\r\na\r\n"]
        assert await equal(mirrored) == []


async def test_what_a_user_may_not_do_is_told_by_the_server(
    source: Server, mirrored: Proxied
) -> None:
    source.cli("ACL", "SETUSER", "worker", "on", ">pw", "~allowed:*", "+@all", "-brpop")
    lines = ["AUTH worker pw", "BLPOP q 0", "BRPOP allowed:q 0", "BLMOVE allowed:q q LEFT LEFT 0"]
    async with connected(source.port, mirrored.port) as (direct, client):
        assert await client.calls(*lines) == await direct.calls(*lines)


async def test_a_right_that_is_lost_while_waiting_is_told(
    source: Server, mirrored: Proxied
) -> None:
    source.cli("ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all")
    async with mirrored.client(3) as (worker, second, producer):
        await worker.call("AUTH worker pw")
        worker.send("BLPOP q 0")
        await parked(mirrored, 1)
        second.send("BLPOP q 0")
        await parked(mirrored, 2)
        source.cli("ACL", "SETUSER", "worker", "-blpop")
        await producer.call("RPUSH q a")
        assert (await worker.replies(1))[0].startswith(b"-NOPERM")
        assert await second.replies(1) == [JOB % b"a"]
