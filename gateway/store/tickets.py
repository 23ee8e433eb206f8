"""Tickets in the store: load, log, change. Functions of a connection, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, update

from gateway.ids import new_id
from gateway.store import search_index, ticket_fields
from gateway.store.many import insert_many
from gateway.store.numbers import reserve
from gateway.store.places import Record
from gateway.store.schema import ticket_events, ticket_tags, tickets
from gateway.tickets import Actor, Entry, NoSuchTicket, Patch, Status, changes

_COLUMN = {"group": "group_name"}
_JSON = ("tags", "fields")
_encode = msgspec.json.Encoder().encode
_LOAD = select(tickets).where(tickets.c.id == bindparam("b_id"))
_RAISE = (
    update(tickets)
    .where(tickets.c.id == bindparam("b_id"))
    .values(sequence=tickets.c.sequence + bindparam("b_count"), updated_at=bindparam("b_now"))
    .returning(tickets.c.sequence)
)
_MOVE = _RAISE.where(tickets.c.status == bindparam("b_before")).values(
    status=bindparam("b_status"), solved_at=bindparam("b_solved_at"), closed_at=None
)


def to_json(value: Any) -> str:
    """JSON text as the store keeps it."""
    return _encode(value).decode()


def load(connection: Connection, ticket_id: str) -> RowMapping | None:
    """The ticket's row, or None."""
    return connection.execute(_LOAD, {"b_id": ticket_id}).mappings().first()


def next_numbers(connection: Connection, count: int) -> int:
    """Reserve `count` ticket numbers in a row; the first of them."""
    return reserve(connection, "ticket", count)


def log(connection: Connection, ticket_id: str, entries: Sequence[Entry], now: int) -> None:
    """Append lines to a ticket's event log. A ticket that does not exist takes none."""
    insert_many(connection, ticket_events, lines(connection, ticket_id, entries, now))


def lines(connection: Connection, ticket_id: str, entries: Sequence[Entry], now: int) -> list[dict[str, Any]]:
    """Lines of a ticket's event log as rows, still to be inserted; none where there is no such ticket. From here on
    whoever else writes on the ticket waits for the end of this transaction."""
    if not entries:
        return []
    raised = {"b_id": ticket_id, "b_count": len(entries), "b_now": now}
    return _numbered(ticket_id, entries, now, connection.execute(_RAISE, raised).scalar())


def lines_and_status(
    connection: Connection, ticket: Record, entries: Sequence[Entry], status: Status, actor: Actor, now: int
) -> list[dict[str, Any]]:
    """As `lines`, and then a `change` of the status. `ticket` is its row as it was read. Raises `TicketClosed`."""
    ticket_id, before = ticket["id"], ticket["status"]
    if before not in (status, "closed") and status != "closed":  # mostly: both in one go
        more = [*entries, Entry("ticket.status_changed", actor, {"from": before, "to": status})]
        moved = {
            "b_id": ticket_id, "b_before": before, "b_count": len(more), "b_now": now, "b_status": status,
            "b_solved_at": now if status == "solved" else None,
        }  # fmt: skip
        if found := _numbered(ticket_id, more, now, connection.execute(_MOVE, moved).scalar()):
            return found
    if found := lines(connection, ticket_id, entries, now):  # now nobody else changes it
        change(connection, ticket_id, Patch(status=status), actor, now)
    return found


def _numbered(ticket_id: str, entries: Sequence[Entry], now: int, last: int | None) -> list[dict[str, Any]]:
    if last is None:
        return []
    first = last - len(entries) + 1
    return [event_row(ticket_id, first + index, entry, now) for index, entry in enumerate(entries)]


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
