"""Everything that a server holds, in a form in which two engines can be compared."""

from __future__ import annotations

from typing import Any

from proxy.resp import ReplyError, parse

from .wire import Wire

TTL_TOLERANCE_MS = 50


def snapshot(wire: Wire) -> dict[tuple[int, bytes], dict[str, Any]]:
    """By database and key. Times are absolute, by a clock that both servers share."""
    found = {}
    for db in (0, 1):
        wire.call("SELECT", db)
        for key in parse(wire.call("KEYS", "*")):
            found[db, key] = _described(wire, key)
    wire.call("SELECT", 0)
    return found


def _described(wire: Wire, key: bytes) -> dict[str, Any]:
    def ask(*args: Any) -> Any:
        return parse(wire.call(*args))

    kind = ask("TYPE", key)
    seconds, micros = ask("TIME")
    ttl = ask("PTTL", key)
    at = None if ttl < 0 else int(seconds) * 1000 + int(micros) // 1000 + ttl
    value: Any
    if kind == b"string":
        value = ask("GET", key)
    elif kind == b"list":
        value = ask("LRANGE", key, 0, -1)
    elif kind == b"set":
        value = sorted(ask("SMEMBERS", key))
    elif kind == b"hash":
        flat = ask("HGETALL", key)
        value = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    elif kind == b"zset":
        pairs = ask("ZRANGE", key, 0, -1, "WITHSCORES")
        if not (pairs and isinstance(pairs[0], list)):
            pairs = list(zip(pairs[::2], pairs[1::2], strict=True))
        value = [(member, float(score)) for member, score in pairs]
    else:
        value = _stream(ask, key)
    fields: dict[bytes, int] = {}
    if kind == b"hash":
        times = ask("HPEXPIRETIME", key, "FIELDS", len(value), *value)
        if not isinstance(times, ReplyError):
            fields = {f: t for f, t in zip(value, times, strict=True) if t >= 0}
    return {"type": kind, "value": value, "expires": at, "fields": fields}


def _stream(ask: Any, key: bytes) -> dict[str, Any]:
    info = _map(ask("XINFO", "STREAM", key))
    groups = {}
    for group in map(_map, ask("XINFO", "GROUPS", key)):
        name = group[b"name"]
        pending = ask("XPENDING", key, name, "-", "+", 10000)
        groups[name] = {
            "last": group[b"last-delivered-id"],
            "consumers": sorted(_map(c)[b"name"] for c in ask("XINFO", "CONSUMERS", key, name)),
            "pending": [(entry, consumer, count) for entry, consumer, _, count in pending],
        }
    return {"entries": ask("XRANGE", key, "-", "+"), "last": info[b"last-generated-id"], **groups}


def _map(value: Any) -> dict[bytes, Any]:
    return value if isinstance(value, dict) else dict(zip(value[::2], value[1::2], strict=True))


def differences(a: dict[Any, dict[str, Any]], b: dict[Any, dict[str, Any]]) -> list[str]:
    """In words; empty when both hold the same, times to within the tolerance."""
    words = [f"{key} is only on one side" for key in a.keys() ^ b.keys()]
    for key in a.keys() & b.keys():
        x, y = a[key], b[key]
        words += [f"{key} {w}: {x[w]} / {y[w]}" for w in ("type", "value") if x[w] != y[w]]
        xf, yf = x["fields"], y["fields"]
        times = [("ttl", x["expires"], y["expires"])]
        times += [(str(field), xf.get(field), yf.get(field)) for field in xf | yf]
        for what, s, t in times:
            if (s is None) != (t is None) or (s is not None and abs(s - t) > TTL_TOLERANCE_MS):
                words.append(f"{key} {what}: {s} / {t}")
    return words
