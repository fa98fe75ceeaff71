"""What the probes find out about real servers, and that they leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.bulk import Bulk, ReplyError
from migrator.copy import make_reader
from migrator.copy.dialect import Writes, _other_versions, learn_reads, learn_writes
from migrator.copy.footer import version_of
from migrator.copy.reader import DumpReader, TypedReader
from proxy.endpoint import Endpoint
from tests.bulks import opened
from tests.servers import DEFAULT_PAIR, Pair, Server, every_engine, every_pair

REDIS_7 = {0, 2, 4, 5, 11, 12, 13, 14, 15, 16, 17, 18, 19}
# Measured with other means: which footers an engine takes, and which type bytes at version 9.
KNOWN = {
    "redis-6.2": (9, {0, 2, 4, 5, 11, 12, 13, 14, 15}),
    "redis-7.0": (10, REDIS_7),
    "redis-7.4": (12, REDIS_7 | {20, 21}),
    "valkey-8": (11, REDIS_7 | {20, 21}),
    "valkey-9": (80, REDIS_7 | {20, 21}),
}


@every_engine
async def test_probes_find_what_the_engine_was_measured_to_take(server: Server) -> None:
    version, types = next(
        known for name, known in KNOWN.items() if server.engine.name.startswith(name + ".")
    )
    async with opened(server) as (bulk,):
        reads, writes = await learn_reads(bulk), await learn_writes(bulk)
        await bulk.call("SET", "k", "v")
        assert version_of(await bulk.call("DUMP", "k")) == version
    assert max(writes.versions) == version
    assert writes.types == types
    assert reads.has_pexpiretime == (server.engine.version >= (7,))
    assert writes.has_stream_counters == (server.engine.version >= (7,))
    assert reads.has_field_ttl == writes.has_field_ttl == (version in (12, 80))


@every_engine
async def test_the_largest_argument_is_asked_of_the_store(server: Server) -> None:
    async with opened(server) as (bulk,):
        assert (await learn_writes(bulk)).max_bulk == 512 << 20
        await bulk.call("CONFIG", "SET", "proto-max-bulk-len", 3 << 20)
        assert (await learn_writes(bulk)).max_bulk == 3 << 20
        await bulk.call("ACL", "SETUSER", "default", "-config")
        assert (await learn_writes(bulk)).max_bulk == 512 << 20


@every_engine
async def test_probes_write_nothing(server: Server) -> None:
    async with opened(server) as (bulk,):
        before = server.info()
        await learn_reads(bulk)
        await learn_writes(bulk)
        after = server.info()
    assert server.cli("DBSIZE") == 0
    for fact in ("expired_keys", "rdb_changes_since_last_save"):
        assert before[fact] == after[fact]


@every_engine
async def test_probes_never_touch_a_key_that_somebody_has(server: Server) -> None:
    server.cli("SET", "keyferry:probe", "somebody's")
    async with opened(server) as (bulk,):
        with pytest.raises(ReplyError, match=r"BUSYKEY|WRONGTYPE"):
            await learn_writes(bulk)
    assert server.cli("GET", "keyferry:probe") == b"somebody's"


@every_pair
async def test_dump_is_chosen_between_all_engines_at_hand(
    source: Server, target: Server, pair: Pair
) -> None:
    async with opened(source, target) as (a, b):
        assert isinstance(await make_reader(a, b), DumpReader), pair


@pytest.mark.parametrize(("denied_on", "denied"), [(0, "-dump"), (1, "-restore")])
async def test_typed_reads_are_chosen_where_dump_or_restore_is_forbidden(
    server_factory: Callable[..., Server], denied_on: int, denied: str
) -> None:
    servers = [server_factory(DEFAULT_PAIR.source), server_factory(DEFAULT_PAIR.target)]
    servers[denied_on].cli("ACL", "SETUSER", "default", denied)
    async with opened(*servers) as (a, b):
        assert isinstance(await make_reader(a, b), TypedReader)


@every_engine
async def test_a_store_that_is_away_gives_no_answers(server: Server) -> None:
    server.cli("REPLICAOF", "127.0.0.1", 1)
    async with opened(server) as (bulk,):
        with pytest.raises(ReplyError, match="READONLY"):
            await learn_writes(bulk)


async def test_a_full_store_gives_no_answers(target: Server) -> None:
    target.cli("CONFIG", "SET", "maxmemory", 1)
    async with opened(target) as (bulk,):
        with pytest.raises(ReplyError, match="OOM"):
            await learn_writes(bulk)


def test_rare_types_are_taken_within_one_family_only() -> None:
    def store(*versions: int) -> Writes:
        return Writes(
            has_field_ttl=True,
            has_stream_counters=True,
            modules=frozenset(),
            versions=frozenset(versions),
            types=frozenset(),
        )

    redis, valkey, relaxed_valkey = store(11, 12), store(11, 80), store(11, 12, 80)
    assert redis.takes_as_is(12, 25)
    assert valkey.takes_as_is(80, 22)
    assert not redis.takes_as_is(80, 22)
    assert not relaxed_valkey.takes_as_is(12, 25)
    assert relaxed_valkey.takes_as_is(12, 21)


async def test_open_uses_the_url(target: Server) -> None:
    target.cli("ACL", "SETUSER", "mover", "on", ">s3cret", "~*", "+@all")
    endpoint = Endpoint.parse(f"valkey://mover:s3cret@127.0.0.1:{target.port}", "test")
    bulk = await Bulk.open(endpoint)
    assert await bulk.call("ACL", "WHOAMI") == b"mover"
    bulk.close()
    await bulk.wait_closed()


@pytest.mark.parametrize(
    ("line", "is_other"),
    [
        (b"valkey_version:9.1.0", False),
        (b"gcc_version:12.2.0", False),
        (b"dragonfly_version:df-v1.30.0", True),
        (b"kvrocks_version:2.9.0", True),
    ],
)
def test_engines_that_only_speak_as_redis_are_known_by_a_version_of_their_own(
    line: bytes, is_other: bool
) -> None:
    info = b"# Server\r\nredis_version:7.2.4\r\n" + line + b"\r\nprocess_id:1\r\n"
    assert bool(_other_versions(info)) is is_other
