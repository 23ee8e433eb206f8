"""Refused messages that may go another way: what the store asks of whom knows the ways, and what it keeps in order.

`gateway.fallback.take_over` answers; which way there is, is not the store's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, select, update

from gateway.bus import LiveEvent
from gateway.store import states
from gateway.store.schema import attempts, messages, outbox
from gateway.store.tickets import to_json
from outbox import detours
from outbox.detours import Refusal
from outbox.ports import Failure


class Detours(msgspec.Struct):
    """What became of refused messages: `gone` are those that went another way, `live` tells of it; `details` are for
    the failures of those for which no way was open, by message."""

    gone: set[str] = msgspec.field(default_factory=set)
    live: list[LiveEvent] = msgspec.field(default_factory=list)
    details: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


TakeOver = Callable[[Connection, Mapping[str, Refusal]], Detours]
"""Sends refused messages on where they have another way, in the caller's transaction; asked by message id."""


def stay(connection: Connection, refused: Mapping[str, Refusal]) -> Detours:
    """There is no other way."""
    return Detours()


def nothing_left(connection: Connection, message_id: str) -> bool:
    """Whether nothing of a message has left, nor may have. Its parts stay locked, so that it remains so."""
    columns = outbox.c.id, outbox.c.state, outbox.c.error
    statement = select(*columns).where(outbox.c.message_id == message_id).order_by(outbox.c.part, outbox.c.id)
    parts = connection.execute(statement.with_for_update()).all()
    tries: dict[str, list[str | None]] = {}
    tried = select(attempts.c.outbox_id, attempts.c.outcome).where(attempts.c.message_id == message_id)
    for row in connection.execute(tried.order_by(attempts.c.id)):
        tries.setdefault(row.outbox_id, []).append(row.outcome)
    found = [detours.Part(part.state, _class_of(part.error), tries.pop(part.id, [])) for part in parts]
    found += [detours.Part("queued", tries=left) for left in tries.values()]  # of parts there are no more
    return detours.nothing_left(found)


def _class_of(error: str | None) -> str:
    return msgspec.json.decode(error, type=Failure).error_class if error else ""


def take_back(connection: Connection, message: RowMapping, failure: Failure, now: int) -> states.Changed:
    """Take a message back for good: nobody can send it again, no dead letter waits for it, and what stood behind it
    goes. `failure` is what stays to be seen."""
    ids = connection.execute(
        update(outbox)
        .where(outbox.c.message_id == message["id"])
        .values(state="cancelled", not_before=None, settled=True)  # late reports move it no more
        .returning(outbox.c.id)
    ).scalars()
    states.letters_answered(connection, list(ids), now)
    connection.execute(
        update(messages)
        .where(messages.c.id == message["id"])
        .values(status="cancelled", error=to_json(failure), fallback=None)
    )
    states.promote(connection, [message["conversation_id"]], now)
    return states.Changed(message["id"], message["ticket_id"], message["account"], message["status"], "cancelled")
