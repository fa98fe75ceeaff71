"""What the application counted: commands, errors, wrong replies, and how long it waited."""

from __future__ import annotations

from dataclasses import dataclass, field

KEPT = 20


@dataclass
class Counts:
    """Of all clients together. `first` describes the first errors and wrong replies."""

    commands: int = 0
    errors: int = 0
    wrong_replies: int = 0
    longest_wait_ms: float = 0.0
    first: list[str] = field(default_factory=list)

    def error(self, text: str) -> None:
        self.errors += 1
        self._keep(text)

    def wrong(self, text: str) -> None:
        self.wrong_replies += 1
        self._keep(text)

    def waited(self, ms: float) -> None:
        if ms > self.longest_wait_ms:
            self.longest_wait_ms = ms

    def _keep(self, text: str) -> None:
        if len(self.first) < KEPT:
            self.first.append(text)
