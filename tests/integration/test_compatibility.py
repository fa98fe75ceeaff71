"""What the target does not know or cannot hold: `start` says so, the mirror copes, status tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hiredis
import pytest

from migrator.servers import find_engines
from proxy.sides import Side
from tests.integration.clients import until
from tests.integration.holds import Wires
from tests.integration.keyferry import Migration, refusal
from tests.servers import ENGINES, REDIS_6, VALKEY_9, Engine, Server

STACK = next((engine for engine in find_engines() if engine.modules), None)
# The newest Redis that knows nothing of field expiry: 7.0 where there is one.
OLDER = [e for e in ENGINES if e.kind == "redis" and e.version < (7, 4)][-1]
NEWER = [e for e in ENGINES if e.version >= ((9,) if e.kind == "valkey" else (7, 4))]

Between = Callable[..., Any]


@pytest.fixture
async def between(
    server_factory: Callable[..., Server], tmp_path: Path, wires: Wires
) -> AsyncIterator[Between]:
    """`await between(source, target)`: a migration between these servers, or clean ones."""
    opened: list[Migration] = []

    async def open_(*sides: Server | Engine) -> Migration:
        servers = [s if isinstance(s, Server) else server_factory(s) for s in sides]
        migration = Migration(servers[0], servers[1], tmp_path / "state")
        await migration.open()
        opened.append(migration)
        return migration

    yield open_
    for migration in opened:
        await migration.close()


async def findings(migration: Migration) -> dict[str, tuple[str, str]]:
    """name -> (severity, message), without what is only told, and without the tests' own hands."""
    report = await migration.controller.analyze()
    return {
        f["name"]: (f["severity"], f["message"])
        for f in report["findings"]
        if f["severity"] != "info" and f["name"] != "other_clients"
    }


# -- field expiry ---------------------------------------------------------------------------


@pytest.mark.parametrize("newer", NEWER, ids=str)
async def test_hashes_with_field_expiry_refuse_a_start_to_an_older_engine(
    between: Between, newer: Engine
) -> None:
    migration = await between(newer, OLDER)
    source = migration.source
    assert await findings(migration) == {}
    for name in ("a", "b", "c"):
        source.cli("HSET", name, "f", "1", db=3)
    for name in ("a", "b"):
        source.cli("HEXPIRE", name, "1000", "FIELDS", "1", "f", db=3)
    severity, message = (await findings(migration))["field_expiries"]
    assert severity == "blocker"
    assert message.startswith(f"2 hashes have fields that expire, which redis {OLDER.name[6:]}")
    assert await refusal(migration.start()) == {"field_expiries"}
    assert migration.status()["phase"] == "idle"
    await migration.start("field_expiries")
    await until(lambda: migration.status()["mirror"]["failing_keys"] == 2, "two are refused")
    because = migration.status()["mirror"]["failing_because"]
    assert because == "the target cannot hold it: expiry of hash fields"


async def test_field_expiry_that_was_only_used_refuses_it_too(between: Between) -> None:
    migration = await between(VALKEY_9, OLDER)
    migration.source.cli("HSETEX", "h", "EX", "1000", "FIELDS", "1", "f", "v")
    migration.source.cli("DEL", "h")
    severity, message = (await findings(migration))["field_expiries"]
    assert severity == "blocker"
    assert "have been used (hsetex)" in message


async def test_an_engine_that_holds_field_expiry_is_not_asked_about_it(between: Between) -> None:
    migration = await between(VALKEY_9, VALKEY_9)
    migration.source.cli("HSET", "h", "f", "1")
    migration.source.cli("HEXPIRE", "h", "1000", "FIELDS", "1", "f")
    assert await findings(migration) == {}


async def test_what_the_target_does_not_know_is_copied_and_no_divergence(between: Between) -> None:
    migration = await between(VALKEY_9, REDIS_6)
    client = await migration.client()
    await migration.verified("missing_commands")
    await client.call("HSET", "h", "a", "1", "b", "2")
    # It only persists, or deletes, and what remains an older engine can hold.
    await client.call("HEXPIRE", "h", "1000", "FIELDS", "1", "a")
    await client.call("HPERSIST", "h", "FIELDS", "1", "a")
    await client.call("HSETEX", "other", "FIELDS", "1", "a", "1")
    assert await client.call("HGETDEL", "h", "FIELDS", "1", "b") == [b"2"]
    await client.block(("SET", "in a block", "1"), ("HPERSIST", "h", "FIELDS", "1", "a"))
    assert await migration.differences() == []
    mirror = migration.status()["mirror"]
    assert mirror["divergences"] == 0
    assert mirror["copied_instead"] == {"hexpire": 1, "hpersist": 2, "hsetex": 1}
    await migration.cutover()
    assert migration.status()["mirror"]["copied_instead"] == {}


async def test_a_form_that_the_target_does_not_know_is_copied_and_no_divergence(
    between: Between,
) -> None:
    migration = await between(VALKEY_9, REDIS_6)
    client = await migration.client()
    await migration.mirroring()
    await client.call("XADD", "s", "1-1", "a", "b")
    await client.call("XSETID", "s", "5-0", "ENTRIESADDED", "9", "MAXDELETEDID", "3-0")
    payload = await client.call("DUMP", "s")
    await client.call("RESTORE", "again", "0", payload)
    assert await migration.differences() == []
    mirror = migration.status()["mirror"]
    assert mirror["divergences"] == 0
    assert mirror["copied_instead"] == {"xsetid": 1, "restore": 1}


async def test_what_a_store_knows_is_asked_again_by_start(between: Between) -> None:
    migration = await between(VALKEY_9, REDIS_6)
    # As if the target had not been there when the process began.
    migration.proxy.commands._known.pop(Side.TARGET)
    assert migration.proxy.commands.lacking(Side.TARGET) == frozenset()
    await migration.start()
    assert "hexpire" in migration.proxy.commands.lacking(Side.TARGET)
    assert "hexpire" not in migration.proxy.commands.lacking(Side.SOURCE)


# -- commands -------------------------------------------------------------------------------


async def test_commands_that_the_target_lacks_block_a_cutover_until_they_are_waived(
    between: Between,
) -> None:
    migration = await between(VALKEY_9, REDIS_6)
    client = await migration.client()
    await client.call("RPUSH", "l", "a", "b")
    await client.call("LMPOP", "1", "l", "LEFT")
    await client.call("SINTERCARD", "1", "none")
    await client.call("LATENCY", "HISTOGRAM")
    severity, message = (await findings(migration))["missing_commands"]
    assert severity == "warning"
    assert message.endswith("the target does not know them: lmpop, sintercard")
    await migration.mirroring()
    assert (await migration.verify())["passed"]
    await until(lambda: "missing_commands" in migration.status()["blockers"], "it is seen")
    assert await refusal(migration.cutover()) == {"missing_commands"}
    await migration.start("missing_commands")
    await until(lambda: not migration.status()["blockers"], "it is waived")
    assert await migration.differences() == []
    await migration.cutover()
    with pytest.raises(hiredis.ReplyError, match="unknown command"):
        await client.call("LMPOP", "1", "l", "LEFT")


async def test_a_command_that_is_used_while_the_mirror_runs_is_noticed(between: Between) -> None:
    migration = await between(VALKEY_9, REDIS_6)
    client = await migration.client()
    await migration.verified()
    assert migration.status()["blockers"] == []
    await client.call("MSETEX", "1", "k", "v", "EX", "1000")
    assert await migration.differences() == []
    await until(lambda: "missing_commands" in migration.status()["blockers"], "it is noticed")


async def test_what_keyferry_itself_asks_a_store_is_no_use_of_it(between: Between) -> None:
    migration = await between(VALKEY_9, REDIS_6)
    migration.source.cli("HSET", "h", "f", "1")
    migration.source.cli("SET", "k", "v")
    await migration.verified()
    migration.target.cli("SET", "k", "planted")
    await migration.verify(repair=True)
    assert set(await findings(migration)) == {"target_not_empty"}


# -- modules --------------------------------------------------------------------------------

needs_modules = pytest.mark.skipif(STACK is None, reason="no engine with modules: `make stack`")


def stack(server_factory: Callable[..., Server], *modules: str) -> Server:
    assert STACK is not None
    paths = [str(path) for path in STACK.modules if path.stem in modules]
    return server_factory(STACK, args=[word for path in paths for word in ("--loadmodule", path)])


@needs_modules
async def test_a_module_that_the_target_lacks_is_a_blocker_once_it_is_in_use(
    between: Between, server_factory: Callable[..., Server]
) -> None:
    source = stack(server_factory, "rejson", "redisbloom")
    migration = await between(source, VALKEY_9)
    text = "the target lacks modules, of which no use was seen: ReJSON, bf"
    assert await findings(migration) == {"missing_modules": ("warning", text)}
    source.cli("JSON.SET", "doc", "$", "1", db=2)
    source.cli("SET", "plain", "1")
    severity, message = (await findings(migration))["missing_modules"]
    assert severity == "blocker"
    assert message.endswith("ReJSON, bf (keys of type ReJSON-RL; used json.set)")
    # As after a restart, with nothing but the keys left.
    source.cli("CONFIG", "RESETSTAT")
    assert (await findings(migration))["missing_modules"][0] == "blocker"
    source.cli("DEL", "doc", db=2)
    source.cli("BF.ADD", "b", "x")
    source.cli("DEL", "b")
    message = (await findings(migration))["missing_modules"][1]
    assert message.endswith("ReJSON, bf (used bf.add)")
    assert await refusal(migration.start()) == {"missing_modules"}
    assert "missing_commands" in await findings(migration)


@needs_modules
async def test_what_one_module_holds_is_copied_though_another_is_missing(
    between: Between, server_factory: Callable[..., Server]
) -> None:
    source = stack(server_factory, "rejson", "redisbloom")
    migration = await between(source, stack(server_factory, "rejson"))
    source.cli("JSON.SET", "doc", "$", "1")
    await migration.mirroring("missing_modules")
    assert await migration.differences() == []
    client = await migration.client()
    await client.call("BF.ADD", "b", "x")
    await until(lambda: migration.status()["mirror"]["failing_keys"], "it is refused")
    because = migration.status()["mirror"]["failing_because"]
    assert because == "the target cannot hold it: type MBbloom-- needs a module"
    await client.call("DEL", "b")
    assert await migration.differences() == []


@needs_modules
async def test_a_search_index_that_the_target_lacks_blocks_a_cutover(
    between: Between, server_factory: Callable[..., Server]
) -> None:
    modules = ("rejson", "redisearch")
    migration = await between(stack(server_factory, *modules), stack(server_factory, *modules))
    create = ("FT.CREATE", "idx", "PREFIX", 1, "doc:", "SCHEMA", "t", "TEXT")
    client = await migration.client()
    await migration.verified()
    await client.call(*create)
    await client.call("HSET", "doc:1", "t", "hello")
    severity, message = (await findings(migration))["search_indexes"]
    assert (severity, message[-3:]) == ("warning", "idx")
    await until(lambda: "search_indexes" in migration.status()["blockers"], "it is noticed")
    migration.target.cli(*create)
    await until(lambda: not migration.status()["blockers"], "it is there")
    await migration.cutover()
    found = lambda: client.call("FT.SEARCH", "idx", "hello")  # noqa: E731
    await until(lambda: _is_one(found), "the target has indexed what was copied")


async def _is_one(search: Callable[[], Any]) -> bool:
    return bool((await search())[0] == 1)
