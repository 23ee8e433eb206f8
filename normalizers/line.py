"""LINE webhooks. Sources: LINE, Messaging API, Receive messages (webhook); Messaging API reference, 2026-07.

One POST may carry events of many people, some of them seen before: each event stands for itself. A message goes by
`message.id`, everything else by `webhookEventId`. LINE adds fields and types without notice.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from normalizers._fields import Broken, NotWellFormed, digest, load_json, mapping, plain, text
from normalizers._line_content import context_of, mentions_us, part
from normalizers._line_events import EVENTS, Read
from normalizers._line_source import (
    CHANNEL,
    Item,
    Scope,
    event_id,
    moment_of,
    on_standby,
    part_of,
    person_of,
    right_to_answer,
    source_of,
)
from normalizers.model import (
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Person,
    Received,
    Thread,
    ThreadControl,
    Unreadable,
)

_TEST_TOKENS = frozenset({"0" * 32, "f" * 32})
"""Reply tokens of the events the console invents to test a webhook."""

_PICKED = ("datetime", "date", "time")
_STANDBY = ("standby",)


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
    key = text(body, "destination") if type(body) is dict else ""
    listed = body.get("events") if type(body) is dict else None
    if type(listed) is list:
        scope = Scope(key, at)
        for index, item in enumerate(listed):
            path = f"$.events[{index}]"
            try:
                events += _read(item, scope, path)
            except Broken as fault:
                events.append(_unreadable(item, scope, path, fault))
    return tuple(events) or (_nothing(received.body, key, at),)


def _nothing(body: bytes, key: str, at: datetime) -> Ignored:
    """An empty list is how the console tests an address."""
    return Ignored(id=digest(body), at=at, routing_key=key, channel=CHANNEL, path="$", reason="no events")


def _unreadable(item: Any, scope: Scope, path: str, fault: Broken) -> Unreadable:
    return Unreadable(
        id=event_id(item) if type(item) is dict else digest([item]), at=scope.received_at,
        routing_key=scope.routing_key, channel=CHANNEL, path=path + fault.path, problem=fault.problem,
    )  # fmt: skip


def _read(item: Any, scope: Scope, path: str) -> tuple[Event, ...]:
    if type(item) is not dict:
        raise Broken("", "not an object")
    kind = item.get("type")
    if type(kind) is not str:
        raise Broken(".type", "missing")
    read, token = _READERS.get(kind), item.get("replyToken")
    if read is not None and not (type(token) is str and token in _TEST_TOKENS):
        return read(item, scope, path)
    reason = f"event {kind!r}" if read is None else "a test event of the console"
    ignored = Ignored(
        id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        reason=reason,
    )  # fmt: skip
    return (ignored,)


def _message(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    message = item.get("message")
    if type(message) is not dict:
        raise Broken(".message", "missing")
    name = text(message, "id")
    if not name:
        raise Broken(".message.id", "missing")
    user_id, thread = source_of(item)
    standby = item.get("mode") == "standby"
    kind, words, files, content = part(message)
    sender = person_of(user_id, name)
    flags = _STANDBY if standby else ()
    event = InboundMessage(
        id=name,
        at=moment_of(item, scope),
        routing_key=scope.routing_key,
        channel=CHANNEL,
        path=path,
        sender=sender,
        kind=kind,
        text=words,
        attachments=files,
        content=content,
        context=context_of(message, "" if standby else text(item, "replyToken")),
        thread=thread,
        flags=(*flags, "mentioned") if "mention" in message and mentions_us(message) else flags,
    )
    return (event, _held_elsewhere(item, scope, path, sender, thread)) if standby else (event,)


def _postback(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """A button pressed. It has no message id; what an agent reads is the moment picked, else the button's data."""
    postback = part_of(item, "postback")
    data, params = text(postback, "data"), mapping(postback, "params")
    picked = next((value for key in _PICKED if (value := text(params, key))), "")
    user_id, thread = source_of(item)
    name, standby = event_id(item), on_standby(item)
    sender = person_of(user_id, name)
    event = InboundMessage(
        id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path, sender=sender,
        kind="interactive", text=picked or data, content=Interactive(data, type="postback", values=plain(params)),
        context=right_to_answer(item), thread=thread, flags=_STANDBY if standby else (),
    )  # fmt: skip
    return (event, _held_elsewhere(item, scope, path, sender, thread)) if standby else (event,)


def _held_elsewhere(item: Item, scope: Scope, path: str, person: Person, thread: Thread) -> ThreadControl:
    return ThreadControl(
        id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        person=person, action="standby", thread=thread,
    )  # fmt: skip


_READERS: dict[str, Read] = {"message": _message, "postback": _postback, **EVENTS}
