"""Scripts and functions on the secondary: what the primary knows is there before a flip.

Owns the copying of both. Scripts that SCRIPT LOAD brings go through the mirror log as they come;
what came with EVAL, and what the log could not carry, is loaded before a flip. Libraries are read
from the primary itself, so that those of before the proxy are there, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .follower import Nothing
from .resp import is_error, parse
from .sides import Side

if TYPE_CHECKING:
    from .lane import Lane
    from .scripts import Scripts
    from .server import Proxy

log = logging.getLogger("keyferry.scripts")

# How many scripts one question is about.
AT_ONCE = 500
UNKNOWN_COMMAND = b"-ERR unknown command"


class LibrariesUnreadable(Exception):
    """A store does not let us see its functions: its own words."""


class ScriptCopies(Nothing):
    """A follower of flips: see the module's docstring."""

    def __init__(
        self, proxy: Proxy, scripts: Scripts, answered: Callable[[], Awaitable[None]]
    ) -> None:
        self._proxy = proxy
        self._scripts = scripts
        # Waits until every script that was sent is answered.
        self._answered = answered
        # Scripts that were made sure of for the flip under way.
        self._prepared: set[bytes] = set()
        # Raised when functions change: who read them before has read old ones.
        self._generation = 0
        self._copied_generation = -1
        self._is_wanted = False
        self._task: asyncio.Task[None] | None = None

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # -- a flip ----------------------------------------------------------------------------

    async def prepare(self, side: Side) -> list[str]:
        self._prepared.clear()
        return await self.load_scripts(side) + await self.copy_functions(side)

    async def settle(self) -> None:
        await self._answered()
        # Nobody calls anything now, so what came since is few, and the last.
        side = self._proxy.primary.other
        problems = await self.load_scripts(side)
        if self._copied_generation != self._generation:
            problems += await self.copy_functions(side)
        if problems:
            raise ConnectionError(problems[0])

    def flipped(self) -> None:
        self._prepared.clear()

    def abandoned(self) -> None:
        self._prepared.clear()

    # -- scripts ---------------------------------------------------------------------------

    async def load_scripts(self, side: Side) -> list[str]:
        """Have every known script on ``side``; returns what stands in the way of it.

        Raises ConnectionError.
        """
        lane = self._proxy.admin_lane(side)
        todo = [each for each in self._scripts.bodies() if each[0] not in self._prepared]
        problems: list[str] = []
        for at in range(0, len(todo), AT_ONCE):
            some = todo[at : at + AT_ONCE]
            answer = await lane.call(b"SCRIPT", b"EXISTS", *(sha for sha, _, _ in some))
            there = [0] * len(some) if is_error(answer) else parse(answer)
            missing = [each for each, is_there in zip(some, there, strict=True) if not is_there]
            answers = await asyncio.gather(
                *(lane.call(b"SCRIPT", b"LOAD", body) for _, body, _ in missing)
            )
            for (_, _, is_loaded), frame in zip(missing, answers, strict=True):
                # What came with EVAL need not even have been a script.
                if is_error(frame) and is_loaded:
                    problems.append(
                        f"a script cannot be loaded on the {side.label}: {_text(frame)}"
                    )
            self._prepared.update(sha for sha, _, _ in some)
        return problems

    def connected(self, side: Side) -> None:
        """The mirror to ``side`` is connected: what it may have missed is copied again."""
        if side is not self._proxy.primary:
            self._prepared.clear()
            self._copy_soon()

    def _copy_soon(self) -> None:
        self._is_wanted = True
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._copy(), name="copy scripts")

    async def _copy(self) -> None:
        while self._is_wanted:
            self._is_wanted = False
            side = self._proxy.primary.other
            try:
                problems = await self.load_scripts(side) + await self.copy_functions(side)
            except ConnectionError as error:
                # The mirror is away, too, and calls again when it is back.
                problems = [f"scripts are not copied yet: {error}"]
            for problem in problems:
                log.warning("%s", problem)

    # -- functions -------------------------------------------------------------------------

    def functions_changed(self) -> None:
        """The primary's functions are others from now on."""
        self._generation += 1
        if self._proxy.mirror is not None:
            self._copy_soon()

    async def copy_functions(self, side: Side) -> list[str]:
        """Make the functions of ``side`` those of the primary; returns what stands in the way.

        Raises ConnectionError.
        """
        proxy = self._proxy
        try:
            while True:
                generation = self._generation
                wanted = await libraries(proxy.admin_lane(proxy.primary))
                if generation == self._generation:
                    break
            self._scripts.set_libraries(wanted.values())
            lane = proxy.admin_lane(side)
            there = await libraries(lane)
        except LibrariesUnreadable as error:
            return [str(error)]
        # Those that are too many go first: names of functions are unique among all libraries.
        changes = [
            (b"FUNCTION", b"DELETE", name)
            for name, code in there.items()
            if wanted.get(name) != code
        ]
        changes += [
            (b"FUNCTION", b"LOAD", code) for name, code in wanted.items() if there.get(name) != code
        ]
        answers = await asyncio.gather(*(lane.call(*words) for words in changes))
        self._copied_generation = generation
        if any(frame.startswith(UNKNOWN_COMMAND) for frame in answers):
            # Whose words would show what they were.
            return [f"the {side.label} knows no functions, and there are {len(wanted)} libraries"]
        return [
            f"functions cannot be copied to the {side.label}: {_text(frame)}"
            for frame in answers
            if is_error(frame)
        ]


async def libraries(lane: Lane) -> dict[bytes, bytes]:
    """The code of a store's libraries by name; Redis 6.2 has none.

    Raises LibrariesUnreadable, ConnectionError.
    """
    frame = await lane.call(b"FUNCTION", b"LIST", b"WITHCODE")
    if frame.startswith(UNKNOWN_COMMAND):
        return {}
    if is_error(frame):
        raise LibrariesUnreadable(
            f"the functions of the {lane.side.label} cannot be read: {_text(frame)}"
        )
    found = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in parse(frame)]
    return {each[b"library_name"]: each[b"library_code"] for each in found}


def _text(frame: bytes) -> str:
    return frame[1:].strip().decode(errors="replace")
