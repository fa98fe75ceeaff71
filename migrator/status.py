"""The status that operators, dashboards and scripts read.

Owns its shape (docs: the contract). It only looks; it never waits for a store.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from migrator.gates import blockers_of_cutover, blockers_of_rollback
from migrator.phases import Phase
from migrator.stores import Store
from migrator.throttle import Reason, Throttle
from proxy.metrics import Readings

if TYPE_CHECKING:
    from migrator.controller import Controller


def status_of(controller: Controller) -> dict[str, Any]:
    """The JSON of ``GET /v1/status``."""
    proxy = controller.proxy
    facts = controller.facts()
    cutover = [each.name for each in blockers_of_cutover(facts)]
    rollback = [each.name for each in blockers_of_rollback(facts)]
    return {
        "phase": str(facts.phase),
        "primary": proxy.primary.label,
        "read_percent": proxy.read_percent,
        "source": _store(controller.stores[0]),
        "target": _store(controller.stores[1]),
        "clients": len(proxy.sessions),
        "clients_memory": {
            "bytes": proxy.pressure.total,
            "limit": proxy.pressure.limit,
            "evicted": proxy.pressure.evicted,
        },
        "commands_per_second": round(controller.watch.commands_per_second, 1),
        "nice": controller.pace.throttle.nice.as_json(),
        "backfill": _backfill(controller),
        "mirror": _mirror(controller),
        "verify": _verify(controller),
        "can_cutover": not cutover,
        "blockers": _unique(cutover),
        "can_rollback": not rollback,
        "rollback_blockers": _unique(rollback),
        "last_pause_ms": controller.last_pause_ms,
        "allowed_commands": list(controller.settings.allow_commands),
        "epoch": controller.state.migration.epoch,
        "migration_id": controller.state.migration.migration_id,
    }


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _store(store: Store) -> dict[str, Any]:
    return {
        "engine": store.info.engine,
        "version": store.info.version,
        "reachable": store.is_reachable,
        "keys": store.info.keys,
        "address": store.endpoint.address,
    }


def _backfill(controller: Controller) -> dict[str, Any]:
    backfill = controller.copying.backfill if controller.copying else None
    position = backfill.position if backfill else controller.state.migration.backfill
    is_running = controller.copying is not None and controller.copying.is_backfilling
    return {
        "done": controller.facts().backfill_done,
        "running": is_running,
        "keys_done": position.keys_done,
        "keys_total": max(backfill.keys_total if backfill else 0, position.keys_done),
        "bytes": position.bytes_done,
        "keys_per_second": round(backfill.keys_per_second, 1) if backfill and is_running else 0.0,
        "eta_seconds": backfill.eta_seconds if backfill and is_running else None,
        "waits_for": backfill.reason if backfill and backfill.reason else None,
        "throttle": _throttle(controller.pace.throttle),
    }


def _throttle(throttle: Throttle) -> dict[str, Any]:
    """Of all movers; `share` is the part of its time in which each works."""
    quiet = throttle.quiet
    return {
        "share": round(throttle.share, 3),
        "reason": str(throttle.reason),
        "clients_p99_ms": _milliseconds(throttle.p99_s),
        "quiet_p99_ms": _milliseconds(quiet.p99_s if quiet else None),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000.0, 3)


def _mirror(controller: Controller) -> dict[str, Any]:
    proxy = controller.proxy
    mirror = proxy.mirror
    failing = controller.copying.repair.failing if controller.copying else {}
    mirrored = controller.state.migration.phase not in (Phase.IDLE, Phase.FINISHED)
    return {
        "connected": mirror is not None and mirror.is_connected,
        "lag_operations": mirror.lag_operations if mirror else 0,
        "lag_bytes": mirror.lag_bytes if mirror else 0,
        "lag_ms": round(mirror.lag_ms, 3) if mirror else 0.0,
        "unproven_keys": len(proxy.table.unproven) if mirrored else 0,
        "divergences": sum(proxy.stats.divergences.values()),
        "refusal": mirror.refusal if mirror else None,
        "copied_instead": dict(mirror.copied_instead) if mirror else {},
        "failing_keys": len(failing),
        "failing_because": next(iter(failing.values()), None),
    }


def _verify(controller: Controller) -> dict[str, Any]:
    error = controller.verification_error
    # What an earlier one found is not what the last one found.
    last = None if error else controller.state.migration.verification
    running = controller.verification if controller.is_verifying else None
    progress = running.progress if running else None
    finished = None
    if last is not None:
        moment = datetime.datetime.fromtimestamp(last.finished_at, datetime.UTC)
        finished = moment.isoformat(timespec="milliseconds")
    return {
        "running": progress is not None,
        "keys_checked": progress.keys_checked if progress else (last.checked if last else 0),
        "keys_total": progress.keys_total if progress else (last.checked if last else 0),
        "keys_per_second": round(progress.keys_per_second, 1) if progress else 0.0,
        "mismatches": progress.mismatches if progress else (last.mismatches if last else 0),
        "passed": last.passed if last and not running else None,
        "error": error,
        "stale": last.stale if last else False,
        "covered_all": last.covered_all if last else False,
        "finished_at": finished if not running else None,
    }


def readings_of(controller: Controller) -> Readings:
    """The same facts, as metrics read them."""
    status = status_of(controller)
    mirror = status["mirror"]
    return Readings(
        phase=status["phase"],
        phases=[str(phase) for phase in Phase],
        primary=controller.proxy.primary,
        read_percent=status["read_percent"],
        clients=status["clients"],
        clients_memory_bytes=status["clients_memory"]["bytes"],
        mirror_connected=mirror["connected"],
        mirror_lag_operations=mirror["lag_operations"],
        mirror_lag_bytes=mirror["lag_bytes"],
        mirror_lag_seconds=mirror["lag_ms"] / 1000.0,
        unproven_keys=mirror["unproven_keys"],
        backfill_keys=status["backfill"]["keys_total"],
        verify_mismatches=status["verify"]["mismatches"],
        throttle_share=controller.pace.throttle.share,
        throttle_reason=str(controller.pace.throttle.reason),
        throttle_reasons=[str(reason) for reason in Reason],
    )
