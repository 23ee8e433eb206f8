"""What a rule may know beside the message: gathered once, so that judging is pure and can be repeated."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from adapters import Channel, Limits, Pace

NOWHERE = Channel("", "", Limits(2**31, "no channel"), Pace(1e9, "no channel"))
"""Stands in for the channel of an account that is not configured: nothing is known, so nothing else is judged."""


class TemplateFacts(msgspec.Struct, frozen=True):
    """What a catalogue tells of a template. `parameters` None: not known."""

    name: str
    language: str = ""
    status: str = "approved"
    category: str = ""
    parameters: int | None = None


def folded(address: str) -> str:
    """An address as the suppression list compares it."""
    return address.strip().casefold()


class Suppressed(msgspec.Struct, frozen=True):
    """An entry of the suppression list about one of a message's recipients; `address` is folded."""

    address: str
    scope: str = "all"  # all, automatic, marketing
    reason: str = ""  # bounce, complaint, manual
    detail: str = ""
    expires_at: int | None = None  # microseconds since 1970 UTC

    @property
    def until(self) -> datetime | None:
        """When it ends by itself, if it does."""
        return None if self.expires_at is None else datetime.fromtimestamp(self.expires_at / 1_000_000, UTC)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The world at `now`, as far as one message is concerned.

    `queued` is True once the message was accepted: what concerns only its acceptance (a closed ticket) is then settled.
    `opened_at` is the platform's moment of what last opened the window, `window_used` our messages since.
    """

    now: datetime
    channel: Channel
    configured: bool = True
    queued: bool = False
    ticket_status: str = "open"
    ticket_account: str = ""
    identity_state: Literal["active", "opted_out", "blocked"] = "active"
    optouts: frozenset[str] = frozenset()
    opened_at: datetime | None = None
    window_used: int = 0
    template: TemplateFacts | None = None  # None: no template, or none any catalogue knows
    approved_template: str = ""  # one that could be sent instead
    own_addresses: frozenset[str] = frozenset()  # lower case
    paused_until: datetime | None = None
    pause_reason: str = ""
    pair_until: datetime | None = None  # before this, the platform's pace for one person forbids another message
    automatic: bool = False  # no person wrote it
    automatic_hour: int = 0  # automatic messages to this person within the last hour
    automatic_day: int = 0
    answers_automatic: bool = False  # the customer's last message was itself automatic
    suppressed: tuple[Suppressed, ...] = ()  # entries of the suppression list about its recipients
