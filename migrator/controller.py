"""Performs the steps of a migration: the verbs, one at a time.

Owns what happens in which order when a verb is given, and makes it durable. Which
verb is legal is in ``phases``, what must be true for a flip in ``gates``, what it
tells in ``status``; the copying itself is in ``copying``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

from migrator import analysis, feed, flip, marker, restart
from migrator.bulk import ReplyError
from migrator.compatibility import learn_commands
from migrator.config import Settings
from migrator.copying import Copying
from migrator.errors import BadInput, Blocker, Refused
from migrator.events import Events
from migrator.finding import Finding
from migrator.gates import Facts
from migrator.markers import Markers
from migrator.pace import Pace
from migrator.phases import Phase, Verb, check
from migrator.state import Backfill as Position
from migrator.state import State
from migrator.state import Verification as Verified
from migrator.status import status_of
from migrator.stores import Store, StoreUnreachable
from migrator.throttle import Level, Nice
from migrator.verify import Verification, VerificationAborted
from migrator.watch import Watch
from proxy.mirror import Mirror
from proxy.server import Proxy
from proxy.sides import Side

log = logging.getLogger("keyferry.controller")

Json = dict[str, Any]
CONNECT_TIMEOUT_S = 5.0
MIRRORED = (Phase.COPYING, Phase.MIRRORING, Phase.CUTOVER)


class Controller:
    """See the module's docstring; implements ``admin.controller.Controller``."""

    def __init__(
        self, settings: Settings, state: State, stores: tuple[Store, Store], proxy: Proxy
    ) -> None:
        self.settings = settings
        self.state = state
        self.stores = stores
        self.proxy = proxy
        self.events = Events()
        migration = state.migration
        is_asked = migration.nice is not None and migration.nice_settings == settings.nice
        # What was asked for while it ran holds, until the operator changes the settings.
        nice = migration.nice if is_asked and migration.nice else settings.nice
        self.pace = Pace(proxy, stores, nice)
        self.copying: Copying | None = None
        self.verification: Verification | None = None
        # Why the last one ended without a verdict.
        self.verification_error: str | None = None
        self.watch = Watch(proxy, stores, self._on_look, self._on_writers, self.check_feeds)
        self.last_pause_ms: float | None = None
        self.is_serving = False
        self._gaps = 0
        self._verify_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._verbs = asyncio.Lock()
        self.markers = Markers(proxy, stores, state, self._spawn)
        proxy.on_unknown_writes = self._on_unknown_writes

    # -- life --------------------------------------------------------------------

    async def resume(self) -> None:
        """Go on where the state says; before clients are let in. Raises nothing of a store's."""
        async with self._verbs:
            await restart.resume(self)
        self.watch.start()

    async def stop(self) -> None:
        """An orderly end: what is not proven is written down, the rest is known to be equal."""
        await self.watch.stop()
        if self._verify_task is not None:
            self._verify_task.cancel()
            await asyncio.gather(self._verify_task, return_exceptions=True)
        if self.copying is not None:
            await restart.leave(self, self.copying)
        await self.proxy.close()
        for store in self.stores:
            store.close()

    async def begin(self, *, run_id: str | None = None) -> None:
        """Mirror, listen for expiries and copy: where a start and a restart are the same."""
        proxy = self.proxy
        table = proxy.table
        self.watch.begin_mirroring()
        self.pace.start(self.watch.commands_per_second)
        position = self.state.migration.backfill
        copying = self.copying = Copying(
            proxy,
            self.stores,
            self.pace,
            buffer_bytes=self.settings.mirror_buffer_bytes,
            on_gap=self._on_gap,
            on_primary_replaced=self._on_primary_replaced,
        )
        generation = table.generation
        if position.was_empty:
            copying.empty_in_generation = generation
        mirror = copying.open_mirror(proxy.primary.other, run_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await mirror.connected()
                while not all(each.is_connected for each in copying.feeds):
                    await asyncio.sleep(0.01)
        # Behind a fence: a write that was sent before the mirror began is answered
        # before the first key is read.
        await proxy.fence()
        try:
            await proxy.parking.recall()
        except BaseException:
            proxy.release()
            raise
        table.touch_everything()
        if not position.is_done:
            table.is_everything_unproven = True
        elif mirror.run_id == run_id or run_id is None:
            table.is_everything_unproven = False
        proxy.mirror = mirror
        for each in copying.feeds:
            each.expect()
        proxy.release()
        if not position.is_done and table.generation != generation:
            # The secondary turned out to be another one while we connected to it.
            self.state.update(backfill=Position())
        if not position.is_done or table.is_everything_unproven:
            self._begin_backfill()

    def _begin_backfill(self) -> None:
        assert self.copying is not None
        migration = self.state.migration
        position = migration.backfill
        before = self.copying.backfill
        is_void = before is not None and before.generation != self.proxy.table.generation
        if position.is_done or is_void:
            position = Position()
            phase = Phase.COPYING if migration.phase is Phase.MIRRORING else migration.phase
            self.state.update(phase=phase, backfill=position)
            self.make_stale()
        self.copying.begin_backfill(
            position,
            self._save_position,
            workers=self.settings.backfill_workers,
            done=self._backfill_done,
        )
        self.events.tell("backfill", "the backfill runs")

    def _save_position(self, position: Position) -> None:
        self.state.update(backfill=position)

    def _backfill_done(self) -> None:
        if self.state.migration.phase is Phase.COPYING:
            self.state.update(phase=Phase.MIRRORING)
        self._spawn(self.markers.write(), "markers")
        self.events.tell("backfill", "the backfill is complete")

    # -- what is watched -----------------------------------------------------------

    def _on_gap(self) -> None:
        self._gaps += 1
        self.make_stale()

    def _on_primary_replaced(self) -> None:
        """It may have lost what the other side has: until that is known no read goes there."""
        percent = 100 if self.proxy.primary is Side.TARGET else 0
        last = self.state.migration.verification or Verified(False, False, 0, 0, time.time())
        self.state.update(read_percent=percent, verification=replace(last, stale=True))
        self.proxy.shift(percent)
        self._gaps += 1

    def _on_unknown_writes(self) -> None:
        """A script wrote keys that nobody could name or see: no read goes to the secondary."""
        self._gaps += 1
        percent = 100 if self.proxy.primary is Side.TARGET else 0
        if self.proxy.read_percent != percent:
            self.state.update(read_percent=percent)
            self.proxy.shift(percent)
        self.make_stale()

    def make_stale(self) -> None:
        """What was verified may not be true any more."""
        last = self.state.migration.verification
        if last is not None and not last.stale:
            self.state.update(verification=replace(last, stale=True))
            self.events.tell("verify", "the last verification is stale")

    def _on_writers(self) -> None:
        """Somebody has written past the proxy: what was compared before may differ now."""
        if "other_clients" not in self.state.migration.waivers:
            self.make_stale()

    async def check_feeds(self) -> None:
        """Whether both stores still tell of expiries. Raises ConnectionError."""
        if self.copying is not None:
            for each in self.copying.feeds:
                try:
                    await each.check()
                except feed.EventsRefused:
                    self._on_gap()

    def _on_look(self) -> None:
        """Once a second: is there a need to copy everything again?"""
        copying = self.copying
        needs = copying is not None and self.proxy.table.is_everything_unproven
        if needs and copying is not None and not copying.is_backfilling:
            self._begin_backfill()

    def facts(self) -> Facts:
        migration = self.state.migration
        proxy = self.proxy
        mirror, copying = proxy.mirror, self.copying
        return Facts(
            phase=migration.phase,
            primary=proxy.primary,
            backfill_done=migration.backfill.is_done and not proxy.table.is_everything_unproven,
            verification=migration.verification,
            unproven_keys=len(proxy.table.unproven),
            failing=list(copying.repair.failing.values()) if copying else (),
            mirror_connected=mirror is not None and mirror.is_connected,
            mirror_refusal=mirror.refusal if mirror is not None else None,
            mirror_lag_ms=mirror.lag_ms if mirror is not None else 0.0,
            max_lag_ms=self.settings.max_lag_ms,
            feeds_connected=copying is not None
            and all(each.is_connected for each in copying.feeds),
            missing_users=self.watch.missing_users,
            warnings=[
                (each.name, each.message)
                for each in self.watch.warnings
                if each.severity == "warning" and each.name not in migration.waivers
            ],
        )

    def status(self) -> Json:
        return status_of(self)

    def is_ready(self) -> bool:
        return self.is_serving and self.stores[self.proxy.primary].is_reachable

    def subscribe(self) -> AsyncIterator[Json]:
        return self.events.subscribe()

    def point(self) -> Json:
        """Where the migration is, as verbs print it before and after."""
        return {
            "phase": str(self.state.migration.phase),
            "primary": self.proxy.primary.label,
            "read_percent": self.proxy.read_percent,
        }

    # -- verbs ---------------------------------------------------------------------

    async def _look(self) -> list[Finding]:
        proxy = self.proxy
        return await analysis.analyze(
            *self.stores, proxy.commands, self.watch.is_write, len(proxy.scripting.scripts)
        )

    async def analyze(self) -> Json:
        found = await self._look()
        waived = self.state.migration.waivers
        return {
            "findings": [
                {
                    "name": each.name,
                    "severity": each.severity,
                    "message": each.message,
                    "waived": each.name in waived,
                }
                for each in found
            ]
        }

    async def start(self, allow: list[str]) -> Json:
        async with self._verbs:
            before = self.point()
            if check(Verb.START, self.state.migration.phase):
                await self._start(frozenset(allow))
            elif allow:
                waivers = self.state.migration.waivers | frozenset(allow)
                self.state.update(waivers=waivers)
            return {"before": before, "after": self.point()}

    async def _start(self, allow: frozenset[str]) -> None:
        # A store may have been away when the process began, or have been upgraded since.
        await learn_commands(self.proxy.commands, self.stores)
        found = await self._look()
        blocking = [
            Blocker(each.name, each.message)
            for each in found
            if each.severity == "blocker"
            and (each.name not in allow or each.name in analysis.NEVER_WAIVED)
        ]
        if blocking:
            raise Refused("analysis", "the analysis found what would break it", blocking)
        source, target = self.stores
        of_source: str | None = None
        try:
            of_source = await feed.switch_on(source)
            flags = (of_source, await feed.switch_on(target))
        except (feed.EventsRefused, StoreUnreachable) as error:
            if of_source is not None:
                await feed.switch_back(source, of_source)
            raise Refused("expiry_events", str(error)) from error
        self.state.update(
            phase=Phase.COPYING,
            backfill=Position(was_empty=self.stores[Side.TARGET].info.keys == 0),
            verification=None,
            read_percent=0,
            waivers=allow,
            notify_events=flags,
        )
        self.state.mark_running()
        await self.markers.write()
        await self.begin()
        self.events.tell("phase", "copying: mirror and backfill have begun")

    async def verify(self, sample: int | None, repair: bool) -> Json:
        if sample is not None and sample < 1:
            raise BadInput("sample must be a positive number of keys")
        async with self._verbs:
            before = self.point()
            check(Verb.VERIFY, self.state.migration.phase)
            if self.proxy.table.is_everything_unproven:
                raise Refused("backfill_incomplete", "not every key has been copied yet")
            if self._verify_task is None or self._verify_task.done():
                assert self.copying is not None
                copying = self.copying
                self.verification_error = None
                self.verification = Verification(
                    self.proxy,
                    self.stores,
                    copying.feeds,
                    copying.mover,
                    self.pace,
                    sample=sample,
                    repair=repair,
                )
                self._verify_task = asyncio.create_task(
                    self._verify(self.verification), name="verify"
                )
            return {"before": before, "after": self.point()}

    async def _verify(self, verification: Verification) -> None:
        gaps, generation = self._gaps, self.proxy.table.generation
        try:
            passed = await verification.run()
        except VerificationAborted as error:
            self.events.tell("verify", f"the verification was aborted: {error}")
            self.verification_error = str(error)
            self.verification = None
            return
        progress = verification.progress
        is_stale = gaps != self._gaps or generation != self.proxy.table.generation
        self.state.update(
            verification=Verified(
                passed=passed,
                covered_all=verification.sample is None,
                checked=progress.keys_checked,
                mismatches=progress.mismatches,
                finished_at=time.time(),
                stale=is_stale,
            )
        )
        for example in progress.examples:
            log.warning("differs: %s", example)
        word = "passed" if passed else f"found {progress.mismatches} keys that differ"
        self.events.tell("verify", f"the verification of {progress.keys_checked} keys {word}")

    @property
    def is_verifying(self) -> bool:
        return self._verify_task is not None and not self._verify_task.done()

    async def shift(self, percent: int) -> Json:
        if not 0 <= percent <= 100:
            raise BadInput("percent must be from 0 to 100")
        async with self._verbs:
            before = self.point()
            check(Verb.SHIFT, self.state.migration.phase)
            if self.proxy.table.is_everything_unproven and percent:
                raise Refused("backfill_incomplete", "not every key has been copied yet")
            last = self.state.migration.verification
            if percent and last is not None and (last.stale or not last.passed):
                problem = "is stale" if last.stale else "found keys that differ"
                raise Refused("not_verified", f"the last verification {problem}: verify again")
            self.state.update(read_percent=percent)
            self.proxy.shift(percent)
            self.events.tell("shift", f"{percent} % of the reads go to the target")
            return {"before": before, "after": self.point()}

    async def cutover(self, dry_run: bool, max_pause_ms: float) -> Json:
        async with self._verbs:
            return await flip.flip(self, Verb.CUTOVER, dry_run, max_pause_ms)

    async def rollback(self, dry_run: bool, max_pause_ms: float) -> Json:
        async with self._verbs:
            return await flip.flip(self, Verb.ROLLBACK, dry_run, max_pause_ms)

    async def nice(self, level: str | None, keys_per_second: int | None) -> Json:
        """Waits for no other verb: it is needed while one of them takes too long."""
        now = self.pace.throttle.nice
        limit = now.keys_per_second if keys_per_second is None else keys_per_second or None
        wanted = Nice(now.level if level is None else Level(level), limit)
        self.state.update(nice=wanted, nice_settings=self.settings.nice)
        self.pace.ask(wanted)
        if wanted != now:
            self.events.tell("nice", f"nice is {wanted} now")
        return {
            "before": self.point() | {"nice": now.as_json()},
            "after": self.point() | {"nice": wanted.as_json()},
        }

    async def finish(self) -> Json:
        async with self._verbs:
            before = self.point()
            if check(Verb.FINISH, self.state.migration.phase):
                await self._end_mirroring(Phase.FINISHED, 100)
                self.events.tell("phase", "finished: the source may be retired")
            return {"before": before, "after": self.point()}

    async def cancel(self) -> Json:
        async with self._verbs:
            before = self.point()
            if check(Verb.CANCEL, self.state.migration.phase):
                await self._end_mirroring(Phase.IDLE, 0)
                self.events.tell("phase", "idle: mirror and backfill have ended")
            return {"before": before, "after": self.point()}

    async def _end_mirroring(self, phase: Phase, read_percent: int) -> None:
        if self._verify_task is not None:
            self._verify_task.cancel()
        self.verification_error = None
        flags = self.state.migration.notify_events
        # Nobody may begin anything on what is being ended.
        copying, self.copying = self.copying, None
        self.state.update(
            phase=phase, read_percent=read_percent, verification=None, notify_events=(None, None)
        )
        mirror, self.proxy.mirror = self.proxy.mirror, None
        self.proxy.shift(read_percent)
        self.proxy.parking.unmirrored()
        assert copying is not None
        await copying.stop()
        if mirror is not None:
            await mirror.close()
        self.proxy.table.mark_everything_unproven()
        self.proxy.close_idle_lanes(self.proxy.primary.other)
        self.watch.begin_mirroring()
        for store, before in zip(self.stores, flags, strict=True):
            if before is not None:
                await feed.switch_back(store, before)
        await self._retire_markers(phase)

    async def _retire_markers(self, phase: Phase) -> None:
        for store in self.stores:
            with contextlib.suppress(StoreUnreachable, ReplyError, ConnectionError):
                bulk = await store.connection("admin")
                if phase is Phase.FINISHED and store.side is Side.SOURCE:
                    await marker.write(bulk, marker.of(self.state.migration, store.side))
                else:
                    await marker.remove(bulk, self.state.migration.migration_id)

    async def after_flip(self) -> None:
        """What follows a flip and may take its time: the markers' epoch."""
        self.watch.begin_mirroring()
        await self.markers.write()

    def close_later(self, mirror: Mirror) -> None:
        """End a mirror that has nothing left to say."""
        self._spawn(mirror.close(), "close the old mirror")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end_the_process(self) -> None:
        """A commit whose outcome is unknown: only a restart can read what is true."""
        log.critical("the commit of the flip failed: the process ends, and the next one reads it")
        logging.shutdown()
        os._exit(70)
