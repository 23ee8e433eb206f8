"""A ticket's life, open to closed: who may change what, and where a customer's message goes. Pure.

    new -> open -> pending / hold -> solved -> closed

A message follows up the open ticket of its conversation, reopens a solved one, and never touches a closed one: that
makes a follow-up ticket, each linked to the other (C20).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

Status = Literal["new", "open", "pending", "hold", "solved", "closed"]
Priority = Literal["low", "normal", "high", "urgent"]
STATUSES: tuple[str, ...] = get_args(Status)
MESSAGING_TAG = "messaging_support"
VIA_CLOSED = "closed_ticket"
SUBJECT_MAX = 120  # characters, of a subject made from a text


class TicketError(Exception):
    """Base of what can be wrong with a change."""


class NoSuchTicket(TicketError):
    """There is no ticket with this id."""


class TicketClosed(TicketError):
    """A closed ticket takes no change but its followers."""


class Actor(msgspec.Struct, frozen=True):
    """Who did something. `id` is a user's, a contact's or an API key's; empty for the system itself."""

    type: Literal["customer", "agent", "bot", "system", "platform"]
    id: str = ""
    name: str = ""


SYSTEM = Actor("system")


class Entry(msgspec.Struct, frozen=True):
    """One line of a ticket's event log: what, by whom, and the details of why."""

    kind: str
    actor: Actor
    data: dict[str, Any]


class Patch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The changes of a PATCH; what is unset stays."""

    status: Status | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    assignee: str | UnsetType | None = UNSET
    group: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    fields: dict[str, Any] | UnsetType = UNSET
    subject: str | UnsetType = UNSET


class Policy(msgspec.Struct, frozen=True):
    """When a customer's message goes where. Solved longer than `solved_for`: a new ticket instead of reopening."""

    solved_for: timedelta | None = None


class Filing(msgspec.Struct, frozen=True):
    """Where a message goes, and why in a sentence."""

    action: Literal["create", "append", "reopen", "follow_up"]
    reason: str


def file_message(status: str | None, solved_at: int | None, now: int, policy: Policy) -> Filing:
    """Where a customer's message goes, given the newest ticket of its conversation (status None: there is none)."""
    if status is None:
        return Filing("create", "the conversation has no ticket")
    if status == "closed":
        return Filing("follow_up", "the ticket is closed")
    if status == "solved":
        age = timedelta(microseconds=now - (solved_at or now))
        if policy.solved_for is not None and age > policy.solved_for:
            return Filing("create", f"solved longer than {policy.solved_for.days} days")
        return Filing("reopen", "the customer answered a solved ticket")
    if status in ("pending", "hold"):
        return Filing("reopen", f"the customer answered a ticket that was {status}")
    return Filing("append", f"the conversation's ticket is {status}")


def subject_of(text: str, kind: str) -> str:
    """A subject for a message that has none: the first line of its text, or its kind in brackets."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if not line:
        return f"[{kind}]"
    return line if len(line) <= SUBJECT_MAX else line[: SUBJECT_MAX - 1].rstrip() + "…"


def channel_tags(channel: str, messaging: bool) -> list[str]:
    """The tags a ticket gets when it is made (S5)."""
    return [channel, MESSAGING_TAG] if messaging else [channel]


def changes(current: dict[str, Any], patch: Patch) -> dict[str, tuple[Any, Any]]:
    """What a patch really changes: field to (before, after). Raises `TicketClosed`.

    `current` has the ticket's fields under the names of `Patch`. Tags are made unique and keep their order.
    """
    if current["status"] == "closed":
        raise TicketClosed
    found: dict[str, tuple[Any, Any]] = {}
    for name in patch.__struct_fields__:
        value = getattr(patch, name)
        if value is UNSET:
            continue
        if name == "tags":
            value = list(dict.fromkeys(tag.strip() for tag in value if tag.strip()))
        elif name == "fields":
            value = {key: item for key, item in {**current["fields"], **value}.items() if item is not None}
        elif name in ("assignee", "group"):
            value = value or ""
        if value != current[name]:
            found[name] = (current[name], value)
    return found
