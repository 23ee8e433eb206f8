"""What a rule may know beside the message: gathered once, so that judging is pure and can be repeated."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import msgspec

from adapters import Channel, ErrorClass, Limits, Pace, PrivateReply
from outbox.policy import USUAL, Policy
from outbox.quiet import NOWHERE_KNOWN, Whereabouts

NOWHERE = Channel("", "", Limits(2**31, "no channel"), Pace(1e9, "no channel"))
"""Stands in for the channel of an account that is not configured: nothing is known, so nothing else is judged."""


# "flagged" warns of low quality, "reinstated" ends a pause (both unverified)
_APPROVED = frozenset({"", "approved", "active", "active - quality pending", "flagged", "reinstated"})


class TemplateFacts(msgspec.Struct, frozen=True):
    """What a catalogue tells of a template. `parameters` None: not known."""

    name: str
    language: str = ""
    status: str = "approved"
    category: str = ""
    parameters: int | None = None

    @property
    def approved(self) -> bool:
        """Whether the platform lets it be sent."""
        return self.status.lower() in _APPROVED


class Answered(msgspec.Struct, frozen=True):
    """The customer's message that is answered: `at` is the platform's moment of it, `flags` what its normaliser saw."""

    id: str
    at: datetime
    flags: frozenset[str] = frozenset()
    deleted: bool = False


def private_side(channel: Channel, reply: PrivateReply) -> Channel:
    """A public channel as it is for its private replies: their own limits and pace, and none of the public's rules."""
    return replace(
        channel, private=True, limits=reply.limits, pace=reply.pace, answer_rules=(), repeats=None, duplicates="",
        automatic_per_message=None,
    )  # fmt: skip


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
    `opened_at` is the platform's moment of what last opened the window, `window_used` our messages since, counted where
    one of the account's windows limits them; below zero where an allowance gave more than was left. `private_reply` is
    set when the message is one: `channel` is then the private side of its channel.
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
    window_waiting: int = 0  # messages accepted before this one that have not left and will count
    allowed_until: datetime | None = None  # until when an `Allowance` lets messages pass, window or not
    parts: int = 1  # in how many the whole message leaves, as far as the rules have put it into form
    template: TemplateFacts | None = None  # None: no template, or none any catalogue knows
    template_languages: tuple[str, ...] = ()  # all it can be sent in; (): not known, or any
    approved_template: str = ""  # one that could be sent instead
    own_addresses: frozenset[str] = frozenset()  # lower case
    paused_until: datetime | None = None
    pause_reason: str = ""
    pause_class: ErrorClass | None = None
    pair_until: datetime | None = None  # before this, the platform's pace for one person forbids another message
    automatic: bool = False  # no person wrote it
    automatic_hour: int = 0  # automatic messages to this person within the last hour
    automatic_day: int = 0
    answers_automatic: bool = False  # the customer's last message was itself automatic
    policy: Policy = USUAL
    where: Whereabouts = NOWHERE_KNOWN  # gathered for marketing only
    ping_pong: int = 0  # automatic messages of ours that were answered within seconds, in the last minutes
    human: bool = False  # a person wrote it: neither a bot nor anything automatic
    answered: Answered | None = None
    last: Answered | None = None  # the customer's last message in private, where an answer rule asks for it
    answered_automatic: int = 0  # automatic answers the answered message has had, bots' included
    private_reply: PrivateReply | None = None
    private_used: int = 0  # private replies the answered message has had, or may have had
    reply_token: str = ""  # the newest one of the conversation that nobody has used
    reply_token_until: datetime | None = None
    repeated_to: int = 0  # other people who got these words within the channel's time
    said_again: bool = False  # the same words went to this person a moment ago, in answer to the same
    suppressed: tuple[Suppressed, ...] = ()  # entries of the suppression list about its recipients
