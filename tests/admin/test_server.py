"""The admin API over HTTP: routes, JSON, status codes, who may ask."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from migrator.admin import AdminServer
from migrator.admin.controller import Controller
from migrator.errors import BadInput, ListenError, Refused
from tests.admin.controllers import REFUSAL, RememberingController

TOKEN = "t0ken"


@pytest.fixture
def controller() -> RememberingController:
    return RememberingController()


@pytest.fixture
async def server(controller: Controller) -> AsyncIterator[AdminServer]:
    registry = CollectorRegistry()
    Gauge("keyferry_clients", "Connections.", registry=registry).set(3)
    server = AdminServer(controller, "127.0.0.1", 0, registry=registry, status_seconds=0.05)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http(server: AdminServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


@pytest.fixture
async def guarded(controller: Controller) -> AsyncIterator[AdminServer]:
    server = AdminServer(controller, "127.0.0.1", 0, TOKEN)
    await server.start()
    yield server
    await server.stop()


async def answer(
    http: aiohttp.ClientSession, method: str, path: str, **more: Any
) -> tuple[int, dict[str, Any]]:
    async with http.request(method, path, **more) as response:
        return response.status, await response.json()


async def test_status_is_the_controllers(http: aiohttp.ClientSession) -> None:
    code, status = await answer(http, "GET", "/v1/status")
    assert code == 200
    assert status == RememberingController().now


@pytest.mark.parametrize(
    ("verb", "body", "call"),
    [
        ("analyze", None, ("analyze",)),
        ("start", None, ("start", [])),
        ("start", {"allow": ["eviction", "modules"]}, ("start", ["eviction", "modules"])),
        ("verify", {}, ("verify", None, False)),
        ("verify", {"sample": 100, "repair": True}, ("verify", 100, True)),
        ("verify", {"sample": None}, ("verify", None, False)),
        ("shift", {"percent": 10}, ("shift", 10)),
        ("cutover", None, ("cutover", False, 1000.0)),
        ("cutover", {"dry_run": True, "max_pause_ms": 250}, ("cutover", True, 250.0)),
        ("cutover", {"max_pause": "1.5s"}, ("cutover", False, 1500.0)),
        ("rollback", {"max_pause_ms": 0.5}, ("rollback", False, 0.5)),
        ("finish", {}, ("finish",)),
        ("cancel", None, ("cancel",)),
    ],
)
async def test_a_verb_reaches_the_controller_with_its_options(
    http: aiohttp.ClientSession, controller: RememberingController, verb: str, body: Any, call: Any
) -> None:
    code, _ = await answer(http, "POST", f"/v1/{verb}", json=body if body is not None else None)
    assert code == 200
    assert controller.calls == [call]


async def test_a_verb_answers_the_state_before_and_after(http: aiohttp.ClientSession) -> None:
    _, seen = await answer(http, "POST", "/v1/shift", json={"percent": 50})
    assert seen["before"] == {"phase": "idle", "primary": "source", "read_percent": 0}
    assert seen["after"] == {"phase": "idle", "primary": "source", "read_percent": 50}


@pytest.mark.parametrize(
    ("verb", "body", "message"),
    [
        ("shift", "", "percent: a whole number"),
        ("shift", "{nonsense", "not JSON"),
        ("shift", "[1]", "must be a JSON object"),
        ("shift", '{"percent": 101}', "from 0 to 100"),
        ("shift", '{"percent": true}', "from 0 to 100"),
        ("shift", '{"percent": 1.5}', "from 0 to 100"),
        ("shift", '{"percent": 1, "perzent": 1}', "unknown option: perzent"),
        ("start", '{"allow": "eviction"}', "allow: a list of names"),
        ("verify", '{"sample": 0}', "sample: a whole number from 1 up"),
        ("verify", '{"repair": 1}', "repair: true or false"),
        ("cutover", '{"max_pause_ms": 0}', "max_pause_ms: a number above 0"),
        ("cutover", '{"max_pause_ms": 1e999}', "max_pause_ms: a number above 0"),
        ("cutover", '{"max_pause_ms": NaN}', "max_pause_ms: a number above 0"),
        ("cutover", '{"max_pause": "soon"}', "'soon' is not a duration"),
        ("cutover", '{"max_pause": "1s", "max_pause_ms": 1}', "given as well"),
        ("finish", '{"now": true}', "unknown option: now"),
    ],
)
async def test_bad_input_is_400_and_reaches_nobody(
    http: aiohttp.ClientSession,
    controller: RememberingController,
    verb: str,
    body: str,
    message: str,
) -> None:
    code, seen = await answer(http, "POST", f"/v1/{verb}", data=body)
    assert code == 400
    assert seen["error"] == "bad_input"
    assert message in seen["message"]
    assert seen["blockers"] == []
    assert controller.calls == []


async def test_a_refusal_is_409_with_its_blockers(
    http: aiohttp.ClientSession, controller: RememberingController
) -> None:
    controller.failure = REFUSAL
    code, seen = await answer(http, "POST", "/v1/cutover")
    assert code == 409
    assert seen == {
        "error": "gates_closed",
        "message": "the cutover is refused",
        "blockers": [
            {"name": "not_verified", "message": "no verification has covered everything"},
            {"name": "unproven_keys", "message": "12 keys await a copy"},
        ],
    }


@pytest.mark.parametrize(
    ("failure", "code", "name"),
    [
        (Refused("illegal_step", "cutover needs phase mirroring"), 409, "illegal_step"),
        (BadInput("allow: there is no finding called x"), 400, "bad_input"),
        (RuntimeError("secret detail"), 500, "internal"),
    ],
)
async def test_what_the_controller_raises_is_told_as_json(
    http: aiohttp.ClientSession,
    controller: RememberingController,
    failure: Exception,
    code: int,
    name: str,
) -> None:
    controller.failure = failure
    seen_code, seen = await answer(http, "POST", "/v1/finish")
    assert (seen_code, seen["error"]) == (code, name)
    assert "secret" not in seen["message"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/cutover", 405), ("POST", "/v1/status", 405)],
)
async def test_wrong_paths_are_told_as_json(
    http: aiohttp.ClientSession, method: str, path: str, code: int
) -> None:
    seen_code, seen = await answer(http, method, path)
    assert seen_code == code
    assert set(seen) == {"error", "message", "blockers"}


async def test_health_is_of_the_process_and_readiness_of_the_service(
    http: aiohttp.ClientSession, controller: RememberingController
) -> None:
    assert (await answer(http, "GET", "/healthz"))[0] == 200
    assert (await answer(http, "GET", "/readyz"))[0] == 200
    controller.ready = False
    assert (await answer(http, "GET", "/healthz"))[0] == 200
    assert (await answer(http, "GET", "/readyz"))[0] == 503


async def test_metrics_are_the_registrys(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as response:
        assert response.content_type == "text/plain"
        assert "keyferry_clients 3.0" in await response.text()


async def test_the_dashboard_needs_nothing_from_elsewhere(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as response:
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        page = await response.text()
    assert "Keyferry" in page
    # The icon's namespace is a name, not an address that is asked.
    addresses = page.replace("http://www.w3.org/2000/svg", "")
    assert "http" not in addresses
    assert "src=" not in addresses


async def read_event(response: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    block = (await response.content.readuntil(b"\n\n")).decode()
    kind, data = block.strip().split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_events_begin_with_the_status_and_go_on(
    http: aiohttp.ClientSession, controller: RememberingController
) -> None:
    async with asyncio.timeout(5), http.get("/v1/events") as response:
        assert response.content_type == "text/event-stream"
        kind, status = await read_event(response)
        assert (kind, status["phase"]) == ("status", "idle")

        controller.events.put_nowait({"event": "phase", "message": "copying"})
        while (event := await read_event(response))[0] == "status":
            pass
        assert event == ("phase", {"event": "phase", "message": "copying"})

        controller.now["phase"] = "copying"
        controller.polls_until_done = 1000
        while (await read_event(response))[1]["phase"] != "copying":
            pass


async def test_a_reader_that_goes_away_is_forgotten(
    http: aiohttp.ClientSession, controller: RememberingController
) -> None:
    async with asyncio.timeout(5):
        async with http.get("/v1/events"):
            await controller.subscribed.wait()
            assert not controller.unsubscribed.is_set()
        await controller.unsubscribed.wait()


async def test_a_stop_does_not_wait_for_readers_of_events(
    server: AdminServer, http: aiohttp.ClientSession
) -> None:
    async with http.get("/v1/events") as response:
        await read_event(response)
        async with asyncio.timeout(2):
            await server.stop()


async def test_with_a_token_nothing_is_told_without_it(guarded: AdminServer) -> None:
    async with aiohttp.ClientSession(guarded.url) as http:
        for method, path in (
            ("GET", "/v1/status"),
            ("GET", "/v1/events"),
            ("GET", "/metrics"),
            ("POST", "/v1/cutover"),
        ):
            code, seen = await answer(http, method, path)
            assert (code, seen["error"]) == (401, "unauthorized")
            headers = {"Authorization": "Bearer wrong"}
            assert (await answer(http, method, path, headers=headers))[0] == 401
        for path in ("/healthz", "/readyz", "/"):
            async with http.get(path) as response:
                assert response.status == 200
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await answer(http, "GET", "/v1/status", headers=headers))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example:9400"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
async def test_a_page_of_another_site_cannot_cut_over(
    http: aiohttp.ClientSession, controller: RememberingController, headers: dict[str, str]
) -> None:
    code, seen = await answer(http, "POST", "/v1/cutover", headers=headers)
    assert (code, seen["error"]) == (403, "forbidden")
    assert controller.calls == []


@pytest.mark.parametrize("host", ["localhost:9400", "127.0.0.1", "[::1]:9400", "127.8.8.8:1"])
async def test_this_machines_own_names_are_welcome(http: aiohttp.ClientSession, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert (await answer(http, "GET", "/v1/status", headers=headers))[0] == 200


async def test_a_port_in_use_is_a_clear_error(
    server: AdminServer, controller: RememberingController
) -> None:
    with pytest.raises(ListenError, match=rf"--admin: 127.0.0.1:{server.port}: .*in use"):
        await AdminServer(controller, "127.0.0.1", server.port).start()
