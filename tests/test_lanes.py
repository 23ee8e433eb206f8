"""How much of an account is under way, and claimed ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from normalizers.model import OutboundMessage
from outbox.lanes import AHEAD, AHEAD_FROM, BATCH, CONCURRENCY, QUICK_S, Lane
from outbox.ports import Parcel

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
MESSAGE = OutboundMessage(id="m", key="k", account="loft", channel="open", to=(), text="Hi")


def parcel(number: int = 0) -> Parcel:
    return Parcel(
        id=str(number), message_id="m", conversation_id="c", account="loft", channel="open", message=MESSAGE,
        queued_at=NOW,
    )  # fmt: skip


def through(lane: Lane, answers: list[float | None]) -> list[bool]:
    """One after the other is taken, sent and answered; what each end says."""
    told = []
    for took_s in answers:
        assert lane.take(parcel(), NOW)
        assert lane.next() is not None
        told.append(lane.done(took_s))
        lane.end_turn()
    return told


def test_nothing_is_claimed_ahead_before_as_many_were_quick() -> None:
    lane = Lane(40)
    assert lane.room(NOW) == 40
    through(lane, [0.02] * 39)
    assert (lane.ahead, lane.room(NOW)) == (0, 40)
    through(lane, [QUICK_S])
    assert (lane.ahead, lane.room(NOW)) == (AHEAD * 40, (1 + AHEAD) * 40)


def test_a_slow_answer_or_none_ends_it() -> None:
    for last in (QUICK_S + 0.001, None):
        lane = Lane(40)
        through(lane, [0.02] * 50)
        assert lane.ahead == AHEAD * 40
        through(lane, [last])
        assert lane.ahead == 0
        through(lane, [0.02] * 39)
        assert lane.ahead == 0


def test_what_was_claimed_ahead_counts_when_it_ends() -> None:
    lane = Lane(40)
    through(lane, [0.02] * 40)
    for _ in range(40 + lane.ahead):
        lane.take(parcel(), NOW)
    assert lane.room(NOW) == 0
    lane.next()
    lane.done(None)
    assert (lane.claimed, lane.room(NOW)) == ((1 + AHEAD) * 40 - 1, 0)


def test_narrow_lanes_are_never_claimed_ahead() -> None:
    lane = Lane(AHEAD_FROM - 1)
    through(lane, [0.0] * 200)
    assert lane.ahead == 0


def test_no_claim_takes_more_than_a_batch() -> None:
    lane = Lane()
    through(lane, [0.0] * CONCURRENCY)
    assert lane.room(NOW) == BATCH < 2 * CONCURRENCY


def test_so_many_have_their_turn_at_a_time_in_the_order_they_came() -> None:
    lane = Lane(3)
    assert [lane.take(parcel(number), NOW) for number in range(5)] == [True, True, True, False, False]
    begun = [lane.next() for _ in range(6)]
    assert begun == [*(parcel(number) for number in range(5)), None]
    lane.end_turn()
    assert [lane.take(parcel(), NOW) for _ in range(2)] == [True, False]


def test_what_waits_can_be_forgotten() -> None:
    lane = Lane(1)
    lane.take(parcel(), NOW)
    lane.drop()
    assert lane.next() is None


def test_it_says_once_when_it_is_time_for_more() -> None:
    lane = Lane(4)
    for _ in range(4):
        lane.take(parcel(), NOW)
        lane.next()
    assert [lane.done(0.1) for _ in range(4)] == [False, True, False, False]
    ahead = Lane(32)
    through(ahead, [0.0] * 32)
    for _ in range(32 + ahead.ahead):
        ahead.take(parcel(), NOW)
    told = []
    for _ in range(32 + ahead.ahead):
        ahead.next()
        told.append(ahead.done(0.1))
    assert told.index(True) == 96 - 48 - 1  # half as many wait as are being sent
    assert sum(told) == 1


def test_a_broken_platform_has_no_room() -> None:
    lane = Lane(40)
    through(lane, [0.02] * 40)
    for _ in range(20):
        lane.breaker.record(False, NOW)
    assert lane.room(NOW) == 0
    assert lane.room(NOW + timedelta(seconds=31)) == 1
