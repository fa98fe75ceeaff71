"""What is remembered of scripts and functions, and for how long. Pure."""

from __future__ import annotations

from hashlib import sha1

import pytest

from proxy import scripts as module
from proxy.commands import CommandTable
from proxy.lua import UNKNOWN, Script
from proxy.resp import request
from proxy.scripts import Scripts, places_written

READS = Script(frozenset(), stays=True, may_last=False)
WRITES = b"return redis.call('SET', KEYS[2], ARGV[1])"


def sha(body: bytes) -> bytes:
    return sha1(body).hexdigest().encode()


@pytest.fixture
def scripts() -> Scripts:
    return Scripts(CommandTable())


def test_a_body_is_known_by_its_sha_in_either_case(scripts: Scripts) -> None:
    assert scripts.verdict(sha(WRITES)) is None
    verdict = scripts.evaluate(WRITES)
    assert verdict.written and scripts.verdict(sha(WRITES)) is verdict
    assert scripts.verdict(sha(WRITES).upper()) is verdict
    assert scripts.load(b"return 1") == sha(b"return 1")
    assert scripts.verdict(sha(b"return 1")) == READS
    scripts.flush()
    assert scripts.verdict(sha(WRITES)) is None and len(scripts) == 0


def test_what_eval_brings_is_forgotten_in_the_order_of_its_use(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EVALUATED", 3)
    bodies = [b"return %d" % number for number in range(5)]
    scripts.load(bodies[4])
    for body in bodies[:3]:
        scripts.evaluate(body)
    scripts.evaluate(bodies[0])
    scripts.verdict(sha(bodies[1]))
    scripts.evaluate(b"return 'new'")
    known = {body for _, body, _ in scripts.bodies()}
    assert known == {bodies[0], bodies[1], bodies[4], b"return 'new'"}
    assert scripts.verdict(sha(bodies[2])) is None
    # Loaded ones stay, also one that came with EVAL first.
    scripts.load(bodies[0])
    for number in range(10):
        scripts.evaluate(b"return 'more%d'" % number)
    assert {body for _, body, stays in scripts.bodies() if stays} == {bodies[0], bodies[4]}
    assert len(scripts) == 5


def test_the_bytes_of_what_eval_brings_are_bounded(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EVALUATED_BYTES", 100)
    for number in range(20):
        assert scripts.evaluate(b"return '%d'" % number + b" " * 30) == READS
    assert len(scripts) == 2
    assert scripts.evaluate(b"return 1" + b" " * 200) == READS
    assert len(scripts) == 0


def test_functions_are_known_by_name_in_any_case_and_by_library(scripts: Scripts) -> None:
    one = b"#!lua name=one\nredis.register_function('Look', function() return 1 end)"
    two = b"#!lua name=two\nredis.register_function('wild', function(k) redis.call(k[1]) end)"
    scripts.load_library(one)
    scripts.load_library(two)
    assert scripts.function(b"look") == READS
    assert scripts.function(b"wild").written is None
    assert scripts.function(b"nosuch") == UNKNOWN
    scripts.load_library(one.replace(b"Look", b"other"))
    assert scripts.function(b"LOOK") == UNKNOWN and scripts.function(b"OTHER") == READS
    scripts.delete_library(b"one")
    assert scripts.function(b"other") == UNKNOWN
    scripts.set_libraries([one])
    assert scripts.function(b"look") == READS
    scripts.flush_libraries()
    assert scripts.function(b"look") == UNKNOWN
    scripts.load_library(b"return 'no library'")


def test_the_places_of_a_call_are_those_that_its_verdict_names() -> None:
    scripts = Scripts(CommandTable())

    def places(body: bytes, *words: bytes, db: int = 0) -> set[object]:
        verdict = scripts.evaluate(body)
        return set(places_written(verdict, db, request(b"EVAL", body, *words)))

    assert places(WRITES, b"3", b"a", b"b", b"c", b"v") == {b"b"}
    assert places(WRITES, b"2", b"a", b"b", db=4) == {(4, b"b")}
    assert places(WRITES, b"1", b"a", b"b") == set()
    every = b"for _, k in ipairs(KEYS) do redis.call('DEL', k) end redis.call('DEL', ARGV[2])"
    assert places(every, b"2", b"a", b"b", b"x", b"y") == {b"a", b"b", b"y"}
    assert places(every, b"0", b"x", b"y") == {b"y"}
    # What no server would run.
    for count in (b"-1", b"x", b"", b"99"):
        places(every, count, b"a", b"b")
