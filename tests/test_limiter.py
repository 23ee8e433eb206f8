"""Slots that no second ever exceeds, the pace to one person, and the breaker."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import Pace
from adapters._channel import Quota
from outbox import limiter
from outbox.breaker import Breaker
from outbox.limiter import Limiter, Slot
from tests.pigeon import START

S = timedelta(seconds=1)


def slot(pace: Pace, key: str = "a") -> Slot:
    return Slot(key, limiter.rate(pace) + limiter.quotas(pace), pace.unit == "segment")


@pytest.mark.parametrize(
    ("rate", "gained"), [(5, [5, 0, 5]), (1, [1, 0, 1]), (0.5, [1, 0, 0]), (1.5, [1, 1, 0]), (80, [80, 0, 80])]
)
def test_slots_at_the_start_before_and_after_a_second(rate: float, gained: list[int]) -> None:
    slots, one, found = Limiter(), slot(Pace(rate, "")), []
    for at in (START, START + 0.9 * S, START + S):
        taken = 0
        while slots.take([one], 1, at):
            taken += 1
        found.append(taken)
    assert found == gained


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 700), st.integers(1, 3)), max_size=60))
def test_property_no_second_sees_more_than_the_rate(rate: int, calls: list[tuple[int, int]]) -> None:
    slots, one, now, taken = Limiter(), slot(Pace(rate, "", "segment")), START, []
    for wait_ms, cost in calls:
        now += timedelta(milliseconds=wait_ms)
        if slots.take([one], min(cost, rate), now):
            taken.append((now, min(cost, rate)))
    for start, _ in taken:
        assert sum(cost for at, cost in taken if start <= at < start + S) <= rate


@given(st.sampled_from([0.5, 1, 1.3, 2.5, 5, 20, 80]), st.integers(1, 40), st.booleans())
def test_property_a_minute_brings_the_rate_within_two_percent(rate: float, lag_ms: int, again: bool) -> None:
    """A sender that comes a little late for every slot, and is perhaps killed in the middle, keeps the rate."""
    slots, one, now, taken = Limiter(), slot(Pace(rate, "")), START, []
    kept: dict[str, str] = {}
    end = START + 60 * S
    while now < end:
        while slots.take([one], 1, now):
            taken.append(now)
            kept.update((spent.key, spent.taken) for spent in slots.spent(now))
        if again and now > START + 30 * S:
            slots, again = Limiter(), False
            slots.load([one], (), kept)
        now = slots.free_at([one], now) + timedelta(milliseconds=lag_ms / 4)
    amount, span = max(1, int(rate)), max(1, int(rate)) / rate
    for first, later in zip(taken, taken[amount:], strict=False):
        assert later - first >= span * S - timedelta(microseconds=1)
    wanted = 60 * rate
    assert wanted * 0.98 - wanted * lag_ms / 4000 - 1 <= len(taken) <= wanted + amount


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), max_size=80), st.integers(1, 12))
def test_property_no_span_sees_more_than_the_quota(calls: list[tuple[int, int]], amount: int) -> None:
    quota = Quota(amount, timedelta(seconds=900))
    slots, one, now, taken = Limiter(), slot(Pace(1000, "", quotas=(quota,))), START, []
    kept: dict[str, str] = {}
    for wait_s, wanted in calls:
        now += timedelta(seconds=wait_s)
        taken += [now for _ in range(wanted) if slots.take([one], 1, now)]
        kept.update((spent.key, spent.taken) for spent in slots.spent(now))
        if wanted % 2:  # another process
            slots = Limiter()
            slots.load([one], (), kept)
    for start in taken:
        assert sum(start <= at < start + quota.duration for at in taken) <= amount
    if len(taken) < sum(wanted for _, wanted in calls):
        assert len(taken) >= amount


def test_a_quota_is_used_up_to_the_last_and_free_again_a_step_late_at_most() -> None:
    slots, one = Limiter(), slot(Pace(1000, "", quotas=(Quota(15, timedelta(minutes=15)),), daily=20))
    assert sum(slots.take([one], 1, START) for _ in range(99)) == 15
    again = slots.free_at([one], START)
    assert START + timedelta(minutes=15) <= again <= START + timedelta(minutes=15, seconds=9)
    assert sum(slots.take([one], 1, again) for _ in range(99)) == 5  # the day's limit
    assert slots.free_at([one], again) >= START + timedelta(days=1)


def test_a_message_of_many_segments_is_paid_off() -> None:
    slots, one = Limiter(), slot(Pace(2, "", "segment"))
    assert slots.take([one], 10, START)
    assert not slots.take([one], 1, START + 4.9 * S)
    assert slots.free_at([one], START) == START + 5 * S
    assert slots.take([one], 1, START + 5 * S)


def test_nothing_is_taken_of_one_limit_when_another_has_no_room() -> None:
    slots, wide, narrow = Limiter(), slot(Pace(9, ""), "wide"), slot(Pace(1, ""), "narrow")
    assert slots.take([wide, narrow], 1, START)
    assert not slots.take([wide, narrow], 1, START)
    assert slots.free([wide], START) == 8


def test_accounts_do_not_share() -> None:
    slots, pace = Limiter(), Pace(1, "")
    assert slots.take([slot(pace, "a")], 1, START)
    assert slots.take([slot(pace, "b")], 1, START)


def test_one_person_borrows_from_the_future() -> None:
    slots, pace, now = Limiter(), Pace(100, "", pair_seconds=6, pair_burst=3), START
    for _ in range(3):
        assert slots.pair_free_at("p", pace, now) is None
        slots.take_pair("p", pace, now)
    kept = {spent.key: spent.taken for spent in slots.spent(now)}
    heir = Limiter()
    heir.load((), ["p", "q"], kept)
    for either in (slots, heir):
        assert either.pair_free_at("p", pace, now) == START + 6 * S
        assert either.pair_free_at("q", pace, now) is None
        assert either.pair_free_at("p", pace, START + 6 * S) is None


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
