"""The rules a reply passes before it leaves: one objection, one function, one line in `RULES`.

A rule is `(message, facts) -> Verdict | Change`, pure. Another package adds its own by the entry-point group
`channel_gateway.rules`; they run before those that bring the message into its final form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import entry_points

from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.rules.content import empty, media, parts, text_length
from outbox.rules.links import links
from outbox.rules.permission import (
    account,
    blocked,
    closed_ticket,
    loop_guard,
    opt_out,
    pace,
    paused,
    recipient,
    template,
    visibility,
    window,
)
from outbox.rules.suppression import suppression
from outbox.verdict import Change, Verdict

Rule = Callable[[OutboundMessage, Facts], Verdict | Change]

PERMISSION: tuple[Rule, ...] = (
    account,
    closed_ticket,
    visibility,
    recipient,
    blocked,
    opt_out,
    suppression,
    window,
    template,
    loop_guard,
    empty,
    paused,
    pace,
)
FORM: tuple[Rule, ...] = (links, media, parts, text_length)  # in this order: each sees what the one before made of it
RULES: tuple[Rule, ...] = PERMISSION + FORM

CLASS_OF_RULE = {
    "window": "window-closed",
    "opt_out": "opted-out",
    "blocked": "bad-recipient",
    "recipient": "bad-recipient",
    "suppression": "bad-recipient",
    "loop_guard": "policy",
    "account": "permanent",
    "closed_ticket": "permanent",
    "visibility": "permanent",
    "template": "permanent",
    "empty": "permanent",
    "media": "permanent",
    "text_length": "permanent",
}
"""The error class of a message that a rule stopped after it had been accepted; other rules count as "policy"."""


@functools.cache
def load_rules(group: str = "channel_gateway.rules") -> tuple[Rule, ...]:
    """The built-in rules and those of installed packages. Raises whatever a package raises on import."""
    return PERMISSION + tuple(point.load() for point in entry_points(group=group)) + FORM
