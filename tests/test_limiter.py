"""Slots that no second ever exceeds, the pace to one person, and the breaker."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import Pace
from outbox.breaker import Breaker
from outbox.limiter import Limiter
from tests.pigeon import START

S = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("rate", "gained"), [(5, [5, 0, 5]), (1, [1, 0, 1]), (0.5, [1, 0, 0]), (1.5, [1, 1, 0]), (80, [80, 0, 80])]
)
def test_slots_at_the_start_before_and_after_a_second(rate: float, gained: list[int]) -> None:
    limiter, pace, found = Limiter(), Pace(rate, ""), []
    for at in (START, START + 0.9 * S, START + S):
        taken = 0
        while limiter.take("a", "p", pace, 1, at):
            taken += 1
        found.append(taken)
    assert found == gained


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 700), st.integers(1, 3)), max_size=60))
def test_no_second_sees_more_than_the_rate(rate: int, calls: list[tuple[int, int]]) -> None:
    limiter, pace, now, taken = Limiter(), Pace(rate, ""), START, []
    for wait_ms, cost in calls:
        now += timedelta(milliseconds=wait_ms)
        if limiter.take("a", "p", pace, min(cost, rate), now):
            taken.append((now, min(cost, rate)))
    for start, _ in taken:
        assert sum(cost for at, cost in taken if start <= at < start + S) <= rate


def test_a_message_of_many_segments_is_paid_off() -> None:
    limiter, pace = Limiter(), Pace(2, "", "segment")
    assert limiter.take("a", "p", pace, 10, START)
    assert not limiter.take("a", "p", pace, 1, START + 4.9 * S)
    assert limiter.free_at("a", pace, START) == START + 5 * S
    assert limiter.take("a", "p", pace, 1, START + 5 * S)


def test_accounts_do_not_share() -> None:
    limiter, pace = Limiter(), Pace(1, "")
    assert limiter.take("a", "p", pace, 1, START)
    assert limiter.take("b", "p", pace, 1, START)


def test_one_person_borrows_from_the_future() -> None:
    limiter, pace, now = Limiter(), Pace(100, "", pair_seconds=6, pair_burst=3), START
    for _ in range(3):
        assert limiter.pair_free_at("a", "p", pace, now) is None
        limiter.take("a", "p", pace, 1, now)
    assert limiter.pair_free_at("a", "p", pace, now) == START + 6 * S
    assert limiter.pair_free_at("a", "q", pace, now) is None
    assert limiter.pair_free_at("a", "p", pace, START + 6 * S) is None


# --- breaker ----------------------------------------------------------------------------------------------------------


def test_one_failure_opens_nothing() -> None:
    breaker = Breaker()
    breaker.record(False, START)
    assert (breaker.state(START), breaker.room(START, 7)) == ("closed", 7)


@pytest.mark.parametrize(
    ("good", "bad", "state"), [(5, 4, "closed"), (6, 5, "closed"), (5, 5, "open"), (0, 10, "open")]
)
def test_half_of_ten_open_it(good: int, bad: int, state: str) -> None:
    breaker = Breaker()
    for ok in [True] * good + [False] * bad:
        breaker.record(ok, START)
    assert breaker.state(START) == state


def test_old_failures_are_forgotten() -> None:
    breaker = Breaker()
    for _ in range(9):
        breaker.record(False, START)
    breaker.record(False, START + 61 * S)
    assert breaker.state(START + 61 * S) == "closed"


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(10):
        breaker.record(False, START)
    return breaker


def test_one_probe_decides() -> None:
    breaker, now = opened(), START + 30 * S
    assert (breaker.state(now - S), breaker.room(now - S, 5)) == ("open", 0)
    assert (breaker.state(now), breaker.room(now, 5)) == ("half-open", 1)
    breaker.started(now)
    assert breaker.room(now, 5) == 0
    breaker.record(True, now)
    assert (breaker.state(now), breaker.room(now, 5)) == ("closed", 5)


def test_it_stays_open_longer_each_time() -> None:
    breaker, now, waits = opened(), START, Counter[int]()
    for _ in range(5):
        assert breaker.until is not None
        waits[int((breaker.until - now).total_seconds())] += 1
        now = breaker.until
        breaker.started(now)
        breaker.record(False, now)
    assert sorted(waits.elements()) == [30, 60, 120, 240, 300]


def test_answers_from_before_it_opened_are_not_the_probe() -> None:
    breaker = opened()
    breaker.record(True, START + 31 * S)
    assert breaker.state(START + 31 * S) == "half-open"
