"""Metrics: all names of the contract, with the numbers that were counted."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.counts import CommandClass, Histogram
from proxy.metrics import Readings, Stats, registry
from proxy.sides import Side

PHASES = ("idle", "copying", "mirroring", "cutover", "finished")

# The contract's list: name -> labels.
PROMISED = {
    "commands_total": {"side", "class"},
    "command_seconds_bucket": {"side", "class", "le"},
    "client_errors_total": {"reason"},
    "clients": set(),
    "clients_memory_bytes": set(),
    "mirror_lag_operations": set(),
    "mirror_lag_bytes": set(),
    "mirror_lag_seconds": set(),
    "mirror_divergences_total": {"command"},
    "unproven_keys": set(),
    "backfill_keys_total": set(),
    "backfill_keys": set(),
    "verify_keys_total": set(),
    "verify_mismatches": set(),
    "read_percent": set(),
    "primary": {"side"},
    "phase": {"phase"},
    "pause_seconds_bucket": {"le"},
    "reads_asked_again_total": set(),
    "shadow_mismatches_total": set(),
    "throttle_share": set(),
    "throttle_reason": {"reason"},
}


def scrape(stats: Stats, **readings: object) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    now = Readings(
        **{"phase": "idle", "phases": PHASES, "primary": Side.SOURCE, "throttle_reasons": ("none",)}
        | readings
    )
    text = generate_latest(registry(stats, lambda: now)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_all_names_of_the_contract_are_there_with_their_labels() -> None:
    stats = Stats()
    stats.client_error("protocol")
    stats.divergences["hset"] += 1
    labels = {name: {label for label, _ in pairs} for name, pairs in scrape(stats)}
    for name, expected in PROMISED.items():
        assert labels[f"keyferry_{name}"] == expected, name


def test_what_was_counted_is_what_is_scraped() -> None:
    stats = Stats()
    stats.commands[Side.TARGET].add(CommandClass.WRITE, 3)
    stats.divergences["hset"] += 2
    stats.backfill_keys = 70
    stats.command_seconds[Side.TARGET][CommandClass.WRITE].observe(0.002, times=3)
    seen = scrape(stats, backfill_keys=100, primary=Side.TARGET, phase="cutover")
    write = frozenset({("side", "target"), ("class", "write")})
    assert seen["keyferry_commands_total", write] == 3
    assert seen["keyferry_command_seconds_count", write] == 3
    assert seen["keyferry_mirror_divergences_total", frozenset({("command", "hset")})] == 2
    assert seen["keyferry_backfill_keys_total", frozenset()] == 70
    assert seen["keyferry_backfill_keys", frozenset()] == 100
    assert seen["keyferry_primary", frozenset({("side", "target")})] == 1
    assert seen["keyferry_primary", frozenset({("side", "source")})] == 0
    phases = {name: seen["keyferry_phase", frozenset({("phase", name)})] for name in PHASES}
    assert phases == dict.fromkeys(PHASES, 0) | {"cutover": 1}
    assert stats.total == 3


def test_a_histogram_counts_into_the_first_bucket_that_holds_the_value() -> None:
    stats = Stats()
    stats.pause_seconds = Histogram((0.01, 0.1))
    for value, times in ((0.01, 1), (0.011, 2), (5.0, 4)):
        stats.pause_seconds.observe(value, times)
    seen = scrape(stats)
    buckets = {
        le: seen["keyferry_pause_seconds_bucket", frozenset({("le", le)})]
        for le in ("0.01", "0.1", "+Inf")
    }
    assert buckets == {"0.01": 1, "0.1": 3, "+Inf": 7}
    assert seen["keyferry_pause_seconds_count", frozenset()] == 7
    assert abs(seen["keyferry_pause_seconds_sum", frozenset()] - 20.032) < 1e-9
