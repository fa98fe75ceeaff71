"""When the event loop looks on, and when it sleeps."""

from __future__ import annotations

import asyncio

from proxy.poll import Poll

# Longer than any test: every wait is short. And shorter than any wait.
ENDLESS, NEVER = 3600.0, 1e-12


async def exchange(poll: Poll, clients: int, milliseconds: int = 20) -> None:
    """So many clients ask in each turn of the loop, and are answered in the next."""
    first = poll.epoch
    while poll.epoch < first + milliseconds:
        poll.seen = clients
        poll.stir(True)
        await asyncio.sleep(0)
        poll.stir(False)
        await asyncio.sleep(0)


async def test_one_client_that_asks_again_and_again_keeps_the_loop_looking() -> None:
    poll = Poll(ENDLESS)
    await exchange(poll, clients=1)
    assert poll.turns > 20


async def test_many_clients_are_waited_for_asleep() -> None:
    poll = Poll(ENDLESS)
    await exchange(poll, clients=50, milliseconds=2)
    turns = poll.turns
    await exchange(poll, clients=50)
    assert poll.turns == turns


async def test_where_each_wait_is_long_the_loop_sleeps_at_once() -> None:
    poll = Poll(NEVER)
    await exchange(poll, clients=1)
    assert poll.turns == 0


async def test_a_limit_of_zero_schedules_nothing() -> None:
    poll = Poll(0.0)
    for _ in range(100):
        poll.stir(True)
        poll.stir(False)
        await asyncio.sleep(0)
    assert (poll.turns, poll.epoch) == (0, 0)


async def test_when_traffic_ends_the_loop_looks_no_longer_than_its_limit() -> None:
    poll = Poll(0.01)
    await exchange(poll, clients=1)
    assert poll.turns
    while True:
        turns = poll.turns
        await asyncio.sleep(0.05)
        if poll.turns == turns:
            break
    poll.stir(True)  # And it begins again.
    await exchange(poll, clients=1)
    assert poll.turns > turns


async def test_seldom_clients_of_a_near_store_are_polled_for_only_while_it_answers() -> None:
    poll = Poll(0.02)
    for _ in range(30):
        poll.seen = 1
        poll.stir(True)
        await asyncio.sleep(0)
        poll.stir(False)
        await asyncio.sleep(0.025)
    turns = poll.turns
    poll.stir(True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert poll.turns > turns, "the store's answer is looked for"
    poll.stir(False)
    await asyncio.sleep(0)
    turns = poll.turns
    await asyncio.sleep(0.01)
    assert poll.turns == turns, "the client's next command is not"
