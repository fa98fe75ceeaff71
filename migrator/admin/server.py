"""The admin HTTP server: routes, JSON, who may ask. Decides nothing about the migration.

Options are checked by body.py, whether a step is legal by the controller. A browser is kept from
acting for other sites: a page's Origin must be ours, and without a token the Host must be this
machine's own name (else a foreign name could be made to lead here).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib import resources
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from yarl import URL

from migrator.admin.body import Body
from migrator.admin.controller import Controller, Json
from migrator.errors import BadInput, ListenError, Refused
from migrator.throttle import Level

log = logging.getLogger("keyferry.admin")

STATUS_SECONDS = 1.0
# A verb reads its options from the body, and gives the step to do once all of them are known.
Reading = Callable[[Body], Callable[[], Awaitable[Json]]]

# Probes carry no secret, and the page holds none: what it shows comes over the API.
_OPEN = ("/healthz", "/readyz", "/")
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
)


class AdminServer:
    """Serves the API on host:port. With a token, all requests but probes and page must carry it."""

    def __init__(
        self,
        controller: Controller,
        host: str,
        port: int,
        token: str | None = None,
        *,
        registry: CollectorRegistry | None = None,
        status_seconds: float = STATUS_SECONDS,
    ) -> None:
        self.controller = controller
        self.host = host
        self.port = port
        self._token = token
        self._registry = registry
        self._status_seconds = status_seconds
        self._page = resources.files(__package__).joinpath("dashboard.html").read_text("utf-8")
        self._streams: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return str(URL.build(scheme="http", host=self.host, port=self.port))

    async def start(self) -> None:
        """Listens; `port` is the real one afterwards. Raises ListenError."""
        app = web.Application(middlewares=[self._guard, _errors_as_json], client_max_size=1 << 16)
        app.add_routes(self._routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            reason = error.strerror or str(error)
            raise ListenError("--admin", f"{self.host}:{self.port}: {reason}") from error
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Ends event streams at once, and waits some seconds for verbs under way."""
        for stream in tuple(self._streams):
            stream.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._dashboard),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            web.get("/v1/status", self._status),
            web.get("/v1/events", self._events),
            *(web.post(f"/v1/{verb}", _verb(read)) for verb, read in self._verbs().items()),
        ]

    def _verbs(self) -> dict[str, Reading]:
        c = self.controller
        return {
            "analyze": lambda body: c.analyze,
            "start": lambda body: partial(c.start, body.names("allow")),
            "verify": lambda body: partial(c.verify, body.count("sample"), body.flag("repair")),
            "shift": lambda body: partial(c.shift, body.percent("percent")),
            "nice": lambda body: partial(
                c.nice, body.choice("level", Level), body.limit("keys_per_second")
            ),
            "cutover": lambda body: partial(c.cutover, body.flag("dry_run"), body.max_pause_ms()),
            "rollback": lambda body: partial(c.rollback, body.flag("dry_run"), body.max_pause_ms()),
            "finish": lambda body: c.finish,
            "cancel": lambda body: c.cancel,
        }

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return _error(403, "forbidden", "a page of another site asks")
        if self._token is None:
            if not _is_loopback_host(host):
                return _error(403, "forbidden", f"{host!r} is not a name of this machine")
        elif request.path not in _OPEN:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                response = _error(401, "unauthorized", "the admin token is missing or wrong")
                response.headers["WWW-Authenticate"] = "Bearer"
                return response
        return await handler(request)

    async def _dashboard(self, request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"}
        return web.Response(text=self._page, content_type="text/html", headers=headers)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        if self.controller.is_ready():
            return web.json_response({"status": "ready"})
        return _error(503, "not_ready", "clients cannot be served now")

    async def _metrics(self, request: web.Request) -> web.Response:
        body = generate_latest(self._registry) if self._registry is not None else b""
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self.controller.status())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """`status` at once and every second; between them what the controller tells."""
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        stream = asyncio.create_task(self._stream(response), name="admin event stream")
        self._streams.add(stream)
        try:
            with suppress(asyncio.CancelledError, ConnectionError):
                await stream
        finally:
            stream.cancel()
            self._streams.discard(stream)
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        # Never cancelled half way: an event that is on its way in stays awaited while the status
        # goes out, because to cancel an iterator's step ends the iterator.
        events = aiter(self.controller.subscribe())
        coming = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                await _send_event(response, "status", self.controller.status())
                due = asyncio.get_running_loop().time() + self._status_seconds
                while (left := due - asyncio.get_running_loop().time()) > 0:
                    done, _ = await asyncio.wait({coming}, timeout=left)
                    if not done:
                        break
                    event = coming.result()
                    if event is None:
                        return
                    await _send_event(response, str(event.get("event", "event")), event)
                    coming = asyncio.ensure_future(anext(events, None))
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming
            await _close(events)


def _verb(read: Reading) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = Body.parse(await request.text())
        step = read(body)
        body.refuse_rest()
        return web.json_response(await step())

    return handle


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refusal:
        return _error(409, refusal.name, refusal.message, [b.as_json() for b in refusal.blockers])
    except BadInput as error:
        return _error(400, "bad_input", str(error))
    except web.HTTPException as error:
        name = (error.reason or "error").lower().replace(" ", "_")
        return _error(error.status, name, f"{request.method} {request.path}: {error.reason}")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _error(500, "internal", "a defect of keyferry; its log says more")


def _error(
    status: int, name: str, message: str, blockers: list[dict[str, str]] | None = None
) -> web.Response:
    body = {"error": name, "message": message, "blockers": blockers or []}
    return web.json_response(body, status=status)


def _is_loopback_host(host: str) -> bool:
    try:
        name = URL(f"http://{host}").host
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


async def _send_event(response: web.StreamResponse, kind: str, data: Json) -> None:
    await response.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())


async def _close(events: AsyncIterator[Json]) -> None:
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()
