"""What the API shows of contacts, and the contact attributes themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, delete, func, insert, or_, select, update

from gateway.store import search_index
from gateway.store.schema import attributes, contact_values, contacts, deletions, identities
from gateway.store.search import Visible, Words, attribute_equals, seen
from gateway.store.views import Rows

STANDARD: tuple[dict[str, Any], ...] = (
    {"name": "email", "title": "Email", "position": 0},
    {"name": "phone", "title": "Phone", "position": 1},
    {"name": "vip", "title": "VIP", "type": "choice", "choices": ["true", "false"], "position": 2},
)
"""Attributes that are always there. They can be moved, renamed and hidden, not removed."""

STANDARD_NAMES = frozenset(entry["name"] for entry in STANDARD)


@dataclass(frozen=True, slots=True)
class ContactFilter:
    """Which contacts are wanted; what is empty does not matter. `text` is for `contacts_found`."""

    text: str = ""
    vip: bool | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    region: str = ""

    def conditions(self, visible: Visible) -> list[ColumnElement[bool]]:
        """The filter as SQL."""
        found = [contacts.c.deleted_at.is_(None), _live(), _visible(visible)]
        if self.vip is not None:
            found.append(contacts.c.vip.is_(self.vip))
        found += [attribute_equals(name, value, visible, self.region) for name, value in self.attributes]
        return found


def _live() -> ColumnElement[bool]:
    return or_(contacts.c.merged_into.is_(None), contacts.c.merged_into == "")


def _visible(visible: Visible) -> ColumnElement[bool]:
    own = select(identities.c.contact_id).where(seen(identities.c.account, visible))
    return seen(identities.c.account, None) if visible is None else contacts.c.id.in_(own)


def contact_page(
    connection: Connection, wanted: ContactFilter, visible: Visible, limit: int, before: str | None
) -> Rows:
    """Contacts, the newest first; `before` is the id of the last one of the page before."""
    statement = select(contacts).where(*wanted.conditions(visible)).order_by(contacts.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(contacts.c.id < before)
    return connection.execute(statement).mappings().all()


def contacts_found(
    connection: Connection, wanted: ContactFilter, visible: Visible, limit: int, before: int | None
) -> list[tuple[int, RowMapping]]:
    """Contacts the words of `wanted.text` describe, then those who wrote them, each with its place; `before` is the
    place of the last one of the page before."""
    statement = select(contacts).where(*wanted.conditions(visible))
    found: list[tuple[int, RowMapping]] = []
    for portion in Words(wanted.text, visible, wanted.region).contact_ids(connection, before):
        ids = [contact_id for _, contact_id in portion]
        rows = {row["id"]: row for row in connection.execute(statement.where(contacts.c.id.in_(ids))).mappings()}
        found += [(place, rows[contact_id]) for place, contact_id in portion if contact_id in rows]
        if len(found) >= limit:
            break
    return found[:limit]


def contact(connection: Connection, contact_id: str, visible: Visible) -> RowMapping | None:
    """One contact, or None. Of one that was merged away: the contact it is part of now."""
    for _ in range(32):  # merges form a chain, never a ring; the bound is for broken data
        row = connection.execute(select(contacts).where(contacts.c.id == contact_id)).mappings().first()
        if row is None or not row["merged_into"]:
            break
        contact_id = row["merged_into"]
    if row is None or row["merged_into"] or row["deleted_at"] is not None:
        return None
    if visible is not None and not identities_of(connection, [contact_id], visible):
        return None
    return row


def identities_of(connection: Connection, contact_ids: Sequence[str], visible: Visible) -> dict[str, list[RowMapping]]:
    """The visible identities of each contact, the oldest first."""
    found: dict[str, list[RowMapping]] = {}
    if contact_ids:
        statement = (
            select(identities)
            .where(identities.c.contact_id.in_(contact_ids), seen(identities.c.account, visible))
            .order_by(identities.c.id)
        )
        for row in connection.execute(statement).mappings():
            found.setdefault(row["contact_id"], []).append(row)
    return found


def hidden_identities(connection: Connection, contact_id: str, visible: Visible) -> int:
    """How many of a contact's identities belong to accounts that are not visible."""
    if visible is None:
        return 0
    statement = (
        select(func.count())
        .select_from(identities)
        .where(identities.c.contact_id == contact_id, identities.c.account.not_in(visible))
    )
    return int(connection.execute(statement).scalar_one())


def values_of(connection: Connection, contact_ids: Sequence[str]) -> dict[str, list[RowMapping]]:
    """The matchable values (phone, email, ...) of each contact, the oldest first."""
    found: dict[str, list[RowMapping]] = {}
    if contact_ids:
        statement = (
            select(contact_values)
            .where(contact_values.c.contact_id.in_(contact_ids))
            .order_by(contact_values.c.at, contact_values.c.id)
        )
        for row in connection.execute(statement).mappings():
            found.setdefault(row["contact_id"], []).append(row)
    return found


def deletion_page(connection: Connection, limit: int, before: str | None) -> Rows:
    """Deleted contacts, the last deleted first."""
    statement = select(deletions).order_by(deletions.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(deletions.c.id < before)
    return connection.execute(statement).mappings().all()


# --- attributes -------------------------------------------------------------------------------------------------------


def attribute_list(connection: Connection) -> list[dict[str, Any]]:
    """All attributes by position, the standard ones among them whether stored or not."""
    found = {entry["name"]: _standard(entry) for entry in STANDARD}
    for row in connection.execute(select(attributes)).mappings():
        found[row["name"]] = {**row, "choices": msgspec.json.decode(row["choices"])}
    return sorted(found.values(), key=lambda entry: (entry["position"], entry["name"]))


def _standard(entry: Mapping[str, Any]) -> dict[str, Any]:
    plain = {"kind": "custom", "type": "text", "choices": [], "visible": True, "unique_value": False}
    return {**plain, **entry}


def attribute(connection: Connection, name: str) -> dict[str, Any] | None:
    """One attribute, or None."""
    return next((entry for entry in attribute_list(connection) if entry["name"] == name), None)


def store_attribute(connection: Connection, entry: Mapping[str, Any]) -> None:
    """Write an attribute down, new or changed."""
    row = {**entry, "choices": msgspec.json.encode(entry["choices"]).decode()}
    known = connection.execute(select(attributes.c.name).where(attributes.c.name == entry["name"])).first()
    if known is None:
        connection.execute(insert(attributes), [row])
    else:
        connection.execute(update(attributes).where(attributes.c.name == entry["name"]).values(row))


def remove_attribute(connection: Connection, name: str) -> None:
    """Remove a custom attribute, and what contacts had for it."""
    connection.execute(delete(attributes).where(attributes.c.name == name))
    key = msgspec.json.encode(name).decode() + ":"
    having = select(contacts.c.id, contacts.c.attributes).where(contacts.c.attributes.contains(key, autoescape=True))
    changed = [
        {"key": contact_id, "left": msgspec.json.encode({n: v for n, v in found.items() if n != name}).decode()}
        for contact_id, text in connection.execute(having)
        if name in (found := msgspec.json.decode(text))
    ]
    if changed:
        statement = update(contacts).where(contacts.c.id == bindparam("key")).values(attributes=bindparam("left"))
        connection.execute(statement, changed)
        search_index.reindex_contacts(connection, [row["key"] for row in changed])
