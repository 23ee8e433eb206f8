"""Contact attributes: what there is, and the values contacts have (A1). Functions of a connection.

Three kinds of definitions stand side by side: the standard ones, which are always there; the custom ones admins make;
the platform ones, which list themselves as soon as a channel has told one of anybody. What a CRM is configured to fill
is a custom one that needs no making.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from config.people import CrmSettings
from gateway.identity import normalise
from gateway.ids import new_id
from gateway.store import search_index
from gateway.store.many import insert_ignore
from gateway.store.people_errors import PeopleError
from gateway.store.schema import attributes, contact_values, contacts, platform_attributes
from gateway.store.tickets import to_json

VALUE_MAX = 10_000  # characters of a custom value
PLATFORM_POSITION = 10_000  # where a platform attribute stands that nobody has moved
FIELDS = ("id", "name", "language", "organization", "tags", "vip", "created_at", "last_seen_at", "identities")
"""What a contact has beside attributes: no attribute is called so."""

STANDARD: tuple[dict[str, Any], ...] = (
    {"name": "email", "title": "Email", "position": 0},
    {"name": "phone", "title": "Phone", "position": 1},
    {"name": "vip", "title": "VIP", "type": "choice", "choices": ["true", "false"], "position": 2},
)
"""Attributes that are always there. They can be moved, renamed and hidden, not removed."""

STANDARD_NAMES = frozenset(entry["name"] for entry in STANDARD)
_PLAIN: Mapping[str, Any] = {
    "kind": "custom", "type": "text", "choices": [], "position": 3, "visible": True, "unique_value": False,
    "channels": [], "managed_by": "", "editable": True,
}  # fmt: skip
_COLUMNS = ("name", "title", "kind", "type", "choices", "position", "visible", "unique_value")


# --- definitions ---


def catalogue(connection: Connection, crms: Sequence[CrmSettings] = ()) -> dict[str, dict[str, Any]]:
    """All attributes by name, in the order of their positions."""
    found: dict[str, dict[str, Any]] = {entry["name"]: {**_PLAIN, **entry} for entry in STANDARD}
    for crm in crms:
        for name in crm.managed:
            found.setdefault(name, {**_PLAIN, "name": name, "title": name, "position": 100})
    for name, channel in connection.execute(
        select(platform_attributes.c.name, platform_attributes.c.channel).order_by(platform_attributes.c.channel)
    ):
        fresh = {**_PLAIN, "name": name, "title": name, "kind": "platform", "position": PLATFORM_POSITION}
        entry = found.setdefault(name, fresh | {"channels": []})
        if entry["kind"] == "platform":
            entry["channels"].append(channel)
    for row in connection.execute(select(attributes)).mappings():
        known = found.get(row["name"])
        channels = known["channels"] if known is not None and row["kind"] == "platform" else []
        found[row["name"]] = {
            **_PLAIN, **row, "choices": msgspec.json.decode(row["choices"]), "channels": channels,
        }  # fmt: skip
    for crm in crms:
        for name in crm.managed:
            found[name] |= {"managed_by": crm.id, "editable": name in crm.editable}
    for entry in found.values():
        if entry["kind"] == "platform":
            entry["editable"] = False
    return dict(sorted(found.items(), key=lambda item: (item[1]["position"], item[0])))


def custom_names(connection: Connection, crms: Sequence[CrmSettings] = ()) -> frozenset[str]:
    """The custom attributes there are."""
    made = select(attributes.c.name).where(attributes.c.kind == "custom")
    return frozenset(connection.execute(made).scalars()) | {name for crm in crms for name in crm.managed}


def learn_platform(connection: Connection, told: Iterable[tuple[str, str]]) -> None:
    """Note which platform attributes (name, channel) there are. Names no column takes are left to the profile."""
    rows = [{"name": name, "channel": channel} for name, channel in sorted(set(told)) if 0 < len(name) <= 64]
    insert_ignore(connection, platform_attributes, rows)


def store(connection: Connection, entry: Mapping[str, Any]) -> None:
    """Write a definition down, new or changed."""
    row = {name: entry[name] for name in _COLUMNS} | {"choices": to_json(entry["choices"])}
    known = connection.execute(select(attributes.c.name).where(attributes.c.name == entry["name"])).first()
    if known is None:
        connection.execute(insert(attributes), [row])
    else:
        connection.execute(update(attributes).where(attributes.c.name == entry["name"]).values(row))


def remove(connection: Connection, name: str) -> None:
    """Remove a custom definition. Values that are left are shown again when the attribute is made again."""
    connection.execute(delete(attributes).where(attributes.c.name == name))


# --- values and their definitions ---


def check(entry: Mapping[str, Any] | None, name: str, value: Any, *, writer: str = "") -> str | None:
    """A custom value as it is kept; None: it is to go. `writer`: the CRM that writes, if one does.

    Raises `PeopleError`: unknown_attribute, read_only_attribute, wrong_type, invalid_value, unknown_choice.
    """
    field = f"attributes.{name}"
    if entry is None:
        raise PeopleError("unknown_attribute", field, f"there is no attribute {name!r}")
    if entry["kind"] == "platform":
        raise PeopleError("read_only_attribute", field, "a platform attribute cannot be edited")
    may_write(entry, writer)
    if value is None:
        return None
    if not isinstance(value, str):
        raise PeopleError("wrong_type", field, "must be a text")
    if len(value) > VALUE_MAX:
        raise PeopleError("invalid_value", field, f"longer than {VALUE_MAX} characters")
    if "\0" in value:
        raise PeopleError("invalid_value", field, "must not contain NUL")
    if entry["type"] == "choice" and value not in entry["choices"]:
        raise PeopleError("unknown_choice", field, f"must be one of {', '.join(entry['choices'])}")
    return value


def may_write(entry: Mapping[str, Any], writer: str) -> None:
    """Raise `PeopleError` where a CRM manages the attribute, and nobody else may change it."""
    if entry["managed_by"] and not entry["editable"] and writer != entry["managed_by"]:
        detail = f"the CRM {entry['managed_by']!r} manages this attribute"
        raise PeopleError("read_only_attribute", f"attributes.{entry['name']}", detail)


def taken(connection: Connection, name: str, value: str, contact_id: str) -> str | None:
    """Another contact that has this value of a unique attribute."""
    statement = select(contact_values.c.contact_id).where(
        contact_values.c.attribute == name, contact_values.c.value == normalise(name, value),
        contact_values.c.contact_id != contact_id, contact_values.c.evidence != "claimed",
    )  # fmt: skip
    return connection.execute(statement.limit(1)).scalar()


# --- what becomes of values when a definition changes ---


def holders(connection: Connection, name: str, *, merged: bool = True) -> list[tuple[str, Any]]:
    """(contact, value) of everybody who has a value of a custom attribute; `merged`: with those merged away."""
    key = msgspec.json.encode(name).decode() + ":"
    having = select(contacts.c.id, contacts.c.attributes).where(
        contacts.c.attributes.contains(key, autoescape=True), contacts.c.deleted_at.is_(None)
    )
    if not merged:
        having = having.where(contacts.c.merged_into.is_(None))
    found = ((contact_id, msgspec.json.decode(text)) for contact_id, text in connection.execute(having))
    return [(contact_id, values[name]) for contact_id, values in found if name in values]


_CLEAR = (
    update(contacts)
    .where(contacts.c.id == bindparam("key"))
    .values(attributes=bindparam("left"), attribute_origins=bindparam("origins"))
)


def clear(connection: Connection, name: str, which: Callable[[Any], bool]) -> int:
    """Take the values `which` says away from everybody; how many those were."""
    gone = [contact_id for contact_id, value in holders(connection, name) if which(value)]
    rows = []
    for contact_id in gone:
        columns = select(contacts.c.attributes, contacts.c.attribute_origins).where(contacts.c.id == contact_id)
        values, origins = connection.execute(columns).one()
        left, whence = msgspec.json.decode(values), msgspec.json.decode(origins)
        del left[name]
        whence.pop(name, None)
        rows.append({"key": contact_id, "left": to_json(left), "origins": to_json(whence)})
    if rows:
        connection.execute(_CLEAR, rows)
        connection.execute(
            delete(contact_values).where(
                contact_values.c.attribute == name, contact_values.c.identity_id == "",
                contact_values.c.contact_id.in_(gone),
            )
        )  # fmt: skip
        search_index.reindex_contacts(connection, gone)
    return len(rows)


def reindex(connection: Connection, name: str, now: int) -> list[str]:
    """Make the values of an attribute findable, as they are compared; those that several contacts have."""
    connection.execute(
        delete(contact_values).where(contact_values.c.attribute == name, contact_values.c.identity_id == "")
    )
    having = [(contact_id, normalise(name, value)) for contact_id, value in holders(connection, name, merged=False)]
    rows = [
        {"id": new_id(), "contact_id": contact_id, "identity_id": "", "attribute": name, "value": value,
         "evidence": "authenticated", "at": now}
        for contact_id, value in having if value
    ]  # fmt: skip
    insert_ignore(connection, contact_values, rows)
    counts = Counter(value for _, value in having if value)
    return sorted(value for value, count in counts.items() if count > 1)
