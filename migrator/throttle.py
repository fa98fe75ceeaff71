"""How fast keys may be moved while clients are served: the rule, and nothing else.

Pure: the clock and all that was measured are arguments. A `Throttle` is told what a short window
was like, and answers with a *share*: the part of its time in which each mover works. It compares
with *quiet* windows, in which the movers did nothing, so that a store that is far away, or slow by
itself, does not hold them up for ever; while clients seem to suffer a quiet window is made anew
once in a while. Where no client sends anything the share is all that the level allows.

The share falls as far as something is too slow, and grows slowly. It is never below LEAST_SHARE:
the copy always moves on.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, replace
from statistics import median

LEAST_SHARE = 0.1
# Where clients are already there when movers begin.
FIRST_SHARE = 0.25
# How long what a quiet window showed is believed while movers are held back.
QUIET_FOR_S = 20.0
# The same where they are held back as far as they can be: it may not be them.
QUIET_AT_LEAST_SHARE_FOR_S = 5.0
# Up to here nothing is slow, whatever the quiet window was like.
LEAST_P99_S = 0.0005
LEAST_REPLY_S = 0.020
LEAST_LATE_S = 0.010
# How many times as long as in a quiet window a store's answer takes, or the event loop is late.
SLOW = 4.0
# As much as it is too slow, within these.
SLIGHTEST_FALL = 0.85
DEEPEST_FALL = 0.3
GROWTH = 1.15
# Keys of a page: a store, and the event loop, serve nobody else for as long as one takes.
PAGE_KEYS = 500
PAGE_KEYS_BESIDE_CLIENTS = 64
# Fewer commands a second are nobody: a health check, an operator.
CLIENTS_PER_S = 10.0
# Clients that a slow store keeps waiting send nothing, and are there all the same.
CLIENTS_FOR_S = 3.0
# Without a judgement of the clients' latency for so long, there are too few commands for one.
JUDGED_FOR_S = 3.0
# A limit in keys is kept to within this part of a second.
PAGES_PER_LIMIT = 10


class Level(enum.StrEnum):
    """How much room an operator wants to be left for clients."""

    FULL = "full"
    NORMAL = "normal"
    GENTLE = "gentle"


class Reason(enum.StrEnum):
    """Why movers are held back. The names are kept: scripts read them."""

    NONE = "none"
    LIMIT = "limit"
    CLIENTS_P99 = "clients_p99"
    SOURCE_SLOW = "source_slow"
    TARGET_SLOW = "target_slow"
    EVENT_LOOP = "event_loop"


@dataclass(frozen=True)
class Nice:
    """What an operator asked for: a level, and a limit in keys per second (None: no limit)."""

    level: Level = Level.NORMAL
    keys_per_second: int | None = None

    def __str__(self) -> str:
        if self.keys_per_second is None:
            return str(self.level)
        return f"{self.level}, at most {self.keys_per_second:,} keys/s"

    def as_json(self) -> dict[str, str | int | None]:
        return {"level": str(self.level), "keys_per_second": self.keys_per_second}


@dataclass(frozen=True)
class Window:
    """What a short time was like; None: it is not known."""

    commands_per_second: float = 0.0
    """Of clients."""
    p99_s: float | None = None
    """The clients' latency."""
    source_s: float | None = None
    """How long the source took for a PING, or has taken so far."""
    target_s: float | None = None
    late_s: float = 0.0
    """How late the event loop was."""


@dataclass(frozen=True)
class _Bounds:
    most: float
    """The share where nothing is slow."""
    p99: float
    """How many times the latency of a quiet window clients may see."""


_BOUNDS = {
    Level.FULL: _Bounds(1.0, float("inf")),
    Level.NORMAL: _Bounds(1.0, 1.5),
    Level.GENTLE: _Bounds(0.25, 1.25),
}


class Throttle:
    """`share` and `reason` are of the last look.

    `wants_quiet`: movers shall pause until the next one. `p99_s` is the clients' latency as it was
    judged last.
    """

    def __init__(self, nice: Nice | None = None) -> None:
        self.share = 1.0
        self.reason = Reason.NONE
        self.wants_quiet = False
        self.has_clients = False
        self.p99_s: float | None = None
        self.quiet: Window | None = None
        self._quiet_at = float("-inf")
        self._clients_at: float | None = None
        self._judged_at = 0.0
        # One bad window among good ones is chance: a busy host has many.
        self._recent: deque[float] = deque(maxlen=3)
        self._nice = nice or Nice()
        self.ask(self._nice)

    def expect_clients(self, now: float) -> None:
        """Movers begin beside clients of whom nothing is known: a quiet window goes first."""
        self._clients_at = self._judged_at = now
        self.has_clients = True
        if self._nice.level is not Level.FULL:
            self.share = min(self.share, FIRST_SHARE)
            self.wants_quiet = True

    @property
    def nice(self) -> Nice:
        return self._nice

    def ask(self, nice: Nice) -> None:
        """Another wish of the operator's: it holds from now on, not from the next look."""
        self._nice = nice
        most = _BOUNDS[nice.level].most
        if nice.level is Level.FULL or not self.has_clients:
            self.share = most
        self.share = min(self.share, most)
        self.wants_quiet = False
        if self.share == most:
            self.reason = self._least_reason()

    @property
    def page_keys(self) -> int:
        """How many keys to move in one go."""
        is_careful = self.has_clients and self._nice.level is not Level.FULL
        keys = PAGE_KEYS_BESIDE_CLIENTS if is_careful else PAGE_KEYS
        limit = self._nice.keys_per_second
        return keys if limit is None else min(keys, max(1, limit // PAGES_PER_LIMIT))

    def look(self, window: Window, now: float, *, is_idle: bool) -> None:
        """Judge a window that has ended; `now` in seconds. `is_idle`: movers had nothing to do."""
        was_quiet = self.wants_quiet or is_idle
        self.wants_quiet = False
        had_clients = self.has_clients
        if window.commands_per_second >= CLIENTS_PER_S:
            self._clients_at = now
        self.has_clients = self._clients_at is not None and now - self._clients_at < CLIENTS_FOR_S
        if window.p99_s is not None:
            self.p99_s = window.p99_s
        bounds = _BOUNDS[self._nice.level]
        if self._nice.level is Level.FULL or not self.has_clients:
            self.share, self.reason = bounds.most, self._least_reason()
            return
        if not had_clients:
            self.share = min(self.share, FIRST_SHARE)
            self._judged_at = now
        if was_quiet:
            self._recent.clear()
            self._remember(window, now)
            if is_idle:
                # What held them back is past, or will be found anew.
                self.share = min(bounds.most, max(self.share, FIRST_SHARE))
                self.reason = self._least_reason()
            return
        if window.p99_s is not None:
            self._judged_at = now
            self._recent.append(window.p99_s)
        found = self._slow(window, bounds)
        if found is None:
            if window.p99_s is not None or now - self._judged_at > JUDGED_FOR_S:
                self._grow(bounds.most)
        elif found[1] > 1.0:
            self.reason = found[0]
            fall = max(DEEPEST_FALL, min(SLIGHTEST_FALL, 1 / found[1]))
            self.share = max(LEAST_SHARE, self.share * fall)
        is_least = self.share == LEAST_SHARE
        is_stale = now - self._quiet_at > (
            QUIET_AT_LEAST_SHARE_FOR_S if is_least and self.quiet else QUIET_FOR_S
        )
        self.wants_quiet = is_stale and (self.quiet is None or self.share < bounds.most)

    def _remember(self, window: Window, now: float) -> None:
        last, since_s = self.quiet, now - self._quiet_at
        self._quiet_at = now
        if window.p99_s is None:
            return
        if last is not None and last.p99_s is not None and since_s < QUIET_FOR_S / 2:
            # One window of a few hundred commands is chance in part.
            p99_s = (window.p99_s + last.p99_s) / 2
            window = replace(window, p99_s=p99_s)
        self.quiet = window

    def _slow(self, window: Window, bounds: _Bounds) -> tuple[Reason, float] | None:
        """What is slow, and how many times as slow as it may be; 1: it is just right.

        None: there is room. What names a cause goes before the clients' latency, which does not.
        """
        quiet = self.quiet or Window()
        for reason, now_s, quiet_s, least_s in (
            (Reason.SOURCE_SLOW, window.source_s, quiet.source_s, LEAST_REPLY_S),
            (Reason.TARGET_SLOW, window.target_s, quiet.target_s, LEAST_REPLY_S),
            (Reason.EVENT_LOOP, window.late_s, quiet.late_s, LEAST_LATE_S),
        ):
            if now_s is not None and now_s > (most := max(least_s, SLOW * (quiet_s or 0.0))):
                return reason, now_s / most
        if window.p99_s is None or quiet.p99_s is None:
            return None
        most = max(LEAST_P99_S, bounds.p99 * quiet.p99_s)
        p99_s = median(self._recent)
        if p99_s > most:
            return Reason.CLIENTS_P99, p99_s / most
        # Close to the bound it neither falls nor grows.
        return (Reason.CLIENTS_P99, 1.0) if p99_s > 0.9 * most else None

    def _grow(self, most: float) -> None:
        self.share = min(most, self.share * GROWTH)
        if self.share == most:
            self.reason = self._least_reason()

    def _least_reason(self) -> Reason:
        is_limited = self._nice.keys_per_second is not None or _BOUNDS[self._nice.level].most < 1.0
        return Reason.LIMIT if is_limited else Reason.NONE
