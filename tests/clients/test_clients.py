"""Real clients, all at once, through three flips: no error and no wrong reply.

What each does, and how it knows what is right, is in the programs of this folder; every feature
of every client makes progress before, between and behind the flips, or its client has failed.
"""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs import GROUPS, Client, Running, Unavailable
from tests.integration.keyferry import Process, differences
from tests.servers import DEFAULT_PAIR, ServerPool

# All of them, with the time to fetch the clients on a new machine.
pytestmark = pytest.mark.timeout(600)

# Rounds of each feature between two flips.
ROUNDS = 3
# A small machine that has other things to do takes long; nothing waits for it otherwise.
DEADLINE_S = 90.0
FLIPS = ("cutover", "rollback", "cutover")


@dataclass
class Outcome:
    """What was seen in one migration with all clients that could be had."""

    unavailable: dict[str, str] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    done: dict[str, dict[str, int]] = field(default_factory=dict)
    verified: list[dict[str, Any]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    client_errors: dict[str, float] = field(default_factory=dict)


def features(client: Client) -> list[str]:
    return list(client.features)


async def progress(clients: list[Running], outcome: Outcome) -> None:
    """Every feature does some rounds, or its client has failed."""
    before = {running: running.done for running in clients}

    def missing() -> list[tuple[Running, str]]:
        return [
            (running, feature)
            for running, counts in before.items()
            if not running.failures and not outcome.failures[running.client.name]
            for feature in counts
            if running.done[feature] < counts[feature] + ROUNDS
        ]

    ends = asyncio.get_running_loop().time() + DEADLINE_S
    while late := missing():
        if asyncio.get_running_loop().time() > ends:
            for running, feature in late:
                outcome.failures[running.client.name].append(f"{feature} stands still")
            return
        await asyncio.sleep(0.05)


def client_errors(process: Process) -> dict[str, float]:
    """The proxy's own count of the clients that it closed, by reason."""
    with urllib.request.urlopen(f"http://127.0.0.1:{process.admin_port}/metrics") as response:
        text = response.read().decode()
    found = re.findall(r'^keyferry_client_errors_total{reason="(\w+)"} (\S+)$', text, re.MULTILINE)
    # Refused commands are the clients' own to judge: some ask for what no store has, and go on.
    return {reason: float(count) for reason, count in found if reason != "refused"}


async def migrate(process: Process, available: list[Client], logs: Path) -> Outcome:
    """From idle through three flips, with all clients at work."""
    outcome = Outcome()
    await process.start()
    clients = []
    for client in available:
        outcome.failures[client.name] = []
        log = logs / f"{client.name}.log"
        clients.append(await Running.start(client, process.port, features(client), log))
    try:
        # Together: who is up first would only be in the way of those that are slow to start.
        async with asyncio.timeout(DEADLINE_S):
            for running in clients:
                await running.is_ready.wait()
        for running in clients:
            running.begin()
        await progress(clients, outcome)
        await process.verb("start")
        await process.until(lambda s: s["backfill"]["done"], "everything is copied", DEADLINE_S)
        # Beside 350 clients the plain form is at its limit.
        outcome.verified.append((await process.verify(deadline_s=3 * DEADLINE_S))["verify"])
        for verb in FLIPS:
            await process.flip(verb, DEADLINE_S)
            await progress(clients, outcome)
    finally:
        for running in clients:
            running.stop()
        for running in clients:
            await running.ended(DEADLINE_S)
    for running in clients:
        outcome.failures[running.client.name] += running.failures
        outcome.done[running.client.name] = running.done
    await process.proven()
    outcome.verified.append((await process.verify(deadline_s=DEADLINE_S))["verify"])
    outcome.differences = await differences(process.source, process.target)
    outcome.client_errors = client_errors(process)
    await process.terminate()
    return outcome


def had(clients: list[Client]) -> dict[str, str]:
    """Why some cannot be had, by name; the others are ready to be started."""
    unavailable = {}

    def install(client: Client) -> None:
        try:
            client.command()
        except Unavailable as error:
            unavailable[client.name] = str(error)

    with ThreadPoolExecutor() as pool:
        list(pool.map(install, clients))
    return unavailable


@pytest.fixture(scope="module", params=GROUPS)
def outcome(
    request: pytest.FixtureRequest,
    server_pool: ServerPool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcome]:
    """Of the group's clients whose tests will run: -k saves the others' time."""
    specs = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    names = {str(spec.params.get("client")) for spec in specs}
    wanted = [client for client in GROUPS[request.param] if client.name in names]
    unavailable = had(wanted)
    available = [client for client in wanted if client.name not in unavailable]
    logs = tmp_path_factory.mktemp("clients")
    source, target = server_pool.take(DEFAULT_PAIR.source), server_pool.take(DEFAULT_PAIR.target)
    process = Process(source, target, logs / "state")
    try:
        outcome = asyncio.run(migrate(process, available, logs))
        outcome.unavailable = unavailable
        yield outcome
    finally:
        asyncio.run(process.close())
        server_pool.give_back(source)
        server_pool.give_back(target)


@pytest.mark.parametrize(
    ("outcome", "client"),
    [pytest.param(g, c, id=c.name) for g, clients in GROUPS.items() for c in clients],
    indirect=["outcome"],
    scope="module",
)
def test_three_flips_without_an_error_or_a_wrong_reply(outcome: Outcome, client: Client) -> None:
    if client.name in outcome.unavailable:
        pytest.skip(f"{client}: {outcome.unavailable[client.name]}")
    assert outcome.failures[client.name] == []
    assert set(features(client)) <= outcome.done[client.name].keys()


def test_both_stores_are_equal_in_the_end(outcome: Outcome) -> None:
    assert [verify["mismatches"] for verify in outcome.verified] == [0, 0]
    assert outcome.differences == []


def test_the_proxy_has_closed_no_client(outcome: Outcome) -> None:
    assert not any(outcome.client_errors.values()), outcome.client_errors
