"""How much of an account is under way, and claimed ahead."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from outbox.lanes import AHEAD_FROM, BATCH, CONCURRENCY, QUICK_S, Lane

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def through(lane: Lane, answers: list[float | None]) -> list[bool]:
    """One after the other is taken, sent and answered; what each end says."""
    told = []
    for took_s in answers:
        lane.take(NOW)
        await lane.turn()
        told.append(lane.done(took_s))
    return told


async def test_nothing_is_claimed_ahead_before_as_many_were_quick() -> None:
    lane = Lane(40)
    assert lane.room(NOW) == 40
    await through(lane, [0.02] * 39)
    assert (lane.ahead, lane.room(NOW)) == (0, 40)
    await through(lane, [QUICK_S])
    assert (lane.ahead, lane.room(NOW)) == (40, 80)


async def test_a_slow_answer_or_none_ends_it() -> None:
    for last in (QUICK_S + 0.001, None):
        lane = Lane(40)
        await through(lane, [0.02] * 50)
        assert lane.ahead == 40
        await through(lane, [last])
        assert lane.ahead == 0
        await through(lane, [0.02] * 39)
        assert lane.ahead == 0


async def test_what_was_claimed_ahead_counts_when_it_ends() -> None:
    lane = Lane(40)
    await through(lane, [0.02] * 40)
    for _ in range(80):
        lane.take(NOW)
    assert lane.room(NOW) == 0
    await lane.turn()
    lane.done(None)
    assert (lane.claimed, lane.room(NOW)) == (79, 0)


async def test_narrow_lanes_are_never_claimed_ahead() -> None:
    lane = Lane(AHEAD_FROM - 1)
    await through(lane, [0.0] * 200)
    assert lane.ahead == 0


async def test_no_claim_takes_more_than_a_batch() -> None:
    lane = Lane()
    await through(lane, [0.0] * CONCURRENCY)
    assert lane.room(NOW) == BATCH < 2 * CONCURRENCY


async def test_so_many_have_their_turn_at_a_time_in_the_order_they_came() -> None:
    lane, begun = Lane(3), []

    async def send(number: int) -> None:
        lane.take(NOW)
        await lane.turn()
        begun.append(number)

    tasks = [asyncio.create_task(send(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert begun == [0, 1, 2]
    lane.done(0.1)
    lane.done(0.1)
    await asyncio.gather(*tasks)
    assert begun == [0, 1, 2, 3, 4]


async def test_it_says_once_when_it_is_time_for_more() -> None:
    lane = Lane(4)
    for _ in range(4):
        lane.take(NOW)
        await lane.turn()
    assert [lane.done(0.1) for _ in range(4)] == [False, True, False, False]
    ahead = Lane(32)
    await through(ahead, [0.0] * 32)
    for _ in range(64):
        ahead.take(NOW)
    told = []
    for _ in range(64):
        await ahead.turn()
        told.append(ahead.done(0.1))
    assert told.index(True) == 31  # those that are left are all being sent
    assert sum(told) == 1


async def test_a_broken_platform_has_no_room() -> None:
    lane = Lane(40)
    await through(lane, [0.02] * 40)
    for _ in range(20):
        lane.breaker.record(False, NOW)
    assert lane.room(NOW) == 0
    assert lane.room(NOW + timedelta(seconds=31)) == 1
