"""Replies: every RESP2 and RESP3 type, whole, byte by byte, cut in two, with trailing bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.resp import ProtocolError, ReplyScanner

from .cuts import cuts

FRAMES = {
    "status": b"+OK\r\n",
    "status that begins like OK": b"+OKAY\r\n",
    "empty status": b"+\r\n",
    "error": b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "integer": b":1000\r\n",
    "zero": b":0\r\n",
    "negative integer": b":-1\r\n",
    "largest integer": b":9223372036854775807\r\n",
    "smallest integer": b":-9223372036854775808\r\n",
    "bulk": b"$5\r\nhello\r\n",
    "empty bulk": b"$0\r\n\r\n",
    "bulk with line ends": b"$6\r\n\r\n+OK\r\r\n",
    "long bulk": b"$300\r\n" + b"x" * 300 + b"\r\n",
    "null bulk": b"$-1\r\n",
    "null array": b"*-1\r\n",
    "null": b"_\r\n",
    "true": b"#t\r\n",
    "double": b",3.14\r\n",
    "infinity": b",-inf\r\n",
    "big number": b"(3492890328409238509324850943850943825024385\r\n",
    "blob error": b"!21\r\nSYNTAX invalid syntax\r\n",
    "verbatim": b"=15\r\ntxt:Some string\r\n",
    "empty array": b"*0\r\n",
    "array": b"*3\r\n:1\r\n$1\r\na\r\n$-1\r\n",
    "array of arrays": b"*2\r\n*2\r\n:1\r\n*0\r\n*1\r\n*1\r\n+deep\r\n",
    "set": b"~2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "empty map": b"%0\r\n",
    "map": b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*2\r\n:2\r\n:3\r\n",
    "map of maps": b"%1\r\n%1\r\n+k\r\n+v\r\n%1\r\n+k\r\n%0\r\n",
    "push": b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
    "attribute": b"|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n",
    "empty attribute": b"|0\r\n+OK\r\n",
    "two attributes": b"|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n+OK\r\n",
    "attribute of an attribute's value": b"|1\r\n+a\r\n|1\r\n+b\r\n:2\r\n:1\r\n+OK\r\n",
    "attribute inside": b"*3\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:2\r\n:3\r\n",
    "attribute of the last element": b"*2\r\n:1\r\n|1\r\n+ttl\r\n%1\r\n+a\r\n*0\r\n:2\r\n",
    "error inside": b"*2\r\n-ERR no\r\n+OK\r\n",
    "deep": b"*1\r\n" * 500 + b":1\r\n",
}


def scan(chunks: list[bytes]) -> tuple[list[bytes], ReplyScanner]:
    scanner = ReplyScanner()
    return [frame for chunk in chunks for frame in scanner.feed(chunk)], scanner


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_frame_is_found_however_it_is_cut(frame: bytes) -> None:
    for chunks in cuts(frame):
        frames, scanner = scan(chunks)
        assert frames == [frame]
        assert scanner.pending == 0


@pytest.mark.parametrize(
    "rest", [b"$", b"$3\r\nab", b"*2\r\n:1\r\n", b"+OK\r", b"|1\r\n+a\r\n:1\r\n"]
)
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_trailing_bytes_wait_for_the_rest_of_their_frame(frame: bytes, rest: bytes) -> None:
    for chunks in cuts(frame + rest):
        frames, scanner = scan(chunks)
        assert frames == [frame]
        assert scanner.pending == len(rest)


def test_a_pipeline_of_every_type_is_cut_into_its_frames() -> None:
    for chunks in cuts(b"".join(FRAMES.values())):
        frames, scanner = scan(chunks)
        assert frames == list(FRAMES.values())
        assert scanner.pending == 0


@settings(max_examples=100, deadline=None)
@given(
    frames=st.lists(st.sampled_from(list(FRAMES.values())), max_size=10),
    data=st.data(),
)
def test_any_frames_cut_anywhere_come_back_exactly(
    frames: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(frames)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    edges = [0, *places, len(stream)]
    found, _ = scan([stream[a:b] for a, b in pairwise(edges)])
    assert found == frames


GARBAGE = {
    "no type": b"HTTP/1.1 400 Bad Request\r\n",
    "no type at once": b"x",
    "a zero byte": b"\0",
    "streamed string": b"$?\r\n",
    "streamed array": b"*?\r\n",
    "no length": b"$\r\n",
    "length no number": b"$x\r\n",
    "length with a leading zero": b"$05\r\nhello\r\n",
    "length beyond 64 bits": b"$99999999999999999999\r\n",
    "length minus two": b"$-2\r\n",
    "array of minus two": b"*-2\r\n",
    "map of minus one": b"%-1\r\n",
    "error of minus one": b"!-1\r\n",
    "longer than announced": b"$2\r\nhello\r\n",
    "no LF": b"$2\rXhello\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("around", [b"", b"*2\r\n:1\r\n"], ids=["alone", "in an array"])
def test_garbage_is_an_error_and_hands_over_the_frames_before_it(
    garbage: bytes, around: bytes
) -> None:
    for chunks in cuts(b"+OK\r\n:1\r\n" + around + garbage):
        scanner = ReplyScanner()
        found: list[bytes] = []
        with pytest.raises(ProtocolError) as caught:
            found.extend(frame for chunk in chunks for frame in scanner.feed(chunk))
        assert found + caught.value.frames == [b"+OK\r\n", b":1\r\n"]


def test_nesting_is_limited() -> None:
    frame = b"*1\r\n" * 5 + b":1\r\n"
    assert ReplyScanner(max_nesting=5).feed(frame) == [frame]
    with pytest.raises(ProtocolError, match="nested too deeply"):
        ReplyScanner(max_nesting=4).feed(frame)
    with pytest.raises(ProtocolError, match="nested too deeply"):
        ReplyScanner().feed(b"|1\r\n" * 20_000)


def test_what_a_script_can_nest_is_taken() -> None:
    frame = b"*1\r\n" * 8_000 + b":1\r\n"
    assert ReplyScanner().feed(frame) == [frame]


def test_a_long_line_in_many_chunks_is_not_looked_at_again() -> None:
    line = b"+" + b"x" * 16_000_000 + b"\r\n"
    chunks = [line[at : at + 4096] for at in range(0, len(line), 4096)]
    assert scan(chunks)[0] == [line]


def test_a_long_array_in_many_chunks_is_not_looked_at_again() -> None:
    frame = b"*300000\r\n" + b"$10\r\n0123456789\r\n" * 300_000
    chunks = [frame[at : at + 1000] for at in range(0, len(frame), 1000)]
    assert scan(chunks)[0] == [frame]
