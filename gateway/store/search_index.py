"""Keeping the words of tickets, messages and contacts, in the transaction of what they say.

An entry's id makes it sort: tickets by number, their own entries before their messages'; contacts above them by a
number of their own. Entries are removed and made anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select

from gateway import words
from gateway.store.many import among, insert_ignore, insert_many
from gateway.store.numbers import reserve
from gateway.store.schema import (
    addresses,
    contact_values,
    contacts,
    identities,
    messages,
    search_entries,
    tickets,
)

BITS = 20  # of an entry's id below the ticket's or contact's number
PEOPLE = 1 << 62  # contacts stand above all tickets
OWN = 256  # entries a ticket (contact) has of its own, its identities' among them; its messages follow
_MASK = (1 << BITS) - 1


def ticket_number(entry_id: int) -> int:
    """The number of the ticket an entry belongs to."""
    return entry_id >> BITS


def _row(entry_id: int, ref: str, account: str, said: str) -> dict[str, Any]:
    return {"id": entry_id, "ref": ref, "account": account, "words": said}


def _write(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """In the order of their ids: the index of the embedded store takes those fast."""
    rows.sort(key=_id_of)
    insert_many(connection, search_entries, rows)


def _id_of(row: dict[str, Any]) -> int:
    return int(row["id"])


def forget(connection: Connection, refs: Iterable[str]) -> None:
    """Remove all entries of these messages, tickets and contacts."""
    names = list(refs)
    if names:
        connection.execute(delete(search_entries).where(among(connection, search_entries.c.ref, names)))


# --- messages ---


def message_words(subject: str, text: str) -> str:
    """What a message is found by."""
    return words.indexed((subject, text))


def add_messages(connection: Connection, rows: Sequence[dict[str, Any]], places: dict[str, tuple[int, int]]) -> None:
    """Index new messages. `places`: ticket id -> its number and a count that rises with every message of it."""
    found = message_entries(rows, places)
    if insert_ignore(connection, search_entries, found) < len(found):
        place_left(connection, found)


def message_entries(rows: Sequence[dict[str, Any]], places: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """The entries of new messages, for which see `add_messages`. An id may be taken: rare, and none may be lost."""
    used: dict[str, int] = defaultdict(int)
    found: list[dict[str, Any]] = []
    for row in rows:
        said = message_words(row["subject"], row["text"])
        if said:
            number, count = places[row["ticket_id"]]
            slot = min(OWN + count + used[row["ticket_id"]], _MASK)
            used[row["ticket_id"]] += 1
            found.append(_row((number << BITS) + slot, row["id"], row["account"], said))
    found.sort(key=_id_of)
    return found


def place_left(connection: Connection, entries: Sequence[dict[str, Any]]) -> None:
    """Insert those of new messages' entries that are not there, as their ids were taken, under other ids."""
    there = select(search_entries.c.ref).where(among(connection, search_entries.c.ref, [row["ref"] for row in entries]))
    known = set(connection.execute(there).scalars())
    left = [row for row in entries if row["ref"] not in known]
    wanted: set[int] = set()
    for row in left:
        row["id"] = _free(connection, row["id"], wanted)
        wanted.add(row["id"])
    _write(connection, left)


def _free(connection: Connection, entry_id: int, wanted: set[int]) -> int:
    """A free id of the same ticket, behind all that are there."""
    first, last = entry_id & ~_MASK, entry_id | _MASK
    newest = select(func.max(search_entries.c.id)).where(search_entries.c.id.between(first, last))
    found = max([connection.execute(newest).scalar() or first, *(one for one in wanted if first <= one <= last)])
    if found < last:
        return int(found) + 1
    known = select(search_entries.c.id).where(search_entries.c.id.between(first, last))
    there = set(connection.execute(known).scalars())
    return next(one for one in range(first + OWN, last + 1) if one not in there and one not in wanted)


def reindex_messages(connection: Connection, message_ids: Sequence[str]) -> None:
    """Index messages as they stand now; those that are gone, or say nothing, are found no more."""
    forget(connection, message_ids)
    statement = (
        select(
            messages.c.id, messages.c.ticket_id, messages.c.account, messages.c.subject, messages.c.text,
            tickets.c.number, tickets.c.sequence,
        )
        .join(tickets, tickets.c.id == messages.c.ticket_id)
        .where(among(connection, messages.c.id, message_ids))
        .order_by(messages.c.id)
    )  # fmt: skip
    rows = [dict(row) for row in connection.execute(statement).mappings()]
    add_messages(connection, rows, {row["ticket_id"]: (row["number"], row["sequence"]) for row in rows})


# --- people and tickets ---


class _People:
    """What is known of some contacts, read in a few queries."""

    def __init__(self, connection: Connection, contact_ids: Sequence[str]) -> None:
        self.contacts = {
            row["id"]: row
            for row in connection.execute(
                select(contacts).where(among(connection, contacts.c.id, contact_ids))
            ).mappings()
        }
        self.identities: dict[str, list[RowMapping]] = defaultdict(list)
        statement = select(identities).where(among(connection, identities.c.contact_id, contact_ids))
        for row in connection.execute(statement.order_by(identities.c.id)).mappings():
            self.identities[row["contact_id"]].append(row)
        self._values: dict[tuple[str, str], list[str]] = defaultdict(list)  # (contact, identity or "") -> values
        statement = select(contact_values).where(among(connection, contact_values.c.contact_id, contact_ids))
        for row in connection.execute(statement).mappings():
            self._values[row["contact_id"], row["identity_id"]].append(row["value"])
        ids = [row["id"] for found in self.identities.values() for row in found]
        self._addresses: dict[str, list[str]] = defaultdict(list)
        for owner, value in connection.execute(
            select(addresses.c.identity_id, addresses.c.value).where(among(connection, addresses.c.identity_id, ids))
        ):
            self._addresses[owner].append(value)

    def own(self, contact_id: str) -> list[str]:
        """What the contact is found by whatever account one sees."""
        row = self.contacts.get(contact_id)
        if row is None:
            return []
        return [
            row["name"], row["organization"], *words.json_leaves(row["tags"]), *words.json_leaves(row["attributes"]),
            *self._values[contact_id, ""],
        ]  # fmt: skip

    def identity(self, row: RowMapping) -> list[str]:
        """What one identity is found by."""
        values = (
            row["name"], row["handle"], row["external_id"], *words.json_leaves(row["profile"]),
            *self._addresses[row["id"]], *self._values[row["contact_id"], row["id"]],
        )  # fmt: skip
        return [value.removeprefix("+") for value in values]


def reindex_contacts(connection: Connection, contact_ids: Iterable[str]) -> None:
    """Index contacts, and their tickets with them, as they stand now."""
    ids = sorted({contact_id for contact_id in contact_ids if contact_id})
    if not ids:
        return
    there: dict[str, int] = {}
    statement = select(search_entries.c.ref, func.min(search_entries.c.id)).where(
        among(connection, search_entries.c.ref, ids)
    )
    for ref, first in connection.execute(statement.group_by(search_entries.c.ref)):
        there[ref] = (first - PEOPLE) >> BITS
    forget(connection, there)
    people = _People(connection, ids)
    living = [row["id"] for row in people.contacts.values() if row["deleted_at"] is None and not row["merged_into"]]
    fresh = sorted(contact_id for contact_id in living if contact_id not in there)
    if fresh:
        first = reserve(connection, "contact", len(fresh))
        there |= {contact_id: first + place for place, contact_id in enumerate(fresh)}
    rows: list[dict[str, Any]] = []
    for contact_id in living:
        base = PEOPLE + (there[contact_id] << BITS)
        rows.append(_row(base, contact_id, "", words.indexed(people.own(contact_id))))
        for slot, identity in enumerate(people.identities[contact_id][: OWN - 1], 1):
            rows.append(_row(base + slot, contact_id, identity["account"], words.indexed(people.identity(identity))))
    _write(connection, rows)
    statement = select(tickets).where(among(connection, tickets.c.contact_id, ids))
    _reindex(connection, connection.execute(statement).mappings().all(), people)


def reindex_tickets(connection: Connection, ticket_ids: Iterable[str]) -> None:
    """Index what tickets themselves are found by, as they stand now: number, subject, tags, fields, channel info, and
    whom they are with. Their messages stay as they are."""
    ids = sorted(set(ticket_ids))
    if not ids:
        return
    rows = connection.execute(select(tickets).where(among(connection, tickets.c.id, ids))).mappings().all()
    _reindex(connection, rows, _People(connection, sorted({row["contact_id"] for row in rows})))


def _reindex(connection: Connection, rows: Sequence[RowMapping], people: _People) -> None:
    forget(connection, [row["id"] for row in rows])
    found: list[dict[str, Any]] = []
    for row in rows:
        base, contact_id = row["number"] << BITS, row["contact_id"]
        own, others = people.own(contact_id), people.identities.get(contact_id, [])
        mine = [said for one in others if one["id"] == row["identity_id"] for said in people.identity(one)]
        info = [said for name in ("channel_info", "tags", "fields") for said in words.json_leaves(row[name])]
        said = words.indexed([row["subject"], *own, *mine, *(value.removeprefix("+") for value in info)])
        said = f" {words.NUMBER_MARK}{row['number']} {row['number']}{said or ' '}"
        found.append(_row(base, row["id"], row["account"], said))
        slot = 0
        for identity in others:  # of another account perhaps: only who sees that one finds the ticket by it
            if identity["id"] != row["identity_id"] and slot < OWN - 1:
                slot += 1
                said = words.indexed([*own, *people.identity(identity)])
                found.append(_row(base + slot, row["id"], identity["account"], said))
    _write(connection, found)


# --- again ---


def rebuild_messages(connection: Connection, after: str, limit: int) -> list[str]:
    """Index messages behind this id anew; their ids."""
    return _next(connection, messages.c.id, after, limit, reindex_messages)


def rebuild_tickets(connection: Connection, after: str, limit: int) -> list[str]:
    """The same for tickets."""
    return _next(connection, tickets.c.id, after, limit, reindex_tickets)


def rebuild_contacts(connection: Connection, after: str, limit: int) -> list[str]:
    """The same for contacts."""
    return _next(connection, contacts.c.id, after, limit, reindex_contacts)


def _next(connection: Connection, column: Any, after: str, limit: int, work: Any) -> list[str]:
    ids = list(connection.execute(select(column).where(column > after).order_by(column).limit(limit)).scalars())
    if ids:
        work(connection, ids)
    return ids


def drop_orphans(connection: Connection) -> int:
    """Remove entries of what is not there any more; how many."""
    refs = (select(messages.c.id), select(tickets.c.id), select(contacts.c.id))
    gone = delete(search_entries).where(*(search_entries.c.ref.not_in(known) for known in refs))
    return int(connection.execute(gone).rowcount)
