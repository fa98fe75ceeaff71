"""Commands about clients: answered as by the store, for the proxy's clients."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.commands import Command
from tests.servers import Server, every_engine

from .clients import Client, Proxied, connected, encoded, until

# What differs from one connection to the next, or tells of a store's memory.
VARIES = re.compile(
    rb"\b(id|fd|age|idle|qbuf|qbuf-free|argv-mem|multi-mem|rbs|rbp|obl|oll|omem|tot-mem|tot-net-in"
    rb"|tot-net-out|tot-cmds|l?addr|events|multi)=\S*"
)


def masked(frame: bytes) -> bytes:
    """Without what no two connections have in common."""
    if b"\nid=" not in frame and b":id=" not in frame:
        return frame
    return VARIES.sub(rb"\1=#", re.sub(rb"([$=])\d+(\r\n(txt:)?id=)", rb"\1#\2", frame))


@pytest.fixture
async def beside(server: Server, proxies: Callable[..., Awaitable[Proxied]]) -> Proxied:
    """A proxy before one engine, which is asked directly, too."""
    return await proxies(server, server)


async def heard(port: int, *lines: str) -> list[bytes]:
    """What a client of its own is answered, line by line."""
    async with connected(port) as client:
        return [masked(await client.call(line)) for line in lines]


async def same(proxied: Proxied, *lines: str) -> list[bytes]:
    """The answers of the proxy, having seen that the store gives the same ones."""
    direct = await heard(proxied.source.port, *lines)
    through = await heard(proxied.port, *lines)
    assert dict(enumerate(zip(lines, through, strict=True))) == dict(
        enumerate(zip(lines, direct, strict=True))
    )
    return through


# -- words ---------------------------------------------------------------------------------------

OF_ITSELF = (
    "CLIENT GETNAME", "CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT INFO", 'CLIENT SETNAME ""',
    "CLIENT GETNAME", "CLIENT NO-EVICT on",
    "CLIENT INFO", "CLIENT NO-EVICT off", "CLIENT NO-EVICT maybe", "CLIENT NO-TOUCH on",
    "CLIENT INFO", "CLIENT NO-TOUCH off", "CLIENT NO-TOUCH maybe", "CLIENT CAPA redirect",
    "CLIENT INFO", "CLIENT CAPA other", "CLIENT SETINFO lib-name kf",
    "CLIENT SETINFO LIB-VER 1.2", "CLIENT INFO",
    "CLIENT SETINFO other x", "CLIENT SETINFO Lib-Name \u00e9", "CLIENT SETNAME \u00e9",
    "SELECT 3", "CLIENT INFO", "CLIENT NoSuch", "CLIENT", "CLIENT REPLY maybe", "CLIENT REPLY ON",
)  # fmt: skip
MALFORMED = (
    "CLIENT SETNAME", "CLIENT SETNAME a b", "CLIENT ID x", "CLIENT INFO x", "CLIENT REPLY",
    "CLIENT REPLY ON x", "CLIENT UNBLOCK", "CLIENT NO-EVICT", "CLIENT GETNAME x",
)  # fmt: skip


@every_engine
async def test_what_a_client_says_of_itself_is_answered_as_by_the_store(beside: Proxied) -> None:
    await same(beside, *OF_ITSELF, *MALFORMED, "RESET", "CLIENT INFO", "QUIT")


@every_engine
async def test_in_resp3_too(beside: Proxied) -> None:
    await same(beside, *("CLIENT GETNAME", "CLIENT INFO", "CLIENT LIST ID 999999", "CLIENT FOO"))
    async with connected(beside.source.port, beside.port) as clients:
        for client in clients:
            await client.call("HELLO 3")
        for line in ("CLIENT GETNAME", "CLIENT INFO", "CLIENT LIST ID 99999999"):
            direct, through = [masked(await client.call(line)) for client in clients]
            assert through == direct, line


# None of them finds anybody. On a store they must not end the test's own connections.
WORDS = (
    "CLIENT LIST TYPE bad", "CLIENT LIST TYPE", "CLIENT LIST TYPE master", "CLIENT LIST ID 0",
    "CLIENT LIST ID x", "CLIENT LIST ID", "CLIENT LIST ID 99999999 x", "CLIENT LIST FOO",
    "CLIENT LIST FOO x", "CLIENT LIST ID 99999999", "CLIENT LIST USER nobody",
    "CLIENT LIST ADDR 1.2.3.4:5", "CLIENT LIST SKIPME maybe", "CLIENT LIST MAXAGE x",
    "CLIENT LIST MAXAGE 100000", "CLIENT LIST NAME none", "CLIENT LIST IDLE 0",
    "CLIENT LIST IDLE 100000", "CLIENT LIST LIB-NAME none", "CLIENT LIST DB 9",
    "CLIENT LIST DB x", "CLIENT LIST FLAGS M", "CLIENT LIST FLAGS ?", "CLIENT LIST IP 1.2.3.4",
    "CLIENT LIST CAPA r", "CLIENT LIST CAPA x", "CLIENT LIST LIB-VER none",
    "CLIENT LIST USER default DB 9", "CLIENT LIST TYPE normal ID 99999999 88888888 USER nobody",
    "CLIENT LIST NOT-TYPE normal", "CLIENT LIST TYPE pubsub",
    "CLIENT KILL 1.2.3.4:5", "CLIENT KILL nonsense", "CLIENT KILL TYPE",
    "CLIENT KILL ID 99999999", "CLIENT KILL ID x", "CLIENT KILL ID 99999999 FOO",
    "CLIENT KILL ID 99999999 FOO x", "CLIENT KILL ID 99999999 TYPE",
    "CLIENT KILL ID 99999999 88888888", "CLIENT KILL ID 99999999 88888888 ADDR",
    "CLIENT KILL TYPE bad", "CLIENT KILL TYPE pubsub", "CLIENT KILL USER nobody",
    "CLIENT KILL ID 99999999 SKIPME maybe", "CLIENT KILL MAXAGE x", "CLIENT KILL MAXAGE -1",
    "CLIENT KILL MAXAGE 100000", "CLIENT KILL ADDR 1.2.3.4:5", "CLIENT KILL LADDR 1.2.3.4:5",
    "CLIENT KILL NAME none", "CLIENT KILL IDLE 100000", "CLIENT KILL DB 9", "CLIENT KILL DB x",
    "CLIENT KILL FLAGS M", "CLIENT KILL IP 1.2.3.4", "CLIENT KILL LIB-NAME none",
    "CLIENT KILL ID 99999999 NOT-ID 5", "CLIENT KILL ID -1",
    "CLIENT UNBLOCK 0", "CLIENT UNBLOCK 99999999", "CLIENT UNBLOCK -5", "CLIENT UNBLOCK x",
    "CLIENT UNBLOCK 99999999 FOO", "CLIENT UNBLOCK 99999999 ERROR",
    "CLIENT UNBLOCK 99999999 TIMEOUT x",
)  # fmt: skip


@every_engine
async def test_what_is_asked_of_all_clients_is_worded_as_by_the_store(beside: Proxied) -> None:
    await same(beside, *WORDS)


@every_engine
async def test_a_user_without_the_right_hears_what_the_store_says(
    beside: Proxied,
) -> None:
    beside.source.cli("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+get", "+ping")
    beside.source.cli("ACL", "SETUSER", "other", "on", ">pw", "~*", "+@all")
    async with beside.client() as bystander:
        await bystander.call("AUTH other pw")
        answers = await same(
            beside, "AUTH weak pw", *OF_ITSELF, "CLIENT LIST", "CLIENT INFO",
            "CLIENT KILL USER other", "CLIENT KILL TYPE normal", "CLIENT KILL 1.2.3.4:5",
            "CLIENT UNBLOCK 1", "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "CLIENT ID", "GET k",
        )  # fmt: skip
        assert sum(answer.startswith(b"-NOPERM") for answer in answers) > 20
        assert await bystander.call("PING") == b"+PONG\r\n"


# -- who is there --------------------------------------------------------------------------------


def fields(listed: bytes) -> list[dict[str, str]]:
    """CLIENT LIST's or CLIENT INFO's answer: one mapping per line."""
    text = listed.split(b"\r\n", 1)[1].decode().removeprefix("txt:").strip()
    return [
        dict(pair.split("=", 1) for pair in line.split(" ")) for line in text.splitlines() if line
    ]


async def names(client: Client, line: str) -> set[str]:
    return {each["name"] for each in fields(await client.call(line))}


@every_engine
async def test_the_list_shows_the_proxys_clients_with_the_stores_fields(beside: Proxied) -> None:
    async with beside.client(3) as (one, two, three), connected(beside.source.port) as direct:
        await one.calls("CLIENT SETNAME one", "GET k")
        await two.calls("HELLO 3", "CLIENT SETNAME two", "SELECT 2", "MULTI", "SET k 1", "GET k")
        listed = fields(await one.call("CLIENT LIST"))
        assert [each["name"] for each in listed] == ["one", "two", ""]
        first, second, third = listed
        (like,) = fields(await direct.call("CLIENT INFO"))
        assert list(first) == list(second) == list(like)
        assert (first["db"], first["multi"], first["user"]) == ("0", "-1", "default")
        assert (second["db"], second["multi"], second["flags"]) == ("2", "2", "x")
        assert third["cmd"] == "NULL"
        has_subcommands = "resp" in like
        assert first["cmd"] == ("client|list" if has_subcommands else "client")
        if has_subcommands:
            assert (first["resp"], second["resp"]) == ("2", "3")
        port = one.writer.get_extra_info("sockname")[1]
        assert first["addr"] == f"127.0.0.1:{port}"
        assert first["laddr"] == f"127.0.0.1:{beside.port}"
        assert first["id"].encode() == (await one.call("CLIENT ID"))[1:-2]
        ids = " ".join(each["id"] for each in listed[:2])
        assert await names(three, f"CLIENT LIST ID {ids} 99999999") == {"one", "two"}
        assert await names(three, "CLIENT LIST TYPE NORMAL") == {"one", "two", ""}
        assert await names(three, "CLIENT LIST TYPE pubsub") == set()


async def test_valkeys_filters(server: Server, proxies: Callable[..., Awaitable[Proxied]]) -> None:
    beside = await proxies(server, server)
    server.cli("ACL", "SETUSER", "other", "on", ">pw", "~*", "+@all")
    found: list[list[set[str]]] = []
    for port in (server.port, beside.port):
        async with connected(port, port, port) as (one, two, three):
            await one.calls("CLIENT SETNAME one", "CLIENT SETINFO lib-name kf", "SELECT 3")
            await two.calls("CLIENT SETNAME two", "AUTH other pw", "CLIENT NO-TOUCH ON")
            await three.calls(
                "CLIENT SETNAME three", "CLIENT SETINFO LIB-VER 1", "CLIENT CAPA redirect"
            )
            numbers = [(await each.call("CLIENT ID"))[1:-2].decode() for each in (one, two, three)]
            peer = "127.0.0.1:{}".format(two.writer.get_extra_info("sockname")[1])
            found.append([
                await names(one, f"CLIENT LIST {line}") & {"one", "two", "three"}
                for line in (
                    "NAME one", "USER other", "USER default", "DB 3", "NOT-DB 3", "LIB-NAME kf",
                    "LIB-VER 1", "FLAGS T", "NOT-FLAGS T", "CAPA r", f"ADDR {peer}", "SKIPME yes",
                    f"LADDR 127.0.0.1:{port}", f"ID {numbers[0]} {numbers[2]}", "IP 127.0.0.1",
                    f"ID {numbers[0]} ID {numbers[2]}", f"NOT-ID {numbers[0]} {numbers[1]}",
                    "NAME one NAME two", "NAME one NOT-NAME one", "MAXAGE 0", "TYPE normal DB 3",
                    f"NOT-ADDR {peer}", "NOT-USER other", "NOT-TYPE pubsub", "NOT-LIB-NAME kf",
                )
            ])  # fmt: skip
    assert found[1] == found[0]
    assert {"one"} in found[0] and {"two"} in found[0] and {"three"} in found[0]


async def test_age_and_idle_are_counted_in_seconds(beside: Proxied) -> None:
    async with beside.client(2) as (one, two):
        await two.call("PING")
        (session,) = [each for each in beside.proxy.sessions if each.last is not None]
        session.profile.connected_at -= 100
        session.heard_at -= 50
        await one.call("CLIENT SETNAME one")
        first, second = sorted(fields(await one.call("CLIENT LIST")), key=lambda each: each["name"])
        assert (first["age"], first["idle"], first["cmd"]) == ("100", "50", "ping")
        assert (second["age"], second["idle"]) == ("0", "0")
        await two.call("PING")
        assert fields(await one.call(f"CLIENT LIST ID {first['id']}"))[0]["idle"] == "0"


async def test_a_large_request_is_not_kept_to_tell_of_it(beside: Proxied) -> None:
    async with beside.client() as client:
        await client.call("SET k " + "x" * 100_000)
        (session,) = beside.proxy.sessions
        assert isinstance(session.last, Command)
        assert session.last.name == "set"


# -- who is to go --------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize(
    "form", ["{addr}", "ADDR {addr}", "ID {id}", "USER victim", "ID {id} TYPE normal"]
)
async def test_a_client_is_ended_by_another_and_nobody_else(beside: Proxied, form: str) -> None:
    beside.source.cli("ACL", "SETUSER", "victim", "on", ">pw", "~*", "+@all")
    for port in (beside.source.port, beside.port):
        async with connected(port, port, port) as (killer, victim, other):
            await victim.call("AUTH victim pw")
            await other.call("PING")
            place = "127.0.0.1:{}".format(victim.writer.get_extra_info("sockname")[1])
            number = (await victim.call("CLIENT ID"))[1:-2].decode()
            line = form.format(addr=place, id=number)
            assert await killer.call(f"CLIENT KILL {line}") == (
                b"+OK\r\n" if form == "{addr}" else b":1\r\n"
            )
            assert await victim.rest() == b""
            assert number not in {each["id"] for each in fields(await killer.call("CLIENT LIST"))}
            assert await other.call("PING") == b"+PONG\r\n"


async def kills_itself(port: int, line: str) -> bytes:
    async with connected(port) as client:
        number = (await client.call("CLIENT ID"))[1:-2].decode()
        place = "127.0.0.1:{}".format(client.writer.get_extra_info("sockname")[1])
        client.writer.write(
            encoded(f"CLIENT KILL {line.format(addr=place, id=number)}", "INCR k", "QUIT")
        )
        return await client.rest()


@every_engine
@pytest.mark.parametrize(
    "line", ["{addr}", "ID {id}", "ID {id} SKIPME no", "ADDR {addr} SKIPME yes"]
)
async def test_a_client_may_end_itself_and_nothing_behind_it_is_done(
    beside: Proxied, line: str
) -> None:
    results: list[Any] = []
    for port in (beside.source.port, beside.port):
        beside.source.cli("FLUSHALL")
        results.append((await kills_itself(port, line), beside.source.cli("EXISTS", "k")))
    assert results[1] == results[0]


@every_engine
async def test_kill_all_ends_the_proxys_clients_and_none_of_its_own_connections(
    beside: Proxied,
) -> None:
    async with beside.client(4) as (killer, *others):
        for each in others:
            await each.call("GET k")
        before = {lane.client_id for lane in beside.proxy._lanes.values()}
        assert await killer.call("CLIENT KILL TYPE normal") == b":3\r\n"
        for each in others:
            assert await each.rest() == b""
        assert await killer.call("GET k") == b"$-1\r\n"
        assert {lane.client_id for lane in beside.proxy._lanes.values()} == before
        assert not any(lane.is_lost for lane in beside.proxy._lanes.values())


async def test_a_client_that_is_ended_with_a_write_on_its_way_harms_nobody(
    mirrored: Proxied,
) -> None:
    async with mirrored.client(2) as (killer, victim):
        number = (await victim.call("CLIENT ID"))[1:-2].decode()
        victim.send(*["INCR k"] * 100)
        await until(lambda: mirrored.source.cli("GET", "k") is not None)
        assert await killer.call(f"CLIENT KILL ID {number}") == b":1\r\n"
        await victim.rest()
        assert await killer.call("SET other 1") == b"+OK\r\n"
    await mirrored.applied()
    assert mirrored.target.cli("GET", "k") == mirrored.source.cli("GET", "k")


@every_engine
@pytest.mark.parametrize("is_mirrored", [False, True], ids=["waits in the store", "parked"])
@pytest.mark.parametrize("reason", ["", "TIMEOUT", "error"])
async def test_a_client_that_waits_is_unblocked_as_by_the_store(
    beside: Proxied, is_mirrored: bool, reason: str
) -> None:
    if is_mirrored:
        await beside.start_mirror()
    results = []
    for port in (beside.source.port, beside.port):
        async with connected(port, port) as (one, other):
            number = (await one.call("CLIENT ID"))[1:-2].decode()
            line = f"CLIENT UNBLOCK {number} {reason}"
            answers = [await other.call(line)]
            one.send("BLPOP nothing 0", "PING")
            is_parked = is_mirrored and port == beside.port
            if not is_parked:
                await until(lambda: beside.source.info("clients")["blocked_clients"] == "1")
            flags = ""
            while flags != "b":
                listed = fields(await other.call("CLIENT LIST"))
                (flags,) = [each["flags"] for each in listed if each["id"] == number]
            answers += [await other.call(line), *await one.replies(2), await other.call(line)]
            results.append(answers)
    assert results[1] == results[0]
    assert results[0][1] == b":1\r\n"


# -- CLIENT REPLY --------------------------------------------------------------------------------

REPLIES = {
    "skip": ("CLIENT REPLY SKIP", "GET a", "PING"),
    "skip twice": ("CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "GET a", "PING"),
    "skip, then on": ("CLIENT REPLY SKIP", "CLIENT REPLY ON", "PING"),
    "skip a mistake": ("CLIENT REPLY SKIP", "CLIENT REPLY maybe", "PING"),
    "skip an error": ("CLIENT REPLY SKIP", "NoSuch", "PING"),
    "skip a write": ("CLIENT REPLY SKIP", "INCR n", "INCR n"),
    "skip a select": ("CLIENT REPLY SKIP", "SELECT 1", "INCR n", "SELECT 0"),
    "skip a multi": ("CLIENT REPLY SKIP", "MULTI", "INCR n", "EXEC", "PING"),
    "off": ("CLIENT REPLY OFF", "INCR n", "NoSuch", "GET", "SELECT 1", "SELECT 0", "CLIENT ID",
            "CLIENT REPLY maybe", "CLIENT REPLY SKIP", "CLIENT REPLY ON", "INCR n"),
    "off and a block": ("CLIENT REPLY OFF", "MULTI", "INCR n", "EXEC", "MULTI", "DISCARD",
                        "CLIENT REPLY ON", "INCR n"),
    "off and a watch": ("CLIENT REPLY OFF", "WATCH n", "INCR n", "MULTI", "INCR n", "EXEC",
                        "CLIENT REPLY ON", "INCR n"),
    "off and reset": ("CLIENT REPLY OFF", "INCR n", "RESET", "INCR n"),
    "off and hello": ("CLIENT REPLY OFF", "HELLO 3", "CLIENT REPLY ON", "GET none"),
    "off and a scan": ("CLIENT REPLY OFF", "SCAN 0", "FLUSHDB", "CLIENT REPLY ON", "DBSIZE"),
}  # fmt: skip


@every_engine
@pytest.mark.parametrize("name", REPLIES)
async def test_replies_are_kept_back_as_by_the_store(beside: Proxied, name: str) -> None:
    results = []
    for port in (beside.source.port, beside.port):
        beside.source.cli("FLUSHALL")
        async with connected(port) as client:
            client.writer.write(encoded(*REPLIES[name], "GET n", "QUIT"))
            results.append((await client.rest(), beside.source.cli("GET", "n")))
    assert results[1] == results[0]


@pytest.mark.parametrize("last", [encoded("QUIT"), b"*1\r\n!x\r\n"], ids=["QUIT", "broken"])
async def test_in_silence_the_end_of_a_connection_is_silent(beside: Proxied, last: bytes) -> None:
    # A store forgets to hang up then.
    async with beside.client() as client:
        client.writer.write(encoded("CLIENT REPLY OFF", "SET k v") + last)
        assert await client.rest() == b""
    assert beside.source.cli("GET", "k") == b"v"


async def test_a_silent_client_is_pushed_what_is_for_it(beside: Proxied) -> None:
    async with beside.client() as client:
        await client.call("CLIENT SETNAME me")
        (session,) = beside.proxy.sessions
        client.send("CLIENT REPLY OFF")
        await until(lambda: session.is_silent)
        session.push(b">1\r\n+pushed\r\n")
        client.send("GET k")
        session.flush()
        assert await client.replies(1) == [b">1\r\n+pushed\r\n"]


async def test_ten_thousand_writes_in_silence(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        client.send("CLIENT REPLY OFF", *["INCR n"] * 10_000, "CLIENT REPLY ON")
        assert await client.replies(1) == [b"+OK\r\n"]
        assert await client.call("GET n") == b"$5\r\n10000\r\n"
    await mirrored.applied()
    assert mirrored.target.cli("GET", "n") == b"10000"


# -- in a block ----------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "step by step"])
async def test_in_a_block_a_client_speaks_of_itself_as_to_the_store(
    beside: Proxied, at_once: bool
) -> None:
    lines = (
        "MULTI", "CLIENT GETNAME", "CLIENT SETNAME me", "CLIENT SETNAME \u00e9", "CLIENT GETNAME",
        "CLIENT NO-EVICT on", "CLIENT NO-EVICT maybe", "CLIENT GETNAME", "EXEC", "CLIENT GETNAME",
        "MULTI", "CLIENT SETINFO lib-name kf", "EXEC", "MULTI", "CLIENT INFO", "GET k",
        "CLIENT KILL 1.2.3.4:5", "CLIENT KILL ID 99999999", "CLIENT KILL TYPE bad",
        "CLIENT KILL ID x", "CLIENT INFO", "EXEC",
        "CLIENT INFO", "AUTH weak pw", "MULTI", "CLIENT SETNAME x", "EXEC", "DISCARD",
    )  # fmt: skip
    beside.source.cli(
        "ACL", "SETUSER", "weak", "on", ">pw", "~*", "+get", "+multi", "+exec", "+discard"
    )
    results = []
    for port in (beside.source.port, beside.port):
        async with connected(port) as client:
            answers = (
                await client.calls(*lines)
                if at_once
                else [await client.call(line) for line in lines]
            )
        results.append([masked(answer) for answer in answers])
    assert results[1] == results[0]


@every_engine
async def test_a_kill_in_a_block_is_told_before_it_is_felt(beside: Proxied) -> None:
    for port in (beside.source.port, beside.port):
        async with connected(port, port) as (killer, victim):
            number = (await victim.call("CLIENT ID"))[1:-2].decode()
            killer.send("MULTI", f"CLIENT KILL ID {number}", "INCR k", "EXEC")
            assert (await killer.replies(4))[-1].startswith(b"*2\r\n:1\r\n:")
            assert await victim.rest() == b""
    async with beside.client() as killer:
        own = (await killer.call("CLIENT ID"))[1:-2].decode()
        killer.send("MULTI", f"CLIENT KILL ID {own} SKIPME no", "EXEC")
        assert (await killer.replies(3))[-1] == b"*1\r\n:1\r\n"
        assert await killer.rest() == b""
