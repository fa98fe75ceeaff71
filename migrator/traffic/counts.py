"""What the application counted: commands, errors, wrong replies, and how long it waited."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.resp.values import ReplyError

from .connection import Words

KEPT = 20


@dataclass
class Counts:
    """Of all clients together. `first` describes the first errors and wrong replies."""

    commands: int = 0
    errors: int = 0
    wrong_replies: int = 0
    # Blocks that a WATCH has stopped though nobody had changed a key: each flip and each lost
    # connection may do so once per client.
    broken_watches: int = 0
    # Taken by workers that wait for them; what subscribers have got, and caches.
    jobs: int = 0
    messages: int = 0
    invalidations: int = 0
    longest_wait_ms: float = 0.0
    first: list[str] = field(default_factory=list)

    def error(self, text: str) -> None:
        self.errors += 1
        self._keep(text)

    def wrong(self, text: str) -> None:
        self.wrong_replies += 1
        self._keep(text)

    def complain(self, who: str, command: Words, wanted: object, reply: Any) -> None:
        """A reply that is not what it must be: an error, or a wrong one."""
        words = b" ".join(a if isinstance(a, bytes) else b"%a" % a for a in command)[:200]
        text = f"{who}: {words!r} answered {reply!r:.300}, not {wanted!s:.300}"
        if isinstance(reply, ReplyError):
            self.error(text)
        else:
            self.wrong(text)

    def waited(self, ms: float) -> None:
        if ms > self.longest_wait_ms:
            self.longest_wait_ms = ms

    def _keep(self, text: str) -> None:
        if len(self.first) < KEPT:
            self.first.append(text)
