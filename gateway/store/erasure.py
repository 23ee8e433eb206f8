"""Erasing a contact (A6): what they said goes, everywhere; that it was done stays.

Keyed hashes of the ids their messages came under remain, so that a late redelivery brings nothing back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from gateway.ids import new_id
from gateway.store import people, search_index
from gateway.store.dialect import insert_ignore
from gateway.store.redact import without
from gateway.store.schema import (
    addresses,
    attachments,
    attempts,
    contact_values,
    contacts,
    conversations,
    dead_letters,
    deletions,
    deliveries,
    erased,
    events,
    identities,
    merges,
    message_refs,
    messages,
    outbox,
    receipts,
    suspended,
    ticket_events,
    ticket_field_values,
    ticket_tags,
    tickets,
)
from gateway.store.tickets import to_json


def erase(
    connection: Connection, contact_id: str, deleted_by: str, now: int, keyed_hash: Callable[[str], str]
) -> list[str]:
    """Remove a contact with all that belongs to it; the blob paths left to be removed from disk.

    Raises `people.PeopleError` "not_found".
    """
    people.load(connection, contact_id)
    everybody = [
        contact_id,
        *connection.execute(select(contacts.c.id).where(contacts.c.merged_into == contact_id)).scalars(),
    ]
    persons = list(
        connection.execute(select(identities.c.id, identities.c.channel).where(identities.c.contact_id.in_(everybody)))
    )
    ticket_ids = _ids(connection, select(tickets.c.id).where(tickets.c.contact_id.in_(everybody)))
    said = connection.execute(
        select(messages.c.id, messages.c.delivery_id, messages.c.raw_path).where(
            messages.c.contact_id.in_(everybody) | messages.c.ticket_id.in_(ticket_ids)
        )
    ).all()
    message_ids = [row.id for row in said]
    paths = _ids(
        connection,
        select(attachments.c.path).where(attachments.c.message_id.in_(message_ids), attachments.c.path != ""),
    )
    places = [(row.delivery_id, row.raw_path) for row in said if row.delivery_id]
    _erase_raw(connection, [*places, *_take_suspended(connection, [row.id for row in persons])], now, keyed_hash)
    _erase_rows(connection, everybody, [row.id for row in persons], ticket_ids, message_ids)
    connection.execute(
        update(contacts)
        .where(contacts.c.id.in_(everybody))
        .values(name="", language="", organization="", tags="[]", attributes="{}", vip=False, deleted_at=now)
    )
    connection.execute(
        insert(deletions).values(
            id=new_id(),
            contact_id=contact_id,
            deleted_by=deleted_by,
            deleted_at=now,
            channels=to_json(sorted({row.channel for row in persons})),
        )
    )
    return paths


def _take_suspended(connection: Connection, identity_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Forget what they wrote and was put aside; the deliveries it came in, whole."""
    theirs = select(addresses.c.value).where(addresses.c.identity_id.in_(identity_ids))
    found = list(connection.execute(select(suspended.c.delivery_id).where(suspended.c.sender.in_(theirs))).scalars())
    connection.execute(delete(suspended).where(suspended.c.sender.in_(theirs)))
    return [(delivery_id, "$") for delivery_id in found]


def _ids(connection: Connection, statement: object) -> list[str]:
    return list(connection.execute(statement).scalars())  # type: ignore[call-overload]


def _erase_raw(
    connection: Connection, places: Sequence[tuple[str, str]], now: int, keyed_hash: Callable[[str], str]
) -> None:
    """Cut their slices out of the kept deliveries, and remember the ids they came under as keyed hashes."""
    for delivery_id in dict.fromkeys(delivery for delivery, _ in places):
        body = connection.execute(select(deliveries.c.body).where(deliveries.c.id == delivery_id)).scalar()
        rest = bytes(body or b"")
        for other, path in places:
            if other == delivery_id and rest:
                rest = without(rest, path)
        connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(body=rest))
        came = connection.execute(
            select(events.c.id, events.c.account, events.c.dedupe_key).where(events.c.delivery_id == delivery_id)
        ).all()
        hashes = [{"hash": keyed_hash(f"{row.account}:{row.dedupe_key}"), "at": now} for row in came]
        insert_ignore(connection, erased, hashes)
        connection.execute(delete(dead_letters).where(dead_letters.c.ref.in_([row.id for row in came])))
        connection.execute(delete(events).where(events.c.delivery_id == delivery_id))


def _erase_rows(
    connection: Connection,
    contact_ids: Sequence[str],
    identity_ids: Sequence[str],
    ticket_ids: Sequence[str],
    message_ids: Sequence[str],
) -> None:
    search_index.forget(connection, [*message_ids, *ticket_ids, *contact_ids])
    for table in (attachments, message_refs, outbox, attempts, receipts, dead_letters):
        connection.execute(delete(table).where(table.c.message_id.in_(message_ids)))
    for table in (ticket_tags, ticket_events, ticket_field_values):
        connection.execute(delete(table).where(table.c.ticket_id.in_(ticket_ids)))
    connection.execute(delete(messages).where(messages.c.id.in_(message_ids)))
    connection.execute(delete(tickets).where(tickets.c.id.in_(ticket_ids)))
    connection.execute(delete(conversations).where(conversations.c.identity_id.in_(identity_ids)))
    connection.execute(delete(addresses).where(addresses.c.identity_id.in_(identity_ids)))
    connection.execute(delete(identities).where(identities.c.id.in_(identity_ids)))
    connection.execute(delete(contact_values).where(contact_values.c.contact_id.in_(contact_ids)))
    connection.execute(
        update(merges)
        .where(merges.c.winner.in_(contact_ids) | merges.c.loser.in_(contact_ids))
        .values(value="", loser_before="{}")
    )
