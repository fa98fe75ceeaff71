"""``keyferry run``: the long-running process, from its settings to its end.

Owns the order of start and stop: state and its lock first, clients last; and the
other way round at the end.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable

from migrator import marker
from migrator.admin import AdminServer
from migrator.bulk import ReplyError
from migrator.compatibility import learn_commands
from migrator.config import Settings
from migrator.controller import Controller
from migrator.errors import KeyferryError, ListenError, MarkerError
from migrator.openfiles import room_for_clients
from migrator.phases import Phase
from migrator.state import Migration, State
from migrator.status import readings_of
from migrator.stores import Store, StoreUnreachable
from proxy import compiled
from proxy.commands import CommandTable
from proxy.metrics import registry
from proxy.server import Proxy
from proxy.sides import Side

try:
    import uvloop
except ImportError:  # no wheel for this platform
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

log = logging.getLogger("keyferry")


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Raises KeyferryError, with nothing started."""
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    spare_the_collector()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(settings))
    return 0


def spare_the_collector() -> None:
    """Let the cyclic collector look less often.

    What a command allocates goes by its reference counts; looking for cycles at every 700
    objects that are under way took a fifth of the time of a pipelined SET.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _run(settings: Settings) -> None:
    state = State.open(settings.state)
    try:
        migration = state.claim(settings.source.address, settings.target.address)
        stores = (Store(Side.SOURCE, settings.source), Store(Side.TARGET, settings.target))
        if settings.source.db != settings.target.db:
            raise KeyferryError("--target: both URLs must name the same database")
        await _look_at_stores(state, migration, stores)
        await _serve(settings, state, migration, stores)
    finally:
        state.close()


async def _look_at_stores(state: State, migration: Migration, stores: tuple[Store, Store]) -> None:
    """The primary must be there, and the markers must be ours. Raises KeyferryError."""
    primary, secondary = stores[migration.primary], stores[migration.primary.other]
    markers: list[marker.Marker | None] = [None, None]
    try:
        await primary.refresh()
        markers[primary.side] = await marker.read(await primary.connection("admin"))
    except (StoreUnreachable, ReplyError) as error:
        raise KeyferryError(f"--{primary.side.label}: {error}") from error
    if migration.phase is not Phase.FINISHED:
        try:
            await secondary.refresh()
            markers[secondary.side] = await marker.read(await secondary.connection("admin"))
        except (StoreUnreachable, ReplyError) as error:
            log.warning("--%s: %s", secondary.side.label, error)
    try:
        marker.check(None if state.is_new else migration, markers[0], markers[1])
    except MarkerError as error:
        raise MarkerError(f"--state {state.directory}: {error}") from error


async def command_table(settings: Settings, stores: tuple[Store, Store]) -> CommandTable:
    """All commands that one of the stores knows, and those that are allowed by name.

    The stores were looked at before: one that cannot be reached brings nothing.
    """
    commands = CommandTable(in_cluster=any(store.info.is_cluster for store in stores))
    for name in settings.allow_commands:
        commands.allow(name)
    await learn_commands(commands, stores)
    if settings.allow_commands:
        log.warning("allowed, and refused otherwise: %s", ", ".join(settings.allow_commands))
    for problem in commands.not_found.values():
        log.warning("--allow-commands: %s", problem)
    return commands


async def _serve(
    settings: Settings, state: State, migration: Migration, stores: tuple[Store, Store]
) -> None:
    commands = await command_table(settings, stores)
    proxy = Proxy(
        (settings.source, settings.target),
        commands,
        primary=migration.primary,
        max_clients=room_for_clients(settings.max_clients),
        client_output_limit=settings.client_output_limit,
        clients_memory_limit=settings.clients_memory_limit,
        unproven_limit=settings.unproven_limit,
        tag=migration.migration_id,
        busy_poll_s=settings.busy_poll_ms / 1000,
    )
    controller = Controller(settings, state, stores, proxy)
    admin = AdminServer(
        controller,
        settings.admin.host,
        settings.admin.port,
        settings.admin_token,
        registry=registry(proxy.stats, lambda: readings_of(controller)),
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await admin.start()
        await controller.resume()
        try:
            port = await proxy.listen(settings.listen.host, settings.listen.port, settings.tls)
        except OSError as error:
            raise ListenError("--listen", f"{settings.listen}: {error.strerror}") from error
        controller.is_serving = True
        form = compiled.form() + ("" if compiled.is_compiled() else " (slower)")
        log.info(
            "serving on %s:%d%s, admin on %s, phase %s, primary %s; hot path: %s",
            settings.listen.host, port, " with TLS" if settings.tls else "", settings.admin,
            migration.phase, migration.primary.label, form,
        )  # fmt: skip
        await stopped.wait()
        log.info("stopping")
    finally:
        controller.is_serving = False
        await admin.stop()
        await controller.stop()
