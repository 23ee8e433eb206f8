"""Erasing a contact (A6): what they said goes, everywhere; that it was done stays.

Keyed hashes of the ids their events came under remain, so that a late redelivery brings nothing back. What others wrote
stays theirs, also where it quotes or names the person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, delete, func, insert, or_, select, update

from gateway.ids import new_id
from gateway.store import merging, search_index, traces
from gateway.store.many import among, insert_ignore
from gateway.store.redact import without, without_naming
from gateway.store.schema import (
    addresses,
    attachments,
    attempts,
    conflicts,
    contact_values,
    contacts,
    conversations,
    crm_edits,
    crm_links,
    dead_letters,
    deletions,
    deliveries,
    erased,
    errands,
    events,
    identities,
    lookups,
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
    uploads,
)
from gateway.store.tickets import to_json
from gateway.store.traces import NAMED_MIN

SCANNED = 2000  # events looked at in one go
_decode = msgspec.json.decode

Concerns = Callable[[str, "Person"], bool]
"""Whether an event's payload is one of a person's (`gateway.erasure.concerns`)."""


@dataclass(slots=True)
class Person:
    """All that names the person in the store."""

    contacts: list[str]
    identities: list[str]
    channels: list[str]
    accounts: frozenset[str]
    addresses: frozenset[tuple[str, str]]  # (kind, value)
    names: frozenset[str]
    refs: frozenset[str]  # ids the platforms know their messages by
    tickets: list[str]
    messages: list[str]

    @property
    def values(self) -> frozenset[str]:
        """Their addresses as they may stand in a payload: phone numbers without the plus."""
        return frozenset(value.removeprefix("+") for _, value in self.addresses)


@dataclass(slots=True)
class Receipt:
    """What was removed: rows by kind, and the blobs that are still to be removed from disk."""

    contact_id: str
    removed: dict[str, int] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    def count(self, kind: str, number: int) -> None:
        if number > 0:
            self.removed[kind] = self.removed.get(kind, 0) + number


def person(connection: Connection, contact_id: str) -> Person:
    """Everything that is the person's. Raises `merging.PeopleError` "not_found"."""
    merging.load(connection, contact_id)
    merged = select(contacts.c.id).where(contacts.c.merged_into == contact_id)
    everybody = [contact_id, *connection.execute(merged).scalars()]
    rows = connection.execute(select(identities).where(identities.c.contact_id.in_(everybody))).mappings().all()
    mine = [row["id"] for row in rows]
    own = select(addresses.c.kind, addresses.c.value).where(addresses.c.identity_id.in_(mine))
    ticket_ids = _ids(connection, select(tickets.c.id).where(tickets.c.contact_id.in_(everybody)))
    theirs = messages.c.contact_id.in_(everybody) | among(connection, messages.c.ticket_id, ticket_ids)
    message_ids = _ids(connection, select(messages.c.id).where(theirs))
    refs = select(message_refs.c.ref).where(among(connection, message_refs.c.message_id, message_ids))
    called = [row[name] for row in rows for name in ("name", "handle")]
    called += _ids(connection, select(contacts.c.name).where(contacts.c.id.in_(everybody)))
    return Person(
        everybody,
        mine,
        sorted({row["channel"] for row in rows}),
        frozenset(row["account"] for row in rows),
        frozenset((kind, value) for kind, value in connection.execute(own)),
        frozenset(name for name in called if len(name) >= NAMED_MIN),
        frozenset(connection.execute(refs).scalars()),
        ticket_ids,
        message_ids,
    )


def scan(connection: Connection, who: Person, concerns: Concerns, after: str) -> tuple[list[str], str]:
    """Of the next events after an id those that are the person's, and the id to go on after ("": the end).

    Only events that still have their payload can tell; retention empties the others.
    """
    statement = (
        select(events.c.id, events.c.payload)
        .where(events.c.id > after, events.c.account.in_(who.accounts))
        .order_by(events.c.id)
        .limit(SCANNED)
    )
    rows = connection.execute(statement).all()
    found = [event_id for event_id, payload in rows if concerns(payload, who)]
    return found, rows[-1][0] if len(rows) == SCANNED else ""


def erase(
    connection: Connection, contact_id: str, event_ids: Collection[str], scanned_to: str, concerns: Concerns,
    deleted_by: str, now: int, keyed_hash: Callable[[str], str],
) -> Receipt:  # fmt: skip
    """Remove a contact with all that belongs to it. `event_ids` are of the events found up to `scanned_to`; those that
    came since are looked at here. The caller holds `merging.alone`. Raises `merging.PeopleError` "not_found"."""
    who = person(connection, contact_id)
    receipt = Receipt(contact_id)
    theirs = set(event_ids)
    while True:
        found, scanned_to = scan(connection, who, concerns, scanned_to)
        theirs.update(found)
        if not scanned_to:
            break
    _erase_raw(connection, receipt, who, theirs, now, keyed_hash)
    _erase_files(connection, receipt, who)
    _erase_rows(connection, receipt, who)
    traces.erase_beside_others(connection, receipt, who)
    connection.execute(
        update(contacts)
        .where(contacts.c.id.in_(who.contacts))
        .values(
            name="", language="", organization="", tags="[]", attributes="{}", attribute_origins="{}", vip=False,
            merged_into=None, deleted_at=now,
        )
    )  # fmt: skip
    receipt.count("contacts", len(who.contacts))
    connection.execute(
        insert(deletions).values(
            id=new_id(), contact_id=contact_id, deleted_by=deleted_by, deleted_at=now, channels=to_json(who.channels),
            removed=to_json(receipt.removed),
        )
    )  # fmt: skip
    return receipt


def _ids(connection: Connection, statement: Any) -> list[str]:
    return list(connection.execute(statement).scalars())


def _chunks(ids: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    rest = list(ids)
    for start in range(0, len(rest), size):
        yield rest[start : start + size]


# --- raw payloads and events ---


def _erase_raw(
    connection: Connection, receipt: Receipt, who: Person, theirs: set[str], now: int, keyed_hash: Callable[[str], str]
) -> None:
    """Cut their slices out of the kept deliveries, and remember the ids they came under as keyed hashes."""
    said = select(messages.c.delivery_id, messages.c.raw_path).where(
        among(connection, messages.c.id, who.messages), messages.c.delivery_id != ""
    )
    slices: dict[str, set[str]] = {}
    for delivery_id, path in connection.execute(said):
        slices.setdefault(delivery_id, set()).add(path)
    emptied = select(events.c.id).where(
        among(connection, events.c.delivery_id, slices), among(connection, events.c.dedupe_key, who.refs)
    )  # of what retention or the person has emptied before
    theirs |= set(_ids(connection, emptied)) if slices else set()
    for part in _chunks(theirs):
        columns = events.c.id, events.c.delivery_id, events.c.account, events.c.dedupe_key, events.c.payload
        rows = connection.execute(select(*columns).where(events.c.id.in_(part))).all()
        hashes = [{"hash": keyed_hash(f"{row.account}:{row.dedupe_key}"), "at": now} for row in rows]
        insert_ignore(connection, erased, hashes)
        for row in rows:
            slices.setdefault(row.delivery_id, set()).add(_path(row.payload))
        _remove(connection, receipt, "dead_letters", dead_letters, dead_letters.c.ref.in_(part))
        _remove(connection, receipt, "suspended", suspended, suspended.c.id.in_(part))
        _remove(connection, receipt, "events", events, events.c.id.in_(part))
    for delivery_id, paths in slices.items():
        _cut(connection, receipt, delivery_id, paths, who)
    named = among(connection, suspended.c.sender, {value for _, value in who.addresses})
    _remove(connection, receipt, "suspended", suspended, named)
    _erase_unread(connection, receipt, who)


def _path(payload: str) -> str:
    tree = _decode(payload)
    return str(tree.get("path", "")) if isinstance(tree, dict) else ""


def _cut(connection: Connection, receipt: Receipt, delivery_id: str, paths: Iterable[str], who: Person) -> None:
    """A delivery that is theirs alone loses its body and headers, one shared with others the slices that are theirs."""
    body = connection.execute(select(deliveries.c.body).where(deliveries.c.id == delivery_id)).scalar()
    if body is None:
        return
    others = select(func.count()).select_from(events).where(events.c.delivery_id == delivery_id)
    values: dict[str, Any] = {"body": b"", "headers": "{}", "query": "{}", "error": ""}
    if connection.execute(others).scalar_one():
        rest = bytes(body)
        for path in paths:
            rest = without(rest, path) if path and rest else rest
        words = who.names | {value for value in who.values if len(value) >= NAMED_MIN}
        values = {"body": without_naming(rest, who.values, words)}
        receipt.count("payload_slices", 1)
    else:
        receipt.count("payloads", 1)
    connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def _erase_unread(connection: Connection, receipt: Receipt, who: Person) -> None:
    """Deliveries no normaliser could read tell nobody whose they are: those that hold an address of theirs go."""
    unread = select(deliveries.c.id, deliveries.c.body).where(
        deliveries.c.state == "dead", deliveries.c.account.in_(who.accounts)
    )
    wanted = [value.encode() for value in who.values if len(value) >= NAMED_MIN]
    found = [row.id for row in connection.execute(unread) if any(value in bytes(row.body) for value in wanted)]
    for part in _chunks(found):
        empty = {"body": b"", "headers": "{}", "query": "{}", "state": "done", "error": "erased"}
        connection.execute(update(deliveries).where(deliveries.c.id.in_(part)).values(**empty))
        receipt.count("payloads", len(part))
        _remove(connection, receipt, "dead_letters", dead_letters, dead_letters.c.ref.in_(part))


def forget(connection: Connection, rows: Sequence[Any]) -> None:
    """Events of erased people that were delivered once more (`gateway.intake.records.EventRow`): nothing of them is
    kept but that they came."""
    for row in rows:
        connection.execute(update(events).where(events.c.id == row.id).values(payload="{}"))
        others = select(events.c.id).where(
            events.c.delivery_id == row.delivery_id, events.c.id != row.id, events.c.payload != "{}"
        )
        body = connection.execute(select(deliveries.c.body).where(deliveries.c.id == row.delivery_id)).scalar()
        if body is None:
            continue
        values: dict[str, Any] = {"body": b"", "headers": "{}", "query": "{}"}
        if connection.execute(others.limit(1)).first() is not None:
            values = {"body": without(bytes(body), row.event.path)}
        connection.execute(update(deliveries).where(deliveries.c.id == row.delivery_id).values(**values))


# --- files ---


def _erase_files(connection: Connection, receipt: Receipt, who: Person) -> None:
    """Their attachments; a blob goes unless another message has it too, or it is an upload nobody has used for them."""
    mine = among(connection, attachments.c.message_id, who.messages)
    paths = set(_ids(connection, select(attachments.c.path).where(mine, attachments.c.path != "")))
    _remove(connection, receipt, "attachments", attachments, mine)
    shared = set(_ids(connection, select(attachments.c.path).where(among(connection, attachments.c.path, paths))))
    receipt.paths = sorted(paths - shared)
    _remove(connection, receipt, "uploads", uploads, among(connection, uploads.c.path, receipt.paths))
    receipt.count("blobs", len(receipt.paths))


# --- rows ---


def _remove(connection: Connection, receipt: Receipt, kind: str, table: Table, condition: Any) -> None:
    receipt.count(kind, connection.execute(delete(table).where(condition)).rowcount)


def _erase_rows(connection: Connection, receipt: Receipt, who: Person) -> None:
    """Everything that hangs on their messages, tickets, identities and contacts."""

    def remove(table: Table, column: Any, ids: Collection[str]) -> None:
        if ids:
            _remove(connection, receipt, table.name, table, among(connection, column, ids))

    search_index.forget(connection, [*who.messages, *who.tickets, *who.contacts])
    remove(dead_letters, dead_letters.c.ref, _queued(connection, who))
    for table in (message_refs, lookups, outbox, attempts, receipts, dead_letters):
        remove(table, table.c.message_id, who.messages)
    traces.erase_among_others(connection, receipt, who)
    for table in (ticket_tags, ticket_events, ticket_field_values):
        remove(table, table.c.ticket_id, who.tickets)
    remove(messages, messages.c.id, who.messages)
    remove(tickets, tickets.c.id, who.tickets)
    remove(conversations, conversations.c.identity_id, who.identities)
    remove(addresses, addresses.c.identity_id, who.identities)
    for_others = select(errands.c.id).where(errands.c.subject.in_(who.contacts))
    remove(dead_letters, dead_letters.c.ref, _ids(connection, for_others))
    for table in (contact_values, crm_edits, crm_links):
        remove(table, table.c.contact_id, who.contacts)
    remove(errands, errands.c.subject, who.contacts)
    remove(conflicts, conflicts.c.identity_id, who.identities)
    remove(conflicts, conflicts.c.other_identity_id, who.identities)
    remove(identities, identities.c.id, who.identities)
    journal = or_(merges.c.winner.in_(who.contacts), merges.c.loser.in_(who.contacts))
    emptied = {"value": "", "reason": "", "loser_before": "{}", "gained": "{}", "identities": "[]"}
    receipt.count("merges", connection.execute(update(merges).where(journal).values(**emptied)).rowcount)


def _queued(connection: Connection, who: Person) -> list[str]:
    return _ids(connection, select(outbox.c.id).where(among(connection, outbox.c.message_id, who.messages)))
