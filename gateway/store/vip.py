"""VIPs in the store: whether the attribute is on, and what somebody's becoming one does to their tickets."""

from __future__ import annotations

import logging

from sqlalchemy import ColumnElement, Connection, and_, select, update

from gateway.store import tickets as ticket_store
from gateway.store.schema import attributes, contacts, groups, tickets
from gateway.vip import VipPolicy, promote

log = logging.getLogger(__name__)

_OPEN = ("new", "open", "pending", "hold")
BECAME = "the person became a VIP"
IS = "the person is a VIP"


def in_force(connection: Connection, policy: VipPolicy) -> VipPolicy | None:
    """The policy as it can be carried out now; None while the attribute is switched off.

    A group that does not exist is warned of, and routes nothing. As long as there are no groups, any name goes.
    """
    shown = connection.execute(select(attributes.c.visible).where(attributes.c.name == "vip")).scalar()
    if shown is not None and not shown:
        return None
    if policy.group:
        names = set(connection.execute(select(groups.c.name)).scalars())
        if names and policy.group not in names:
            log.warning("vip.unknown_group", extra={"group": policy.group})
            return VipPolicy(policy.priority)
    return policy


def became_vip(connection: Connection, contact_id: str, policy: VipPolicy, now: int) -> None:
    """Raise and route the open tickets of somebody who became a VIP."""
    _promote(connection, and_(tickets.c.contact_id == contact_id, tickets.c.status.in_(_OPEN)), policy, BECAME, now)


def merged(connection: Connection, winner: str, policy: VipPolicy, now: int) -> None:
    """Two contacts are one now: where that one is a VIP, the open tickets of both are a VIP's."""
    if connection.execute(select(contacts.c.vip).where(contacts.c.id == winner)).scalar():
        became_vip(connection, winner, policy, now)


def prefer(connection: Connection, ticket_id: str, policy: VipPolicy, now: int) -> None:
    """Raise and route a ticket just made, where its person is a VIP."""
    whose = select(contacts.c.vip).join(tickets, tickets.c.contact_id == contacts.c.id).where(tickets.c.id == ticket_id)
    if connection.execute(whose).scalar():
        _promote(connection, tickets.c.id == ticket_id, policy, IS, now)


def _promote(connection: Connection, which: ColumnElement[bool], policy: VipPolicy, why: str, now: int) -> None:
    known = in_force(connection, policy)
    if known is None:
        return
    wanted = select(tickets.c.id, tickets.c.priority, tickets.c.group_name).where(which)
    for ticket_id, priority, group in connection.execute(wanted).all():
        found = promote(known, priority, group, why)
        values = {"priority": found.priority, "group_name": found.group}
        changed = {name: value for name, value in values.items() if value is not None}
        if changed:
            connection.execute(update(tickets).where(tickets.c.id == ticket_id).values(**changed))
            ticket_store.log(connection, ticket_id, found.entries, now)
