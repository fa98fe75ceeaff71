"""Scripts and functions through the proxy: their answers, and what follows for the secondary."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import Any

import hiredis
import pytest

from proxy.resp import encode_command
from proxy.witness import Witness
from tests.servers import VALKEY_9, Pair, Server, engine_pairs

from .clients import Client, Proxied, connected, until
from .relay import Relay

INCR = "return redis.call('INCR', KEYS[1])"
HIDDEN = "return redis.call('SET', KEYS[1] .. ':x', ARGV[1])"
LIBRARY = (
    "#!lua name=lib\n"
    "redis.register_function('add', function(k, a) return redis.call('INCRBY', k[1], a[1]) end)\n"
    "redis.register_function{function_name='look', flags={'no-writes'},"
    " callback=function(k) return redis.call('GET', k[1]) end}\n"
    "redis.register_function('wild', function(k) return redis.call('INCR', k[1] .. ':x') end)\n"
)


def is_free(server: Server) -> bool:
    """No script keeps it busy: one that was killed may last a moment longer."""
    try:
        server.cli("PING")
    except hiredis.ReplyError:
        return False
    return True


def sha(body: str) -> str:
    return sha1(body.encode()).hexdigest()


async def ask(client: Client, *words: Any) -> bytes:
    return (await ask_all(client, words))[0]


async def ask_all(client: Client, *requests: tuple[Any, ...]) -> list[bytes]:
    """A pipeline of commands whose words may hold spaces."""
    for words in requests:
        client.writer.write(encode_command(*(str(word).encode() for word in words)))
    return await client.replies(len(requests))


async def owed(proxied: Proxied) -> set[Any]:
    """What a copy is owed for; forgotten with that, as if it were copied."""
    table = proxied.proxy.table
    await until(lambda: not table.is_closed, "the round to be over")
    assert not table.is_everything_unproven
    found = set(table.unproven)
    table.forget(None)
    return found


# -- answers -------------------------------------------------------------------------------

CALLS: list[tuple[Any, ...]] = [
    ("EVAL", "return {1, 'two', {3}, false, redis.status_reply('ok')}", 0),
    ("EVAL", INCR, 1, "n"),
    ("EVAL", "return ARGV[1] .. KEYS[2]", 2, "a", "b", "c"),
    ("EVAL", HIDDEN, 1, "k", "v"),
    ("EVALSHA", sha(INCR), 1, "n"),
    ("EVALSHA", sha(INCR).upper(), 1, "n"),
    ("EVALSHA", "f" * 40, 0),
    ("EVALSHA", "short", 0),
    ("EVAL", "return 1", "x"),
    ("EVAL", "return 1", -1),
    ("EVAL", "return 1", 2, "a"),
    ("EVAL", "this is not lua", 0),
    ("EVAL", "return redis.error_reply('MINE it is')", 0),
    ("EVAL", "error('thrown')", 0),
    ("EVAL", "return redis.call('NOSUCH')", 0),
    ("EVAL", "redis.call('SET', KEYS[1], 1) return redis.call('LPUSH', KEYS[1], 1)", 1, "s"),
    ("GET", "s"),
    ("EVAL", "return redis.pcall('LPUSH', KEYS[1], 1)", 1, "s"),
    ("SCRIPT", "LOAD", "return 5"),
    ("SCRIPT", "LOAD", "not lua"),
    ("SCRIPT", "EXISTS", sha("return 5"), sha(INCR), "f" * 40),
    ("SCRIPT", "FLUSH", "NEVER"),
    ("SCRIPT", "FLUSH", "SYNC"),
    ("EVALSHA", sha("return 5"), 0),
    ("SCRIPT", "KILL"),
    ("SCRIPT", "NOSUCH"),
    ("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, "n"),
    ("EVALSHA_RO", sha("return redis.call('GET', KEYS[1])"), 1, "n"),
    ("EVAL_RO", INCR, 1, "n"),
    ("FUNCTION", "LOAD", LIBRARY),
    ("FUNCTION", "LOAD", LIBRARY),
    ("FUNCTION", "LOAD", "REPLACE", LIBRARY),
    ("FUNCTION", "LOAD", "return 1"),
    ("FCALL", "add", 1, "n", 5),
    ("FCALL", "ADD", 1, "n", 5),
    ("FCALL_RO", "look", 1, "n"),
    ("FCALL_RO", "add", 1, "n", 5),
    ("FCALL", "wild", 1, "n"),
    ("FCALL", "nosuch", 0),
    ("FCALL", "add", "x"),
    ("FUNCTION", "LIST"),
    ("FUNCTION", "LIST", "WITHCODE", "LIBRARYNAME", "lib"),
    ("FUNCTION", "DUMP"),
    ("FUNCTION", "STATS"),
    ("FUNCTION", "KILL"),
    ("FUNCTION", "RESTORE", "nonsense"),
    ("FUNCTION", "DELETE", "lib"),
    ("FUNCTION", "DELETE", "lib"),
    ("FUNCTION", "FLUSH"),
    ("FUNCTION", "NOSUCH"),
    ("GET", "n"),
]


@engine_pairs
@pytest.mark.parametrize("resp", [2, 3])
async def test_everything_answers_as_the_store_does(
    source: Server, mirrored: Proxied, resp: int
) -> None:
    heard = []
    for port in (source.port, mirrored.port):
        async with connected(port) as client:
            if resp == 3:
                await client.call("HELLO 3")
            heard.append([await ask(client, *words) for words in CALLS])
            source.cli("FLUSHALL")
            source.cli("SCRIPT", "FLUSH")
            heard.append(await ask_all(client, *CALLS))
        source.cli("FLUSHALL")
        source.cli("SCRIPT", "FLUSH")
    for at in (0, 1):
        for words, direct, through in zip(CALLS, heard[at], heard[at + 2], strict=True):
            assert through == direct, words


# -- declared keys -------------------------------------------------------------------------


async def test_the_keys_that_a_script_may_write_are_copied_and_no_others(
    mirrored: Proxied,
) -> None:
    body = (
        "redis.call('GET', KEYS[1]) redis.call('SET', KEYS[2], redis.call('TIME')[2]) "
        "redis.call('SET', 'fixed', 1)"
    )
    async with mirrored.client() as client:
        await ask(client, "EVAL", body, 3, "a", "b", "c")
        assert await owed(mirrored) == {b"b", b"fixed"}
        await ask(client, "EVALSHA", sha(body), 3, "a", "d", "c")
        assert await owed(mirrored) == {b"d", b"fixed"}
        await ask(client, "SELECT", 2)
        await ask(client, "EVAL", "for _, k in ipairs(KEYS) do redis.call('DEL', k) end", 2, 3, 4)
        assert await owed(mirrored) == {(2, b"3"), (2, b"4")}


async def test_what_only_reads_leaves_nothing_to_copy(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        for body in ("return redis.call('GET', KEYS[1] .. 'x')", "return {KEYS[1], ARGV[1]}"):
            await ask(client, "EVAL", body, 1, "k", "v")
            await ask(client, "EVALSHA", sha(body), 1, "k", "v")
    assert not await owed(mirrored)


async def test_a_script_that_writes_and_then_fails_has_written(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        body = "redis.call('SET', KEYS[1], 1) return redis.error_reply('MINE')"
        assert await ask(client, "EVAL", body, 1, "k") == b"-MINE\r\n"
        assert await owed(mirrored) == {b"k"}
        body = "redis.call('SET', KEYS[1], 1) error('thrown')"
        assert (await ask(client, "EVAL", body, 1, "k")).startswith(b"-")
        assert await owed(mirrored) == {b"k"}
        body = "redis.call('SET', KEYS[1], 1) return redis.error_reply('NOSCRIPT mine')"
        assert (await ask(client, "EVAL", body, 1, "k")).startswith(b"-NOSCRIPT")
        assert await owed(mirrored) == {b"k"}


async def test_noscript_has_written_nothing(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        await ask(client, "EVAL", INCR, 1, "n")
        await owed(mirrored)
        mirrored.source.cli("SCRIPT", "FLUSH")
        assert (await ask(client, "EVALSHA", sha(INCR), 1, "n")).startswith(b"-NOSCRIPT")
    assert not await owed(mirrored)


@pytest.mark.parametrize(
    ("body", "are_named"),
    [
        ("repeat until redis.call('EXISTS', 'end') == 1 redis.call('DEL', KEYS[1])", True),
        ("repeat until redis.call('EXISTS', 'end') == 1 redis.call('DEL', KEYS[1] .. 'x')", False),
    ],
)
async def test_a_lost_connection_leaves_what_the_script_may_have_written_to_copy(
    source: Server,
    target: Server,
    proxies: Callable[..., Awaitable[Proxied]],
    body: str,
    are_named: bool,
) -> None:
    source.cli("CONFIG", "SET", "lua-time-limit", 20)
    async with Relay(source) as relay:
        proxied = await proxies(source, target, source_port=relay.port)
        await proxied.start_mirror()
        async with proxied.client(2) as (busy, other):
            busy.writer.write(encode_command(b"EVAL", body.encode(), b"1", b"k"))
            await until(lambda: b"until" in relay.seen, "the script to be sent")
            while (await ask(other, "SCRIPT", "KILL")).startswith(b"-NOTBUSY"):
                await asyncio.sleep(0.001)
        await owed(proxied)
        async with proxied.client() as busy:
            relay.seen = b""
            busy.writer.write(encode_command(b"EVAL", body.encode(), b"1", b"k"))
            await until(lambda: b"until" in relay.seen, "the script to be sent")
            relay.cut()
            assert await busy.rest() == b""
        table = proxied.proxy.table
        await until(lambda: not table.is_closed)
        if are_named:
            assert set(table.unproven) == {b"k"} and not table.is_everything_unproven
        else:
            assert table.is_everything_unproven
        source.cli("SCRIPT", "KILL")
        await until(lambda: is_free(source), "the script has ended")


# -- keys that nobody can name -------------------------------------------------------------


@engine_pairs
async def test_the_witness_tells_which_keys_were_written(mirrored: Proxied) -> None:
    async with mirrored.client(2) as (one, other):
        assert await ask(one, "EVAL", HIDDEN, 1, "k", "v") == b"+OK\r\n"
        assert await owed(mirrored) == {b"k:x"}
        await ask(other, "SELECT", 3)
        assert await ask(other, "EVALSHA", sha(HIDDEN), 1, "j", "v") == b"+OK\r\n"
        assert await owed(mirrored) == {(3, b"j:x")}
        # Writes of others, before and behind it, are theirs.
        await ask_all(
            one, ("SET", "a", 1), ("EVAL", HIDDEN, 1, "k", "w"), ("SET", "b", 1)
        )  # fmt: skip
        assert await owed(mirrored) == {b"k:x"}
        await ask(one, "EVAL", "redis.call('DEL', unpack(redis.call('KEYS', '*')))", 0)
        assert await owed(mirrored) == {b"a", b"b", b"k:x"}
        await ask(one, "EVAL", "redis.call('DEL', KEYS[1] .. 'nothing')", 1, "k")
        assert not await owed(mirrored)
    # It costs the store something with each write, so it looks for a moment only.
    await until(lambda: b"tracking_clients:0" in mirrored.source.cli("INFO", "clients"))


async def test_a_function_that_its_own_block_replaces_is_watched(
    server_factory: Callable[..., Server],
    target: Server,
    proxies: Callable[..., Awaitable[Proxied]],
) -> None:
    proxied = await proxies(server_factory(VALKEY_9), target)
    await proxied.start_mirror()
    library = (
        "#!lua name=l\n"
        "redis.register_function('f', function(k) return redis.call('SET', {}, 1) end)"
    )
    async with proxied.client() as client:
        await ask(client, "FUNCTION", "LOAD", library.format("k[1]"))
        await ask_all(
            client,
            ("MULTI",),
            ("FUNCTION", "LOAD", "REPLACE", library.format("k[1] .. ':x'")),
            ("FCALL", "f", 1, "k"),
            ("EXEC",),
        )
        assert b"k:x" in await owed(proxied)


@engine_pairs
async def test_a_script_that_was_loaded_before_us_is_watched(mirrored: Proxied) -> None:
    mirrored.source.cli("SCRIPT", "LOAD", INCR)
    async with mirrored.client() as client:
        assert await ask(client, "EVALSHA", sha(INCR), 1, "n") == b":1\r\n"
        assert await owed(mirrored) == {b"n"}
        assert (await ask(client, "EVALSHA", "f" * 40, 1, "n")).startswith(b"-NOSCRIPT")
        assert not await owed(mirrored)


@pytest.mark.parametrize("pair", [Pair(VALKEY_9, VALKEY_9)], ids=str, indirect=True)
async def test_a_store_that_shows_its_scripts_is_asked_for_them(mirrored: Proxied) -> None:
    mirrored.source.cli("SCRIPT", "LOAD", INCR)
    scripts = mirrored.proxy.scripting.scripts
    async with mirrored.client() as client:
        assert await ask(client, "EVALSHA", sha(INCR), 1, "n") == b":1\r\n"
        await until(lambda: scripts.verdict(sha(INCR).encode()), "its text is known")
        await owed(mirrored)
        assert await ask(client, "EVALSHA", sha(INCR), 1, "n") == b":2\r\n"
        assert not mirrored.proxy.table.is_closed and await owed(mirrored) == {b"n"}
    assert await mirrored.proxy.scripting.copies.prepare(mirrored.proxy.primary.other) == []
    assert mirrored.target.cli("SCRIPT", "EXISTS", sha(INCR)) == [1]


@engine_pairs
async def test_keys_in_other_databases_are_found(mirrored: Proxied) -> None:
    mirrored.source.cli("EVAL", "redis.call('SELECT', 4) redis.call('SET', 'old', 1)", 0)
    async with mirrored.client() as client:
        await ask(client, "EVAL", "redis.call('SELECT', 7) redis.call('SET', 'k', 1)", 0)
        assert (7, b"k") in await owed(mirrored)
        # The last key of its database.
        await ask(client, "EVAL", "redis.call('SELECT', 4) redis.call('DEL', 'old')", 0)
        assert (4, b"old") in await owed(mirrored)


@pytest.mark.parametrize("flush", ["FLUSHALL", "FLUSHDB"])
async def test_a_flush_inside_a_script_makes_everything_unproven(
    mirrored: Proxied, flush: str
) -> None:
    async with mirrored.client() as client:
        await ask(client, "SET", "k", 1)
        await ask(client, "EVAL", f"return redis.call('{flush}')", 0)
        await until(lambda: not mirrored.proxy.table.is_closed, "the round to be over")
    assert mirrored.proxy.table.is_everything_unproven


@pytest.mark.parametrize("is_block", [False, True], ids=["alone", "in a block"])
@pytest.mark.parametrize(
    "words",
    [
        ("redis.call('SWAPDB', 0, 1) redis.call('SET', KEYS[1] .. 'x', 1)", "1", "k"),
        ("return redis.call(unpack(ARGV))", "0", "swapdb", "0", "1"),
    ],
)
async def test_a_swap_of_databases_inside_a_script_makes_everything_unproven(
    mirrored: Proxied, words: tuple[str, ...], *, is_block: bool
) -> None:
    async with mirrored.client() as client:
        calls: list[tuple[str, ...]] = [("EVAL", *words)]
        if is_block:
            calls = [("MULTI",), *calls, ("EXEC",)]
        await ask_all(client, *calls)
        await until(lambda: not mirrored.proxy.table.is_closed, "the round to be over")
    assert mirrored.proxy.table.is_everything_unproven


async def test_many_clients_scripts_run_in_one_round(
    mirrored: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, rounds = Witness.begin, 0

    def counted(witness: Witness, then: Callable[[], None]) -> None:
        nonlocal rounds
        rounds += 1
        begin(witness, then)

    monkeypatch.setattr(Witness, "begin", counted)
    async with mirrored.client(20) as clients:
        for number, client in enumerate(clients):
            for turn in range(5):
                words = ("EVAL", HIDDEN, "1", f"k{number}", f"{turn}")
                client.writer.write(encode_command(*(word.encode() for word in words)))
                words = ("SET", f"s{number}", f"{turn}")
                client.writer.write(encode_command(*(word.encode() for word in words)))
        replies = await asyncio.gather(*(client.replies(10) for client in clients))
    assert replies == [[b"+OK\r\n"] * 10] * 20
    assert await owed(mirrored) == {b"k%d:x" % number for number in range(20)}
    for number in range(20):
        assert mirrored.source.cli("GET", f"k{number}:x") == b"4"
        assert mirrored.source.cli("GET", f"s{number}") == b"4"
    # Of each client one at a time, for it writes something else in between.
    assert 5 <= rounds <= 25


async def test_a_witness_that_is_refused_is_told_of_and_stops_nobody(
    source: Server, target: Server, proxies: Callable[..., Awaitable[Proxied]]
) -> None:
    source.cli("ACL", "SETUSER", "narrow", "on", ">p", "~*", "&*", "+@all", "-client")
    url = source.url.replace("redis://", "redis://narrow:p@")
    proxied = await proxies(source, target, source_url=url)
    await proxied.start_mirror()
    unknown: list[None] = []
    proxied.proxy.on_unknown_writes = lambda: unknown.append(None)
    async with proxied.client() as client:
        assert await ask(client, "EVAL", HIDDEN, 1, "k", "v") == b"+OK\r\n"
        assert await ask(client, "GET", "k:x") == b"$1\r\nv\r\n"
    assert not await owed(proxied) and len(unknown) == 1


@pytest.mark.parametrize(
    "body",
    [
        "while true do end",
        "redis.call('GET', KEYS[1]) repeat until redis.call('EXISTS', KEYS[1] .. 'x') == 1",
        "repeat until redis.call('EXISTS', 'end') == 1 redis.call('SET', KEYS[1], 1)",
        "repeat until redis.call('EXISTS', 'end') == 1 redis.call('SET', KEYS[1] .. 'x', 1)",
    ],
    ids=["pure", "a read", "a write", "a round"],
)
async def test_while_a_script_keeps_the_store_busy_others_hear_so_and_can_kill_it(
    mirrored: Proxied, body: str
) -> None:
    mirrored.source.cli("CONFIG", "SET", "lua-time-limit", 20)
    async with mirrored.client(3) as (busy, other, writer):
        await ask(other, "SET", "k", 0)
        busy.writer.write(encode_command(b"EVAL", body.encode(), b"1", b"k"))
        busy.writer.write(encode_command(b"GET", b"k"))
        while not (await ask(other, "PING")).startswith(b"-BUSY"):
            await asyncio.sleep(0.001)
        writer.writer.write(encode_command(b"SET", b"other", b"1"))
        assert (await ask(other, "GET", "k")).startswith(b"-BUSY")
        assert await ask(other, "SCRIPT", "KILL") == b"+OK\r\n"
        killed, behind = await busy.replies(2)
        assert b"killed" in killed and behind == b"$1\r\n0\r\n"
        await writer.replies(1)
        assert await ask(other, "SET", "k", 1) == b"+OK\r\n"
    await until(lambda: not mirrored.proxy.table.active and not mirrored.proxy.table.is_closed)


# -- blocks --------------------------------------------------------------------------------


async def test_scripts_in_a_block_leave_their_keys_to_copy(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        replies = await ask_all(
            client, ("MULTI",), ("SET", "a", 1), ("EVAL", INCR, 1, "n"), ("INCR", "a"), ("EXEC",)
        )
        assert replies[-1] == b"*3\r\n+OK\r\n:1\r\n:2\r\n"
        assert await owed(mirrored) == {b"n"}
        replies = await ask_all(
            client, ("MULTI",), ("SET", "a", 1), ("EVAL", HIDDEN, 1, "k", "v"), ("EXEC",)
        )
        assert replies[-1] == b"*2\r\n+OK\r\n+OK\r\n"
        assert b"k:x" in await owed(mirrored)
        replies = await ask_all(
            client,
            ("MULTI",), ("SELECT", 5), ("EVAL", INCR, 1, "n"), ("FLUSHALL",),
            ("EVAL", INCR, 1, "n"), ("EXEC",), ("SELECT", 0),
        )  # fmt: skip
        assert replies[-2] == b"*4\r\n+OK\r\n:1\r\n+OK\r\n:1\r\n"
        assert await owed(mirrored) == {b"n", (5, b"n")}
        await ask_all(client, ("MULTI",), ("EVAL", INCR, 1, "gone"), ("DISCARD",))
        assert not await owed(mirrored)
    assert not mirrored.proxy.table.entries and not mirrored.proxy.table.is_closed


# -- the stores' memory of scripts ---------------------------------------------------------


async def test_script_load_and_flush_go_to_both_sides(mirrored: Proxied) -> None:
    async with mirrored.client() as client:
        assert await ask(client, "SCRIPT", "LOAD", INCR) == b"$40\r\n%b\r\n" % sha(INCR).encode()
        await mirrored.applied()
        assert mirrored.target.cli("SCRIPT", "EXISTS", sha(INCR)) == [1]
        await ask_all(client, ("MULTI",), ("SCRIPT", "LOAD", HIDDEN), ("EXEC",))
        await mirrored.applied()
        assert mirrored.target.cli("SCRIPT", "EXISTS", sha(HIDDEN)) == [1]
        await ask(client, "SCRIPT", "FLUSH")
        await mirrored.applied()
        assert mirrored.target.cli("SCRIPT", "EXISTS", sha(INCR), sha(HIDDEN)) == [0, 0]
    assert len(mirrored.proxy.scripting.scripts) == 0
    assert mirrored.mirror is not None and not mirrored.mirror.divergences


async def test_before_a_flip_everything_that_was_evaluated_is_loaded(mirrored: Proxied) -> None:
    copies = mirrored.proxy.scripting.copies
    target = mirrored.target
    async with mirrored.client() as client:
        await ask(client, "EVAL", INCR, 1, "n")
        await ask(client, "EVAL", "not a script", 0)
        await ask(client, "SCRIPT", "LOAD", HIDDEN)
        await mirrored.applied()
        target.cli("SCRIPT", "FLUSH")  # as a restart does
        assert await copies.prepare(mirrored.proxy.primary.other) == []
        assert target.cli("SCRIPT", "EXISTS", sha(INCR), sha(HIDDEN)) == [1, 1]
        await ask(client, "EVAL", "return 'late'", 0)
        await copies.settle()
        assert target.cli("SCRIPT", "EXISTS", sha("return 'late'")) == [1]
