"""The envelope around all that Meta posts for a Page or an Instagram account: entries, and lists of events in them.

One POST may carry up to a thousand entries of several accounts: every event is routed by the id of its own entry.
Source: Meta, Graph API, Webhooks getting started; Messenger Platform, Webhooks, 2026-03.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from normalizers._fields import Broken, NotWellFormed, digest, load_json, moment, text
from normalizers._meta_attachments import Item
from normalizers.model import Event, Ignored, Received, Unreadable

_NEVER = datetime.min.replace(tzinfo=UTC)


class Scope(msgspec.Struct, frozen=True, gc=False):
    """What the events of one list share."""

    channel: str
    key: str  # the Page's or Instagram account's id: names the account, and is its own address
    entry: Item
    received_at: datetime
    own: frozenset[str]  # ids that are ourselves
    app: str = ""  # id of our own Meta app, when it is configured
    standby: bool = False  # another application holds the conversation

    @property
    def at(self) -> datetime:
        """The entry's moment, which stands in for one that is missing. Looked at only then: most items have theirs."""
        return _unix(self.entry, "time") or self.received_at


Reader: TypeAlias = Callable[[Item, Scope, str], tuple[Event, ...]]
"""(item, scope, path) to events. Raises `Broken`."""


def read_entries(received: Received, platform: str, lists: Mapping[str, tuple[str, Reader]]) -> tuple[Event, ...]:
    """The events of one delivery, in the platform's order; at least one for every body. Never raises.

    `platform` is the webhook's "object"; `lists` names the channel and the reader of each list of an entry.
    """
    at, account = received.received_at, received.account
    own, app = account.own_addresses, account.options.get("app_id", "")
    first = lists["messaging"][0]
    try:
        body = load_json(received.body)
    except NotWellFormed as fault:
        return (Unreadable(id=digest(received.body), at=at, channel=first, path="$", problem=str(fault)),)
    events: list[Event] = []
    entries = body.get("entry") if type(body) is dict and body.get("object", platform) == platform else None
    for index, entry in enumerate(entries if type(entries) is list else ()):
        if type(entry) is not dict:
            nowhere = Scope(first, "", {}, at, own)
            events.append(_unreadable(entry, nowhere, f"$.entry[{index}]", Broken("", "not an object")))
            continue
        key = text(entry, "id")
        for name, listed in entry.items():
            if (found := lists.get(name)) is None:
                continue
            channel, reader = found
            scope = Scope(channel, key, entry, at, own, app, name == "standby")
            if type(listed) is not list:
                events.append(_unreadable(listed, scope, f"$.entry[{index}].{name}", Broken("", "not a list")))
                continue
            for place, item in enumerate(listed):
                _read(item, scope, reader, f"$.entry[{index}].{name}[{place}]", events)
        if "value" in entry and "changes" in lists:  # seen for Instagram: a change without the list around it
            channel, reader = lists["changes"]
            _read(entry, Scope(channel, key, entry, at, own, app), reader, f"$.entry[{index}]", events)
    if not events:
        reason = f"no events of the kind {platform!r}"
        return (Ignored(id=digest(received.body), at=at, channel=first, path="$", reason=reason),)
    return tuple(events)


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


def moment_at(item: Item, key: str, scope: Scope) -> datetime:
    """The Unix time at `key`, else the entry's."""
    return _unix(item, key) or scope.at


def _unix(item: Item, key: str) -> datetime | None:
    """Messaging counts milliseconds, feeds seconds, and a few samples mix the two: the size tells."""
    value = item.get(key)
    if type(value) is int:
        if 100_000_000_000 <= value < 100_000_000_000_000:
            return datetime.fromtimestamp(value / 1000, UTC)
        if 100_000_000 <= value < 100_000_000_000:
            return datetime.fromtimestamp(value, UTC)
    return None if (found := moment(item, key, _NEVER)) is _NEVER else found
