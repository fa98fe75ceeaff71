"""How what is gathered for one connection is written: small pieces joined, large ones as they are.

One write of many small pieces is far cheaper than many; of a large one a copy costs more than it
saves, and at 512 MB it is memory that somebody else needs.
"""

from __future__ import annotations

import asyncio

# Bytes that are joined without a look at what they are made of.
JOINED = 256 * 1024
# Bytes of a piece that is not copied.
LARGE = 64 * 1024


def write_all(transport: asyncio.WriteTransport, pieces: list[bytes]) -> int:
    """Write all pieces in their order; returns the size of the largest, or 0 if none is large."""
    if len(pieces) == 1:
        piece = pieces[0]
        transport.write(piece)
        return len(piece) if len(piece) > JOINED else 0
    size = 0
    for piece in pieces:
        size += len(piece)
    if size <= JOINED:
        transport.write(b"".join(pieces))
        return 0
    runs, largest = gathered(pieces)
    transport.writelines(runs)
    return largest if largest > JOINED else 0


def gathered(pieces: list[bytes]) -> tuple[list[bytes], int]:
    """The same bytes with each run of small pieces joined; and the size of the largest piece."""
    runs: list[bytes] = []
    run: list[bytes] = []
    largest = 0
    for piece in pieces:
        largest = max(largest, len(piece))
        if len(piece) <= LARGE:
            run.append(piece)
            continue
        if run:
            runs.append(b"".join(run))
            run = []
        runs.append(piece)
    if run:
        runs.append(b"".join(run))
    return runs, largest
