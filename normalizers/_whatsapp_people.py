"""Who stands in a WhatsApp webhook: user ids and phone numbers, joined with what the change tells of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from normalizers._fields import Broken, digest, mapping, moment, plain, text
from normalizers.model import PRIVATE, Address, Person, Thread

CHANNEL = "whatsapp"

Item: TypeAlias = Mapping[str, Any]


class Change(msgspec.Struct, frozen=True, gc=False):
    """What the items of one change share."""

    value: Item
    routing_key: str
    contacts: Mapping[str, Item]  # by phone and by user id
    received_at: datetime
    own: str  # our number, digits only
    entry: Item


def by_id(value: Item) -> Mapping[str, Item]:
    """The contacts of a change by each of their ids: they are joined to messages by id, never by index."""
    found: dict[str, Item] = {}
    listed = value.get("contacts")
    if type(listed) is list:
        for contact in listed:
            if type(contact) is dict:
                if type(name := contact.get("wa_id")) is str:
                    found[name] = contact
                if type(name := contact.get("user_id")) is str:
                    found[name] = contact
    found.pop("", None)
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
        if value.isdecimal() and value.isascii():
            phones += (Address(CHANNEL, "phone", "+" + value, "everywhere"),)
        elif value:
            kind = "bsuid" if value[2:3] == "." and value[:2].isalpha() else "user_id"
            users += (Address(CHANNEL, kind, value),)
    if users and phones:
        return users + phones
    found = users or phones
    return found if len(found) < 2 or found[0] != found[1] else found[1:]


_USER_ID = {"from": "from_user_id", "to": "to_user_id", "wa_id": "user_id"}
_PARENT_ID = {"from": "from_parent_user_id", "to": "to_parent_user_id", "wa_id": "parent_user_id"}


def person_of(item: Item, scope: Change, prefix: str = "from") -> Person:
    """Who stands in `from`, `to` or `wa_id`, with what the change tells of them. Raises `Broken` without any id."""
    phone, user, parent = text(item, prefix), text(item, _USER_ID[prefix]), ""
    contact = scope.contacts.get(user) or scope.contacts.get(phone)
    if _PARENT_ID[prefix] in item:
        parent = text(item, _PARENT_ID[prefix])
    if contact is None:
        addresses = addresses_of(user, phone)
        if not addresses:
            raise Broken(f".{prefix}", "missing")
        return Person(addresses, profile={"parent_user_id": parent}) if parent else Person(addresses)
    if "parent_user_id" in contact:
        parent = text(contact, "parent_user_id") or parent
    user, phone = user or text(contact, "user_id"), phone or text(contact, "wa_id")
    if user[2:3] == "." and phone.isdecimal() and phone.isascii() and user[:2].isalpha():  # nearly always
        addresses = (
            Address(CHANNEL, "bsuid", user), Address(CHANNEL, "phone", "+" + phone, "everywhere"),
        )  # fmt: skip
    else:
        addresses = addresses_of(user, phone)
    profile = mapping(contact, "profile")
    handle = text(profile, "username").removeprefix("@") if "username" in profile else ""
    if not parent:
        return Person(addresses, text(profile, "name"), handle)
    return Person(addresses, text(profile, "name"), handle, {"parent_user_id": parent})


def thread_of(item: Item) -> Thread:
    group = text(item, "group_id")
    return Thread(kind="group", key=group) if group else PRIVATE


def moment_of(item: Item, scope: Change) -> datetime:
    """When it happened: Unix seconds in a text, as a rule; else as `moment` reads it."""
    given = item.get("timestamp")
    if type(given) is str and len(given) == 10 and given.isdecimal():
        return _second(given)
    return moment(item, "timestamp", scope.received_at)


@functools.lru_cache(maxsize=256)
def _second(given: str) -> datetime:
    """The moment of a whole second; messages and receipts of one second come by the dozen."""
    return datetime.fromtimestamp(int(given), UTC)


def name_of(*values: Any) -> str:
    """A stable id for what has none; what is nested too deep to be written again counts by its upper levels."""
    try:
        return digest(values)
    except RecursionError:
        return digest(plain(list(values)))
