"""Scripts and functions over whole migrations: what they do is exact, and the new primary has them.

Every script here does something else each time: it asks for the time, draws at random, or makes a
key of another's value. So what is equal at the end was copied, not run twice.
"""

from __future__ import annotations

import asyncio
import random
from hashlib import sha1
from typing import Any

import pytest

from tests.integration.clients import DEADLINE_S, Client, until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, Process, refusal
from tests.servers import REDIS_6, VALKEY_9, Pair, engine_pairs

CLIENTS = 8
# Of each client, at least, before, between and behind the flips.
CALLS = 60
NAMED = "return redis.call('INCR', KEYS[1])"
TIMED = """
local t = redis.call('TIME')
redis.call('HSET', KEYS[3], 'at', t[1] .. '.' .. t[2])
redis.call('PEXPIRE', KEYS[3], 600000 + t[2] % 1000)
return redis.call('INCR', KEYS[1])
"""
POPPING = """
redis.call('SADD', KEYS[4], ARGV[1], ARGV[1] + 1, ARGV[1] + 2)
local member = redis.call('SPOP', KEYS[4])
redis.call('RPUSH', KEYS[4] .. ':popped', member)
return redis.call('INCR', KEYS[1])
"""
HIDDEN = """
local name = KEYS[2] .. ':' .. redis.call('TIME')[2] % 50
redis.call('SET', name, ARGV[1])
if ARGV[1] % 3 == 0 then redis.call('DEL', name) end
return redis.call('INCR', KEYS[1])
"""
FAILING = """
redis.call('APPEND', KEYS[2], redis.call('TIME')[2])
local n = redis.call('INCR', KEYS[1])
return redis.error_reply('COUNT ' .. n)
"""
UNNAMED = "return redis.call('SET', KEYS[1] .. ':x', ARGV[1])"
BODIES = (NAMED, TIMED, POPPING, HIDDEN, FAILING)
LIBRARY = (
    "#!lua name=lib\n"
    "redis.register_function('count', function(k, a)\n"
    " redis.call('SET', k[2], redis.call('TIME')[2]) return redis.call('INCR', k[1]) end)\n"
    "redis.register_function('hidden', function(k, a)\n"
    " redis.call('SET', k[2] .. ':y', redis.call('TIME')[2])\n"
    " return redis.call('INCR', k[1]) end)\n"
)
LATE = "#!lua name=late\nredis.register_function('late', function() return 1 end)"


def sha(body: str) -> str:
    return sha1(body.encode()).hexdigest()


class Caller:
    """One client that counts by scripts, and is answered the next number each time."""

    def __init__(self, client: Client, at: int, *, has_functions: bool) -> None:
        self.client = client
        self.counter = f"counter:{at}"
        # Others write the same keys: a string, a hash, a set.
        self.shared = f"shared:{at % 3}"
        self.keys = (4, self.counter, self.shared, f"{self.shared}:hash", f"{self.shared}:set")
        self.random = random.Random(at)
        self.count = 0
        self.has_functions = has_functions

    def call(self) -> tuple[str | int, ...]:
        keys = (*self.keys, self.count)
        if self.has_functions and self.random.random() < 0.2:
            return ("FCALL", self.random.choice(("count", "hidden")), *keys)
        return ("EVAL", self.random.choice(BODIES), *keys)

    def took(self, reply: Any) -> None:
        self.count += 1
        assert reply == self.count or str(reply) == f"COUNT {self.count}", (reply, self.count)

    async def turn(self) -> None:
        """A few calls, one of the ways that applications send them."""
        client, way = self.client, self.random.randrange(4)
        if way == 0:
            client.send(*self.call())
            self.took(await client.reply())
        elif way == 1:
            body = self.random.choice(BODIES)
            client.send("EVALSHA", sha(body), *self.keys, self.count)
            reply = await client.reply()
            if str(reply).startswith("NOSCRIPT"):
                client.send("EVAL", body, *self.keys, self.count)
                reply = await client.reply()
            self.took(reply)
        elif way == 2:
            for _ in range(4):
                client.send("APPEND", self.shared, self.random.randrange(10))
                client.send(*self.call())
            for _ in range(4):
                await client.reply()
                self.took(await client.reply())
        else:
            client.send("MULTI")
            client.send(*self.call())
            client.send("SET", f"{self.counter}:block", self.count)
            client.send("EXEC")
            for _ in range(3):
                await client.reply()
            replies = await client.reply()
            self.took(replies[0])


def has_functions(migration: Migration) -> bool:
    return migration.source.engine.version >= (7,) and migration.target.engine.version >= (7,)


@engine_pairs
async def test_what_scripts_do_is_exact_from_the_backfill_to_the_last_flip(
    migration: Migration,
) -> None:
    for number in range(2000):
        migration.source.cli("SET", f"old:{number}", number)
    functions = has_functions(migration)
    if functions:
        migration.source.cli("FUNCTION", "LOAD", LIBRARY)
    callers = [
        Caller(await migration.client(), at, has_functions=functions) for at in range(CLIENTS)
    ]
    ended = asyncio.Event()

    async def work(caller: Caller) -> None:
        while not ended.is_set():
            await caller.turn()

    async def everybody_has_called() -> None:
        before = [each.count for each in callers]
        await until(
            lambda: all(
                each.count >= count + CALLS for each, count in zip(callers, before, strict=True)
            ),
            "everybody has called",
        )

    async def flip(verb: Any) -> None:
        # With so much going on a fence may find more to settle than its deadline allows.
        for _ in range(20):
            try:
                await verb()
                return
            except Exception as error:
                last = error
        raise AssertionError("no flip was done") from last

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work(each)) for each in callers]
        await everybody_has_called()
        await migration.start()
        await everybody_has_called()
        await until(lambda: migration.status()["backfill"]["done"], "the backfill is done")
        assert (await migration.verify())["passed"]
        for verb in (migration.cutover, migration.rollback, migration.cutover):
            await everybody_has_called()
            await flip(verb)
        await everybody_has_called()
        ended.set()
        await asyncio.gather(*working)
    assert await migration.differences() == []
    for caller in callers:
        assert migration.target.cli("GET", caller.counter) == str(caller.count).encode()
    assert migration.proxy.stats.divergences == {}
    assert (await migration.verify())["passed"]


async def test_a_copy_is_read_then_a_script_writes_a_key_that_nobody_can_name_then_it_is_appended(
    migration: Migration, wires: Wires
) -> None:
    migration.source.cli("SET", "k:x", "old")
    client = await migration.client()
    read = wires.hold_read(b"k:x")
    await migration.start()
    await read.arrived()
    assert await client.call("EVAL", UNNAMED, 1, "k", "new") == b"OK"
    read.release()
    await migration.copied()
    assert migration.target.cli("GET", "k:x") == b"new"
    assert await migration.differences() == []


async def test_a_verification_looks_before_the_witness_has_told_and_waits_for_it(
    migration: Migration, wires: Wires
) -> None:
    await migration.verified()
    client = await migration.client()
    assert await client.call("EVAL", UNNAMED, 1, "k", "old") == b"OK"
    await migration.settled()
    lane, witness = migration.lane(), migration.proxy.scripting.witness
    assert witness._lane is not None
    wires.hold_replies(lane)
    client.send("EVAL", UNNAMED, 1, "k", "new")
    await until(lambda: migration.source.cli("GET", "k:x") == b"new", "the script has run")
    wires.hold_replies(witness._lane)
    wires.release_replies(lane)
    assert await client.reply() == b"OK"
    verification = asyncio.create_task(migration.verify())
    # At the gate behind the round, or for the witness itself.
    table = migration.proxy.table
    await until(
        lambda: verification.done() or witness._waiting or table.has_waiting,
        "the verification waits",
    )
    assert not verification.done()
    wires.release_replies(witness._lane)
    assert (await verification)["passed"]
    assert await migration.differences() == []


async def test_a_copy_under_a_ticket_waits_for_a_round_and_not_for_the_fence_behind_that(
    migration: Migration, wires: Wires
) -> None:
    await migration.verified()
    client = await migration.client()
    await client.call("SET", "k", 1)
    await client.call("EVAL", UNNAMED, 1, "k", "old")
    await migration.settled()
    witness = migration.proxy.scripting.witness._lane
    assert witness is not None
    wires.hold_replies(witness)
    client.send("EVAL", UNNAMED, 1, "k", "new")
    await until(lambda: migration.proxy.table.is_closed, "the round has begun")
    fence = asyncio.create_task(migration.proxy.fence())
    await asyncio.sleep(0)
    copying = migration.controller.copying
    assert copying is not None
    copy = asyncio.create_task(copying.mover.copy_alone(0, b"k", "test"))
    await until(lambda: len(migration.proxy.table._at_the_gate) == 2, "both wait at the gate")
    wires.release_replies(witness)
    async with asyncio.timeout(DEADLINE_S):
        assert not (await copy).touched
        await fence
    migration.proxy.release()
    assert await client.reply() == b"OK"
    assert await migration.differences() == []


@engine_pairs
async def test_scripts_are_there_after_three_flips(migration: Migration) -> None:
    client = await migration.client()
    assert await client.call("SCRIPT", "LOAD", NAMED) == sha(NAMED).encode()
    assert await client.call("EVAL", "return 'evaluated'", 0) == b"evaluated"
    await migration.verified()
    assert await client.call("SCRIPT", "LOAD", TIMED) == sha(TIMED).encode()
    for count, flip in enumerate((migration.cutover, migration.rollback, migration.cutover), 1):
        await flip()
        assert await client.call("EVALSHA", sha(NAMED), 1, "n") == count
        assert await client.call("EVALSHA", sha("return 'evaluated'"), 0) == b"evaluated"
        assert await client.call("EVALSHA", sha(TIMED), 3, "m", "s", "h") == count
    assert await migration.differences() == []


async def test_a_target_that_was_restarted_gets_the_scripts_again(migration: Migration) -> None:
    client = await migration.client()
    await client.call("SCRIPT", "LOAD", NAMED)
    await migration.mirroring()
    migration.target.cli("SCRIPT", "FLUSH")
    mirror = migration.mirror_lane
    mirror.close()
    await until(
        lambda: migration.target.cli("SCRIPT", "EXISTS", sha(NAMED)) == [1], "it is loaded again"
    )


BOTH_7 = pytest.mark.parametrize("pair", [Pair(VALKEY_9, VALKEY_9)], ids=str, indirect=True)


def libraries(server: Any) -> set[bytes]:
    return {library[1] for library in server.cli("FUNCTION", "LIST")}


@BOTH_7
async def test_functions_are_copied_and_follow_every_flip(migration: Migration) -> None:
    source, target = migration.source, migration.target
    source.cli("FUNCTION", "LOAD", LIBRARY)
    target.cli("FUNCTION", "LOAD", LIBRARY.replace("name=lib", "name=other"))
    assert await refusal(migration.start()) == {"target_functions"}
    await migration.verified("target_functions")
    await until(lambda: libraries(target) == {b"lib"}, "the functions are copied")
    client = await migration.client()
    assert await client.call("FCALL", "count", 2, "n", "at") == 1
    await client.call("FUNCTION", "LOAD", LATE)
    await until(lambda: libraries(target) == {b"lib", b"late"}, "the late one is copied")
    payload = await client.call("FUNCTION", "DUMP")
    await client.call("FUNCTION", "FLUSH")
    await until(lambda: libraries(target) == set(), "none are left")
    await client.call("FUNCTION", "RESTORE", payload)
    await until(lambda: libraries(target) == {b"lib", b"late"}, "they are there again")
    await client.call("FUNCTION", "DELETE", "late")
    for count, flip in enumerate((migration.cutover, migration.rollback, migration.cutover), 2):
        await flip()
        assert await client.call("FCALL", "count", 2, "n", "at") == count
        assert libraries(migration.source) == libraries(migration.target) == {b"lib"}
    assert await migration.differences() == []


@BOTH_7
async def test_a_function_that_is_loaded_right_before_the_flip_is_there_behind_it(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migration.verified()
    client = await migration.client()
    prepare = migration.proxy.prepare_flip

    async def prepared() -> list[str]:
        found = await prepare()
        # What the mirror would do by itself does not come in time.
        monkeypatch.setattr(migration.proxy.scripting.copies, "_copy_soon", lambda: None)
        await client.call("FUNCTION", "LOAD", LIBRARY)
        await client.call("EVAL", "return 'late'", 0)
        return found

    monkeypatch.setattr(migration.proxy, "prepare_flip", prepared)
    await migration.cutover()
    assert await client.call("FCALL", "count", 2, "n", "at") == 1
    assert await client.call("EVALSHA", sha("return 'late'"), 0) == b"late"


@pytest.mark.parametrize("pair", [Pair(VALKEY_9, REDIS_6)], ids=str, indirect=True)
async def test_functions_that_the_target_cannot_have_stop_the_start_and_every_flip(
    migration: Migration,
) -> None:
    migration.source.cli("FUNCTION", "LOAD", LIBRARY)
    assert await refusal(migration.start()) == {"functions"}
    await migration.verified("functions", "missing_commands")
    assert await refusal(migration.cutover()) == {"not_prepared"}
    client = await migration.client()
    await client.call("FUNCTION", "FLUSH")
    await migration.cutover()


async def test_scripts_that_were_loaded_past_the_proxy_are_spoken_of(migration: Migration) -> None:
    async def cached() -> list[str]:
        found = (await migration.controller.analyze())["findings"]
        return [each["message"] for each in found if each["name"] == "cached_scripts"]

    client = await migration.client()
    await client.call("SCRIPT", "LOAD", NAMED)
    assert await cached() == []
    migration.source.cli("SCRIPT", "LOAD", TIMED)
    assert "holds 1 scripts" in (await cached())[0]


async def test_a_flush_inside_a_script_is_made_up_for(migration: Migration) -> None:
    await migration.verified()
    client = await migration.client()
    await client.call("SET", "before", 1)
    await client.call("EVAL", "redis.call('FLUSHALL') redis.call('SET', 'k', 1)", 0)
    await client.call("SET", "behind", 1)
    await migration.copied()
    assert await migration.differences() == []
    assert await refusal(migration.cutover()) == {"not_verified"}


async def test_writes_that_nobody_could_see_make_the_verification_stale(
    migration: Migration,
) -> None:
    await migration.verified()
    client = await migration.client()
    await migration.controller.shift(50)
    migration.source.cli("ACL", "SETUSER", "default", "-client")
    assert await client.call("EVAL", HIDDEN, 2, "n", "k", 1) == 1
    assert migration.proxy.read_percent == 0
    assert migration.status()["verify"]["stale"]
    migration.source.cli("ACL", "SETUSER", "default", "+client")
    # A witness that may look makes nothing stale.
    assert (await migration.verify(repair=True))["passed"]
    assert await client.call("EVAL", HIDDEN, 2, "n", "k", 2) == 2
    await migration.settled()
    assert not migration.status()["verify"]["stale"]
    assert await migration.differences() == []


@BOTH_7
async def test_a_new_process_knows_the_functions_again(process: Process) -> None:
    process.source.cli("FUNCTION", "LOAD", LIBRARY)
    await process.start()
    await process.to("cutover")
    client = await Client.open(process.port)
    assert await client.call("FCALL", "count", 2, "n", "at") == 1
    await client.close()
    await process.kill()
    await process.start()
    await process.proven()
    client = await Client.open(process.port)
    assert await client.call("FCALL", "count", 2, "n", "at") == 2
    assert await client.call("FCALL", "hidden", 2, "n", "at") == 3
    await client.close()
    await process.proven()
    assert process.source.cli("GET", "at") == process.target.cli("GET", "at")
    assert process.source.cli("GET", "at:y") == process.target.cli("GET", "at:y")
