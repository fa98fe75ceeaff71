"""The last ten bytes of a DUMP payload: RDB version and CRC64, and how to rewrite them.

Pure. Owns the checksum and the layout; it does not know which server takes which version
(`dialect` finds that out).

A payload is: one type byte, the value, the RDB version (2 bytes, little endian), the CRC64 of all
before it (8 bytes, little endian). Source: `createDumpPayload` in the servers' cluster.c.
"""

from __future__ import annotations

import functools

FOOTER_BYTES = 10
_CHECKSUM_BYTES = 8
# CRC-64/Jones as the servers use it: this polynomial reflected, initial value 0, no final xor.
_POLYNOMIAL = 0x95AC9329AC4BC9B5


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        entries.append(crc)
    return tuple(entries)


_TABLE = _table()


def crc64(data: bytes, crc: int = 0) -> int:
    """The servers' CRC64 of `data`. Plain Python: for probes and deltas, not for values."""
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def seal(body: bytes, version: int) -> bytes:
    """A payload of `body` (type byte and value) with a footer of that version."""
    covered = body + version.to_bytes(2, "little")
    return covered + crc64(covered).to_bytes(_CHECKSUM_BYTES, "little")


def version_of(payload: bytes) -> int:
    return int.from_bytes(payload[-FOOTER_BYTES:-_CHECKSUM_BYTES], "little")


def body_of(payload: bytes) -> bytes:
    """Type byte and value. Equal bodies are equal values; the reverse does not hold."""
    return payload[:-FOOTER_BYTES]


@functools.lru_cache(maxsize=64)
def _checksum_delta(before: bytes, after: bytes) -> int:
    return crc64(bytes(a ^ b for a, b in zip(before, after, strict=True)))


def with_version(payload: bytes, version: int) -> bytes:
    """The same payload as another RDB version would end it.

    O(1) in checksumming: with initial value 0 and no final xor the CRC is linear, and the version
    is the last thing it covers, so it changes by the CRC of those two bytes' difference alone.
    """
    before = payload[-FOOTER_BYTES:-_CHECKSUM_BYTES]
    after = version.to_bytes(2, "little")
    crc = int.from_bytes(payload[-_CHECKSUM_BYTES:], "little") ^ _checksum_delta(before, after)
    return payload[:-FOOTER_BYTES] + after + crc.to_bytes(_CHECKSUM_BYTES, "little")
