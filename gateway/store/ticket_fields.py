"""Custom fields of tickets: what they are called, what they take, and what tickets have in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from gateway.conditions import day_number
from gateway.store import search_index
from gateway.store.schema import ticket_field_values, ticket_fields, tickets
from gateway.ticket_fields import Field

_decode = msgspec.json.decode


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def all_fields(connection: Connection) -> dict[str, Field]:
    """The fields there are, in their order."""
    statement = select(ticket_fields).order_by(ticket_fields.c.position, ticket_fields.c.name)
    return {row["name"]: _field(row) for row in connection.execute(statement).mappings()}


def _field(row: RowMapping) -> Field:
    return Field(
        row["name"], row["title"], row["type"], tuple(_decode(row["choices"])), row["required"], row["position"]
    )


def save(connection: Connection, field: Field, *, new: bool) -> None:
    """Write a field down, new or changed."""
    row = msgspec.structs.asdict(field) | {"choices": _to_json(field.choices)}
    if new:
        connection.execute(insert(ticket_fields), [row])
    else:
        connection.execute(update(ticket_fields).where(ticket_fields.c.name == field.name).values(**row))


def remove(connection: Connection, name: str) -> bool:
    """Remove a field, and what tickets have in it; False when there is none."""
    if not connection.execute(delete(ticket_fields).where(ticket_fields.c.name == name)).rowcount:
        return False
    having = select(ticket_field_values.c.ticket_id).where(ticket_field_values.c.name == name)
    statement = select(tickets.c.id, tickets.c.fields).where(tickets.c.id.in_(having))
    changed = []
    for ticket_id, text in connection.execute(statement).all():
        left = {key: value for key, value in _decode(text).items() if key != name}
        connection.execute(update(tickets).where(tickets.c.id == ticket_id).values(fields=_to_json(left)))
        changed.append(ticket_id)
    connection.execute(delete(ticket_field_values).where(ticket_field_values.c.name == name))
    search_index.reindex_tickets(connection, changed)
    return True


def set_values(connection: Connection, ticket_id: str, fields: Mapping[str, Any]) -> None:
    """Make what views can ask of a ticket's fields equal to `fields`."""
    connection.execute(delete(ticket_field_values).where(ticket_field_values.c.ticket_id == ticket_id))
    rows = [
        {"ticket_id": ticket_id, "name": name[:64], "value": _as_text(value)[:255], "number": _as_number(value)}
        for name, value in fields.items()
        if isinstance(value, str | int | float)
    ]
    if rows:
        connection.execute(insert(ticket_field_values), rows)


def _as_text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _as_number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return float(day_number(value))
        except ValueError:
            return None
    return float(value)
