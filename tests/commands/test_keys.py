"""Which keys a request has: by the table's own words, and by what real servers say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.commands import Command, CommandTable
from proxy.commands.keys import keys, whole_number
from proxy.resp import ReplyError, Request, parse, request
from tests.servers import ENGINES, REDIS_6, ServerPool

from .cases import cases, filled_in
from .wire import Wire, words

TABLE = CommandTable()

CALLS = """
GET a
MGET a b c
EXISTS a a b
MSET a 1 b 2 c 3
BITOP AND d a b c
ZUNIONSTORE d 2 a b WEIGHTS 1 2
ZINTERSTORE d 1 a AGGREGATE MAX
ZDIFF 2 a b WITHSCORES
ZINTERCARD 2 a b LIMIT 5
SINTERCARD 3 a b c
SINTER a b
LMPOP 2 a b LEFT COUNT 3
ZMPOP 1 a MIN
LMOVE a b LEFT RIGHT
SMOVE a b m
RENAME a b
COPY a b DB 2 REPLACE
MOVE a 3
SORT a
SORT a BY w_* GET # GET o_* LIMIT 0 5 STORE d
SORT a STORE d STORE e
SORT_RO a BY w_*
GEORADIUS g 1 2 3 km STORE d
GEORADIUS g 1 2 3 km STOREDIST d ASC
GEORADIUSBYMEMBER g m 3 km STORE d
GEOSEARCHSTORE d g FROMMEMBER m BYRADIUS 1 km
PFMERGE d a b
PFCOUNT a b
XREAD COUNT 2 STREAMS a b 0 0
XREAD COUNT 5 STREAMS STREAMS 0
XREAD COUNT 1 STREAMS block 0
XREADGROUP GROUP g c COUNT 2 NOACK STREAMS a b > >
XREADGROUP GROUP streams c STREAMS a >
XGROUP CREATE a g $
XGROUP SETID a g 0
XINFO STREAM a FULL
OBJECT ENCODING a
MEMORY USAGE a SAMPLES 5
XADD a MAXLEN ~ 5 * f v
XPENDING a g
HSET a f v g w
HRANDFIELD a 2
LCS a b LEN
SUNIONSTORE d a b
ZRANGESTORE d a 0 -1
ZADD a NX 1 m
TOUCH a b
UNLINK a b
HSCAN a 0
GETEX a EX 5
RESTORE a 0 payload
"""


@pytest.fixture(scope="module", params=[e for e in ENGINES if e != REDIS_6], ids=str)
def wire(request: pytest.FixtureRequest, server_pool: ServerPool) -> Iterator[Wire]:
    server = server_pool.take(request.param)
    with Wire(server) as wire:
        yield wire
    server_pool.give_back(server)


def every_call() -> list[str]:
    written = [filled_in(case.removeprefix("!"), 1_000_000)[1] for case in cases()]
    return [*CALLS.split("\n")[1:-1], *dict.fromkeys(written)]


def test_the_keys_are_those_the_server_names(wire: Wire) -> None:
    compared = 0
    for line in every_call():
        answer = parse(wire.call("COMMAND", "GETKEYS", *words(line)))
        if isinstance(answer, ReplyError) and "Invalid command" in answer.text:
            continue  # not known to this engine
        req = request(*words(line))
        command = TABLE.lookup(req)
        assert command is not None, line
        assert not isinstance(answer, ReplyError), (line, answer)
        assert sorted(command.keys(req)) == sorted(answer), line
        compared += 1
    assert compared > 200


def test_the_written_keys_are_those_the_server_may_write(wire: Wire) -> None:
    for line in every_call():
        answer = parse(wire.call("COMMAND", "GETKEYSANDFLAGS", *words(line)))
        if isinstance(answer, ReplyError):
            continue
        req = request(*words(line))
        command = TABLE.lookup(req)
        assert command is not None
        written = sorted(key for key, flags in answer if b"RO" not in flags)
        if command.name == "pfcount" and req.argc > 2:
            written = []  # flagged as a write, but it only writes the cache of a single key
        if command.name == "xreadgroup":
            written = sorted(key for key, _ in answer)  # flagged read-only, but it delivers
        assert sorted(command.written(req)) == written, line


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("r1", "C a b", "a"),
        ("r1..", "C a b c", "a b c"),
        ("w1../2", "C a 1 b 2", "a b"),
        ("w1+2", "C a b c", "a b"),
        ("r1..-1", "C a b c", "a b c"),
        ("r1..-2", "C a b c", "a b"),
        ("r#1", "C 2 a b c", "a b"),
        ("w#1/2", "C 2 a 1 b 2 EX", "a b"),
        ("w1 r#2", "C d 2 a b W", "d a b"),
        ("w2 r3..", "C op d a b", "d a b"),
        ("r#1", "C 9 a b", "a b"),
        ("r#1", "C x a b", ""),
        ("r#1", "C -1 a b", ""),
        ("r#1", "C", ""),
        ("w1+2", "C a", "a"),
        ("", "C a", ""),
    ],
)
def test_a_range_of_keys(text: str, line: str, expected: str) -> None:
    assert keys(text).keys(request(*words(line))) == words(expected)


def test_only_w_is_written() -> None:
    spec = keys("w1 r#2")
    assert spec.written(request(*words("C d 2 a b"))) == [b"d"]
    assert spec.read_only().written(request(*words("C d 2 a b"))) == []


@pytest.mark.parametrize(
    "text", [b"", b" 1", b"+1", b"01", b"1x", b"--1", b"-0", b"1_0", "١".encode()]
)
def test_a_number_is_one_only_as_servers_read_it(text: bytes) -> None:
    assert whole_number(text) is None
    assert whole_number(b"-12") == -12
    assert whole_number(b"0") == 0


def test_no_request_makes_it_raise() -> None:
    for command in TABLE:
        name = command.name.replace("|", " ").split()[:2]
        for argc in range(8):
            for filler in (b"x", b"1", b"STREAMS", b"STORE", b"99999999999999999999", b"DB", b"BY"):
                req = request(*(word.encode() for word in name), *[filler] * argc)
                found = TABLE.lookup(req)
                if found is not None:
                    assert set(found.written(req)) <= set(found.keys(req))
                    found.unknown_keys(req)
                    found.other_db(req)
                    found.probe(req)


def one(line: str) -> tuple[Command, Request]:
    req = request(*words(line))
    command = TABLE.lookup(req)
    assert command is not None
    return command, req


def test_other_databases() -> None:
    for line, db in (
        ("MOVE a 3", 3),
        ("COPY a b", None),
        ("COPY a b REPLACE DB 7", 7),
        ("GET a", None),
    ):
        command, req = one(line)
        assert command.other_db(req) == db, line


def test_patterns_of_sort_are_unknown_keys() -> None:
    for line, expected in (
        ("SORT a", False), ("SORT a BY nosort GET #", False), ("SORT a BY w_*", True),
        ("SORT_RO a GET o_*->f", True), ("SORT a BY w_* STORE d", True), ("GET *", False),
    ):  # fmt: skip
        command, req = one(line)
        assert command.unknown_keys(req) is expected, line


def test_a_single_key_is_argument_one_and_nothing_else() -> None:
    for command in TABLE:
        if command.single_key:
            req = request(*[command.name.encode(), b"a", b"1", b"b", b"c", b"d", b"e", b"f"])
            assert list(command.keys(req)) == [b"a"], command
