"""When a message is tried again, and when patience ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from adapters import Ambiguous, SendError, Throttled, Unreachable
from normalizers.model import Context
from outbox import outcomes
from outbox.ports import Parcel
from outbox.schedule import SCHEDULES
from tests.pigeon import KEYED, OPEN, POST, START
from tests.test_rules import NOTE

CHAT = [5, 30, 120, 600, 1800, 3600, 3600]
MAIL = [60, 300, 600, 1200, 2400, 3600, 7200, 14400, 21600, 21600]


@pytest.mark.parametrize(("kind", "delays"), [("chat", CHAT), ("mail", MAIL)])
def test_delays(kind: str, delays: list[int]) -> None:
    schedule = SCHEDULES[kind]
    found = [schedule.next(n + 1, START, START, 0.5, automatic=False) for n in range(len(delays))]
    assert found == [START + timedelta(seconds=delay) for delay in delays]


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 4.0), (0.5, 5.0), (1.0, 6.0)])
def test_a_fifth_either_way(chance: float, seconds: float) -> None:
    assert SCHEDULES["chat"].next(1, START, START, chance, automatic=False) == START + timedelta(seconds=seconds)


@pytest.mark.parametrize(("kind", "automatic", "hours"), [("chat", False, 24), ("mail", False, 72), ("mail", True, 24)])
def test_patience_ends(kind: str, automatic: bool, hours: int) -> None:
    last = START + timedelta(hours=hours, seconds=-SCHEDULES[kind].delays[0].total_seconds())
    assert SCHEDULES[kind].next(1, START, last, 0.5, automatic=automatic) == START + timedelta(hours=hours)
    assert SCHEDULES[kind].next(1, START, last + timedelta(seconds=1), 0.5, automatic=automatic) is None


PARCEL = Parcel(
    id="o", message_id="m", conversation_id="c", account="loft", channel="open", message=NOTE, queued_at=START,
    attempt=1, attempt_id="a", fence=1, first_attempt_at=START,
)  # fmt: skip
DEAD_TOKEN = SendError("auth", "190", pause="account")
LAW = {  # name -> (error, channel, earlier unknowns, on_unknown, (state, word, counted, seconds until the next try))
    "not a byte arrived": (Unreachable("dns"), OPEN, 0, "ask", ("queued", "retry", True, 5)),
    "documented as not processed": (SendError("retry", "rain"), OPEN, 0, "ask", ("queued", "retry", True, 5)),
    "too fast, for how long": (Throttled("b", retry_after_s=9), OPEN, 0, "ask", ("queued", "throttle", False, 9)),
    "too fast": (Throttled("b"), OPEN, 0, "ask", ("queued", "throttle", False, 30)),
    "a dead token": (DEAD_TOKEN, OPEN, 0, "ask", ("held", "held", False, 300)),
    "a missing permission": (SendError("auth", "10"), OPEN, 0, "ask", ("failed", "failed", True, None)),
    "refused": (SendError("permanent", "100"), OPEN, 0, "ask", ("failed", "failed", True, None)),
    "lost, no key": (Ambiguous("timeout"), OPEN, 0, "ask", ("unknown", "unknown", True, None)),
    "lost, no key, resend once": (Ambiguous("timeout"), OPEN, 0, "resend_once", ("queued", "unknown", True, 120)),
    "lost again": (Ambiguous("timeout"), OPEN, 1, "resend_once", ("unknown", "unknown", True, None)),
    "lost, with a key": (Ambiguous("timeout"), KEYED, 3, "ask", ("queued", "unknown", True, 5)),
    "lost, a mail": (Ambiguous("timeout"), POST, 0, "ask", ("queued", "unknown", True, 600)),
    "lost, a mail, again": (Ambiguous("timeout"), POST, 1, "ask", ("queued", "unknown", True, 1800)),
    "lost, a mail, for the third time": (Ambiguous("timeout"), POST, 2, "ask", ("unknown", "unknown", True, None)),
}


@pytest.mark.parametrize(("error", "channel", "unknowns", "on_unknown", "expected"), LAW.values(), ids=LAW)
def test_the_law_of_delivery(error, channel, unknowns, on_unknown, expected) -> None:  # type: ignore[no-untyped-def]
    parcel = replace(PARCEL, unknowns=unknowns)
    found = outcomes.failed_send(parcel, error, channel, START, 0.5, on_unknown)
    wait = None if found.not_before is None else (found.not_before - START).total_seconds()
    assert (found.state, found.word, found.counted, wait) == expected


def test_what_a_reply_token_sent_is_covered_by_no_key() -> None:
    """The channel's key protects what is pushed; a lost reply may have arrived, and nothing follows by itself."""
    told = replace(PARCEL, message=replace(NOTE, context=Context(reply_token="t")))
    found = outcomes.failed_send(told, Ambiguous("timeout"), KEYED, START, 0.5, "resend_once")
    assert (found.state, found.not_before) == ("unknown", None)


def test_a_rate_that_never_ends_ends_patience() -> None:
    late = START + timedelta(hours=24)
    assert outcomes.failed_send(PARCEL, Throttled("busy"), OPEN, late, 0.5, "ask").state == "failed"


def test_giving_up_after_a_lost_answer_is_unknown() -> None:
    late = START + timedelta(hours=24)
    found = outcomes.failed_send(replace(PARCEL, unknowns=1), Unreachable("dns"), KEYED, late, 0.5, "ask")
    assert found.state == "unknown"
