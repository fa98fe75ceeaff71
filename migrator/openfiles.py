"""How many files the process may have open: each client is one, and each subscriber two."""

from __future__ import annotations

import contextlib
import logging
import resource

log = logging.getLogger("keyferry")

# For the stores, the admin's clients, the state, and what clients have beside their own.
RESERVED = 200


def room_for_clients(wanted: int) -> int:
    """Raises the process's limit as far as it may; how many of the `wanted` clients fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name no hard limit and take none: what is needed is enough then.
        for limit in (hard, 2 * wanted + RESERVED):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                break
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= wanted + RESERVED:
        return wanted
    room = max(soft - RESERVED, 1)
    log.warning(
        "--max-clients is %d, but only %d files may be open (ulimit -n): %d clients at most",
        wanted, soft, room,
    )  # fmt: skip
    return room
