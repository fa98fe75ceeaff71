"""A process as the command line sees it: an admin server on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from migrator.admin import AdminServer
from migrator.admin.controller import Controller


@contextmanager
def serving(controller: Controller, token: str | None = None) -> Iterator[AdminServer]:
    """For callers that block. The controller's verbs run on the thread."""
    loop = asyncio.new_event_loop()
    server = AdminServer(controller, "127.0.0.1", 0, token)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever, name="admin server")
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
