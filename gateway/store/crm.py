"""What CRMs know of contacts, and what they must still be told. Functions of a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, or_, select

from config.people import CrmSettings
from gateway.store.many import upsert
from gateway.store.schema import contacts, crm_edits, crm_links, ticket_events, tickets

EDITS_MAX = 500  # looked at in one go


def text_of(value: Any) -> str | None:
    """A value as CRMs are told it."""
    return None if value is None else ("true" if value else "false") if isinstance(value, bool) else str(value)


def note(
    connection: Connection, contact_id: str, changed: Mapping[str, Any], crms: Sequence[CrmSettings], writer: str,
    by: str, now: int,
) -> None:  # fmt: skip
    """Remember what was changed of the attributes a CRM manages: it is told when a ticket's status changes."""
    rows = [
        {"crm": crm.id, "contact_id": contact_id, "attribute": name, "value": text_of(value), "by": by, "at": now}
        for crm in crms if crm.id != writer
        for name, value in changed.items() if name in crm.editable
    ]  # fmt: skip
    upsert(connection, crm_edits, rows, ["crm", "contact_id", "attribute"], ["value", "by", "at"])


def unsent(connection: Connection, crm: str, contact_id: str) -> set[str]:
    """The attributes a CRM has not been told the newest value of."""
    statement = select(crm_edits.c.attribute).where(crm_edits.c.crm == crm, crm_edits.c.contact_id == contact_id)
    return set(connection.execute(statement).scalars())


def _living() -> ColumnElement[str]:
    return func.coalesce(func.nullif(contacts.c.merged_into, ""), contacts.c.id)


def due(connection: Connection, crm: CrmSettings) -> list[RowMapping]:
    """Edits of people one of whose tickets has changed its status since, as the configuration wants it."""
    event = ticket_events
    when: list[ColumnElement[bool]] = [event.c.kind == "ticket.status_changed", event.c.at >= crm_edits.c.at]
    if crm.write_back_on:
        pieces = (f'"to":{msgspec.json.encode(status).decode()}' for status in crm.write_back_on)
        when.append(or_(*(event.c.data.contains(piece, autoescape=True) for piece in pieces)))
    statement = (
        select(
            crm_edits.c.contact_id, crm_edits.c.attribute, crm_edits.c.value, crm_edits.c.by, crm_edits.c.at,
            _living().label("living"), func.max(event.c.ticket_id).label("ticket_id"),
        )
        .join(contacts, contacts.c.id == crm_edits.c.contact_id)
        .join(tickets, tickets.c.contact_id == _living())
        .join(event, and_(event.c.ticket_id == tickets.c.id, *when))
        .where(crm_edits.c.crm == crm.id)
        .group_by(
            crm_edits.c.contact_id, crm_edits.c.attribute, crm_edits.c.value, crm_edits.c.by, crm_edits.c.at,
            contacts.c.merged_into, contacts.c.id,
        )
        .order_by(crm_edits.c.contact_id, crm_edits.c.attribute)
        .limit(EDITS_MAX)
    )  # fmt: skip
    return list(connection.execute(statement).mappings())


def taken_up(connection: Connection, crm: str, edit: RowMapping) -> None:
    """An edit is on its way; a newer one of the same attribute stays."""
    connection.execute(
        delete(crm_edits).where(
            crm_edits.c.crm == crm, crm_edits.c.contact_id == edit["contact_id"],
            crm_edits.c.attribute == edit["attribute"], crm_edits.c.at == edit["at"],
        )
    )  # fmt: skip


def any_edit(connection: Connection, crm: str) -> bool:
    """Whether there is anything to be told at all."""
    return connection.execute(select(crm_edits.c.at).where(crm_edits.c.crm == crm).limit(1)).first() is not None


def link(connection: Connection, crm: str, contact_id: str, remote_id: str, now: int) -> None:
    """Note whom a CRM knows a contact as."""
    row = {"crm": crm, "contact_id": contact_id, "remote_id": remote_id[:255], "at": now}
    upsert(connection, crm_links, [row], ["crm", "contact_id"], ["remote_id", "at"])


def linked(connection: Connection, crm: str, contact_id: str) -> str:
    """The CRM's id of a contact, "" where none is known."""
    statement = select(crm_links.c.remote_id).where(crm_links.c.crm == crm, crm_links.c.contact_id == contact_id)
    return connection.execute(statement).scalar() or ""


def living(connection: Connection, contact_id: str) -> str | None:
    """The contact that a contact is part of now; None when it was erased."""
    row = connection.execute(
        select(_living().label("id"), contacts.c.deleted_at).where(contacts.c.id == contact_id)
    ).first()
    return None if row is None or row.deleted_at is not None else str(row.id)
