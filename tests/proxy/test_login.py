"""Logging in: who a client is, what it may do, and that nobody is it for another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.servers import DEFAULT_PAIR, Engine, Server, every_engine

from .clients import Proxied, connected, encoded

Proxies = Callable[..., Awaitable[Proxied]]


@pytest.fixture
async def locked(
    server_factory: Callable[..., Server], target: Server, proxies: Proxies
) -> Proxied:
    """A proxy before a source that wants a password."""
    source = server_factory(DEFAULT_PAIR.source, password="secret")
    return await proxies(source, target)


@pytest.fixture
async def shared(proxied: Proxied) -> Proxied:
    """Users of different rights on the same keys, on a source that is open to the default user."""
    cli = proxied.source.cli
    cli("ACL", "SETUSER", "all", "on", ">pw", "~*", "+@all")
    cli("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get", "+ping", "+acl|whoami")
    cli("ACL", "SETUSER", "blockless", "on", ">pw", "~*", "+@all", "-multi", "-exec")
    return proxied


async def same_as_direct(proxied: Proxied, *lines: str, at_once: bool = False) -> list[bytes]:
    """What the store answers to the conversation, having seen that the proxy answers the same."""
    heard = []
    for port in (proxied.source.port, proxied.port):
        proxied.source.cli("FLUSHALL")
        async with connected(port) as client:
            if at_once:
                heard.append(await client.calls(*lines))
            else:
                heard.append([await client.call(line) for line in lines])
    assert heard[1] == heard[0]
    return heard[0]


BEFORE_LOGIN = (
    "GET k", "PING", "SET k v", "SELECT 1", "CLIENT ID", "CLIENT SETNAME x", "FLUSHALL",
    "AUTH wrong", "AUTH default wrong", "AUTH nobody secret", "AUTH", "AUTH a b c", "HELLO 9",
    "HELLO x", "HELLO 3 AUTH default wrong", "HELLO 3 BOGUS", "HELLO 3 AUTH default", "GET k",
)  # fmt: skip


@pytest.mark.parametrize("at_once", [False, True])
async def test_before_login_a_client_hears_what_the_store_says(
    locked: Proxied, at_once: bool
) -> None:
    replies = await same_as_direct(locked, *BEFORE_LOGIN, at_once=at_once)
    assert replies[0].startswith(b"-NOAUTH")


GREETINGS = (
    "HELLO", "HELLO 2", "HELLO 3 SETNAME x", "HELLO 3 SETNAME", "HELLO 3 AUTH default",
    "HELLO 3 AUTH default wrong", "HELLO 3 AUTH nobody secret", "HELLO 1", "HELLO 4", "HELLO x",
    "HELLO 3 BOGUS", "HELLO AUTH default secret", "HELLO 3 SETNAME a b",
    "HELLO 3 AUTH default secret", "HELLO", "HELLO 2", "GET none", "HELLO 3 SETNAME me",
    "GET none", "CLIENT GETNAME", 'HELLO 3 SETNAME ""', "CLIENT GETNAME", "HELLO 2 BOGUS",
    "GET none", "HELLO 3 SETNAME \u00e9", "CLIENT GETNAME", "HELLO 2 AUTH default wrong",
    "GET none", "HELLO 3 AUTH limited pw SETNAME other", "ACL WHOAMI", "GET k", "SELECT 0",
    "SELECT 1", "HELLO", "AUTH secret", "ACL WHOAMI", "RESET", "GET k", "HELLO 3",
    "AUTH default secret", "GET none", "RESET x", "AUTH", "AUTH a b c", "AUTH nobody pw",
    "GET none", "SELECT 0", "SELECT 5", "SELECT 5", "SELECT 16", "SELECT -1", "SELECT x",
    "SELECT", "QUIT x",
)  # fmt: skip


@every_engine
@pytest.mark.parametrize("at_once", [False, True])
async def test_greetings_and_logins_are_answered_as_by_the_store(
    engine: Engine, server_factory: Callable[..., Server], proxies: Proxies, at_once: bool
) -> None:
    source = server_factory(engine, password="secret")
    source.cli("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+get", "+acl|whoami")
    proxied = await proxies(source, source)
    heard = []
    for port in (source.port, proxied.port):
        async with connected(port) as client:
            replies = (
                await client.calls(*GREETINGS)
                if at_once
                else [await client.call(line) for line in GREETINGS]
            )
            heard.append([re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:#", each) for each in replies])
    assert dict(zip(GREETINGS, heard[1], strict=True)) == dict(
        zip(GREETINGS, heard[0], strict=True)
    )
    assert heard[1] == heard[0]


async def test_before_login_multi_is_refused(locked: Proxied) -> None:
    await same_as_direct(locked, "MULTI", "GET k")


@pytest.mark.parametrize("login", ["AUTH secret", "AUTH default secret"])
async def test_the_right_password_lets_a_client_in_and_a_wrong_one_throws_it_not_out(
    locked: Proxied, login: str
) -> None:
    await same_as_direct(
        locked, "AUTH wrong", login, "SET k v", "AUTH wrong", "GET k", "SELECT 2", "GET k", "RESET",
        "GET k", login, "GET k",
    )  # fmt: skip


async def test_password_and_commands_may_come_in_one_packet(locked: Proxied) -> None:
    await same_as_direct(locked, "AUTH secret", "SET k v", "SELECT 1", "GET k", at_once=True)


async def test_a_request_too_large_before_login_may_come_right_behind_the_password(
    locked: Proxied,
) -> None:
    large = "RPUSH l " + " ".join("abcdefghijklmnop")
    await same_as_direct(locked, "AUTH secret", large, "LLEN l", at_once=True)


async def test_a_request_too_large_before_login_is_a_protocol_error(locked: Proxied) -> None:
    async with locked.client() as client:
        client.writer.write(b"*11\r\n")
        assert await client.rest() == b"-ERR Protocol error: unauthenticated multibulk length\r\n"


async def test_hello_logs_in_names_and_greets(locked: Proxied) -> None:
    for resp in (2, 3):
        heard = []
        for port in (locked.source.port, locked.port):
            async with connected(port) as client:
                greeting = await client.call(f"HELLO {resp} AUTH default secret SETNAME me")
                own = await client.call("CLIENT ID")
                assert own in greeting
                heard.append([
                    greeting.replace(own, b":id\r\n"), await client.call("CLIENT GETNAME"),
                    await client.call("HSET h f v"), await client.call("HGETALL h"),
                    await client.call("GET none"), await client.call("DEL h"),
                ])  # fmt: skip
        assert heard[0] == heard[1]


async def test_a_password_is_asked_of_the_store_each_time(locked: Proxied) -> None:
    async with locked.client() as client:
        assert await client.call("AUTH secret") == b"+OK\r\n"
        locked.source.cli("CONFIG", "SET", "requirepass", "other")
        assert (await client.call("AUTH secret")).startswith(b"-WRONGPASS")
        assert await client.call("AUTH other") == b"+OK\r\n"


async def test_before_login_also_where_the_source_is_not_database_0(
    server_factory: Callable[..., Server], target: Server, proxies: Proxies
) -> None:
    source = server_factory(DEFAULT_PAIR.source, password="secret")
    proxied = await proxies(source, target, source_url=f"{source.url}/2")
    async with proxied.client() as client:
        assert (await client.call("GET k")).startswith(b"-NOAUTH")
        assert await client.calls("AUTH secret", "SET k v") == [b"+OK\r\n"] * 2
    assert source.cli("GET", "k", db=2) == b"v"


async def test_rights_are_those_of_the_user_and_refusals_come_through(shared: Proxied) -> None:
    await same_as_direct(
        shared, "AUTH all pw", "SET k v", "AUTH reader pw", "GET k", "SET k w", "INCR k", "DEL k",
        "FLUSHALL", "ACL WHOAMI", "SELECT 1", "AUTH nobody pw", "GET k", "AUTH all pw",
        "ACL WHOAMI", "GET k",
    )  # fmt: skip


async def test_users_of_different_rights_share_keys_and_not_rights(shared: Proxied) -> None:
    async with shared.client(2) as (writer, reader):
        await writer.call("AUTH all pw")
        await reader.call("AUTH reader pw")
        for at in range(50):
            writer.send(f"SET k {at}")
            reader.send("GET k", f"SET k no{at}")
        assert await writer.replies(50) == [b"+OK\r\n"] * 50
        refused = (await reader.replies(100))[1::2]
        assert all(each.startswith(b"-NOPERM") for each in refused)
    assert shared.source.cli("GET", "k") == b"49"


async def test_a_password_may_look_like_the_protocol(shared: Proxied) -> None:
    shared.source.cli("ACL", "SETUSER", "star", "on", ">*1*2", "~*", "+@all")
    lines = ("AUTH star *1*2", "HELLO 3 AUTH all wrong", "ACL WHOAMI", "HELLO 2 SETNAME x y")
    heard = await same_as_direct(shared, *lines)
    assert heard[1].startswith(b"-WRONGPASS")


async def test_a_login_leaves_no_rights_behind_for_the_next_client(shared: Proxied) -> None:
    # They may ask on the same connection: what the last one may not do, others may.
    async with shared.client(2) as (limited, other):
        assert await limited.call("AUTH reader pw") == b"+OK\r\n"
        assert (await other.call("HELLO 3")).startswith(b"%7\r\n")
        assert (await other.call("HELLO 3 AUTH all pw")).startswith(b"%7\r\n")


async def test_a_login_behind_a_lost_connection_has_another_one(locked: Proxied) -> None:
    async with locked.client() as client:
        assert await client.call("AUTH secret") == b"+OK\r\n"
        lanes = list(locked.proxy.logins.lanes)
        assert lanes
        for lane in lanes:
            lane.close()
        assert (await client.call("HELLO 3")).startswith(b"%7\r\n")


async def test_a_user_without_multi_has_its_block_run_one_by_one(shared: Proxied) -> None:
    await shared.start_mirror()
    shared.target.cli("FLUSHALL")
    lines = ("AUTH blockless pw", "MULTI", "SET k v", "INCR n", "GET k", "EXEC")
    await same_as_direct(shared, *lines, at_once=True)
    async with asyncio.timeout(10):
        await shared.applied()
    assert [shared.target.cli("GET", key) for key in ("k", "n")] == [b"v", b"1"]


async def test_a_user_without_multi_who_waits_for_queued_has_nothing_executed(
    shared: Proxied,
) -> None:
    async with shared.client() as client:
        await client.call("AUTH blockless pw")
        answers = [await client.call(line) for line in ("MULTI", "SET k v", "EXEC")]
        assert answers[1] != b"+QUEUED\r\n" or shared.source.cli("GET", "k") is None


async def test_a_user_who_is_removed_is_thrown_out_as_by_the_store(shared: Proxied) -> None:
    async with shared.client(2) as (gone, other):
        await gone.calls("AUTH reader pw", "GET k")
        await other.calls("AUTH all pw", "GET k")
        shared.source.cli("ACL", "DELUSER", "reader")
        gone.writer.write(encoded("GET k"))
        await gone.rest()
        assert await other.call("SET k v") == b"+OK\r\n"


async def test_lanes_are_those_in_use(shared: Proxied) -> None:
    async with shared.client(2) as (one, other):
        await one.calls("AUTH all pw", "SELECT 3", "GET k")
        await other.calls("HELLO 3", "GET k")
        in_use: set[Any] = shared.proxy.lanes_in_use()
        assert in_use == {((b"all", b"pw"), 3, 2), (None, 0, 3)}
