"""WhatsApp Cloud API webhooks. Sources: Meta, WhatsApp Cloud API, Webhooks overview and its references, 2026-05;
Changelog, 2026-08 (business-scoped user ids).

One POST may carry many changes for several phone numbers: every event is routed by the number of its own change. Fields
that concern the whole WhatsApp business account carry no number and are routed by the account's id.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

from normalizers._fields import Broken, NotWellFormed, digest, load_json, mapping, text
from normalizers._whatsapp_messages import echo, message
from normalizers._whatsapp_people import CHANNEL, Change, Item, by_id, digits, name_of
from normalizers._whatsapp_reports import account_event, call, error, preference, status, stopped
from normalizers.model import Event, Ignored, Received, Unreadable

_Readers: TypeAlias = tuple[Callable[[Item, Change, str], Event | None], ...]
_READERS: dict[str, _Readers] = {
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
            changes = entry.get("changes") if type(entry) is dict else None
            if type(changes) is not list:
                events.append(_unreadable(entry, at, "", f"$.entry[{index}]", Broken(".changes", "missing")))
                continue
            for position, change in enumerate(changes):
                _change(change, entry, f"$.entry[{index}].changes[{position}]", at, events)
    return tuple(events) or (
        Ignored(id=digest(received.body), at=at, channel=CHANNEL, path="$", reason="no WhatsApp events"),
    )


def _change(change: Any, entry: Item, path: str, at: datetime, events: list[Event]) -> None:
    value: Item | None = change.get("value") if type(change) is dict else None
    if type(value) is not dict:
        events.append(_unreadable(change, at, text(entry, "id"), path, Broken(".value", "missing")))
        return
    metadata = mapping(value, "metadata")
    key = text(metadata, "phone_number_id") or text(entry, "id")
    own = text(metadata, "display_phone_number")
    scope = Change(value, key, by_id(value), at, own if own.isdecimal() else digits(own), entry)
    before, field = len(events), change.get("field")
    if type(field) is not str or field not in _PASSIVE:
        for name, listed in value.items():
            if name in _READERS and type(listed) is list:
                if name == "errors" and value.get("messages"):
                    continue  # they belong to the message
                _read(listed, _READERS[name], scope, f"{path}.value.{name}", events)
    if len(events) == before:
        events.append(account_event(text(change, "field"), scope, f"{path}.value"))


def _read(listed: list[Any], readers: _Readers, scope: Change, path: str, events: list[Event]) -> None:
    for index, item in enumerate(listed):
        where = f"{path}[{index}]"
        try:
            if type(item) is not dict:
                raise Broken("", "not an object")
            for read in readers:
                if (event := read(item, scope, where)) is not None:
                    events.append(event)
        except Broken as fault:
            events.append(_unreadable(item, scope.received_at, scope.routing_key, where, fault))


def _unreadable(item: Any, at: datetime, key: str, path: str, fault: Broken) -> Unreadable:
    name = (text(item, "id") if type(item) is dict else "") or name_of(item)
    return Unreadable(
        id=name, at=at, routing_key=key, channel=CHANNEL, path=path + fault.path, problem=fault.problem
    )  # fmt: skip
