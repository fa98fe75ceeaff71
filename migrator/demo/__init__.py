"""`keyferry demo`: a whole migration on real servers of its own, under checked traffic."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from migrator.demo.migration import Demo
from migrator.demo.show import Show
from migrator.errors import KeyferryError
from migrator.servers import ServerError

try:
    import uvloop
except ImportError:  # no wheel for this platform
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

__all__ = ["run"]


def run(*, keys: int, seconds: int | None, serve: bool, as_json: bool) -> int:
    """The exit code: 0, or 1 if anything was lost. Raises KeyferryError: it cannot begin."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_run(keys, seconds, serve, as_json))


async def _run(keys: int, seconds: int | None, serve: bool, as_json: bool) -> int:
    # A terminated demo must not leave its servers behind: it ends as with Ctrl-C.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    show = Show(as_json)
    demo = Demo(show, keys, seconds)
    try:
        async with demo.running() as (instance, application):
            with show:
                show.say(f"dashboard: {instance.admin.url}/")
                await demo.migrate(instance, application)
            show.result(demo.result)
            if serve:
                application.start()
                show.say(f"Serving on {instance.admin.url}/ until Ctrl-C.")
                await asyncio.Event().wait()
    except ServerError as error:
        raise KeyferryError(str(error)) from error
    except asyncio.CancelledError:
        if not serve:
            raise
    return 0 if demo.result.is_good else 1
