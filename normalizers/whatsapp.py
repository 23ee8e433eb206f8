"""WhatsApp Cloud API webhooks. Sources: Meta, WhatsApp Cloud API, Webhooks overview and its references, 2026-05;
Changelog, 2026-08 (business-scoped user ids).

One POST may carry many changes for several phone numbers: every event is routed by the number of its own change. Fields
that concern the whole WhatsApp business account carry no number and are routed by the account's id.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from normalizers._fields import Broken, NotWellFormed, digest, load_json, mapping, text
from normalizers._whatsapp_messages import echo, message
from normalizers._whatsapp_people import CHANNEL, Change, Item, by_id, digits, name_of
from normalizers._whatsapp_reports import account_event, call, error, preference, status, stopped
from normalizers.model import Event, Ignored, Received, Unreadable

_READERS: dict[str, tuple[Callable[[Item, Change, str], Event | None], ...]] = {
    "messages": (message,),
    "statuses": (status, stopped),
    "message_echoes": (echo,),
    "user_preferences": (preference,),
    "calls": (call,),
    "errors": (error,),
}
"""What a change may hold, whatever its field is called."""

_PASSIVE = frozenset({"standby", "history", "smb_app_state_sync"})
"""Fields that repeat what happened elsewhere: another agent holds the thread, or the app's past is copied."""


def normalize(received: Received) -> tuple[Event, ...]:
    """Turn one delivery into events, in the platform's order; at least one for every body.

    Never raises: a message of an unknown type becomes an `InboundMessage` of kind "unsupported", another unknown event
    `Ignored`, and an item that breaks its format `Unreadable` with its path; the others go on.
    """
    at = received.received_at
    try:
        body = load_json(received.body)
    except NotWellFormed as fault:
        return (Unreadable(id=digest(received.body), at=at, channel=CHANNEL, path="$", problem=str(fault)),)
    events: list[Event] = []
    entries = body.get("entry") if type(body) is dict else None
    if type(entries) is list and body.get("object", "whatsapp_business_account") == "whatsapp_business_account":
        for index, entry in enumerate(entries):
            path = f"$.entry[{index}]"
            changes = entry.get("changes") if type(entry) is dict else None
            if type(changes) is not list:
                events.append(_unreadable(entry, at, "", path, Broken(".changes", "missing")))
                continue
            for position, change in enumerate(changes):
                _change(change, entry, f"{path}.changes[{position}]", at, events)
    return tuple(events) or (
        Ignored(id=digest(received.body), at=at, channel=CHANNEL, path="$", reason="no WhatsApp events"),
    )


def _change(change: Any, entry: Item, path: str, at: datetime, events: list[Event]) -> None:
    waba = text(entry, "id")
    if type(change) is not dict or type(change.get("value")) is not dict:
        events.append(_unreadable(change, at, waba, path, Broken(".value", "missing")))
        return
    value: Item = change["value"]
    field, path = text(change, "field"), f"{path}.value"
    metadata = mapping(value, "metadata")
    key = text(metadata, "phone_number_id") or waba
    scope = Change(value, key, by_id(value), at, digits(text(metadata, "display_phone_number")), entry)
    lists = [name for name in value if name in _READERS and type(value[name]) is list]
    if value.get("messages") and "errors" in lists:
        lists.remove("errors")  # they belong to the message
    if not lists or field in _PASSIVE:
        events.append(account_event(field, scope, path))
        return
    for name in lists:
        for index, item in enumerate(value[name]):
            where = f"{path}.{name}[{index}]"
            try:
                if type(item) is not dict:
                    raise Broken("", "not an object")
                for read in _READERS[name]:
                    if (event := read(item, scope, where)) is not None:
                        events.append(event)
            except Broken as fault:
                events.append(_unreadable(item, at, key, where, fault))


def _unreadable(item: Any, at: datetime, key: str, path: str, fault: Broken) -> Unreadable:
    name = (text(item, "id") if type(item) is dict else "") or name_of(item)
    return Unreadable(
        id=name, at=at, routing_key=key, channel=CHANNEL, path=path + fault.path, problem=fault.problem
    )  # fmt: skip
