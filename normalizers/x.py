"""X: posts that mention us or answer us, and direct messages, in both envelopes.

Sources: X, X Activity API, Event payloads; Account Activity API, Introduction; Post object, 2026-08. The newer envelope
holds one event (`data.event_type`), the older one lists of events by kind beside `for_user_id`. Encrypted chats cannot
be read: that something came is shown. Every item is filed by its own id, so a post from two subscriptions is one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from normalizers._fields import Broken, NotWellFormed, digest, load_json, mapping, text
from normalizers._x_direct import chat, direct, follow, read, revoked
from normalizers._x_people import DIRECT, PUBLIC, Item, Scope, all_of, by_id, flagged, moment_of, people
from normalizers._x_posts import block, like, post, post_deleted
from normalizers.model import Event, Ignored, Received, Unreadable

_Reader = Callable[[Item, Scope, str], list[Event]]

_PUBLIC_EVENTS = ("post.mention.create", "post.reply.create", "post.quote.create", "post.repost.create", "post.create")
_CURRENT: dict[str, _Reader] = {
    **dict.fromkeys(_PUBLIC_EVENTS, post),
    "post.delete": post_deleted,
    "chat.received": chat,
    "chat.sent": chat,
    "oauth.revoke": revoked,
    "block.block": lambda item, scope, path: block(item, scope, path, "block"),
    "block.unblock": lambda item, scope, path: block(item, scope, path, "unblock"),
    "follow.follow": follow,
    "follow.unfollow": lambda item, scope, path: follow({**item, "type": "unfollow"}, scope, path),
}
"""Event type -> how its payload is read."""

_CURRENT_LISTS: dict[str, tuple[str, _Reader]] = {
    "dm.received": ("direct_message_events", direct),
    "dm.sent": ("direct_message_events", direct),
    "dm.read": ("direct_message_mark_read_events", read),
}
"""Event type -> the list in its payload, and how an item of it is read."""

_LISTS: dict[str, _Reader] = {
    "direct_message_events": direct,
    "tweet_create_events": post,
    "tweet_delete_events": post_deleted,
    "direct_message_mark_read_events": read,
    "follow_events": follow,
    "block_events": lambda item, scope, path: block(item, scope, path, text(item, "type")),
    "favorite_events": like,
}
"""The older envelope: list -> how an item of it is read."""


def normalize(received: Received) -> tuple[Event, ...]:
    """Turn one delivery into events, in X's order; at least one for every body. Never raises."""
    at = received.received_at
    try:
        body = load_json(received.body)
    except NotWellFormed as fault:
        return (Unreadable(id=digest(received.body), at=at, channel=PUBLIC, path="$", problem=str(fault)),)
    events: list[Event] = []
    if type(body) is dict:
        data = body.get("data")
        if type(data) is dict and "event_type" in data:
            _current(data, received, events)
        else:
            _legacy(body, received, events)
    return tuple(events) or (
        Ignored(id=digest(received.body), at=at, channel=PUBLIC, path="$", reason="no event of X"),
    )


def _current(data: Item, received: Received, events: list[Event]) -> None:
    payload, includes = mapping(data, "payload"), mapping(data, "includes")
    kind, own = text(data, "event_type"), text(mapping(data, "filter"), "user_id")
    users = people(payload.get("users"))
    if "users" in includes:
        users = {**by_id(includes["users"]), **users}
    scope = Scope(
        own,
        all_of(own, received.account.own_addresses),
        users,
        received.received_at,
        text(data, "event_uuid"),
        mapping(payload, "apps"),
        by_id(includes["media"], "media_key") if "media" in includes else {},
        by_id(includes["tweets"]) if "tweets" in includes else {},
    )
    if kind in _CURRENT_LISTS:
        name, reader = _CURRENT_LISTS[kind]
        _each(payload, name, reader, scope, "$.data.payload", events)
        if not events:
            events.append(_unreadable(data, scope, DIRECT, "$.data.payload", Broken(f".{name}", "missing")))
    elif (read_item := _CURRENT.get(kind)) is not None:
        _one(payload, read_item, scope, "$.data.payload", events)
    else:
        events.append(_ignored(data, scope, f"event {kind!r}", "$.data"))


def _legacy(body: Item, received: Received, events: list[Event]) -> None:
    own = text(body, "for_user_id")
    scope = Scope(
        own,
        all_of(own, received.account.own_addresses),
        people(body.get("users")),
        received.received_at,
        apps=mapping(body, "apps"),
        blocked_us=flagged(body, "is_blocked_by"),
        blocked_by_us=flagged(body, "user_has_blocked"),
    )
    for name, value in body.items():
        if name in _LISTS:
            _each(body, name, _LISTS[name], scope, "$", events)
        elif name == "user_event":
            _one(mapping(mapping(body, name), "revoke"), revoked, scope, "$.user_event.revoke", events)
        elif name == "replay_job_status":
            events.append(_ignored({name: value}, scope, "a replay ended", f"$.{name}"))
        elif name.endswith("_events"):  # typing, mutes, what is yet to come
            events.append(_ignored({name: value}, scope, f"event {name!r}", f"$.{name}"))


def _each(holder: Item, name: str, reader: _Reader, scope: Scope, path: str, events: list[Event]) -> None:
    listed = holder.get(name)
    for index, item in enumerate(listed if type(listed) is list else ()):
        _one(item, reader, scope, f"{path}.{name}[{index}]", events)


def _one(item: Any, reader: _Reader, scope: Scope, path: str, events: list[Event]) -> None:
    try:
        if type(item) is not dict:
            raise Broken("", "not an object")
        events += reader(item, scope, path)
    except Broken as fault:
        channel = DIRECT if reader in (direct, read, chat) else PUBLIC
        events.append(_unreadable(item, scope, channel, path, fault))


def _ignored(item: Item, scope: Scope, reason: str, path: str) -> Ignored:
    return Ignored(
        id=scope.delivery or digest(item), at=moment_of(item, scope), routing_key=scope.own, channel=PUBLIC, path=path,
        reason=reason,
    )  # fmt: skip


def _unreadable(item: Any, scope: Scope, channel: str, path: str, fault: Broken) -> Unreadable:
    name = (text(item, "id") or text(item, "id_str")) if type(item) is dict else ""
    at: datetime = scope.received_at
    return Unreadable(
        id=name or digest(item), at=at, routing_key=scope.own, channel=channel, path=path + fault.path,
        problem=fault.problem,
    )  # fmt: skip
