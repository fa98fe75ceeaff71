"""Bulk connections to real stores on which something happens at a chosen moment of a read."""

from __future__ import annotations

from typing import Any

from migrator.bulk import Bulk, Command


class Interleaved:
    """A Bulk which does something of another's right before its `at`th batch."""

    def __init__(self, bulk: Bulk, at: int, meanwhile: Command) -> None:
        self._bulk = bulk
        self._left = at
        self._meanwhile = meanwhile

    async def pipeline(self, *args: Any, **options: Any) -> list[Any]:
        self._left -= 1
        if self._left == 0:
            await self._bulk.pipeline([self._meanwhile], db=options.get("db"))
        return await self._bulk.pipeline(*args, **options)


class SplitDump:
    """A Bulk on which the key `k` vanishes behind its DUMP, before its expiry is asked for."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk

    async def call(self, *args: Any, **options: Any) -> Any:
        return await self._bulk.call(*args, **options)

    async def pipeline(self, commands: Any, *args: Any, **options: Any) -> list[Any]:
        if not isinstance(commands, bytes) or b"DUMP" not in commands:
            return await self._bulk.pipeline(commands, *args, **options)
        delete = b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"
        for ask in (b"*2\r\n$11\r\nPEXPIRETIME", b"*2\r\n$4\r\nPTTL"):
            commands = commands.replace(ask, delete + ask)
        replies = await self._bulk.pipeline(commands, args[0] + 1, **options)
        replies.pop(next(i for i, reply in enumerate(replies) if isinstance(reply, bytes)) + 1)
        return replies
