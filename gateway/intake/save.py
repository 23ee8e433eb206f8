"""Writing what a batch decided, in a few bulk statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, select, text, update

from gateway.ids import new_id
from gateway.intake.context import Rules
from gateway.intake.records import Changes, EventRow, Snapshot, Ticket
from gateway.intake.save_people import columns_of, run_update, save_people
from gateway.store import catalogue, erasure, merging, receipts, search_index, suppressions, suspended
from gateway.store.detours import TakeOver, stay
from gateway.store.many import among, insert_ignore, insert_many
from gateway.store.private_replies import link_private_answer
from gateway.store.redact import redact
from gateway.store.schema import (
    attachments,
    conversations,
    dead_letters,
    deliveries,
    events,
    identities,
    lookups,
    message_refs,
    messages,
    ticket_events,
    ticket_tags,
    tickets,
)
from gateway.store.tickets import event_row, next_numbers, to_json
from normalizers.model import DeliveryUpdate

PARKED_FOR = 10 * 60 * 1_000_000  # microseconds a receipt waits for the message it names
PARKED_LONG = 8 * 86_400 * 1_000_000  # what changes a message waits longer than any platform delivers that late


def save(
    connection: Connection, rows: Sequence[EventRow], snapshot: Snapshot, changes: Changes, rules: Rules, now: int,
    *, settled: bool = False, take_over: TakeOver = stay,
) -> None:  # fmt: skip
    """Write a batch, all of it in the caller's transaction. `settled`: its events stand as done already.

    `take_over`: where messages go that receipts report as refused.
    """
    for merge in changes.merges:
        merging.record_merge(connection, merge, now)
        linked = snapshot.identities.get(merge.identity_id)
        if not merge.loser and linked is not None:
            merging.name_if_nameless(connection, merge.winner, linked.name or linked.handle)
    counts = {ticket.id: ticket.sequence for ticket in snapshot.tickets.values()}
    named = save_people(connection, snapshot, changes, now)
    _save_tickets(connection, snapshot, changes, now)
    _link_private_answers(connection, changes, now)
    edited = _save_messages(connection, changes)
    _index(connection, snapshot, changes, named, counts, edited)
    _apply_receipts(connection, changes, rules, now, take_over)
    suspended.put_aside(connection, changes.suspended)
    suppressions.add(connection, changes.suppressions, now)
    _settle(connection, rows, changes, now, settled=settled)
    _wake_parked(connection, changes)
    erasure.forget(connection, changes.erased)


# --- conversations and tickets ---

_CONVERSATION = ("id", "identity_id", "account", "channel", "kind", "key", "subject", "created_at")
_TICKET = (
    "id", "number", "conversation_id", "contact_id", "identity_id", "channel", "account", "subject", "status",
    "priority", "group_name", "via", "updated_via", "follow_up_of", "conversation_state", "sequence", "created_at",
    "updated_at", "solved_at", "closed_at",
)  # fmt: skip
_UPDATE_CONVERSATION = (
    update(conversations)
    .where(conversations.c.id == bindparam("conversation"))
    .values(subject=bindparam("title"), participants=bindparam("people"))
)
_UPDATE_TICKET = (
    update(tickets)
    .where(tickets.c.id == bindparam("ticket"))
    .values(
        status=bindparam("new_status"),
        updated_via=bindparam("new_via"),
        conversation_state=bindparam("new_state"),
        sequence=bindparam("new_sequence"),
        updated_at=bindparam("new_updated"),
        solved_at=bindparam("new_solved"),
    )
)


def _save_tickets(connection: Connection, snapshot: Snapshot, changes: Changes, now: int) -> None:
    insert_many(
        connection,
        conversations,
        [
            columns_of(conversation, *_CONVERSATION) | {"participants": to_json(conversation.participants)}
            for conversation in changes.conversations
        ],
    )
    changed = [
        {
            "conversation": conversation.id,
            "title": conversation.subject,
            "people": to_json(conversation.participants),
        }
        for conversation in snapshot.conversations_by_id.values()
        if conversation.dirty and not conversation.new
    ]
    run_update(connection, _UPDATE_CONVERSATION, changed)
    if changes.tickets:
        first = next_numbers(connection, len(changes.tickets))
        for offset, ticket in enumerate(changes.tickets):
            ticket.number = first + offset
    touched = {ticket.id: ticket for ticket in (*changes.tickets, *snapshot.tickets.values())}
    touched |= {ticket.id: ticket for ticket in snapshot.tickets_by_number.values() if ticket.id not in touched}
    log = [row for ticket in touched.values() for row in _log_rows(ticket, now)]
    insert_many(
        connection,
        tickets,
        [
            columns_of(ticket, *_TICKET) | {"tags": to_json(ticket.tags), "channel_info": to_json(ticket.channel_info)}
            for ticket in changes.tickets
        ],
    )
    insert_many(
        connection,
        ticket_tags,
        [{"ticket_id": ticket.id, "tag": tag} for ticket in changes.tickets for tag in ticket.tags],
    )
    dirty = [
        {
            "ticket": ticket.id,
            "new_status": ticket.status,
            "new_via": ticket.updated_via,
            "new_state": ticket.conversation_state,
            "new_sequence": ticket.sequence,
            "new_updated": ticket.updated_at,
            "new_solved": ticket.solved_at,
        }
        for ticket in touched.values()
        if not ticket.new and (ticket.dirty or ticket.entries)
    ]
    run_update(connection, _UPDATE_TICKET, dirty)
    insert_many(connection, ticket_events, log)


def _log_rows(ticket: Ticket, now: int) -> Iterable[dict[str, Any]]:
    for entry in ticket.entries:
        ticket.sequence += 1
        yield event_row(ticket.id, ticket.sequence, entry, now)


def _link_private_answers(connection: Connection, changes: Changes, now: int) -> None:
    """A person answered a private reply: its public ticket and the private one name each other. Rare."""
    for identity, ticket, public_id in changes.linked:
        link_private_answer(connection, public_id, ticket.id, now)
        connection.execute(update(identities).where(identities.c.id == identity.id).values(private_reply_ticket=None))


# --- messages ---

_REACT = update(messages).where(messages.c.id == bindparam("message")).values(reactions=bindparam("all_reactions"))


def _save_messages(connection: Connection, changes: Changes) -> list[str]:
    """Write them, and what changes others; the messages whose words an edit has changed."""
    insert_many(connection, messages, changes.messages)
    insert_many(connection, attachments, changes.attachments)
    insert_many(connection, lookups, changes.lookups)
    insert_ignore(connection, message_refs, changes.refs)
    run_update(
        connection,
        _REACT,
        [{"message": message, "all_reactions": to_json(reactions)} for message, reactions in changes.reactions.items()],
    )
    edited = [message_id for message_id, columns in changes.edits if _edit(connection, message_id, columns)]
    for identity in changes.handed_over:
        connection.execute(
            update(messages)
            .where(
                messages.c.contact_id == identity.contact_id, messages.c.identity_id == identity.id,
                messages.c.flags.contains('"standby"'),
            )
            .values(flags=func.replace(messages.c.flags, '"standby"', '"was_standby"'))
        )  # fmt: skip
    for conversation_id, at, out in changes.groups:
        _mark_group(connection, conversation_id, at, out=out)
    for known, at in changes.deletions:
        redact(connection, known, at)
    catalogue.learn(connection, changes.templates)
    return edited


def _mark_group(connection: Connection, conversation_id: str, at: int, *, out: bool) -> None:
    """The flag "left" on the last message of a group we are out of, where the channel's answer rules look for it. A
    message written since says that we are still there."""
    said = messages.c.conversation_id == conversation_id, messages.c.direction == "inbound"
    rows = select(messages.c.id, messages.c.flags, messages.c.sent_at).where(*said, messages.c.visibility != "note")
    if out:
        last = connection.execute(rows.order_by(messages.c.id.desc()).limit(1)).first()
        marked = [last] if last is not None and (last.sent_at or 0) <= at else []
    else:
        marked = list(connection.execute(rows.where(messages.c.flags.contains('"left"'))).all())
    for row in marked:
        flags = [flag for flag in msgspec.json.decode(row.flags) if flag != "left"] + (["left"] if out else [])
        connection.execute(update(messages).where(messages.c.id == row.id).values(flags=to_json(flags)))


def _edit(connection: Connection, message_id: str, columns: dict[str, Any]) -> bool:
    """Edits come in any order: the latest stands, and what was taken back stays away."""
    may = (
        messages.c.id == message_id,
        messages.c.deleted_at.is_(None),
        func.coalesce(messages.c.edited_at, 0) <= columns["edited_at"],
    )
    return connection.execute(update(messages).where(*may).values(**columns)).rowcount > 0


def _apply_receipts(connection: Connection, changes: Changes, rules: Rules, now: int, take_over: TakeOver) -> None:
    """Hand receipts over, account by account; those for messages nobody knows yet are parked."""
    grouped: dict[tuple[str, str], list[EventRow]] = {}
    for row in changes.receipts:
        grouped.setdefault((row.account, row.event.channel), []).append(row)
    for (account, name), rows in grouped.items():
        channel = rules.channel(account, name)
        updates = [row.event for row in rows if isinstance(row.event, DeliveryUpdate)]
        if channel is None:
            continue
        result = receipts.apply(connection, account, channel, updates, now, take_over)
        missing = {id(update) for update in result.missing}
        for row in rows:
            if id(row.event) in missing and isinstance(row.event, DeliveryUpdate):
                changes.outcomes[row.id] = ("parked", row.event.target or row.event.ours)
        changes.live += result.live
        changes.aliases += result.aliases


def _index(
    connection: Connection, snapshot: Snapshot, changes: Changes, named: set[str], counts: dict[str, int],
    edited: Sequence[str],
) -> None:  # fmt: skip
    """What was said and who said it, to be found by its words. `counts`: of each ticket's events before the batch."""
    search_index.reindex_contacts(connection, named)
    search_index.reindex_tickets(
        connection, [ticket.id for ticket in changes.tickets if ticket.contact_id not in named]
    )
    places = {
        ticket.id: (ticket.number, counts.get(ticket.id, 0) + 1)
        for ticket in (*changes.tickets, *snapshot.tickets.values())
    }
    gone = {known.id for known, _ in changes.deletions}
    said = [row for row in changes.messages if row["id"] not in gone]
    search_index.add_messages(connection, [row for row in said if row["ticket_id"] in places], places)
    again = [message_id for message_id in edited if message_id not in gone]
    again += [row["id"] for row in said if row["ticket_id"] not in places]  # its ticket is not the newest any more
    if again:
        search_index.reindex_messages(connection, again)


# --- outcomes ---


def _settle(connection: Connection, rows: Sequence[EventRow], changes: Changes, now: int, *, settled: bool) -> None:
    by_outcome: dict[tuple[str, str], list[str]] = {}
    for event_id, outcome in changes.outcomes.items():
        by_outcome.setdefault(outcome, []).append(event_id)
    received = {row.id: row for row in rows}
    for (state, reason), ids in by_outcome.items():
        if settled and state == "done":
            continue
        values: dict[str, Any] = {"state": state, "error": "" if state in ("done", "parked") else reason[:500]}
        if state == "parked":
            values |= {"waits_for": reason, "not_before": now + PARKED_FOR}
        connection.execute(update(events).where(among(connection, events.c.id, ids)).values(**values))
        if state == "parked" and (
            patient := [name for name in ids if not isinstance(received[name].event, DeliveryUpdate)]
        ):
            long = update(events).where(among(connection, events.c.id, patient)).values(not_before=now + PARKED_LONG)
            connection.execute(long)
        if state == "dead":
            insert_many(connection, dead_letters, [dead_letter(received[event_id], reason, now) for event_id in ids])


def dead_letter(row: EventRow, detail: str, now: int, error_class: str = "permanent") -> dict[str, Any]:
    """The dead letter of an event that cannot be filed."""
    return {
        "id": new_id(),
        "direction": "inbound",
        "kind": "event",
        "ref": row.id,
        "account": row.account,
        "message_id": None,
        "error_class": error_class,
        "code": msgspec.structs.asdict(row.event).get("event", type(row.event).__name__),
        "detail": detail[:500],
        "attempts": row.attempts + 1,
        "created_at": now,
    }


def _wake_parked(connection: Connection, changes: Changes) -> None:
    """Events that waited for a message this batch brought are due again."""
    if not changes.refs:
        return
    is_parked = text("events.state = 'parked'")  # word for word the condition of its index
    parked = select(events.c.id).where(is_parked).limit(1)
    if connection.execute(parked).first() is None:
        return
    connection.execute(
        update(events)
        .where(is_parked, events.c.waits_for.in_({row["ref"] for row in changes.refs}))
        .values(state="new", not_before=None)
    )


def mark_deliveries(connection: Connection, done: Sequence[str], now: int) -> None:
    """These deliveries stand in the events table now."""
    if done:
        connection.execute(update(deliveries).where(among(connection, deliveries.c.id, done)).values(state="done"))
