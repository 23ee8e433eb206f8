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
from outbox.rules.answers import answerable, automatic_answers, private_reply, reply_token
from outbox.rules.content import empty, links, media, parts, text_length
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
)
from outbox.rules.repeats import duplicate, repeated
from outbox.rules.windows import window, window_messages
from outbox.verdict import Change, Verdict

Rule = Callable[[OutboundMessage, Facts], Verdict | Change]

PERMISSION: tuple[Rule, ...] = (
    account,
    closed_ticket,
    visibility,
    recipient,
    blocked,
    opt_out,
    answerable,
    private_reply,
    window,
    template,
    loop_guard,
    automatic_answers,
    duplicate,
    repeated,
    empty,
    links,
    paused,
    pace,
)
FORM: tuple[Rule, ...] = (  # in this order: each sees what the one before made of it
    media,
    parts,
    text_length,
    window_messages,
    reply_token,
)
RULES: tuple[Rule, ...] = PERMISSION + FORM

CLASS_OF_RULE = {
    "window": "window-closed",
    "answerable": "window-closed",
    "private_reply": "window-closed",
    "opt_out": "opted-out",
    "blocked": "bad-recipient",
    "recipient": "bad-recipient",
    "loop_guard": "policy",
    "account": "permanent",
    "closed_ticket": "permanent",
    "visibility": "permanent",
    "template": "permanent",
    "duplicate": "permanent",
    "links": "permanent",
    "empty": "permanent",
    "media": "permanent",
    "text_length": "permanent",
}
"""The error class of a message that a rule stopped after it had been accepted; other rules count as "policy"."""


@functools.cache
def load_rules(group: str = "channel_gateway.rules") -> tuple[Rule, ...]:
    """The built-in rules and those of installed packages. Raises whatever a package raises on import."""
    return PERMISSION + tuple(point.load() for point in entry_points(group=group)) + FORM
