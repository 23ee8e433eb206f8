"""A private reply to something public, and the private answer to it: two tickets that name each other."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from gateway.store import tickets as store
from gateway.store.schema import ticket_events, tickets
from gateway.tickets import SYSTEM, Entry

LINKED = "ticket.linked"


def link_private_answer(connection: Connection, public_id: str, private_id: str, now: int) -> None:
    """Write into both tickets' logs that the one goes on in the other; once, however often it is told."""
    numbers = {
        row.id: row.number
        for row in connection.execute(
            select(tickets.c.id, tickets.c.number).where(tickets.c.id.in_((public_id, private_id)))
        )
    }
    if len(numbers) < 2 or _known(connection, public_id, private_id):
        return
    for ticket, other, why in (
        (public_id, private_id, "the person answered the private reply"),
        (private_id, public_id, "it answers a private reply"),
    ):
        data = {"ticket_id": other, "number": numbers[other], "why": why}
        store.log(connection, ticket, [Entry(LINKED, SYSTEM, data)], now)


def _known(connection: Connection, public_id: str, private_id: str) -> bool:
    told = select(ticket_events.c.data).where(ticket_events.c.ticket_id == public_id, ticket_events.c.kind == LINKED)
    return any(msgspec.json.decode(data)["ticket_id"] == private_id for data in connection.execute(told).scalars())
