"""The rules a reply passes before it leaves: one objection, one function, one line in `RULES`.

A rule is `(message, facts) -> Verdict | Change`, pure; `@rule` declares what an operator may know and set of it.
Another package adds its own by the entry-point group `channel_gateway.rules`, under the entry point's name; they run
before those that bring the message into its final form.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from adapters import ErrorClass
from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.rules.answers import answerable, automatic_answers, private_reply, reply_token
from outbox.rules.content import empty, links, media, parts, text_length
from outbox.rules.declare import Declared, Spec, installed, rule, spec_of
from outbox.rules.hours import quiet_hours
from outbox.rules.linked_files import linked_files
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
from outbox.rules.suppression import suppression
from outbox.rules.windows import window, window_messages
from outbox.verdict import Change, Verdict

__all__ = [
    "BACKLOG", "CLASS_OF_RULE", "FORM", "PERMISSION", "RULES", "Rule", "Spec", "load_rules", "rule", "spec_of", "specs",
]  # fmt: skip

Rule = Callable[[OutboundMessage, Facts], Verdict | Change]

PERMISSION: tuple[Rule, ...] = (
    account,
    closed_ticket,
    visibility,
    recipient,
    blocked,
    opt_out,
    suppression,
    answerable,
    private_reply,
    window,
    template,
    loop_guard,
    automatic_answers,
    duplicate,
    repeated,
    quiet_hours,
    empty,
    links,
    paused,
    pace,
)
FORM: tuple[Rule, ...] = (  # in this order: each sees what the one before made of it
    linked_files,
    media,
    parts,
    text_length,
    window_messages,
    reply_token,
)
RULES: tuple[Rule, ...] = PERMISSION + FORM

CLASS_OF_RULE: dict[str, ErrorClass] = {
    "window": "window-closed",
    "answerable": "window-closed",
    "private_reply": "window-closed",
    "opt_out": "opted-out",
    "blocked": "bad-recipient",
    "recipient": "bad-recipient",
    "suppression": "bad-recipient",
    "loop_guard": "policy",
    "account": "permanent",
    "closed_ticket": "permanent",
    "visibility": "permanent",
    "template": "permanent",
    "duplicate": "permanent",
    "links": "permanent",
    "empty": "permanent",
    "media": "permanent",
    "parts": "permanent",
    "text_length": "permanent",
}
"""The error class of a message that a rule stopped after it had been accepted; other rules count as "policy"."""

BACKLOG = frozenset({"paused", "pace"})
"""Rules whose deferral means that sending is behind; what another rule defers is held on purpose."""


@functools.cache
def load_rules(group: str = "channel_gateway.rules") -> tuple[Rule, ...]:
    """The built-in rules and those of installed packages.

    Raises whatever a package raises on import, and ValueError for a name that is taken, for what is no plain function
    and for settings without defaults.
    """
    found: list[Rule] = []
    taken = {spec_of(check).name for check in RULES}
    for point in entry_points(group=group):
        package = point.dist.name if point.dist is not None else point.value
        if point.name in taken:
            raise ValueError(f"the rule {point.name!r} of {package} has a name that is taken")
        taken.add(point.name)
        loaded = point.load()
        function = loaded.check if isinstance(loaded, Declared) else loaded
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise ValueError(f"the rule {point.name!r} of {package} is no plain function")
        check = installed(loaded, point.name, package)
        if check.spec.settings is not None:
            check.spec.settings()
        found.append(check)
    return PERMISSION + tuple(found) + FORM


def specs(rules: Sequence[Rule]) -> tuple[Spec, ...]:
    """The declarations of rules, in the order they run in."""
    return tuple(spec_of(check) for check in rules)
