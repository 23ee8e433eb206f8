"""The lookups table: messages to be asked for at the platform, and what became of the asking."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from gateway.ids import micros, new_id
from gateway.intake.context import Rules
from gateway.intake.ensure import ensure_identity
from gateway.intake.messages import as_json, attachment_rows
from gateway.store import search_index
from gateway.store import tickets as ticket_store
from gateway.store.dialect import for_claim
from gateway.store.schema import addresses, attachments, events, identities, lookups, messages, tickets
from gateway.store.tickets import to_json
from gateway.tickets import Actor, Entry, subject_of
from normalizers.model import Address, Event, InboundMessage, Person, Unsupported

LEASE = timedelta(minutes=2) // timedelta(microseconds=1)
FAILED = "lookup_failed"  # the flag of a message that stays what it is
_PLATFORM = Actor("platform")
_read_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

_put_off = (
    update(lookups)
    .where(lookups.c.message_id.in_(bindparam("b_ids", expanding=True)))
    .values(not_before=bindparam("b_until"), attempts=lookups.c.attempts + 1)
)


class Asked(msgspec.Struct, frozen=True):
    """A message that is being asked for. `event` None: how it came is not kept any more. Moments in microseconds."""

    message_id: str
    account: str
    attempts: int
    failures: int
    created_at: int
    event: InboundMessage | None


def claim(connection: Connection, accounts: Sequence[str], limit: int, now: int) -> list[Asked]:
    """Take what is due of these accounts: nobody else asks for it until the lease is over."""
    due = (
        select(lookups)
        .where(lookups.c.not_before <= now, lookups.c.account.in_(accounts))
        .order_by(lookups.c.not_before, lookups.c.message_id)
        .limit(limit)
    )
    rows = connection.execute(for_claim(connection, due)).mappings().all()
    if not rows:
        return []
    connection.execute(_put_off, {"b_ids": [row["message_id"] for row in rows], "b_until": now + LEASE})
    kept = select(events.c.id, events.c.payload).where(events.c.id.in_([row["event_id"] for row in rows]))
    payloads = {row.id: row.payload for row in connection.execute(kept)}
    return [
        Asked(
            row["message_id"], row["account"], row["attempts"] + 1, row["failures"], row["created_at"],
            _event(payloads.get(row["event_id"], "")),
        )
        for row in rows
    ]  # fmt: skip


def _event(payload: str) -> InboundMessage | None:
    """As it was filed; None where it was erased, taken back, or is past its time."""
    try:
        found = _read_event.decode(payload)
    except msgspec.MsgspecError:
        return None
    return found if isinstance(found, InboundMessage) else None


def later(connection: Connection, asked: Asked, until: int, reason: str, *, counts: bool) -> None:
    """Ask again then."""
    connection.execute(
        update(lookups)
        .where(lookups.c.message_id == asked.message_id, lookups.c.attempts == asked.attempts)
        .values(not_before=until, reason=reason[:500], failures=asked.failures + int(counts))
    )


def complete(
    connection: Connection, rules: Rules, asked: Asked, told: InboundMessage, now: int
) -> dict[str, Any] | None:
    """Write what the platform told into the message; what to tell of it, None when the message is gone by now."""
    row = _take(connection, asked)
    if row is None:
        return None
    author = _author(connection, rules, row, told)
    values: dict[str, Any] = {
        "kind": told.kind, "text": told.text, "html": told.html, "content": as_json(told.content),
        "context": as_json(told.context), "sent_at": min(micros(told.at), row["received_at"] or now),
        "author": author,
    }  # fmt: skip
    connection.execute(update(messages).where(messages.c.id == row["id"]).values(**values))
    if files := attachment_rows(new_id, row["id"], told.attachments):
        connection.execute(insert(attachments), files)
    subject = subject_of(told.text, told.kind)
    connection.execute(  # only one that was made of the placeholder
        update(tickets)
        .where(tickets.c.id == row["ticket_id"], tickets.c.subject == subject_of(row["text"], row["kind"]))
        .values(subject=subject)
    )
    search_index.reindex_tickets(connection, [row["ticket_id"]])
    search_index.reindex_messages(connection, [row["id"]])
    data = {"message_id": row["id"], "kind": told.kind, "files": len(files)}
    ticket_store.log(connection, row["ticket_id"], [Entry("message.completed", _PLATFORM, data)], now)
    return {"ticket_id": row["ticket_id"], "message_id": row["id"], "contact_id": row["contact_id"]}


def give_up(connection: Connection, asked: Asked, code: str, reason: str, now: int) -> dict[str, Any] | None:
    """The message stays what it is, and says why; None when it is gone."""
    row = _take(connection, asked)
    if row is None:
        return None
    kind = msgspec.json.decode(row["content"])["type"] if row["content"] else row["kind"]
    said = f"the platform was asked for it in vain: {reason}"[:500]
    flags = [*msgspec.json.decode(row["flags"]), FAILED]
    values: dict[str, Any] = {"flags": to_json(flags)}
    if not row["text"]:  # what an edit has brought since stays
        values["content"] = as_json(Unsupported(kind, said))
    connection.execute(update(messages).where(messages.c.id == row["id"]).values(**values))
    data = {"message_id": row["id"], "code": code, "reason": reason[:500]}
    ticket_store.log(connection, row["ticket_id"], [Entry("message.lookup_failed", _PLATFORM, data)], now)
    return {"ticket_id": row["ticket_id"], "message_id": row["id"]}


def _take(connection: Connection, asked: Asked) -> RowMapping | None:
    """End the look-up, if it is still ours; the message, unless it was deleted or erased meanwhile."""
    mine = delete(lookups).where(lookups.c.message_id == asked.message_id, lookups.c.attempts == asked.attempts)
    if not connection.execute(mine).rowcount:
        return None
    found = select(messages).where(messages.c.id == asked.message_id, messages.c.deleted_at.is_(None))
    return connection.execute(found.with_for_update()).mappings().first()


def _author(connection: Connection, rules: Rules, row: RowMapping, told: InboundMessage) -> str:
    """The message's author as it is known now: who was nobody gets the name and address the platform told."""
    known = _addresses(connection, row["identity_id"])
    fresh = tuple(address for address in told.sender.addresses if address not in known)
    if fresh and any(address.kind != "anonymous" for address in known):
        return str(row["author"])  # another person than the delivery named: nothing is made of that
    person = told.sender
    if known:
        told_of = Person((*fresh, *known[:1]), person.name, person.handle, person.profile, person.language)
        ensure_identity(connection, rules, row["channel"], row["account"], told_of, micros(told.at))
    identity = connection.execute(select(identities).where(identities.c.id == row["identity_id"])).mappings().one()
    name = identity["name"] or identity["handle"] or person.name or person.handle or identity["external_id"]
    return to_json({"type": "customer", "id": identity["contact_id"], "name": name})


def _addresses(connection: Connection, identity_id: str) -> tuple[Address, ...]:
    """The identity's addresses, the one it is keyed by first."""
    statement = select(addresses).where(addresses.c.identity_id == identity_id).order_by(addresses.c.id)
    return tuple(
        Address(row["channel"], row["kind"], row["value"], row["scope"], row["evidence"])
        for row in connection.execute(statement).mappings()
    )
