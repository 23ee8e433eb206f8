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

from config.follow_up import FollowUp

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
    """When a customer's message goes where: the first of `rules` that fits. Where none does, one that comes to a ticket
    solved longer than `solved_for` makes a new one instead of reopening it."""

    solved_for: timedelta | None = None
    rules: tuple[FollowUp, ...] = ()


class Filing(msgspec.Struct, frozen=True):
    """Where a message goes, and why in a sentence."""

    action: Literal["create", "append", "reopen", "follow_up"]
    reason: str


def file_message(
    status: str | None, since: int | None, now: int, policy: Policy, channel: str = "", account: str = ""
) -> Filing:
    """Where a customer's message goes, given the newest ticket of its conversation (status None: there is none).

    `since` is the moment it was solved, or of its last change while it is not, in microseconds.
    """
    if status is None:
        return Filing("create", "the conversation has no ticket")
    if status == "closed":
        return Filing("follow_up", "the ticket is closed")
    age = timedelta(microseconds=now - (now if since is None else since))
    for place, rule in enumerate(policy.rules, 1):
        if _fits(rule, status, age, channel, account):
            return Filing(_done(rule.action, status), _because(rule, place, status, age))
    if status == "solved":
        if policy.solved_for is not None and age > policy.solved_for:
            return Filing("create", f"solved longer than {policy.solved_for.days} days")
        return Filing("reopen", "the customer answered a solved ticket")
    if status in ("pending", "hold"):
        return Filing("reopen", f"the customer answered a ticket that was {status}")
    return Filing("append", f"the conversation's ticket is {status}")


def _fits(rule: FollowUp, status: str, age: timedelta, channel: str, account: str) -> bool:
    return (
        status in rule.status
        and rule.channel in ("", channel)
        and rule.account in ("", account)
        and age >= timedelta(days=rule.older_than)
    )


def _done(action: Literal["reopen", "create", "append"], status: str) -> Literal["reopen", "create", "append"]:
    return "append" if action == "reopen" and status in ("new", "open") else action


def _because(rule: FollowUp, place: int, status: str, age: timedelta) -> str:
    """Why a rule of the operator's decided, in a sentence."""
    where = ", ".join(
        f"{name} {value}" for name, value in (("channel", rule.channel), ("account", rule.account)) if value
    )
    since = f"{status} for {age.days} days" if age >= timedelta(days=1) else f"{status}"
    limit = f", at least {rule.older_than:g} days" if rule.older_than else ""
    return f"the ticket was {since}: follow_up rule {place} ({where or 'any channel'}{limit}) says {rule.action}"


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
