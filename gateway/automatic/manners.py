"""When a machine may write to a person, purely."""

from __future__ import annotations

from collections.abc import Collection

_UNWELCOME = frozenset(
    {
        "null_sender", "no_sender", "report", "system_sender", "no_auto_answer", "unknown_sender", "unaligned",
        "sender_guessed", "not_addressed", "spam", "opt_out", "forwarded_by_user",
    }
)  # fmt: skip
"""Flags of a message that no machine must answer: from nobody or a mail system, asked not to, from a stranger or a
forger, by a list, sent on by one of us. A person who releases such a message wants it read, not answered by a
machine."""


def objection(automatic: str, flags: Collection[str]) -> str:
    """Why no machine must answer a message, "" when one may (RFC 3834, section 2)."""
    if automatic:
        return f"it is automatic itself ({automatic})"
    return ", ".join(sorted(_UNWELCOME.intersection(flags)))


def status_event(before: str, after: str, *, told: bool) -> str:
    """The event a change of status is, "" for none. `told`: a message to the customer went with it."""
    if after == before or after == "closed":
        return ""
    if after == "solved":
        return "solved"
    return "" if told else "updated"
