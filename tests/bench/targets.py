"""What was to be reached, as a checklist: each target, the figure that answers it, and whether.

Pure: figures in, lines out. A target that was not measured is neither reached nor missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .figures import cells, figure
from .stage import DIRECT, MIRRORING, PROXY_ONLY
from .suites import NO_SHIFT, SHIFTED

Json = dict[str, Any]
ENVOY, ENVOY_MIRRORING, NUTCRACKER = "Envoy", "Envoy, mirroring", "nutcracker"
KIB = 1024


@dataclass(frozen=True)
class Target:
    """`reached` None: not measured. `suite` is where the figure is from."""

    text: str
    figure: str
    reached: bool | None
    suite: str


def checklist(result: Json) -> list[Target]:
    return [*_throughput(result), *_latency(result), *_states(result), *_others(result)]


def least(result: Json, text: str, cell: str, wanted: float, beside: tuple[str, ...]) -> Target:
    found = cells(result, "core").get(cell, {})
    if MIRRORING not in found:
        return Target(text, "not measured", None, "core")
    ratio = found[MIRRORING]["ratio"]
    others = [f"{name} {found[name]['ratio']:.2f}" for name in beside if name in found]
    shown = f"{ratio:.2f}" + (f" ({', '.join(others)})" if others else "")
    return Target(text, shown, ratio >= wanted, "core")


def _throughput(result: Json) -> Iterator[Target]:
    for depth, wanted in ((1, 0.85), (16, 0.70)):
        yield least(
            result, f"SET, mirrored, 50 clients, -P {depth}: at least {wanted:.2f} of direct",
            f"SET -P {depth}", wanted, (ENVOY_MIRRORING,),
        )  # fmt: skip
    for depth, wanted in ((1, 0.90), (16, 0.75)):
        yield least(
            result, f"GET while mirroring, -P {depth}: at least {wanted:.2f} of direct",
            f"GET -P {depth}", wanted, (ENVOY, NUTCRACKER, "HAProxy"),
        )  # fmt: skip
    yield ahead(result, "core", "ahead of nutcracker and Envoy in every cell of SET, GET, mixed",
                (ENVOY, ENVOY_MIRRORING, NUTCRACKER))  # fmt: skip


def ahead(result: Json, suite: str, text: str, peers: tuple[str, ...]) -> Target:
    """Whether the mirroring proxy is in front in each cell; names those where it is not."""
    measured, behind = 0, []
    for cell, found in cells(result, suite).items():
        there = [name for name in peers if name in found]
        if MIRRORING not in found or not there:
            continue
        measured += 1
        own = found[MIRRORING]["ratio"]
        better = [n for n in there if found[n]["ratio"] > own]
        if better:
            each = ", ".join(f"{name} {found[name]['ratio']:.2f}" for name in better)
            behind.append(f"{cell} {own:.2f}, {each}")
    if not measured:
        return Target(text, "not measured", None, suite)
    shown = f"{measured - len(behind)} of {measured} cells"
    if behind:
        shown += "; behind: " + "; ".join(behind)
    return Target(text, shown, not behind, suite)


def _latency(result: Json) -> Iterator[Target]:
    text = "one client, unpipelined: p50 at most 20 µs over direct"
    over: dict[str, dict[str, float]] = {}
    base = figure(result, "clients", DIRECT)
    for name in (MIRRORING, PROXY_ONLY, ENVOY, NUTCRACKER):
        found = figure(result, "clients", name)
        if base is not None and found is not None:
            over[name] = {c: found[c]["50.0"] - base[c]["50.0"] for c in ("SET", "GET")}
    if MIRRORING in over:
        shown = "; ".join(
            f"{name} " + ", ".join(f"{c} {us:.0f} µs" for c, us in each.items())
            for name, each in over.items()
        )
        yield Target(text, shown, all(us <= 20.0 for us in over[MIRRORING].values()), "clients")
    else:
        yield Target(text, "not measured", None, "clients")

    text = "p99.9 under load (50 clients, unpipelined) no worse than Envoy's"
    parts, reached = [], []
    for command, of in (figure(result, "tail") or {}).items():
        parts.append(
            f"{command} {of['own_ms']:.2f} ms, {of['peer']} {of['peer_ms']:.2f} ms: "
            f"{of['ratio']:.2f} times ({of['low']:.2f}–{of['high']:.2f})"
        )
        reached.append(of["ratio"] <= 1.0)
    yield Target(text, "; ".join(parts) or "not measured", all(reached) if reached else None,
                 "tail")  # fmt: skip


def _states(result: Json) -> Iterator[Target]:
    parts, reached = [], []
    for cell, found in cells(result, "shift").items():
        if cell.startswith("GET") and NO_SHIFT in found and SHIFTED in found:
            share = found[SHIFTED]["ratio"] / found[NO_SHIFT]["ratio"]
            parts.append(f"{cell} {share:.2f}")
            reached.append(share >= 0.9)
    yield Target("reads at a 50% shift: at least 0.90 of no shift", "; ".join(parts)
                 or "not measured", all(reached) if reached else None, "shift")  # fmt: skip
    yield ahead(result, "tls", "TLS on both sides: no slower than Envoy with TLS on both sides",
                (ENVOY, ENVOY_MIRRORING))  # fmt: skip


def _others(result: Json) -> Iterator[Target]:
    own = figure(result, "connections", MIRRORING)
    peer = figure(result, "connections", ENVOY)
    count = figure(result, "connections", "connections")
    text = "idle connections: at most 10 KiB each at 10,000"
    if own is not None:
        is_enough = count >= 10_000
        yield Target(text, f"{own['kib_each']:.1f} KiB each at {count:,}",
                     own["kib_each"] <= 10.0 if is_enough else None, "connections")  # fmt: skip
    else:
        yield Target(text, "not measured", None, "connections")
    text = "RSS of the process at most Envoy's at the same"
    if own is not None and peer is not None:
        mib = [each["resident"] / KIB / KIB for each in (own, peer)]
        yield Target(text, f"{mib[0]:.0f} MiB, Envoy {mib[1]:.0f} MiB", mib[0] <= mib[1],
                     "connections")  # fmt: skip
    else:
        yield Target(text, "not measured", None, "connections")

    for text, name, wanted, unit in (
        ("backfill alone: at least 300,000 small keys/s", "backfill_keys", 300_000, "keys/s"),
        ("1 GB of mixed large keys: at least 150 MB/s", "large_mb", 150, "MB/s"),
    ):
        yield at_least(result, text, name, wanted, unit)
    yield _beside(result)
    yield at_least(result, "verify: at least 150,000 small keys/s", "verify_keys", 150_000,
                   "keys/s")  # fmt: skip
    for kind, text in (
        ("keys", "cost per command flat (±10%) from 1,000 to 10,000,000 keys"),
        ("clients", "cost per command flat (±10%) from 10 to 1,000 clients at one rate"),
    ):
        yield _flat(result, kind, text)
    yield _big(result)
    rate = figure(result, "churn", MIRRORING)
    text = "1,000 connections a second: none fails"
    if rate is None:
        yield Target(text, "not measured", None, "churn")
    else:
        shown = f"{rate['per_second']:,.0f}/s, {rate['failed']} failed"
        yield Target(text, shown, rate["per_second"] >= 980 and not rate["failed"], "churn")


def _big(result: Json) -> Target:
    text = "a value of 512 MB: written and read, memory at most twice the value"
    times = figure(result, "big", "times")
    if times is None:
        return Target(text, "not measured", None, "big")
    failed = [
        f"{work}: {why}"
        for work in ("SET", "GET", "mirror")
        if isinstance(why := figure(result, "big", work), str)
    ]
    return Target(text, "; ".join([f"{times:.2f} times", *failed]),
                  times <= 2.0 and not failed, "big")  # fmt: skip


def at_least(result: Json, text: str, name: str, wanted: float, unit: str) -> Target:
    found = figure(result, "copy", name)
    shown = "not measured" if found is None else f"{found:,.0f} {unit}"
    return Target(text, shown, None if found is None else found >= wanted, "copy")


def _beside(result: Json) -> Target:
    text = "backfill beside half the proxy's capacity: clients' p99 at most doubles, and it moves"
    ratio, keys = figure(result, "copy", "p99_ratio"), figure(result, "copy", "beside_keys")
    if ratio is None or keys is None:
        return Target(text, "not measured", None, "copy")
    return Target(text, f"p99 {ratio:.2f} times, {keys:,.0f} keys/s", ratio <= 2.0 and keys > 0,
                  "copy")  # fmt: skip


def _flat(result: Json, kind: str, text: str) -> Target:
    found = figure(result, "growth", kind) or {}
    if len(found) < 2:
        return Target(text, "not measured", None, "growth")
    costs = [found[number] for number in sorted(found, key=int)]
    spread = max(costs) / min(costs) - 1.0
    shown = ", ".join(f"{int(n):,}: {found[n]:.2f} µs" for n in sorted(found, key=int))
    reached: bool | None = max(abs(cost / costs[0] - 1.0) for cost in costs) <= 0.10
    if kind == "keys" and max(map(int, found)) < 10_000_000:
        reached = None
        shown += " (10,000,000 not measured)"
    return Target(text, f"{shown}; spread {spread:.0%}", reached, "growth")
