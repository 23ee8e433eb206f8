"""What an erased person leaves on what is not theirs: other people's tickets, threads, pauses, remembered answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, delete, or_, select, update

from gateway.store.many import among
from gateway.store.schema import account_states, conversations, idempotency, messages, suppressions, ticket_events
from gateway.store.tickets import to_json

if TYPE_CHECKING:  # erasure imports this module
    from gateway.store.erasure import Person, Receipt

NAMED_MIN = 4  # characters a name or address must have to be looked for within other words
_decode = msgspec.json.decode


def erase_among_others(connection: Connection, receipt: Receipt, who: Person) -> None:
    """What they left on other people's tickets: their part in the log, reactions, answers to what they wrote."""
    elsewhere = select(messages.c.ticket_id).where(
        among(connection, messages.c.id, who.messages), messages.c.ticket_id.not_in(who.tickets)
    )
    mine = set(who.contacts)
    tickets = sorted(set(connection.execute(elsewhere).scalars()))
    for ticket_id in tickets:
        log = select(ticket_events.c.id, ticket_events.c.actor).where(ticket_events.c.ticket_id == ticket_id)
        for event_id, actor in connection.execute(log).all():
            if _decode(actor).get("id") in mine:
                nameless = {"actor": to_json({"type": "customer", "id": "", "name": ""}), "data": "{}"}
                connection.execute(update(ticket_events).where(ticket_events.c.id == event_id).values(**nameless))
                receipt.count("ticket_events", 1)
    there = messages.c.ticket_id.in_(tickets), among(connection, messages.c.in_reply_to, who.messages)
    connection.execute(update(messages).where(*there).values(in_reply_to=None))
    reacted = select(messages.c.id, messages.c.reactions).where(
        messages.c.reactions != "[]", or_(*(messages.c.reactions.contains(one) for one in who.identities))
    )
    for message_id, found in connection.execute(reacted).all() if who.identities else ():
        left = [entry for entry in _decode(found) if entry.get("identity_id") not in who.identities]
        connection.execute(update(messages).where(messages.c.id == message_id).values(reactions=to_json(left)))
        receipt.count("reactions", 1)


def erase_beside_others(connection: Connection, receipt: Receipt, who: Person) -> None:
    """Where an address of theirs stands beside other things: who may write in a thread, who must wait, to whom
    nothing goes, who was answered what under an Idempotency-Key."""
    values = {value for _, value in who.addresses}
    open_to = select(conversations.c.id, conversations.c.participants).where(conversations.c.participants != "[]")
    for conversation_id, found in connection.execute(open_to).all():
        left = [entry for entry in _decode(found) if entry not in values]
        if len(left) < len(_decode(found)):
            changed = update(conversations).where(conversations.c.id == conversation_id)
            connection.execute(changed.values(participants=to_json(left)))
            receipt.count("participants", 1)
    waiting = [account_states.c.account, account_states.c.scope, account_states.c.reason]
    for account, scope, reason in connection.execute(select(*waiting).where(account_states.c.scope != "")).all():
        told = any(value in reason for value in who.values if len(value) >= NAMED_MIN)
        if told or scope.removeprefix("to:").removeprefix("+") in who.values:
            here = account_states.c.account == account, account_states.c.scope == scope
            receipt.count("account_states", connection.execute(delete(account_states).where(*here)).rowcount)
    silenced = suppressions.c.address.in_({value.casefold() for value in values})
    receipt.count("suppressions", connection.execute(delete(suppressions).where(silenced)).rowcount)
    ids = {*who.messages, *who.tickets, *who.contacts, *who.identities}
    answered = select(idempotency.c.scope, idempotency.c.key, idempotency.c.response).where(
        idempotency.c.response != ""
    )
    for scope, key, response in connection.execute(answered).all():
        if _mentions(_decode(response), ids):
            here = idempotency.c.scope == scope, idempotency.c.key == key
            receipt.count("idempotency", connection.execute(delete(idempotency).where(*here)).rowcount)


def _mentions(value: Any, ids: Collection[str]) -> bool:
    if isinstance(value, dict):
        return any(_mentions(item, ids) for item in value.values())
    if isinstance(value, list):
        return any(_mentions(item, ids) for item in value)
    return isinstance(value, str) and value in ids
