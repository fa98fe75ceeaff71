"""How fast keys may be moved: the rule, window by window, with a clock of the test's own."""

from __future__ import annotations

import pytest

from migrator.throttle import (
    CLIENTS_FOR_S,
    FIRST_SHARE,
    LEAST_SHARE,
    PAGE_KEYS,
    PAGE_KEYS_BESIDE_CLIENTS,
    QUIET_FOR_S,
    Level,
    Nice,
    Reason,
    Throttle,
    Window,
)

QUIET = Window(1000.0, p99_s=0.001, source_s=0.001, target_s=0.001)
SLOW = {
    Reason.CLIENTS_P99: Window(1000.0, p99_s=0.004, source_s=0.001, target_s=0.001),
    Reason.SOURCE_SLOW: Window(1000.0, p99_s=0.004, source_s=0.200, target_s=0.001),
    Reason.TARGET_SLOW: Window(1000.0, p99_s=0.001, source_s=0.001, target_s=0.200),
    Reason.EVENT_LOOP: Window(1000.0, p99_s=0.004, source_s=0.001, target_s=0.001, late_s=0.1),
}


class Told:
    """A throttle that is told of one window after the other, a quarter of a second each."""

    def __init__(self, nice: Nice | None = None) -> None:
        self.throttle = Throttle(nice)
        self.now = 1000.0

    def look(self, window: Window, times: int = 1, *, is_idle: bool = False) -> Throttle:
        for _ in range(times):
            self.now += 0.25
            self.throttle.look(window, self.now, is_idle=is_idle)
        return self.throttle


def beside_clients(nice: Nice | None = None) -> Told:
    """Behind a quiet window, and enough good ones for all the speed that there is."""
    told = Told(nice)
    told.look(QUIET, is_idle=True)
    told.look(QUIET, 20)
    return told


def test_without_clients_it_goes_at_full_speed_however_slow_the_stores_are() -> None:
    throttle = Told().look(Window(0.0, source_s=3.0, target_s=3.0, late_s=1.0), 10)
    assert (throttle.share, throttle.reason) == (1.0, Reason.NONE)
    assert throttle.page_keys == PAGE_KEYS


def test_a_health_check_is_no_client() -> None:
    assert not Told().look(Window(2.0, p99_s=1.0), 10).has_clients


def test_beside_clients_pages_are_small() -> None:
    assert beside_clients().throttle.page_keys == PAGE_KEYS_BESIDE_CLIENTS


def test_beside_clients_it_begins_slowly_and_speeds_up_while_all_is_well() -> None:
    told = Told()
    told.look(QUIET, is_idle=True)
    assert told.throttle.share == FIRST_SHARE
    shares = [told.look(QUIET).share for _ in range(20)]
    assert shares == sorted(shares)
    assert (shares[-1], told.throttle.reason) == (1.0, Reason.NONE)


@pytest.mark.parametrize("reason", SLOW)
def test_what_is_slow_holds_it_back_and_is_named(reason: Reason) -> None:
    throttle = beside_clients().look(SLOW[reason], 3)
    assert throttle.reason is reason
    assert throttle.share < 0.7


@pytest.mark.parametrize("reason", SLOW)
def test_it_is_never_held_back_for_good(reason: Reason) -> None:
    told = beside_clients()
    assert told.look(SLOW[reason], 1000).share >= LEAST_SHARE
    throttle = told.look(QUIET, 100)
    assert (throttle.share, throttle.reason) == (1.0, Reason.NONE)


def test_the_slower_the_clients_the_further_it_falls() -> None:
    bad, worse = beside_clients(), beside_clients()
    bad.look(Window(1000.0, p99_s=0.002), 3)
    worse.look(Window(1000.0, p99_s=0.005), 3)
    assert worse.throttle.share < bad.throttle.share < 1.0


def test_latency_that_was_there_without_copying_is_no_reason() -> None:
    told = Told()
    told.look(Window(1000.0, p99_s=0.05, source_s=0.04, late_s=0.02), is_idle=True)
    throttle = told.look(Window(1000.0, p99_s=0.06, source_s=0.06, late_s=0.03), 20)
    assert (throttle.share, throttle.reason) == (1.0, Reason.NONE)


def test_one_bad_window_among_good_ones_is_no_reason() -> None:
    told = beside_clients()
    for _ in range(10):
        told.look(Window(1000.0, p99_s=1.0))
        assert told.look(QUIET, 2).share == 1.0


def test_microseconds_are_no_reason() -> None:
    told = Told()
    told.look(Window(1000.0, p99_s=0.0001), is_idle=True)
    assert told.look(Window(1000.0, p99_s=0.0004), 20).share == 1.0


def test_close_to_the_bound_it_stays_where_it_is() -> None:
    told = beside_clients()
    told.look(SLOW[Reason.CLIENTS_P99], 2)
    share = told.look(Window(1000.0, p99_s=0.0014), 2).share
    assert told.look(Window(1000.0, p99_s=0.0014), 10).share == share


def test_gentle_keeps_a_narrower_bound_and_a_quarter_of_the_speed() -> None:
    told = beside_clients(Nice(Level.GENTLE))
    assert (told.throttle.share, told.throttle.reason) == (0.25, Reason.LIMIT)
    told.look(Window(1000.0, p99_s=0.0014), 3)
    assert (told.throttle.reason, told.throttle.share < 0.25) == (Reason.CLIENTS_P99, True)
    assert Told(Nice(Level.GENTLE)).look(Window(), 3).share == 0.25


def test_full_does_not_stand_back() -> None:
    told = beside_clients(Nice(Level.FULL))
    for window in SLOW.values():
        throttle = told.look(window, 10)
        assert (throttle.share, throttle.reason) == (1.0, Reason.NONE)
    assert throttle.page_keys == PAGE_KEYS
    assert not throttle.wants_quiet


def test_another_wish_holds_at_once() -> None:
    told = beside_clients()
    told.look(SLOW[Reason.CLIENTS_P99], 5)
    told.throttle.ask(Nice(Level.FULL))
    assert (told.throttle.share, told.throttle.reason) == (1.0, Reason.NONE)
    told.throttle.ask(Nice(Level.GENTLE))
    assert told.throttle.share == 0.25
    told.throttle.ask(Nice(Level.FULL, keys_per_second=100))
    assert (told.throttle.reason, told.throttle.page_keys) == (Reason.LIMIT, 10)


def test_clients_whom_a_slow_store_keeps_waiting_are_still_there() -> None:
    told = beside_clients()
    stuck = Window(0.0, source_s=1.0)
    throttle = told.look(stuck)
    assert (throttle.has_clients, throttle.reason) == (True, Reason.SOURCE_SLOW)
    throttle = told.look(stuck, int(CLIENTS_FOR_S * 4))
    assert (throttle.has_clients, throttle.share) == (False, 1.0)


def test_too_few_commands_for_a_judgement_change_nothing_for_a_while() -> None:
    told = beside_clients()
    share = told.look(SLOW[Reason.CLIENTS_P99], 3).share
    assert share < 1.0
    assert told.look(Window(20.0), 4).share == share
    assert told.look(Window(20.0), 100).share == 1.0


def test_a_quiet_window_goes_first_where_nothing_is_known() -> None:
    told = Told()
    told.throttle.expect_clients(told.now)
    assert told.throttle.wants_quiet
    told.look(QUIET)
    assert told.throttle.quiet == QUIET
    assert not told.look(QUIET).wants_quiet


def test_while_it_is_held_back_a_quiet_window_is_made_anew_and_believed() -> None:
    told = beside_clients()
    busier = Window(1000.0, p99_s=0.004)
    windows = 0
    while not told.look(busier).wants_quiet:
        windows += 1
        assert windows < QUIET_FOR_S * 4 + 2
    assert told.throttle.share == LEAST_SHARE
    told.look(busier)  # The clients are as slow without any copying: it was not the movers.
    assert told.look(busier, 100).share == 1.0


def test_a_quiet_window_that_shows_nothing_is_not_asked_for_again_at_once() -> None:
    told = Told()
    told.throttle.expect_clients(told.now)
    told.look(Window(20.0))
    assert not any(told.look(Window(20.0)).wants_quiet for _ in range(40))


def test_rest_ends_what_held_it_back() -> None:
    told = beside_clients()
    told.look(SLOW[Reason.CLIENTS_P99], 10)
    throttle = told.look(QUIET, is_idle=True)
    assert (throttle.share, throttle.reason) == (FIRST_SHARE, Reason.NONE)
