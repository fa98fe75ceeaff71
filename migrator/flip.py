"""Cutover and rollback: gates, fence, drain, gates again, durable commit, release.

Owns the order of these steps (design, section 1, *the fence*). Until the commit
begins everything can be released unchanged; behind it nothing turns back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from migrator.bulk import ReplyError
from migrator.errors import BadInput, Blocker, Refused
from migrator.gates import blockers_of_cutover, blockers_of_flip
from migrator.phases import RULES, IllegalStep, Verb, check
from proxy.follower import NotPrepared
from proxy.mirror import Mirror
from proxy.sent import MirrorAway
from proxy.server import Proxy
from proxy.sides import Side

if TYPE_CHECKING:
    from migrator.controller import Controller

log = logging.getLogger("keyferry.flip")

CONNECT_TIMEOUT_S = 5.0
# Nobody waits for it, and there may be ten thousand subscribers.
PREPARE_TIMEOUT_S = 60.0
PROBE_S = 0.5
# Unproven keys that a fence settles without anybody noticing, and how often to look
# whether there are no more of them.
FEW = 50
CATCH_UP_LOOKS = 100


async def flip(
    controller: Controller, verb: Verb, dry_run: bool, max_pause_ms: float
) -> dict[str, Any]:
    """Make the other side the primary. Raises Refused, with every blocker; then nothing changed."""
    if not max_pause_ms > 0:
        raise BadInput("max_pause_ms must be positive")
    before = controller.point()
    migration = controller.state.migration
    if migration.phase not in RULES[verb].legal:
        _refuse_early(controller, verb)
        return {"before": before, "after": before, "message": f"{verb} was done already"}
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await controller.check_feeds()
            await controller.watch.check_users()
            await controller.watch.check_warnings()
    except (TimeoutError, ReplyError, ConnectionError) as error:
        reason = str(error) or "a store gives no answer"
        unreachable = await _unreachable(controller) or [Blocker("not_checked", reason)]
        _refuse(verb, [*blockers_of_flip(controller.facts()), *unreachable])
    if not dry_run:
        await _let_repair_catch_up(controller)
    _refuse(verb, blockers_of_flip(controller.facts()))
    if dry_run:
        return {"before": before, "after": before, "dry_run": True}
    pause_ms = await _flip(controller, verb, max_pause_ms)
    return {"before": before, "after": controller.point(), "pause_ms": pause_ms}


async def _let_repair_catch_up(controller: Controller) -> None:
    """What is settled before the fence need not be settled while clients wait."""
    table = controller.proxy.table
    for _ in range(CATCH_UP_LOOKS):
        if len(table.unproven) <= FEW:
            return
        await asyncio.sleep(0.01)


async def _unreachable(controller: Controller) -> list[Blocker]:
    """Which of the stores gives no answer now."""
    found = []
    for store in controller.stores:
        try:
            async with asyncio.timeout(PROBE_S):
                await store.refresh()
        except (TimeoutError, ReplyError, ConnectionError) as error:
            label = store.side.label
            found.append(Blocker(f"{label}_unreachable", str(error) or f"no answer of the {label}"))
    return found


def _refuse_early(controller: Controller, verb: Verb) -> None:
    """Not in a phase from which it can be done: all that is in the way is named."""
    migration = controller.state.migration
    if verb is Verb.ROLLBACK and migration.epoch == 0:
        raise Refused("not_cut_over", f"{verb} needs phase cutover, and this is {migration.phase}")
    try:
        check(verb, migration.phase)
    except IllegalStep as illegal:
        blockers = [Blocker(illegal.name, illegal.message)]
        if verb is Verb.CUTOVER:
            blockers += blockers_of_cutover(controller.facts())
        raise Refused(illegal.name, illegal.message, blockers) from None


def _refuse(verb: Verb, blockers: list[Blocker]) -> None:
    if blockers:
        name = blockers[0].name if len({each.name for each in blockers}) == 1 else "gates"
        message = f"{verb} is refused: " + "; ".join(each.message for each in blockers)
        raise Refused(name, message, blockers)


async def _flip(controller: Controller, verb: Verb, max_pause_ms: float) -> float:
    proxy = controller.proxy
    copying = controller.copying
    assert copying is not None
    old_primary = proxy.primary
    reverse = copying.open_mirror(old_primary)
    try:
        await _connected(reverse, old_primary)
        await _prepared(proxy, verb)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(max_pause_ms / 1000.0):
                await proxy.fence()
                try:
                    failures = await proxy.open_lanes(proxy.primary.other)
                    await proxy.settle()
                    await _drain(controller)
                    controller.watch.missing_users = [
                        f"{each.user} (db {each.db}): {each.error}" for each in failures
                    ]
                    _refuse(verb, blockers_of_flip(controller.facts(), in_fence=True))
                except BaseException:
                    proxy.release()
                    raise
        except TimeoutError:
            raise Refused(
                "fence_timeout",
                f"what was under way did not finish in {max_pause_ms:g} ms: nothing was changed",
            ) from None
        except NotPrepared as error:
            raise Refused("not_prepared", str(error)) from error
        except (MirrorAway, ConnectionError, ReplyError) as error:
            raise Refused(f"{old_primary.other.label}_unreachable", str(error)) from error
    except BaseException:
        proxy.abandon_flip()
        await reverse.close()
        raise
    # No deadline from here, and no await: the commit is true or the process ends.
    _commit(controller, verb, reverse)
    pause_ms = (time.perf_counter() - started) * 1000.0
    controller.last_pause_ms = pause_ms
    proxy.stats.pause_seconds.observe(pause_ms / 1000.0)
    controller.events.tell(
        "phase",
        f"{verb}: the {proxy.primary.label} is the primary; clients waited {pause_ms:.1f} ms",
    )
    await proxy.learn_auth()
    await controller.after_flip()
    return pause_ms


async def _connected(reverse: Mirror, side: Side) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await reverse.connected()
    except TimeoutError:
        raise Refused(
            f"{side.label}_unreachable", f"the mirror back to the {side.label} cannot be connected"
        ) from None


async def _prepared(proxy: Proxy, verb: Verb) -> None:
    """Subscriptions, scripts and the like are ready on the other side."""
    try:
        async with asyncio.timeout(PREPARE_TIMEOUT_S):
            problems = await proxy.prepare_flip()
    except (TimeoutError, ConnectionError) as error:
        problems = [str(error) or f"the {proxy.primary.other.label} gives no answer"]
    _refuse(verb, [Blocker("not_prepared", each) for each in problems])


async def _drain(controller: Controller) -> None:
    """Everything that was answered is on the other side, and every key is proven."""
    copying = controller.copying
    mirror = controller.proxy.mirror
    assert copying is not None
    assert mirror is not None
    await mirror.applied()
    await copying.feeds_drained()
    await copying.repair.settle()


def _commit(controller: Controller, verb: Verb, reverse: Mirror) -> None:
    proxy = controller.proxy
    migration = controller.state.migration
    to = proxy.primary.other
    phase = RULES[verb].leads_to
    assert phase is not None
    # Reads follow the primary; a shift sends some of them to the other side again.
    read_percent = 100 if to is Side.TARGET else 0
    try:
        controller.state.flip(to, phase, migration.epoch + 1, read_percent)
    except BaseException:
        controller.end_the_process()
        raise
    old = proxy.mirror
    proxy.flip(to, reverse, read_percent)
    proxy.release()
    if old is not None:
        controller.close_later(old)
