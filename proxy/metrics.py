"""Every metric, declared once; and the plain numbers they are made of.

The data plane bumps integers in a `Stats` and knows nothing of Prometheus; what exists as a state
anyway (clients, lag, phase) is read when somebody scrapes, as a `Readings`. Labels are few, and
never a key, a user or a client.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.counts import CommandClass, Histogram, Tally
from proxy.sides import Side

# Five a decade where latencies usually are: movers go by the 99th percentile.
COMMAND_SECONDS = (
    *(0.0001, 0.00016, 0.00025, 0.0004, 0.00063, 0.001, 0.0016, 0.0025, 0.004, 0.0063),
    *(0.01, 0.016, 0.025, 0.04, 0.063, 0.1, 0.25, 0.5, 1.0),
)
PAUSE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Stats:
    """What happened since the process began. All members only grow.

    `commands[side][command_class]` and `command_seconds[side][command_class]` are of the upstream
    that answered; `reads_asked_again` counts reads that the primary was asked for once more, since
    a key was written while one on the secondary was under way, or the secondary failed;
    `client_errors[reason]` counts clients that were refused or closed, by a short fixed word;
    `divergences[command]` replies of the secondary that were not the primary's, by the command's
    name in lower case.
    """

    __slots__ = (
        "backfill_keys",
        "client_errors",
        "command_seconds",
        "commands",
        "divergences",
        "pause_seconds",
        "reads_asked_again",
        "shadow_mismatches",
        "verify_keys",
    )

    def __init__(self) -> None:
        self.commands = [Tally() for _ in Side]
        self.command_seconds = [[Histogram(COMMAND_SECONDS) for _ in CommandClass] for _ in Side]
        self.client_errors: defaultdict[str, int] = defaultdict(int)
        self.divergences: defaultdict[str, int] = defaultdict(int)
        self.pause_seconds = Histogram(PAUSE_SECONDS)
        self.reads_asked_again = 0
        self.shadow_mismatches = 0
        self.backfill_keys = 0
        self.verify_keys = 0

    def client_error(self, reason: str) -> None:
        self.client_errors[reason] += 1

    @property
    def total(self) -> int:
        """Commands over all sides and classes; the status makes its rate of it."""
        return sum(tally.total() for tally in self.commands)


@dataclass(frozen=True)
class Readings:
    """How things are now, read once per scrape."""

    phase: str
    phases: Sequence[str]
    """All there are: every one is a series, of which one is 1."""
    primary: Side
    read_percent: int = 0
    clients: int = 0
    clients_memory_bytes: int = 0
    mirror_connected: bool = False
    mirror_lag_operations: int = 0
    mirror_lag_bytes: int = 0
    mirror_lag_seconds: float = 0.0
    unproven_keys: int = 0
    backfill_keys: int = 0
    """Keys that the source had when the backfill began."""
    verify_mismatches: int = 0
    """Of the last verification, or of the one that runs."""
    throttle_share: float = 1.0
    """The part of its time in which each mover works."""
    throttle_reason: str = "none"
    throttle_reasons: Sequence[str] = ()


def registry(stats: Stats, read: Callable[[], Readings]) -> CollectorRegistry:
    """A registry of its own: Keyferry's metrics and those of the process."""
    collectors = CollectorRegistry()
    collectors.register(_Collector(stats, read))
    ProcessCollector(registry=collectors)
    return collectors


class _Collector(Collector):
    def __init__(self, stats: Stats, read: Callable[[], Readings]) -> None:
        self._stats = stats
        self._read = read

    def collect(self) -> Iterable[Metric]:
        yield from _commands(self._stats)
        yield from _incidents(self._stats)
        yield from _gauges(self._read())


def _commands(stats: Stats) -> Iterator[Metric]:
    labels = ["side", "class"]
    total = CounterMetricFamily(
        "keyferry_commands", "Commands answered to clients, by the side that served.", labels=labels
    )
    seconds = HistogramMetricFamily(
        "keyferry_command_seconds", "From sending upstream to the reply.", labels=labels
    )
    for side in Side:
        for command_class in CommandClass:
            values = [side.label, command_class.label]
            total.add_metric(values, stats.commands[side][command_class])
            _add(seconds, values, stats.command_seconds[side][command_class])
    yield total
    yield seconds


def _incidents(stats: Stats) -> Iterator[Metric]:
    errors = CounterMetricFamily(
        "keyferry_client_errors",
        "Errors that clients got from the proxy itself.",
        labels=["reason"],
    )
    for reason, count in stats.client_errors.copy().items():
        errors.add_metric([reason], count)
    yield errors

    divergences = CounterMetricFamily(
        "keyferry_mirror_divergences",
        "Effects whose reply on the secondary was not the primary's; their keys are copied again.",
        labels=["command"],
    )
    for command, count in stats.divergences.copy().items():
        divergences.add_metric([command], count)
    yield divergences

    pause = HistogramMetricFamily("keyferry_pause_seconds", "How long a fence held all clients.")
    _add(pause, [], stats.pause_seconds)
    yield pause
    for name, help_, value in (
        (
            "reads_asked_again",
            "Reads whose answer, or one before it, was of a key written meanwhile.",
            stats.reads_asked_again,
        ),
        ("shadow_mismatches", "Shadow reads that differed.", stats.shadow_mismatches),
        ("backfill_keys", "Keys copied by the backfill.", stats.backfill_keys),
        ("verify_keys", "Keys compared by verifications.", stats.verify_keys),
    ):
        yield CounterMetricFamily(f"keyferry_{name}", help_, value=value)


def _gauges(now: Readings) -> Iterator[Metric]:
    for name, help_, value in (
        ("clients", "Connections of applications.", now.clients),
        (
            "clients_memory_bytes",
            "What clients have not read yet, or not sent to the end.",
            now.clients_memory_bytes,
        ),
        ("mirror_connected", "1 while effects reach the secondary.", int(now.mirror_connected)),
        ("mirror_lag_operations", "Effects not yet acknowledged.", now.mirror_lag_operations),
        ("mirror_lag_bytes", "Their size.", now.mirror_lag_bytes),
        ("mirror_lag_seconds", "The age of the oldest of them.", now.mirror_lag_seconds),
        ("unproven_keys", "Keys that may differ and await a copy.", now.unproven_keys),
        ("backfill_keys", "Keys there were to copy.", now.backfill_keys),
        ("verify_mismatches", "Keys that differed, last verification.", now.verify_mismatches),
        ("throttle_share", "The part of its time in which each mover works.", now.throttle_share),
        ("read_percent", "Share of reads that goes to the target.", now.read_percent),
    ):
        yield GaugeMetricFamily(f"keyferry_{name}", help_, value=value)

    primary = GaugeMetricFamily("keyferry_primary", "1 for the primary.", labels=["side"])
    for side in Side:
        primary.add_metric([side.label], int(side is now.primary))
    yield primary
    reason = GaugeMetricFamily(
        "keyferry_throttle_reason", "1 for what holds the movers back.", labels=["reason"]
    )
    for name in now.throttle_reasons:
        reason.add_metric([name], int(name == now.throttle_reason))
    yield reason
    phase = GaugeMetricFamily("keyferry_phase", "1 for the current phase.", labels=["phase"])
    for name in now.phases:
        phase.add_metric([name], int(name == now.phase))
    yield phase


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    names = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(names, accumulate(histogram.counts), strict=True))
    family.add_metric(labels, buckets, sum_value=histogram.total)
