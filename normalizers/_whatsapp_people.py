"""Who stands in a WhatsApp webhook: user ids and phone numbers, joined with what the change tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from normalizers._fields import Broken, digest, mapping, moment, plain, text
from normalizers.model import PRIVATE, Address, Person, Thread

CHANNEL = "whatsapp"

Item: TypeAlias = Mapping[str, Any]


class Change(NamedTuple):
    """What the items of one change share."""

    value: Item
    routing_key: str
    contacts: Mapping[str, Item]  # by phone and by user id
    received_at: datetime
    own: str  # our number, digits only
    entry: Item


def by_id(value: Item) -> Mapping[str, Item]:
    """The contacts of a change by each of their ids: they are joined to messages by id, never by index."""
    listed = value.get("contacts")
    found: dict[str, Item] = {}
    if type(listed) is list:
        for contact in listed:
            if type(contact) is dict:
                for key in ("wa_id", "user_id"):
                    if type(name := contact.get(key)) is str and name:
                        found[name] = contact
    return found


def digits(number: str) -> str:
    return number if number.isdecimal() else "".join(filter(str.isdecimal, number))


def addresses_of(*ids: str) -> tuple[Address, ...]:
    """User ids before phone numbers, told apart by shape: a user id has a dot after its two-letter country.

    A user id was seen in fields meant for numbers too. What is neither (never seen) is kept as "user_id".
    """
    users: tuple[Address, ...] = ()
    phones: tuple[Address, ...] = ()
    for value in ids:
        if not value:
            continue
        if value[2:3] == "." and value[:2].isalpha():
            users += (Address(CHANNEL, "bsuid", value),)
        elif value.isdecimal() and value.isascii():
            phones += (Address(CHANNEL, "phone", f"+{value}", "everywhere"),)
        else:
            users += (Address(CHANNEL, "user_id", value),)
    found = users + phones
    return found if len(found) < 2 or found[0] != found[1] else found[1:]


def person_of(item: Item, scope: Change, prefix: str = "from") -> Person:
    """Who stands in `from`, `to` or `wa_id`, with what the change tells of them. Raises `Broken` without any id."""
    phone, user = text(item, prefix), text(item, f"{prefix}_user_id" if prefix != "wa_id" else "user_id")
    contact = scope.contacts.get(user) or scope.contacts.get(phone)
    if contact is None:
        addresses = addresses_of(user, phone)
        if not addresses:
            raise Broken(f".{prefix}", "missing")
        parent = text(item, f"{prefix}_parent_user_id")
        return Person(addresses, profile={"parent_user_id": parent}) if parent else Person(addresses)
    profile = mapping(contact, "profile")
    parent = text(contact, "parent_user_id") or text(item, f"{prefix}_parent_user_id")
    return Person(
        addresses_of(user or text(contact, "user_id"), phone or text(contact, "wa_id")),
        text(profile, "name"),
        text(profile, "username").removeprefix("@"),
        {"parent_user_id": parent} if parent else {},
    )


def thread_of(item: Item) -> Thread:
    group = text(item, "group_id")
    return Thread(kind="group", key=group) if group else PRIVATE


def moment_of(item: Item, scope: Change) -> datetime:
    """When it happened: Unix seconds in a text, as a rule; else as `moment` reads it."""
    given = item.get("timestamp")
    if type(given) is str and len(given) == 10 and given.isdecimal():
        return datetime.fromtimestamp(int(given), UTC)
    return moment(item, "timestamp", scope.received_at)


def name_of(*values: Any) -> str:
    """A stable id for what has none; what is nested too deep to be written again counts by its upper levels."""
    try:
        return digest(values)
    except RecursionError:
        return digest(plain(list(values)))
