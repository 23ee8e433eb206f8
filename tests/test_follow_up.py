"""Where a customer's message goes: by the ticket's status, by time, and by what the operator says of both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from config.follow_up import FollowUp
from gateway.tickets import Policy, file_message

DAY = timedelta(days=1) // timedelta(microseconds=1)
NOW = 100 * DAY
LATE_MAIL = FollowUp("create", channel="email", older_than=30)
SAME = FollowUp("append", status=("pending", "hold"), channel="whatsapp")
NEW_AT_SHOP = FollowUp("create", account="shop", status=("new", "open", "solved"))
ANY_OPEN = FollowUp("reopen", status=("new", "open", "pending"))

CASES: dict[str, tuple[tuple[FollowUp, ...], str | None, float, str, str, str, str]] = {
    # rules, status, its age in days, channel, account -> action, a part of the reason
    "nothing yet": ((LATE_MAIL,), None, 0, "email", "mail", "create", "no ticket"),
    "closed, whatever is said": ((FollowUp("reopen", status=("solved",)),), "closed", 1, "email", "mail", "follow_up",
                                 "closed"),
    "no rule, open": ((), "open", 3, "email", "mail", "append", "is open"),
    "no rule, pending": ((), "pending", 3, "email", "mail", "reopen", "pending"),
    "no rule, solved": ((), "solved", 300, "email", "mail", "reopen", "solved"),
    "solved long ago": ((LATE_MAIL,), "solved", 31, "email", "mail", "create", "solved for 31 days: follow_up rule 1"),
    "at the day": ((LATE_MAIL,), "solved", 30, "email", "mail", "create", "at least 30 days"),
    "a day too early": ((LATE_MAIL,), "solved", 29, "email", "mail", "reopen", "answered a solved ticket"),
    "another channel": ((LATE_MAIL,), "solved", 31, "sms", "sms", "reopen", "answered a solved ticket"),
    "stays pending": ((SAME,), "pending", 0, "whatsapp", "wa", "append", "channel whatsapp"),
    "stays held": ((LATE_MAIL, SAME), "hold", 0, "whatsapp", "wa", "append", "follow_up rule 2"),
    "another account": ((NEW_AT_SHOP,), "open", 0, "sms", "desk", "append", "is open"),
    "an account of its own": ((NEW_AT_SHOP,), "open", 0, "sms", "shop", "create", "account shop"),
    "the first that fits": ((SAME, NEW_AT_SHOP, ANY_OPEN), "new", 0, "whatsapp", "shop", "create", "rule 2"),
    "nothing to reopen": ((ANY_OPEN,), "open", 0, "sms", "sms", "append", "any channel"),
    "reopened as said": ((ANY_OPEN,), "pending", 0, "sms", "sms", "reopen", "says reopen"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_where_a_message_goes(case: str) -> None:
    rules, status, age, channel, account, action, reason = CASES[case]
    found = file_message(status, NOW - int(age * DAY), NOW, Policy(rules=rules), channel, account)
    assert found.action == action
    assert reason in found.reason


def test_a_rule_goes_before_the_general_limit() -> None:
    policy = Policy(timedelta(days=7), (FollowUp("reopen", channel="email"),))
    assert file_message("solved", NOW - 8 * DAY, NOW, policy, "email", "mail").action == "reopen"
    assert file_message("solved", NOW - 8 * DAY, NOW, policy, "sms", "sms").action == "create"


@pytest.mark.parametrize(
    ("values", "said"),
    [({"status": ("closed",)}, "status"), ({"status": ("done",)}, "status"), ({"older_than": -1.0}, "older_than")],
)
def test_a_rule_that_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FollowUp("create", **values)
