"""Whom a private reply to a public comment reached: the platform tells the id the person has in private.

That id is attested: it links the commenter's identity with the private one, which is made if nobody knew it, and the
person's next private message is known to be the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select, update

from gateway.ids import new_id
from gateway.intake import people
from gateway.intake.context import Context, Rules
from gateway.intake.load import load_candidates, load_people
from gateway.intake.save_people import save_people
from gateway.store import search_index
from gateway.store.merging import record_merge
from gateway.store.private_replies import link_private_answer
from gateway.store.schema import addresses, conversations, identities, messages
from normalizers.model import Address, Person

Alias = tuple[str, Address]
"""The id of our private reply, and the address it reached."""
Live = tuple[str, dict[str, Any], str]


def join(connection: Connection, rules: Rules, aliases: Iterable[Alias], now: int) -> list[Live]:
    """Link commenters with the people behind the addresses; the live events of it. Told twice it does no harm."""
    live: list[Live] = []
    for message_id, address in dict.fromkeys(aliases):
        reply = connection.execute(select(messages).where(messages.c.id == message_id)).mappings().first()
        if reply is None:
            continue
        identity, told = _link(connection, rules, reply["identity_id"], reply["account"], address, now)
        live += told
        _expect(connection, identity, reply, address.channel, now)
    return live


def _link(
    connection: Connection, rules: Rules, commenter_id: str, account: str, address: Address, now: int
) -> tuple[str, list[Live]]:
    """The private identity's id, its contact now the commenter's, and what happened."""
    known = [
        Address(row.channel, row.kind, row.value, row.scope, row.evidence)
        for row in connection.execute(select(addresses).where(addresses.c.identity_id == commenter_id))
    ]
    snapshot = load_people(connection, [*known, address], address.channel, account, rules)
    ctx = Context(snapshot, rules, now, new_id)
    commenter = snapshot.identities.get(commenter_id)
    name = commenter.name if commenter is not None else ""
    identity = people.resolve(ctx, Person((address,), name=name), address.channel, account, now)
    if commenter is not None:
        load_candidates(connection, snapshot, {commenter.contact_id, identity.contact_id} - set(snapshot.facts))
        people.join(ctx, identity, commenter)
    for merge in ctx.changes.merges:
        record_merge(connection, merge, now)
    search_index.reindex_contacts(connection, save_people(connection, snapshot, ctx.changes, now))
    return identity.id, ctx.changes.live


def _expect(connection: Connection, identity_id: str, reply: Any, channel: str, now: int) -> None:
    """The person's next private message answers the reply; one that was faster than this news does already."""
    answer = (
        select(messages.c.ticket_id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(
            conversations.c.account == reply["account"],
            conversations.c.channel == channel,
            conversations.c.key == identity_id,
            messages.c.direction == "inbound",
            messages.c.created_at >= reply["created_at"],
        )
        .order_by(messages.c.id)
        .limit(1)
    )
    ticket_id = connection.execute(answer).scalar()
    if ticket_id is not None:
        link_private_answer(connection, reply["ticket_id"], ticket_id, now)
        return
    connection.execute(
        update(identities).where(identities.c.id == identity_id).values(private_reply_ticket=reply["ticket_id"])
    )
