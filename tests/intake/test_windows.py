"""What a customer's acts give the right to: windows, allowances that refresh and never add up, private answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from adapters import Channel
from adapters._facebook_facts import FACEBOOK, MESSENGER
from adapters._line_facts import CHANNEL as LINE
from adapters._wechat_facts import CHANNEL as WECHAT
from gateway.ids import micros
from gateway.intake.context import Rules
from gateway.replies import window
from normalizers.model import Address, Context, Engagement, Person
from tests.intake.build import T0, TOKENS, Memory, wrote

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
ANN = Address("wechat", "openid", "oAnn")
CHANNELS = {"wx": {"wechat": WECHAT}, "line": {"line": LINE}, "fb": {"facebook": FACEBOOK, "messenger": MESSENGER}}


def channel(account: str, name: str) -> Channel | None:
    return CHANNELS.get(account, {}).get(name)


def memory(account: str) -> Memory:
    return Memory(Rules(channel, TOKENS), account)


def acts(memory: Memory, kind: str, at: datetime = T0) -> None:
    memory.now = at
    memory.file(Engagement(id=f"{kind} {at}", at=at, channel="wechat", person=Person((ANN,)), kind=kind))


def writes(memory: Memory, at: datetime = T0) -> None:
    memory.now = at
    memory.file(wrote(f"m {at}", ANN, on="wechat", at=at))


def left(memory: Memory, now: datetime) -> tuple[int | None, datetime | None]:
    """How many messages may be sent, until when."""
    identity = memory.identity("oAnn")
    row: Any = {
        "opened_at": identity.opened_at, "window_used": identity.window_used, "allowed_until": identity.allowed_until,
    }  # fmt: skip
    found = window(WECHAT, row, now)
    return found.remaining, found.until


def spend(memory: Memory, count: int) -> None:
    memory.identity("oAnn").window_used += count


@pytest.mark.parametrize("kind", ["click", "follow", "msgmenu", "scan", "scancode_push", "scancode_waitmsg"])
def test_a_click_allows_three_messages_for_a_minute(kind: str) -> None:
    found = memory("wx")
    acts(found, kind)
    assert left(found, T0) == (3, T0 + MINUTE)
    assert left(found, T0 + MINUTE) == (0, T0 + MINUTE)
    spend(found, 3)
    assert left(found, T0 + SECOND) == (0, T0 + MINUTE)


def test_other_acts_allow_nothing() -> None:
    found = memory("wx")
    acts(found, "view")
    assert left(found, T0) == (0, None)


def test_a_message_allows_five_for_two_days_and_ten_messages_do_too() -> None:
    found = memory("wx")
    for minute in range(10):
        writes(found, T0 + minute * MINUTE)
    assert left(found, T0 + 10 * MINUTE) == (5, T0 + 9 * MINUTE + 48 * HOUR)


def test_a_click_refreshes_what_is_left_and_adds_nothing() -> None:
    found = memory("wx")
    writes(found)
    spend(found, 1)
    acts(found, "click", T0 + HOUR)
    assert left(found, T0 + HOUR) == (4, T0 + 48 * HOUR)
    spend(found, 3)
    acts(found, "click", T0 + 2 * HOUR)
    assert left(found, T0 + 2 * HOUR) == (3, T0 + 48 * HOUR)


def test_a_click_at_the_end_of_the_window_outlasts_it() -> None:
    found = memory("wx")
    writes(found)
    spend(found, 5)
    end = T0 + 48 * HOUR
    acts(found, "click", end - SECOND)
    assert left(found, end) == (3, end + 59 * SECOND)
    later = end + HOUR
    acts(found, "click", later)
    assert left(found, later) == (3, later + MINUTE)


def test_a_click_that_comes_late_gives_nothing_back() -> None:
    found = memory("wx")
    writes(found, T0 + MINUTE)
    spend(found, 5)
    acts(found, "click", T0)
    assert left(found, T0 + 2 * MINUTE) == (0, T0 + MINUTE + 48 * HOUR)


def test_a_message_after_a_click_opens_the_whole_window() -> None:
    found = memory("wx")
    acts(found, "click")
    spend(found, 2)
    writes(found, T0 + 30 * SECOND)
    assert left(found, T0 + 30 * SECOND) == (5, T0 + 30 * SECOND + 48 * HOUR)


def test_a_reply_token_is_kept_beside_its_message() -> None:
    found = memory("line")
    user = Address("line", "user_id", "Uann")
    found.file(wrote("1", user, on="line", context=Context(reply_token="t")))
    found.file(wrote("2", user, on="line"))
    assert [row["reply_token"] for row in found.messages] == ["t", ""]


def test_a_private_answer_names_its_public_ticket_once() -> None:
    found = memory("fb")
    ann = Address("messenger", "psid", "9988")
    found.file(wrote("m_0", ann, on="messenger"))
    identity = found.identity("9988")
    setattr(identity, "private_reply_ticket", "public-1")  # noqa: B010 - as another transaction would
    changes = found.file(wrote("m_1", ann, on="messenger"), wrote("m_2", ann, on="messenger"))
    assert [(ticket.id, public) for _, ticket, public in changes.linked] == [(found.ticket.id, "public-1")]
    assert identity.private_reply_ticket is None
    assert micros(T0) == identity.opened_at
