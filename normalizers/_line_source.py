"""Who and where: the source of a LINE event, its moment and its names. Source: LINE, webhook.yml, 2026-07."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from normalizers._fields import Broken, digest, mapping, moment, text
from normalizers.model import PRIVATE, Address, Context, Person, Thread

CHANNEL = "line"

Item: TypeAlias = Mapping[str, Any]

_SHARED = {"group": "groupId", "room": "roomId"}
_MILLISECONDS = range(10**12, 10**13)  # 2001 to 2286


class Scope(NamedTuple):
    """What the events of one delivery share. `routing_key` is the user id of the bot they are for."""

    routing_key: str
    received_at: datetime


def address(user_id: str) -> Address:
    """User ids mean the same person within one provider only; an account knows no other's (unverified)."""
    return Address(CHANNEL, "user_id", user_id)


def person_of(user_id: str, event_id: str) -> Person:
    """The person, or a placeholder by the event's id: in groups LINE may keep back who wrote."""
    if user_id:
        return Person((Address(CHANNEL, "user_id", user_id),))
    return Person((Address(CHANNEL, "anonymous", event_id, evidence="claimed"),))


def source_of(item: Item) -> tuple[str, Thread]:
    """The user's id, "" where LINE keeps it back, and the conversation. Raises `Broken`.

    The prefix of a thread's key tells a group (C) from a room (R).
    """
    source = item.get("source")
    if type(source) is not dict:
        raise Broken(".source", "missing")
    kind, user_id = source.get("type"), text(source, "userId") if "userId" in source else ""
    if kind == "user":
        if not user_id:
            raise Broken(".source.userId", "missing")
        return user_id, PRIVATE
    name = _SHARED.get(kind) if type(kind) is str else None
    if name is None:
        raise Broken(".source.type", "neither user, group nor room")
    key = text(source, name)
    if not key:
        raise Broken(f".source.{name}", "missing")
    return user_id, Thread(kind="group", key=key)


def known_source(item: Item) -> tuple[Person | None, Thread]:
    """The same for events that may name nobody."""
    try:
        user_id, thread = source_of(item)
    except Broken:
        return None, PRIVATE
    return (Person((address(user_id),)) if user_id else None), thread


def moment_of(item: Item, scope: Scope) -> datetime:
    """When it happened, in milliseconds; a redelivered event keeps its own moment."""
    given = item.get("timestamp")
    if type(given) is int and given in _MILLISECONDS:
        return datetime.fromtimestamp(given / 1000, UTC)
    return moment(item, "timestamp", scope.received_at)


def event_id(item: Item) -> str:
    """`webhookEventId`, equal over redeliveries."""
    return text(item, "webhookEventId") or digest(item)


def on_standby(item: Item) -> bool:
    """Another module holds the conversation: what comes is kept, and nothing may be answered."""
    return item.get("mode") == "standby"


def right_to_answer(item: Item) -> Context | None:
    """The reply token of an event that is no message."""
    token = "" if on_standby(item) else text(item, "replyToken")
    return Context(reply_token=token) if token else None


def part_of(item: Item, key: str) -> Item:
    """The object at `key`. Raises `Broken`."""
    found = mapping(item, key)
    if not found:
        raise Broken(f".{key}", "missing")
    return found
