"""From one process to the next: what an orderly stop leaves, and what a start finds.

Owns the question whether what was proven still is. After an orderly stop only the
keys that it wrote down are unproven; after any other, everything is (design,
section 2).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from migrator.bulk import ReplyError
from migrator.copying import Copying
from migrator.phases import Phase
from migrator.state import Backfill as Position
from migrator.state import CleanStop, StoreMark
from migrator.stores import Store, StoreUnreachable, clients_of
from proxy.keytable import db_and_key, place_of
from proxy.sent import MirrorAway
from proxy.sides import Side

if TYPE_CHECKING:
    from migrator.controller import Controller

log = logging.getLogger("keyferry.restart")

MIRRORED = (Phase.COPYING, Phase.MIRRORING, Phase.CUTOVER)
# How long a stop waits for what is under way.
LEAVE_S = 5.0


async def resume(controller: Controller) -> None:
    """Go on where the state says; before clients are let in. Raises nothing of a store's."""
    state, proxy = controller.state, controller.proxy
    migration = state.migration
    await controller.watch.measure_clocks()
    if migration.phase not in MIRRORED:
        proxy.shift(migration.read_percent)
        return
    clean = migration.clean_stop
    if clean is not None and not await _is_unchanged(controller, clean):
        clean = None
    owed = state.unproven_keys() if clean is not None else []
    run_id: str | None = None
    if clean is None:
        log.warning("the last stop was not a clean one: everything is copied again")
        controller.make_stale()
        phase = Phase.COPYING if migration.phase is Phase.MIRRORING else migration.phase
        state.update(phase=phase, backfill=Position())
    else:
        mark = clean.target if proxy.primary is Side.SOURCE else clean.source
        assert mark is not None, "a clean stop knows both stores"
        run_id = mark.run_id
    state.mark_running()
    await _end_old_connections(controller)
    await controller.begin(run_id=run_id)
    for db, key in owed:
        proxy.table.mark_unproven(place_of(db, key))
    proxy.shift(state.migration.read_percent)


async def _end_old_connections(controller: Controller) -> None:
    """What a process before us has sent may still be read by the stores: end it there."""
    tag = controller.proxy.tag
    for store in controller.stores:
        if not store.is_reachable or not tag:
            continue
        with contextlib.suppress(StoreUnreachable, ReplyError, ConnectionError):
            bulk = await store.connection("admin")
            for client in await clients_of(bulk):
                name = client.get("name", "")
                if name.startswith("keyferry-") and name.endswith(":" + tag):
                    await bulk.call("CLIENT", "KILL", "ID", client["id"])


async def _is_unchanged(controller: Controller, clean: CleanStop) -> bool:
    """Whether both stores are the processes they were and evicted nothing meanwhile.

    A secondary that cannot be asked now is asked by the mirror when it connects.
    """
    for store, mark in zip(controller.stores, (clean.source, clean.target), strict=True):
        if mark is None:
            return False
        if not store.is_reachable:
            continue
        try:
            info = await store.refresh()
        except (StoreUnreachable, ReplyError):
            continue
        if (info.run_id, info.evicted_keys) != (mark.run_id, mark.evicted_keys):
            return False
    return True


async def leave(controller: Controller, copying: Copying) -> None:
    """Stop mirroring in order, and say in the state what is not proven.

    What cannot be heard out leaves no word, so that the next start proves everything.
    """
    proxy, state = controller.proxy, controller.state
    mirror = proxy.mirror
    is_complete = mirror is not None
    try:
        async with asyncio.timeout(LEAVE_S):
            await proxy.fence()
            if mirror is not None and mirror.is_connected:
                await mirror.applied()
            await copying.feeds_drained()
    except (TimeoutError, MirrorAway, ConnectionError) as error:
        # An expiry may be missing from the unproven keys.
        log.warning("the stop is not a clean one: %s", error or "something did not finish")
        is_complete = False
    await copying.stop()
    if mirror is not None:
        await mirror.close()
        if mirror.owed_flushes or proxy.stale:
            is_complete = False
    backfill = copying.backfill
    if backfill is not None and backfill.generation != proxy.table.generation:
        is_complete = False
    elif backfill is not None and not backfill.position.is_done:
        state.update(backfill=backfill.position)
    elif proxy.table.is_everything_unproven:
        is_complete = False
    marks = [await _mark(store) for store in controller.stores]
    if is_complete and all(marks):
        unproven = [db_and_key(place) for place in proxy.table.unproven]
        state.mark_clean(CleanStop(marks[0], marks[1]), unproven)


async def _mark(store: Store) -> StoreMark | None:
    try:
        info = await store.refresh()
    except (StoreUnreachable, ReplyError):
        return None
    return StoreMark(info.run_id, info.evicted_keys)
