"""Tickets in the store: load, log, change. Functions of a connection, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from gateway.ids import new_id
from gateway.store import search_index, ticket_fields
from gateway.store.numbers import reserve
from gateway.store.schema import ticket_events, ticket_tags, tickets
from gateway.tickets import Actor, Entry, NoSuchTicket, Patch, changes

_COLUMN = {"group": "group_name"}
_JSON = ("tags", "fields")
_encode = msgspec.json.Encoder().encode


def to_json(value: Any) -> str:
    """JSON text as the store keeps it."""
    return _encode(value).decode()


def load(connection: Connection, ticket_id: str) -> RowMapping | None:
    """The ticket's row, or None."""
    return connection.execute(select(tickets).where(tickets.c.id == ticket_id)).mappings().first()


def next_numbers(connection: Connection, count: int) -> int:
    """Reserve `count` ticket numbers in a row; the first of them."""
    return reserve(connection, "ticket", count)


def log(connection: Connection, ticket_id: str, entries: Sequence[Entry], now: int) -> None:
    """Append lines to a ticket's event log. A ticket that does not exist takes none."""
    if not entries:
        return
    statement = (
        update(tickets)
        .where(tickets.c.id == ticket_id)
        .values(sequence=tickets.c.sequence + len(entries), updated_at=now)
        .returning(tickets.c.sequence)
    )
    last = connection.execute(statement).scalar()
    if last is None:
        return
    first = int(last) - len(entries) + 1
    connection.execute(
        insert(ticket_events),
        [event_row(ticket_id, first + index, entry, now) for index, entry in enumerate(entries)],
    )


def event_row(ticket_id: str, sequence: int, entry: Entry, now: int) -> dict[str, Any]:
    """An event-log line as a row."""
    return {
        "id": new_id(),
        "ticket_id": ticket_id,
        "sequence": sequence,
        "kind": entry.kind,
        "actor": to_json(entry.actor),
        "data": to_json(entry.data),
        "at": now,
    }


def change(
    connection: Connection, ticket_id: str, patch: Patch, actor: Actor, now: int, via: str = "", *, note: str = ""
) -> RowMapping:
    """Change a ticket and log every change; the row as it is afterwards.

    Raises `NoSuchTicket`, `TicketClosed`. A patch that changes nothing writes nothing.
    """
    row = load(connection, ticket_id)
    if row is None:
        raise NoSuchTicket(ticket_id)
    current = {name: row[_COLUMN.get(name, name)] for name in patch.__struct_fields__}
    for name in _JSON:
        current[name] = msgspec.json.decode(current[name])
    found = changes(current, patch)
    if not found:
        return row
    values: dict[str, Any] = {
        _COLUMN.get(name, name): to_json(after) if name in _JSON else after for name, (_, after) in found.items()
    }
    if "status" in found:
        status = found["status"][1]
        values["solved_at"] = now if status == "solved" else (row["solved_at"] if status == "closed" else None)
        values["closed_at"] = now if status == "closed" else None
    if via:
        values["updated_via"] = via
    connection.execute(update(tickets).where(tickets.c.id == ticket_id).values(**values))
    if "tags" in found:
        set_tags(connection, ticket_id, found["tags"][1])
    if "fields" in found:
        ticket_fields.set_values(connection, ticket_id, found["fields"][1])
    entries = [
        Entry(f"ticket.{name}_changed", actor, {"from": before, "to": after} | ({"why": note} if note else {}))
        for name, (before, after) in found.items()
    ]
    log(connection, ticket_id, entries, now)
    if not found.keys().isdisjoint(("subject", "tags", "fields")):
        search_index.reindex_tickets(connection, [ticket_id])
    changed = load(connection, ticket_id)
    assert changed is not None
    return changed


def set_tags(connection: Connection, ticket_id: str, tags: Sequence[str]) -> None:
    """Make the searchable tags of a ticket equal to `tags`."""
    connection.execute(delete(ticket_tags).where(ticket_tags.c.ticket_id == ticket_id))
    if tags:
        connection.execute(insert(ticket_tags), [{"ticket_id": ticket_id, "tag": tag[:255]} for tag in tags])


def followers(connection: Connection, ticket_ids: Sequence[str]) -> dict[str, list[str]]:
    """The follow-up tickets of each ticket, oldest first."""
    found: dict[str, list[str]] = {}
    statement = (
        select(tickets.c.follow_up_of, tickets.c.id)
        .where(tickets.c.follow_up_of.in_(ticket_ids))
        .order_by(tickets.c.id)
    )
    for origin, follower in connection.execute(statement):
        found.setdefault(origin, []).append(follower)
    return found


def count_by_status(connection: Connection) -> dict[str, int]:
    """How many tickets there are in each status."""
    statement = select(tickets.c.status, func.count()).group_by(tickets.c.status)
    return {status: int(count) for status, count in connection.execute(statement)}
