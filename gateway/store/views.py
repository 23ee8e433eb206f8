"""What the API shows of tickets and messages. Reads only; each function is one or a few statements.

`visible` restricts to accounts; None: all of them. What is not visible is not there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, case, func, literal, or_, select

from gateway.store.schema import (
    attachments,
    attempts,
    contacts,
    message_refs,
    messages,
    outbox,
    receipts,
    ticket_events,
    ticket_tags,
    tickets,
)
from gateway.store.search import Visible, Words, seen

Rows = Sequence[RowMapping]


@dataclass(frozen=True, slots=True)
class TicketFilter:
    """Which tickets are wanted; what is empty does not matter. `unassigned` beats `assignee`. What is said about `text`
    is for `tickets_found`."""

    statuses: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    account: str = ""
    contact: str = ""
    assignee: str = ""
    unassigned: bool = False
    tag: str = ""
    text: str = ""
    vip: bool | None = None
    region: str = ""

    def conditions(self, visible: Visible) -> list[ColumnElement[bool]]:
        """The filter as SQL."""
        found = [seen(tickets.c.account, visible)]
        for column, value in (
            (tickets.c.account, self.account),
            (tickets.c.contact_id, self.contact),
            (tickets.c.assignee, "" if self.unassigned else self.assignee),
        ):
            if value:
                found.append(column == value)
        if self.unassigned:
            found.append(tickets.c.assignee == "")
        if self.statuses:
            found.append(tickets.c.status.in_(self.statuses))
        if self.channels:
            found.append(tickets.c.channel.in_(self.channels))
        if self.tag:
            found.append(tickets.c.id.in_(select(ticket_tags.c.ticket_id).where(ticket_tags.c.tag == self.tag)))
        if self.vip is not None:
            found.append(contacts.c.vip.is_(self.vip))
        return found


def tickets_with_names() -> Select[Any]:
    """Tickets, each with the name of its contact."""
    return select(tickets, contacts.c.name.label("contact_name")).join_from(
        tickets, contacts, contacts.c.id == tickets.c.contact_id, isouter=True
    )


def ticket_page(connection: Connection, wanted: TicketFilter, visible: Visible, limit: int, before: str | None) -> Rows:
    """Tickets, the newest first; `before` is the id of the last one of the page before."""
    statement = tickets_with_names().where(*wanted.conditions(visible)).order_by(tickets.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(tickets.c.id < before)
    return connection.execute(statement).mappings().all()


def tickets_found(
    connection: Connection, wanted: TicketFilter, visible: Visible, limit: int, before: int | None
) -> list[RowMapping]:
    """Tickets with the words of `wanted.text`, the newest first; `before` is the number of the last one of the page
    before."""
    asked, also = Words(wanted.text, visible, wanted.region), wanted.conditions(visible)
    if wanted.contact:
        numbers = asked.numbers_of_few(connection, also, before)[:limit]
    else:
        numbers = list(itertools.islice(asked.ticket_numbers(connection, also, before), limit))
    statement = tickets_with_names().where(tickets.c.number.in_(numbers)).order_by(tickets.c.number.desc())
    return list(connection.execute(statement).mappings())


def ticket(connection: Connection, ticket_id: str, visible: Visible) -> RowMapping | None:
    """One ticket, or None."""
    statement = tickets_with_names().where(tickets.c.id == ticket_id, seen(tickets.c.account, visible))
    return connection.execute(statement).mappings().first()


def ticket_log(connection: Connection, ticket_id: str, limit: int, after: int) -> Rows:
    """Lines of a ticket's event log behind number `after`."""
    statement = (
        select(ticket_events)
        .where(ticket_events.c.ticket_id == ticket_id, ticket_events.c.sequence > after)
        .order_by(ticket_events.c.sequence)
        .limit(limit)
    )
    return connection.execute(statement).mappings().all()


# Customers' messages stand at the platform's moment, ours at the moment they were written. Most platforms tell whole
# seconds: within such a second the moment of receipt decides, so that an answer never stands before what it answers.
_SENT, _SECOND_US = messages.c.sent_at, 1_000_000
_PLATFORM_AT = case(
    (or_(_SENT % _SECOND_US != 0, messages.c.received_at <= _SENT), _SENT),
    (messages.c.received_at < _SENT + _SECOND_US, messages.c.received_at),
    else_=_SENT + _SECOND_US - 1,
)
_SHOWN_AT = case(
    (messages.c.direction == "inbound", func.coalesce(_PLATFORM_AT, messages.c.created_at)),
    else_=messages.c.created_at,
)


def thread(connection: Connection, ticket_id: str, limit: int, after: tuple[int, str] | None) -> Rows:
    """A ticket's messages, the oldest first; each row has `shown_at`. `after` is (shown_at, id)."""
    statement = (
        select(messages, _SHOWN_AT.label("shown_at"))
        .where(messages.c.ticket_id == ticket_id)
        .order_by(_SHOWN_AT, messages.c.id)
        .limit(limit)
    )
    if after is not None:
        moment = literal(after[0])
        statement = statement.where(
            or_(moment < _SHOWN_AT, and_(moment == _SHOWN_AT, messages.c.id > after[1]))  # behind (moment, id)
        )
    return connection.execute(statement).mappings().all()


def message(connection: Connection, message_id: str, visible: Visible) -> RowMapping | None:
    """One message, or None."""
    statement = select(messages).where(messages.c.id == message_id, seen(messages.c.account, visible))
    return connection.execute(statement).mappings().first()


def message_named(connection: Connection, account: str, ref: str) -> str | None:
    """The id of the message the platform calls `ref`, or None."""
    statement = select(message_refs.c.message_id).where(message_refs.c.account == account, message_refs.c.ref == ref)
    found: str | None = connection.execute(statement).scalar()
    return found


def files_of(connection: Connection, message_ids: Sequence[str]) -> dict[str, list[RowMapping]]:
    """The attachments of each message, in order."""
    found: dict[str, list[RowMapping]] = {}
    if message_ids:
        statement = (
            select(attachments)
            .where(attachments.c.message_id.in_(message_ids))
            .order_by(attachments.c.message_id, attachments.c.position, attachments.c.id)
        )
        for row in connection.execute(statement).mappings():
            found.setdefault(row["message_id"], []).append(row)
    return found


def attachment(connection: Connection, attachment_id: str, visible: Visible) -> RowMapping | None:
    """One attachment of a visible message, or None."""
    statement = (
        select(attachments)
        .join(messages, messages.c.id == attachments.c.message_id)
        .where(attachments.c.id == attachment_id, seen(messages.c.account, visible))
    )
    return connection.execute(statement).mappings().first()


@dataclass(frozen=True, slots=True)
class History:
    """What was tried and heard of a message."""

    parts: Rows
    attempts: Rows
    receipts: Rows


def history(connection: Connection, message_id: str) -> History:
    """Parts, attempts and receipts of a message, each in its order."""
    by_message = [
        select(outbox).where(outbox.c.message_id == message_id).order_by(outbox.c.part, outbox.c.id),
        select(attempts).where(attempts.c.message_id == message_id).order_by(attempts.c.id),
        select(receipts).where(receipts.c.message_id == message_id).order_by(receipts.c.received_at, receipts.c.id),
    ]
    return History(*(connection.execute(statement).mappings().all() for statement in by_message))


def last_attempts(connection: Connection, message_ids: Sequence[str]) -> dict[str, RowMapping]:
    """The last attempt of each message that had one."""
    found: dict[str, RowMapping] = {}
    if message_ids:
        statement = select(attempts).where(attempts.c.message_id.in_(message_ids)).order_by(attempts.c.id)
        for row in connection.execute(statement).mappings():
            found[row["message_id"]] = row
    return found
