"""Who and when in X's events: users in any of their wrappings, moments in any of their units."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from normalizers._fields import mapping, moment, plain, text
from normalizers.model import Address, Person

PUBLIC, DIRECT = "x", "x_dm"
Item: TypeAlias = Mapping[str, Any]

_NOTHING: Item = MappingProxyType({})
_EPOCH_MS = 1288834974657  # of X's ids. Source: X, X IDs, 2026-08: the time stands above the lowest 22 bits
_MILLISECONDS = ("created_timestamp", "timestamp_ms", "created_at_msec")
_PROFILE = frozenset(
    {"description", "location", "profile_image_url", "profile_image_url_https", "verified", "verified_type",
     "followers_count", "public_metrics"}
)  # fmt: skip


class Scope(msgspec.Struct, frozen=True, gc=False):
    """What the items of one delivery share. `own`: whose events these are; `ours`: all accounts of ours."""

    own: str
    ours: frozenset[str]
    users: Mapping[str, Item]
    received_at: datetime
    delivery: str = ""  # X's id of the event, where it has one
    apps: Item = _NOTHING
    media: Mapping[str, Item] = _NOTHING
    posts: Mapping[str, Item] = _NOTHING
    blocked_us: bool = False
    blocked_by_us: bool = False


def unwrapped(value: Any) -> Item:
    """A user or post given bare or as {"data": {...}}: the documentation shows both."""
    if type(value) is not dict:
        return {}
    inner = value.get("data")
    return inner if type(inner) is dict else value


def by_id(value: Any, key: str = "id") -> dict[str, Item]:
    """Objects by their id, from a list or from an object that has ids for names."""
    found: dict[str, Item] = {}
    if not value:
        return found
    for entry in value if type(value) is list else value.values() if type(value) is dict else ():
        if type(entry) is dict:
            inner = entry.get("data")
            item = inner if type(inner) is dict else entry
            if name := text(item, key):
                found[name] = item
    return found


def people(value: Any) -> Mapping[str, Any]:
    """Users by their ids, as a list or as they come; `person` unwraps them."""
    return value if type(value) is dict else by_id(value)


def user_id(user: Item) -> str:
    """As text: the number beside it loses digits in many readers."""
    return text(user, "id_str" if "id_str" in user else "id")


def all_of(own: str, known: frozenset[str]) -> frozenset[str]:
    """All accounts of ours, the one an event is for among them."""
    return known if not own or own in known else known | {own}


def address(value: str) -> Address:
    return Address(PUBLIC, "user_id", value, "platform")


def person(value: str, users: Mapping[str, Item], given: Item | None = None) -> Person:
    """The person with this id, of users in any wrapping. Handles change, so nothing is keyed by them."""
    user = unwrapped(users.get(value)) or given
    if not user:
        return Person((address(value),))
    return Person(
        (address(value),),
        text(user, "name"),
        text(user, "username") or text(user, "screen_name"),
        _told(user) if not _PROFILE.isdisjoint(user) else {},
    )


def _told(user: Item) -> dict[str, Any]:
    return {key: plain(value) for key, value in user.items() if key in _PROFILE and value not in (None, "", False)}


def moment_of(item: Item, scope: Scope, name: str = "") -> datetime:
    """When it happened: milliseconds where they are given, ISO 8601 else, else as the item's id tells it."""
    stamp = item.get("created_timestamp")
    if type(stamp) is str and len(stamp) == 13 and stamp.isascii() and stamp.isdecimal():
        return datetime.fromtimestamp(int(stamp) / 1000, UTC)
    given = item.get("created_at") or item.get("date_time")
    if type(given) is str and given[4:5] == "-":
        return _iso(given, scope.received_at)
    for key in _MILLISECONDS:
        if key in item:
            return moment(item, key, scope.received_at)
    return _of_id(name, scope.received_at)


def _iso(given: str, default: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(given)
        if found.tzinfo is UTC:
            return found
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return default


def _of_id(name: str, default: datetime) -> datetime:
    """The moment in an id. Ids from before 2010 hold none."""
    if not (name.isascii() and name.isdecimal() and 12 <= len(name) <= 19):
        return default
    return datetime.fromtimestamp(((int(name) >> 22) + _EPOCH_MS) / 1000, UTC)


def flagged(item: Item, key: str) -> bool:
    """Truth as X writes it: a boolean, or the text "true"."""
    return item.get(key) in (True, "true")


def others(mentions: Any, own: str, author: str) -> tuple[bool, list[str]]:
    """Whether our account is mentioned, and the ids of third parties."""
    if type(mentions) is not list:
        return False, []
    ids = {user_id(one): None for one in mentions if type(one) is dict}
    return own in ids, [one for one in ids if one and one != author and one != own]


def app_of(item: Item, scope: Scope) -> str:
    """The name of the application that sent it, as far as X tells."""
    number = text(item, "source_app_id")
    return text(mapping(scope.apps, number), "name") or number
