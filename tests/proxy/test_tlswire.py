"""TLS between TCP and a protocol, byte by byte: what comes, what goes, in which order it ends."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Any

import pytest

from proxy import tlswire
from proxy.tls import TlsFiles, server_context
from proxy.tlswire import TlsWire
from tests.tls import Authority

from .clients import until
from .tls_peer import VERSIONS, Peer

MEGABYTE = 1_000_000
# Bytes that are encrypted at once: the module's own is not to be seen where it is compiled.
PORTION = 64 * 1024


class Tcp:
    """A TCP transport whose other end takes what :meth:`taken` is asked for."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.most = 0
        self.events: list[str] = []
        self.is_paused = False
        self.wire: Any = None

    def connect(self, wire: TlsWire) -> None:
        self.wire = wire
        wire.connection_made(self)  # type: ignore[arg-type]

    def taken(self, size: int | None = None) -> bytes:
        """What was sent since the last time, or that much of it."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        if self.is_paused and len(self.buffer) <= self.low:
            self.is_paused = False
            self.wire.resume_writing()
        return data

    def write(self, data: bytes) -> None:
        assert "close" not in self.events
        self.buffer += data
        self.most = max(self.most, len(self.buffer))
        if len(self.buffer) > self.high and not self.is_paused:
            self.is_paused = True
            self.wire.pause_writing()

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.high, self.low = high, low

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return name

    def write_eof(self) -> None:
        self.events.append("eof")

    def close(self) -> None:
        self.events.append("close")

    def abort(self) -> None:
        self.events.append("abort")

    def pause_reading(self) -> None:
        self.events.append("pause")

    def resume_reading(self) -> None:
        self.events.append("resume")


class Recorder(asyncio.Protocol):
    """Ours: what it is told, and what it answers to the end of input."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.events: list[object] = []
        self.stays = True
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data
        self.pieces.append(data)
        self.events.append("data")

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append(("lost", error))

    @property
    def received(self) -> bytes:
        """All of it so far, once."""
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data


class Pair:
    """A connection whose bytes the test carries."""

    def __init__(self, authority: Authority, version: ssl.TLSVersion) -> None:
        certificate, key = authority.server
        ours = server_context(TlsFiles(certificate, key))
        theirs = authority.context()
        theirs.minimum_version = theirs.maximum_version = version
        self.tcp, self.protocol, self.peer = Tcp(), Recorder(), Peer(theirs)
        self.wire = TlsWire(ours, lambda: self.protocol, server_side=True)
        self.tcp.connect(self.wire)

    def greet(self, step: int = 1 << 16) -> Pair:
        for _ in range(4):
            said = self.peer.shake()
            for at in range(0, len(said), step):
                self.wire.data_received(said[at : at + step])
            self.carry()
        assert self.wire.handshaken.done()
        assert self.peer.decrypted() == b""
        return self

    def carry(self, size: int | None = None) -> None:
        self.peer.take(self.tcp.taken(size))


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


@pytest.fixture
async def pair(authority: Authority, version: ssl.TLSVersion) -> Pair:
    return Pair(authority, version).greet()


# -- what comes --------------------------------------------------------------------------


async def test_the_protocol_hears_of_it_behind_the_handshake_that_comes_byte_by_byte(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    pair = Pair(authority, version)
    assert pair.protocol.transport is None
    pair.greet(step=1)
    assert pair.protocol.transport is pair.wire
    pair.wire.data_received(pair.peer.encrypted(b"hello"))
    assert pair.protocol.received == b"hello"


async def test_data_behind_the_last_word_of_the_handshake_in_the_same_piece(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    pair = Pair(authority, version)
    pair.wire.data_received(pair.peer.shake())
    pair.carry()
    last = pair.peer.shake()
    if not pair.peer.is_greeted:  # TLS 1.2: the server has the last word
        pair.wire.data_received(last)
        pair.carry()
        last = pair.peer.shake()
    pair.wire.data_received(last + pair.peer.encrypted(b"early"))
    assert pair.protocol.received == b"early"


async def test_records_cut_in_two_at_every_byte_of_them(pair: Pair) -> None:
    cut = 0
    while True:
        wire = b"".join([pair.peer.encrypted(word) for word in (b"one", b"x" * 100, b"three")])
        for part in (wire[:cut], wire[cut:]):
            if part:
                pair.wire.data_received(part)
        assert pair.protocol.received == b"one" + b"x" * 100 + b"three"
        cut += 1
        if cut > len(wire):
            return


async def test_many_records_in_one_piece_are_delivered_at_once_and_the_rest_later(
    pair: Pair,
) -> None:
    words = [b"%d," % at * (at % 50 + 1) for at in range(3000)]
    wire = b"".join(map(pair.peer.encrypted, words))
    assert len(wire) > 3 * PORTION
    pair.wire.data_received(wire[:-5])
    assert len(pair.protocol.pieces) == 1
    assert pair.protocol.received == b"".join(words[:-1])
    pair.wire.data_received(wire[-5:])
    assert pair.protocol.received == words[-1]


async def test_random_records_in_random_pieces(pair: Pair) -> None:
    chance = random.Random(7)
    sent, wire = b"", b""
    for _ in range(60):
        data = chance.randbytes(chance.choice([1, 20, 500, 16384, 16385, 70_000]))
        sent += data
        wire += pair.peer.encrypted(data)
    at = 0
    while at < len(wire):
        step = chance.choice([1, 5, 100, 16_000, 65_536, 262_144])
        pair.wire.data_received(wire[at : at + step])
        at += step
    assert pair.protocol.received == sent


# -- how it ends -------------------------------------------------------------------------


async def test_garbage_ends_it_behind_what_was_whole_and_the_peer_is_told(pair: Pair) -> None:
    good = pair.peer.encrypted(b"whole")
    bad = bytearray(pair.peer.encrypted(b"spoilt"))
    bad[-1] ^= 1
    pair.wire.data_received(good + bad + pair.peer.encrypted(b"behind it"))
    assert pair.protocol.received == b"whole"
    (what, error) = pair.protocol.events[-1]  # type: ignore[misc]
    assert what == "lost"
    assert isinstance(error, ssl.SSLError)
    pair.wire.write(b"too late")
    pair.carry()
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        pair.peer.decrypted()
    assert pair.tcp.events == ["eof"]
    # It stays until the peer has read that; then nobody is told a second time.
    assert pair.wire.eof_received() is False
    pair.wire.connection_lost(None)
    assert pair.protocol.events == ["data", ("lost", error)]


async def test_a_peer_that_does_not_hang_up_behind_an_alert_is_cut_off(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tlswire, "LINGER_S", 0.01)
    pair.wire.data_received(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: pair.tcp.events == ["eof", "abort"])


async def test_a_handshake_that_fails_says_so_to_both(
    authority: Authority, tmp_path: Any, version: ssl.TLSVersion
) -> None:
    pair = Pair(authority, version)
    theirs = Authority(tmp_path).context()  # it does not trust our authority
    pair.peer = Peer(theirs)
    pair.wire.data_received(pair.peer.shake())
    pair.carry()
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.peer.shake()
    pair.wire.data_received(pair.peer.said())
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await pair.wire.handshaken
    assert pair.protocol.transport is None


async def test_goodbye_behind_data_ends_input_and_no_more_where_the_protocol_stays(
    pair: Pair,
) -> None:
    pair.wire.data_received(pair.peer.encrypted(b"last") + pair.peer.goodbye())
    assert pair.protocol.events == ["data", "eof"]
    assert pair.wire.eof_received() is True
    assert pair.protocol.events == ["data", "eof"]
    pair.wire.write(b"answer")
    assert not pair.wire.is_closing()
    pair.wire.close()
    pair.carry()
    assert pair.peer.decrypted() == b"answer"
    assert pair.peer.has_heard_goodbye
    assert pair.tcp.events == ["pause", "close"]
    pair.wire.connection_lost(None)
    assert pair.protocol.events == ["data", "eof", ("lost", None)]


async def test_goodbye_closes_where_the_protocol_does_not_stay(pair: Pair) -> None:
    pair.protocol.stays = False
    pair.wire.data_received(pair.peer.goodbye())
    pair.carry()
    assert pair.peer.decrypted() == b""
    assert pair.peer.has_heard_goodbye
    assert pair.tcp.events == ["pause", "close"]


async def test_an_end_of_tcp_alone_is_an_end_and_what_was_whole_has_been_delivered(
    pair: Pair,
) -> None:
    whole, half = pair.peer.encrypted(b"whole"), pair.peer.encrypted(b"half")
    pair.wire.data_received(whole + half[:-1])
    assert pair.wire.eof_received() is True
    assert pair.protocol.received == b"whole"
    assert pair.protocol.events == ["data", "eof"]
    pair.wire.data_received(half[-1:])
    assert pair.protocol.received == b""


async def test_nothing_is_delivered_behind_a_close(pair: Pair) -> None:
    pair.wire.close()
    pair.wire.data_received(pair.peer.encrypted(b"late"))
    pair.wire.write(b"late")
    assert pair.protocol.events == []


# -- what goes ---------------------------------------------------------------------------


async def test_pieces_of_any_size_arrive_in_order(pair: Pair) -> None:
    chance = random.Random(9)
    sent = b""
    for _ in range(200):
        pieces = [chance.randbytes(chance.choice([0, 1, 100, 16384, 16385, 200_000])) for _ in "ab"]
        sent += b"".join(pieces)
        chance.choice([pair.wire.writelines, lambda p: [*map(pair.wire.write, p)]])(pieces)
        if chance.random() < 0.5:
            pair.carry(chance.choice([1, 1000, 100_000, None]))
    while pair.tcp.buffer:
        pair.carry()
    assert pair.peer.decrypted() == sent
    assert pair.wire.get_write_buffer_size() == 0


async def test_what_tcp_does_not_take_is_counted_once_and_not_encrypted_yet(pair: Pair) -> None:
    value = random.Random(1).randbytes(8 * MEGABYTE)
    pair.wire.write(value)
    assert pair.protocol.events == ["pause"]
    assert pair.tcp.most <= tlswire.HIGH + PORTION + 1000
    assert len(value) <= pair.wire.get_write_buffer_size() <= len(value) * 1.01
    pair.wire.write(b"behind")
    got = 0
    while pair.tcp.buffer:
        before = pair.wire.get_write_buffer_size()
        data = pair.tcp.taken(50_000)
        got += len(data)
        pair.peer.take(data)
        # A record's frame is counted when it is made.
        assert before - len(data) <= pair.wire.get_write_buffer_size() <= before - len(data) + 2000
    assert pair.protocol.events == ["pause", "resume"]
    assert pair.peer.decrypted() == value + b"behind"


@pytest.mark.parametrize("high", [0, 1000, 100_000, 4 * MEGABYTE])
async def test_a_protocol_that_was_paused_goes_on_whatever_its_limits(
    pair: Pair, high: int
) -> None:
    pair.wire.set_write_buffer_limits(high)
    for step in (1, 7000, 300_000):
        pair.protocol.events.clear()
        written = 0
        while "pause" not in pair.protocol.events:
            pair.wire.write(b"x" * 50_000)
            written += 50_000
        assert written >= high
        while pair.tcp.buffer:
            pair.carry(max(step, 1 + len(pair.tcp.buffer) // 50))
        assert pair.protocol.events == ["pause", "resume"]
        assert pair.peer.decrypted() == b"x" * written


async def test_a_protocol_goes_on_when_tcp_has_taken_in_the_last_of_what_waited(pair: Pair) -> None:
    # More than the lower limit, less than would make TCP speak again.
    pair.wire.write(b"x" * 70_000)
    pair.wire.write(b"y" * 30_000)
    assert pair.protocol.events == ["pause"]
    for _ in range(100):
        if len(pair.protocol.events) == 1:
            pair.carry(1000)
    assert pair.protocol.events == ["pause", "resume"]
    assert 20_000 < pair.wire.get_write_buffer_size() < 60_000
    pair.carry()
    assert pair.peer.decrypted() == b"x" * 70_000 + b"y" * 30_000


async def test_close_lets_everything_out_before_its_goodbye(pair: Pair) -> None:
    value = random.Random(2).randbytes(MEGABYTE)
    pair.wire.write(value)
    pair.wire.close()
    assert pair.tcp.events == ["pause"]
    while pair.tcp.buffer:
        pair.carry(100_000)
    assert pair.peer.decrypted() == value
    assert pair.peer.has_heard_goodbye
    assert pair.tcp.events == ["pause", "close"]


async def test_a_peer_that_takes_nothing_more_is_cut_off_and_a_slow_one_is_not(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tlswire, "SHUTDOWN_S", 0.2)
    pair.wire.write(b"x" * MEGABYTE)
    pair.wire.close()
    loop = asyncio.get_running_loop()
    end = loop.time() + 3 * tlswire.SHUTDOWN_S
    while loop.time() < end:
        pair.carry(100)
        await asyncio.sleep(0.001)
    assert "abort" not in pair.tcp.events
    await until(lambda: "abort" in pair.tcp.events)


async def test_reading_is_paused_where_it_begins(pair: Pair) -> None:
    pair.wire.pause_reading()
    pair.wire.resume_reading()
    assert pair.tcp.events == ["pause", "resume"]


async def test_what_is_known_of_it(pair: Pair, version: ssl.TLSVersion) -> None:
    assert pair.wire.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
    assert pair.wire.get_extra_info("peername") == "peername"
