"""The footer of DUMP payloads: pure rules, and that real servers write what they say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.copy.footer import body_of, crc64, seal, version_of, with_version
from tests.servers import Server, every_engine

VERSIONS = st.integers(0, 2**16 - 1)


def test_crc64_gives_the_check_value_of_the_servers_source() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA


@given(st.binary(), st.binary())
def test_crc64_continues_where_it_stopped(head: bytes, tail: bytes) -> None:
    assert crc64(tail, crc64(head)) == crc64(head + tail)


@given(st.binary(min_size=1), VERSIONS, VERSIONS)
def test_rewriting_the_version_equals_sealing_with_it(body: bytes, old: int, new: int) -> None:
    assert with_version(seal(body, old), new) == seal(body, new)


@given(st.binary(min_size=1), VERSIONS)
def test_a_sealed_payload_gives_its_parts_back(body: bytes, version: int) -> None:
    payload = seal(body, version)
    assert (body_of(payload), version_of(payload)) == (body, version)


@every_engine
def test_servers_seal_their_payloads_alike(server: Server) -> None:
    for value in (b"x", b"y" * 300, bytes(range(256))):
        server.cli("SET", "k", value)
        payload = server.cli("DUMP", "k")
        assert seal(body_of(payload), version_of(payload)) == payload
