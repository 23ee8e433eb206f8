"""The envelope around all that Meta posts for a Page or an Instagram account: entries, and lists of events in them.

One POST may carry up to a thousand entries of several accounts: every event is routed by the id of its own entry.
Source: Meta, Graph API, Webhooks getting started; Messenger Platform, Webhooks, 2026-03.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from normalizers._fields import Broken, NotWellFormed, digest, load_json, moment, text
from normalizers._meta_attachments import Item
from normalizers.model import Event, Ignored, Received, Unreadable

_SECONDS, _MILLISECONDS = range(10**8, 10**11), range(10**11, 10**14)  # what a Unix time is counted in, by its size


class Scope(NamedTuple):
    """What the events of one list share. `at` is the entry's moment, which stands in for one that is missing."""

    channel: str
    key: str  # the Page's or Instagram account's id: names the account, and is its own address
    at: datetime
    own: frozenset[str]  # ids that are ourselves
    app: str = ""  # id of our own Meta app, when it is configured
    standby: bool = False  # another application holds the conversation


Reader: TypeAlias = Callable[[Item, Scope, str], tuple[Event, ...]]
"""(item, scope, path) to events. Raises `Broken`."""


def read_entries(received: Received, platform: str, lists: Mapping[str, tuple[str, Reader]]) -> tuple[Event, ...]:
    """The events of one delivery, in the platform's order; at least one for every body. Never raises.

    `platform` is the webhook's "object"; `lists` names the channel and the reader of each list of an entry.
    """
    at, options = received.received_at, received.account.options
    own, app = received.account.own_addresses, options.get("app_id", "")
    channel = lists["messaging"][0]
    try:
        body = load_json(received.body)
    except NotWellFormed as fault:
        return (Unreadable(id=digest(received.body), at=at, channel=channel, path="$", problem=str(fault)),)
    events: list[Event] = []
    entries = body.get("entry") if type(body) is dict and body.get("object", platform) == platform else None
    for index, entry in enumerate(entries if type(entries) is list else ()):
        path = f"$.entry[{index}]"
        if type(entry) is not dict:
            events.append(_unreadable(entry, Scope(channel, "", at, own), path, Broken("", "not an object")))
            continue
        key, moment_ = text(entry, "id"), moment_at(entry, "time", at)
        for name in entry:
            if name in lists:
                channel_of, reader = lists[name]
                scope = Scope(channel_of, key, moment_, own, app, name == "standby")
                _read_list(entry[name], scope, reader, f"{path}.{name}", events)
        if "value" in entry and "changes" in lists:  # seen for Instagram: a change without the list around it
            _read(entry, Scope(lists["changes"][0], key, moment_, own, app), lists["changes"][1], path, events)
    return tuple(events) or (
        Ignored(id=digest(received.body), at=at, channel=channel, path="$", reason=f"no events of a {platform}"),
    )


def _read_list(listed: Any, scope: Scope, reader: Reader, path: str, events: list[Event]) -> None:
    if type(listed) is not list:
        events.append(_unreadable(listed, scope, path, Broken("", "not a list")))
        return
    for index, item in enumerate(listed):
        _read(item, scope, reader, f"{path}[{index}]", events)


def _read(item: Any, scope: Scope, reader: Reader, path: str, events: list[Event]) -> None:
    try:
        if type(item) is not dict:
            raise Broken("", "not an object")
        events += reader(item, scope, path)
    except Broken as fault:
        events.append(_unreadable(item, scope, path, fault))


def _unreadable(item: Any, scope: Scope, path: str, fault: Broken) -> Unreadable:
    return Unreadable(
        id=digest(item), at=scope.at, routing_key=scope.key, channel=scope.channel, path=path + fault.path,
        problem=fault.problem,
    )  # fmt: skip


def ignored(item: Item, scope: Scope, path: str, reason: str) -> tuple[Ignored]:
    """Well-formed and of no use."""
    return (
        Ignored(
            id=digest(item), at=scope.at, routing_key=scope.key, channel=scope.channel, path=path, reason=reason
        ),
    )  # fmt: skip


def moment_at(item: Item, key: str, default: datetime) -> datetime:
    """The Unix time at `key`: messaging counts milliseconds, feeds seconds, and a few samples mix the two."""
    value = item.get(key)
    if type(value) is int:
        if value in _MILLISECONDS:
            return datetime.fromtimestamp(value / 1000, UTC)
        if value in _SECONDS:
            return datetime.fromtimestamp(value, UTC)
    return moment(item, key, default)
