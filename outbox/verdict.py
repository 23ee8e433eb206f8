"""What a rule says about a message: one verdict, with its reason and the way out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from normalizers.model import OutboundMessage

Decision = Literal["allow", "change", "defer", "deny"]

STRENGTH: dict[Decision, int] = {"allow": 0, "change": 1, "defer": 2, "deny": 3}


class Verdict(msgspec.Struct, frozen=True):
    """One rule's word. `until` is when a deferral ends, or the platform's limit a refusal is about.

    `source` is what it rests on: where the rule says nothing here, `judge` fills in what it declares.
    """

    rule: str
    decision: Decision
    reason: str = ""
    source: str = ""
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    remedy: str = ""


class Change(msgspec.Struct, frozen=True):
    """A rule's changed form of a message: one or more parts that leave in this order instead of it."""

    verdict: Verdict
    parts: tuple[OutboundMessage, ...]


ALLOW = Verdict("", "allow")
GATEWAY = "the gateway"  # the source of a verdict that rests on no rule's data


def deny(rule: str, reason: str, remedy: str = "", *, source: str = "", until: datetime | None = None) -> Verdict:
    """The message must not leave as it is; `remedy` says how it would."""
    return Verdict(rule, "deny", reason, source, until, remedy)


def defer(
    rule: str, reason: str, until: datetime, *, source: str = "", remedy: str = "it leaves by itself then"
) -> Verdict:
    """The message may leave, but not before `until`."""
    return Verdict(rule, "defer", reason, source, until, remedy)


def change(rule: str, reason: str, *parts: OutboundMessage, source: str = "") -> Change:
    """The message leaves in the form of `parts`."""
    return Change(Verdict(rule, "change", reason, source), parts)
