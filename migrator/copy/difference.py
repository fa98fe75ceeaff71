"""What differs between two snapshots of a key: the rule of equality.

Pure. Not compared: consumers' idle times, delivery times, groups' entries-read and streams'
counters, which engines count differently or not at all; encodings; the order in sets and hashes.
"""

from __future__ import annotations

from collections.abc import Iterator

from .expiry import NO_EXPIRY
from .snapshot import Foreign, Hash, Snapshot, SortedSet
from .streams import Group, Stream

TTL_TOLERANCE_MS = 50


def differences(
    a: Snapshot | None, b: Snapshot | None, labels: tuple[str, str], now_ms: tuple[int, int]
) -> Iterator[str]:
    """Each difference in a few words, without names or values of the data.

    `now_ms` is each store's own clock, read after the snapshots: what is only on one side is no
    difference when the other's clock has passed its expiry (by TTL_TOLERANCE_MS, early or late).
    """
    if a is None or b is None:
        for there, elsewhere in ((a, 1), (b, 0)):
            if there is not None and not _has_passed(_gone_by(there), now_ms[elsewhere]):
                yield f"absent on {labels[elsewhere]}"
        return
    if a.kind != b.kind:
        yield f"type: {a.kind}, {b.kind}"
    else:
        yield from _in_values(a.value, b.value, labels, now_ms)
    yield from expiry_difference(a.expires_at_ms, b.expires_at_ms)


def expiry_difference(a_ms: int, b_ms: int) -> Iterator[str]:
    """One line if these expiry times (or NO_EXPIRY) differ."""
    if not _is_same_time(a_ms, b_ms):
        yield f"expiry: {_spelled(a_ms)}, {_spelled(b_ms)}"


def _in_values(
    a: object, b: object, labels: tuple[str, str], now_ms: tuple[int, int]
) -> Iterator[str]:
    if isinstance(a, Foreign):
        if not (isinstance(b, Foreign) and a.shown is not None):
            yield "a module's type cannot be compared"
        elif a.shown != b.shown:
            yield "value"
        return
    if a == b:  # nearly always, and much quicker than to look for what differs
        return
    match a, b:
        case bytes(), bytes():
            yield f"value ({len(a)} and {len(b)} bytes)"
        case list(), list():
            if len(a) != len(b):
                yield f"length: {len(a)}, {len(b)}"
            else:
                first = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
                yield f"element {first}"
        case set(), set():
            yield from _only_on("members", a - b, b - a, labels)
        case SortedSet(), SortedSet():
            yield from _only_on(
                "members",
                a.scores.keys() - b.scores.keys(),
                b.scores.keys() - a.scores.keys(),
                labels,
            )
            # Engines spell the same double differently.
            wrong = sum(
                score != b.scores[member] and float(score) != float(b.scores[member])
                for member, score in a.scores.items()
                if member in b.scores
            )
            if wrong:
                yield f"scores: {wrong} differ"
        case Hash(), Hash():
            yield from _in_hashes(a, b, labels, now_ms)
        case Stream(), Stream():
            yield from _in_streams(a, b, labels)
        case _:
            raise AssertionError("one type has one class")


def _in_hashes(a: Hash, b: Hash, labels: tuple[str, str], now_ms: tuple[int, int]) -> Iterator[str]:
    only_a = [
        name
        for name in a.fields.keys() - b.fields.keys()
        if not _has_passed(a.expiries.get(name), now_ms[1])
    ]
    only_b = [
        name
        for name in b.fields.keys() - a.fields.keys()
        if not _has_passed(b.expiries.get(name), now_ms[0])
    ]
    yield from _only_on("fields", only_a, only_b, labels)
    both = a.fields.keys() & b.fields.keys()
    wrong = sum(a.fields[name] != b.fields[name] for name in both)
    if wrong:
        yield f"field values: {wrong} differ"
    if a.expiries or b.expiries:
        wrong = sum(
            not _is_same_time(a.expiries.get(name, NO_EXPIRY), b.expiries.get(name, NO_EXPIRY))
            for name in both
        )
        if wrong:
            yield f"field expiries: {wrong} differ"


def _in_streams(a: Stream, b: Stream, labels: tuple[str, str]) -> Iterator[str]:
    if a.entries != b.entries:
        only = [dict.fromkeys(i for i, _ in s.entries) for s in (a, b)]
        if only[0] == only[1]:
            yield "entries: contents differ"
        yield from _only_on("entries", only[0].keys() - only[1], only[1].keys() - only[0], labels)
    if a.last_id != b.last_id:
        yield f"last id: {a.last_id.decode()}, {b.last_id.decode()}"
    yield from _only_on("groups", a.groups.keys() - b.groups, b.groups.keys() - a.groups, labels)
    for name, group in a.groups.items():
        if name in b.groups:
            yield from _in_groups(group, b.groups[name], labels)


def _in_groups(a: Group, b: Group, labels: tuple[str, str]) -> Iterator[str]:
    if a.last_id != b.last_id:
        yield f"group's last id: {a.last_id.decode()}, {b.last_id.decode()}"
    yield from _only_on("consumers", a.consumers - b.consumers, b.consumers - a.consumers, labels)
    pending = (a.pending.keys() - b.pending, b.pending.keys() - a.pending)
    yield from _only_on("pending entries", *pending, labels)
    shared = [(entry, b.pending[i]) for i, entry in a.pending.items() if i in b.pending]
    for what, wrong in (
        ("owners", sum(x.consumer != y.consumer for x, y in shared)),
        ("deliveries", sum(x.deliveries != y.deliveries for x, y in shared)),
    ):
        if wrong:
            yield f"{what} of pending entries: {wrong} differ"


def _only_on(
    what: str,
    on_a: set[bytes] | list[bytes],
    on_b: set[bytes] | list[bytes],
    labels: tuple[str, str],
) -> Iterator[str]:
    for names, label in ((on_a, labels[0]), (on_b, labels[1])):
        if names:
            yield f"{what}: {len(names)} only on {label}"


def _gone_by(snapshot: Snapshot) -> int | None:
    """When nothing of it is left, if it ends by itself."""
    if snapshot.expires_at_ms != NO_EXPIRY:
        return snapshot.expires_at_ms
    value = snapshot.value
    if isinstance(value, Hash) and len(value.expiries) == len(value.fields):
        return max(value.expiries.values())
    return None


def _has_passed(expires_at_ms: int | None, now_ms: int) -> bool:
    return expires_at_ms is not None and expires_at_ms - TTL_TOLERANCE_MS <= now_ms


def _is_same_time(a_ms: int, b_ms: int) -> bool:
    if NO_EXPIRY in (a_ms, b_ms):
        return a_ms == b_ms
    return abs(a_ms - b_ms) <= TTL_TOLERANCE_MS


def _spelled(expires_at_ms: int) -> str:
    return "never" if expires_at_ms == NO_EXPIRY else str(expires_at_ms)
