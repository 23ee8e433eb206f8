"""What the API shows of contacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, func, or_, select

from gateway.store.schema import contact_values, contacts, deletions, identities, merges
from gateway.store.search import Visible, Words, attribute_equals, seen
from gateway.store.views import Rows


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


def contacts_after(connection: Connection, wanted: ContactFilter, visible: Visible, limit: int, after: str) -> Rows:
    """Contacts, the oldest first, whatever `text` says; `after` is the id of the last one that is known already."""
    statement = select(contacts).where(*wanted.conditions(visible), contacts.c.id > after)
    return connection.execute(statement.order_by(contacts.c.id).limit(limit)).mappings().all()


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


def merge_page(connection: Connection, contact_id: str, limit: int, before: str | None) -> Rows:
    """The journal of a contact and of those that are part of it, the newest entry first."""
    merged = select(contacts.c.id).where(contacts.c.merged_into == contact_id)
    mine = or_(merges.c.winner == contact_id, merges.c.loser == contact_id, merges.c.winner.in_(merged))
    statement = select(merges).where(mine).order_by(merges.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(merges.c.id < before)
    return connection.execute(statement).mappings().all()


def deletion(connection: Connection, contact_id: str) -> RowMapping | None:
    """The deletion of a contact, or None."""
    statement = select(deletions).where(deletions.c.contact_id == contact_id).order_by(deletions.c.id).limit(1)
    return connection.execute(statement).mappings().first()


def deletion_page(connection: Connection, limit: int, before: str | None) -> Rows:
    """Deleted contacts, the last deleted first."""
    statement = select(deletions).order_by(deletions.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(deletions.c.id < before)
    return connection.execute(statement).mappings().all()
