"""Frames of megabytes: whole however they arrive, and in memory once while they do."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from proxy.resp import ReplyScanner, RequestScanner, encode_command

MEGABYTE = 1 << 20
RANDOM = random.Random(7)
VALUES = [RANDOM.randbytes(size) for size in (3 * MEGABYTE + 1, MEGABYTE, 2 * MEGABYTE + 7)]
A, B, C = VALUES
SMALL = encode_command(b"SET", b"key", b"value")

REQUESTS = {
    "alone": [encode_command(b"SET", b"key", A)],
    "not the last argument": [encode_command(b"SET", b"key", A, b"PX", b"100000")],
    "several": [encode_command(b"MSET", b"a", A, b"b", b"small", b"c", B, b"d", C)],
    "the first argument": [encode_command(A, b"key")],
    "between others": [SMALL, encode_command(b"SET", b"key", A), SMALL, SMALL],
    "one behind the other": [encode_command(b"SET", b"key", value) for value in VALUES],
    "then many small arguments": [encode_command(b"RPUSH", b"key", A, *[b"x"] * 1000), SMALL],
}
BULKS = [b"$%d\r\n%b\r\n" % (len(value), value) for value in VALUES]
ITEM = b"$7\r\nan item\r\n"
REPLIES = {
    "alone": [BULKS[0]],
    "between others": [b"+OK\r\n", BULKS[0], b":1\r\n", BULKS[1], b"$-1\r\n"],
    "in an array": [b"*4\r\n:1\r\n" + BULKS[0] + ITEM + BULKS[2], b"+OK\r\n"],
    "many elements": [b"*300000\r\n" + ITEM * 300_000, b"+OK\r\n"],
    "behind many elements": [b"*150001\r\n" + ITEM * 150_000 + BULKS[1], BULKS[0]],
    "nested": [b"*2\r\n%1\r\n+a\r\n" + BULKS[0] + b"*1\r\n" + BULKS[1], b":7\r\n"],
}


def chunks(data: bytes) -> Iterator[list[bytes]]:
    """As a socket gives them, in odd sizes, and cut near every boundary of a large piece."""
    for size in (256 * 1024, 65_537, MEGABYTE, len(data)):
        yield [data[at : at + size] for at in range(0, len(data), size)]
    odd, at = [], 0
    while at < len(data):
        size = RANDOM.choice((1, 2, 3, 100, 100_000, 300_000))
        odd.append(data[at : at + size])
        at += size
    yield odd
    for end in (1, 2, 3, 4, 7, 13, 29):
        yield [data[:end], data[end:-end], data[-end:]]


@pytest.mark.parametrize("frames", REQUESTS.values(), ids=REQUESTS)
def test_big_requests_come_out_whole_however_they_are_cut(frames: list[bytes]) -> None:
    for pieces in chunks(b"".join(frames)):
        scanner = RequestScanner()
        found = [each for piece in pieces for each in scanner.feed(piece)]
        assert [each.raw for each in found] == frames
        assert [encode_command(*each.args()) for each in found] == frames
        assert scanner.error is None and not scanner.pending


@pytest.mark.parametrize("frames", REPLIES.values(), ids=REPLIES)
def test_big_replies_come_out_whole_however_they_are_cut(frames: list[bytes]) -> None:
    for pieces in chunks(b"".join(frames)):
        scanner = ReplyScanner()
        assert [each for piece in pieces for each in scanner.feed(piece)] == frames
        assert not scanner.pending


def test_a_wrong_end_of_a_big_argument_is_an_error() -> None:
    scanner = RequestScanner()
    frame = encode_command(b"SET", b"key", A)
    assert not scanner.feed(frame[:MEGABYTE])
    assert not scanner.feed(frame[MEGABYTE:-2] + b"xx" + SMALL)
    assert scanner.error is not None and "CRLF" in str(scanner.error)


@pytest.mark.parametrize("scanner", [RequestScanner, ReplyScanner])
@pytest.mark.parametrize("tail", [b"", b"$2\r\nPX\r\n$6\r\n100000\r\n"], ids=["last", "then more"])
def test_a_big_argument_is_in_memory_once(
    scanner: type[RequestScanner | ReplyScanner], tail: bytes
) -> None:
    size = 32 * MEGABYTE
    count = 5 if tail else 3
    head = b"*%d\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (count, size)
    piece = bytes(256 * 1024)
    made = scanner()
    tracemalloc.start()
    try:
        assert not made.feed(head)
        for _ in range(size // len(piece)):
            assert not made.feed(piece[:-1] + b"x")
        (frame,) = made.feed(b"\r\n" + tail)
        assert tracemalloc.get_traced_memory()[1] < 1.3 * size
    finally:
        tracemalloc.stop()
    raw = frame if isinstance(frame, bytes) else frame.raw
    assert len(raw) == len(head) + size + 2 + len(tail)
