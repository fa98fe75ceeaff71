"""What happens, told to whoever listens (server-sent events, logs).

Owns the subscribers' queues; a slow one loses its oldest events, never the others'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

log = logging.getLogger("keyferry.migration")

KEPT = 1000


class Events:
    """One publisher, any number of subscribers."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def tell(self, event: str, message: str, **facts: Any) -> None:
        """Publish, and log. ``event`` is its kind, ``message`` is for people."""
        log.info("%s", message)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait({"event": event, "message": message, **facts})

    async def subscribe(self) -> AsyncIterator[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(KEPT)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
