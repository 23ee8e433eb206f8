"""What outcomes of sends tell agents and the suppression list: recipients refused, addresses gone, mail that waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from gateway.ids import micros, new_id, rfc3339
from gateway.store import states, suppressions
from gateway.store.schema import messages, receipts, ticket_events
from gateway.store.tickets import to_json
from gateway.tickets import SYSTEM, Entry
from normalizers.model import PlatformError
from outbox.ports import Outcome, recipients_of

DELAYED = "reply.delayed"


def tell(connection: Connection, effective: Sequence[Outcome], now: int) -> list[states.Changed]:
    """Write down what follows from outcomes that changed their row; the messages live events should tell of."""
    _tell_refused(connection, effective, now)
    suppressions.failed(connection, list(_undeliverable(effective)), now)
    return _tell_delayed(connection, [outcome for outcome in effective if outcome.delayed], now)


def _tell_delayed(connection: Connection, delayed: Sequence[Outcome], now: int) -> list[states.Changed]:
    """A line in the log of tickets whose message has been waiting for hours, once for each message."""
    found: list[states.Changed] = []
    entries: dict[str, list[Entry]] = {}
    for outcome in delayed:
        parcel = outcome.parcel
        row = connection.execute(
            select(messages.c.ticket_id, messages.c.account, messages.c.status).where(
                messages.c.id == parcel.message_id
            )
        ).first()
        told = select(ticket_events.c.data).where(
            ticket_events.c.ticket_id == (row.ticket_id if row is not None else ""), ticket_events.c.kind == DELAYED
        )
        if row is None or any(parcel.message_id in data for data in connection.execute(told).scalars()):
            continue
        error = {} if outcome.error is None else {"error": msgspec.to_builtins(outcome.error)}
        data = {"message_id": parcel.message_id, "since": rfc3339(micros(parcel.queued_at)), **error}
        entries.setdefault(row.ticket_id, []).append(Entry(DELAYED, SYSTEM, data))
        found.append(states.Changed(parcel.message_id, row.ticket_id, row.account, row.status, row.status))
    states.log_many(connection, entries, now)
    return found


def _undeliverable(effective: Sequence[Outcome]) -> Iterator[suppressions.Failed]:
    """The addresses a message could not be brought to, where the platform's table says to leave such ones alone."""
    for outcome in effective:
        parcel, error = outcome.parcel, outcome.error
        everybody = recipients_of(parcel.message)
        if outcome.suppress is not None and error is not None and len(everybody) == 1:
            words = f"{error.code} {error.detail}".strip()
            yield suppressions.Failed(parcel.channel, everybody[0], outcome.suppress, parcel.message_id, words)
        for address, rule, words in outcome.left_alone:
            yield suppressions.Failed(parcel.channel, address, rule, parcel.message_id, words)


def _tell_refused(connection: Connection, effective: Sequence[Outcome], now: int) -> None:
    """Recipients the platform did not take, while it took the message for others, stand in the ticket's log."""
    refused = {o.parcel.message_id: dict(o.sent.refused) for o in effective if o.sent is not None and o.sent.refused}
    if not refused:
        return
    connection.execute(insert(receipts), list(_failures_of_some(effective, now)))
    rows = connection.execute(select(messages.c.id, messages.c.ticket_id).where(messages.c.id.in_(list(refused))))
    entries: dict[str, list[Entry]] = {}
    for row in rows:
        data = {"message_id": row.id, "recipients": refused[row.id]}
        entries.setdefault(row.ticket_id, []).append(Entry("reply.recipient_failed", states.PLATFORM, data))
    states.log_many(connection, entries, now)


def _failures_of_some(effective: Sequence[Outcome], now: int) -> Iterator[dict[str, Any]]:
    """A receipt for each recipient the platform refused while it took the message for others: it moves nothing."""
    for outcome in effective:
        for address, words in outcome.sent.refused.items() if outcome.sent is not None else ():
            error = PlatformError(" ".join(words.split()[:2]), detail=words)
            yield {
                "id": new_id(), "message_id": outcome.parcel.message_id, "outbox_id": outcome.parcel.id,
                "status": "failed", "recipient": address, "error": to_json(error), "applied": False,
                "at": micros(outcome.at), "received_at": now,
            }  # fmt: skip
