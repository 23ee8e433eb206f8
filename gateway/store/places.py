"""Where a message goes: its ticket, conversation, identity and addresses, and what the customer said last.

All of it is one question: whoever writes on a ticket asks it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, ScalarSelect, bindparam, select

from adapters import Channel
from gateway.accounts import Accounts
from gateway.store.schema import addresses, conversations, identities, messages, tickets
from normalizers.model import Address

Record: TypeAlias = RowMapping | dict[str, Any]
"""A row of the store, or one as it would be."""


class Place(msgspec.Struct, frozen=True):
    """Where a message goes. Of each row: what messages are written by."""

    ticket: Record
    conversation: Record
    identity: Record
    addresses: tuple[Address, ...]
    last: Record | None


_last = messages.alias("last")
_TICKET = tuple(
    tickets.c[name]
    for name in (
        "id", "number", "contact_id", "identity_id", "account", "channel", "subject", "status", "fields",
        "channel_info",
    )
)  # fmt: skip
_CONVERSATION = tuple(conversations.c[name] for name in ("id", "kind", "key", "participants"))
_IDENTITY = tuple(
    identities.c[name]
    for name in ("id", "name", "language", "state", "optouts", "opened_at", "window_used", "allowed_until")
)
_LAST = tuple(
    _last.c[name]
    for name in ("id", "identity_id", "external_id", "context", "automatic", "flags", "sent_at", "deleted_at")
)
_ADDRESS = tuple(addresses.c[name] for name in ("channel", "kind", "value", "scope", "evidence"))


def _newest(conversation: ColumnElement[str]) -> ScalarSelect[str]:
    statement = select(messages.c.id).where(
        messages.c.conversation_id == conversation, messages.c.direction == "inbound", messages.c.visibility != "note"
    )
    return statement.order_by(messages.c.id.desc()).limit(1).correlate(tickets).scalar_subquery()


_newest_first = (addresses.c.attested_at.desc(), addresses.c.id.desc())
_PLACE = (
    select(*_TICKET, *_CONVERSATION, *_IDENTITY, *_LAST, *_ADDRESS)
    .join_from(tickets, conversations, conversations.c.id == tickets.c.conversation_id)
    .join(identities, identities.c.id == tickets.c.identity_id)
    .outerjoin(_last, _last.c.id == _newest(tickets.c.conversation_id))
    .outerjoin(addresses, (addresses.c.identity_id == identities.c.id) & (addresses.c.kind != "anonymous"))
    .where(tickets.c.id == bindparam("b_id"))
    .order_by(*_newest_first)
)  # a row for each address
_NAMES = tuple(tuple(column.name for column in part) for part in (_TICKET, _CONVERSATION, _IDENTITY, _LAST))
_last_inbound = select(*_LAST).where(_last.c.id == _newest(bindparam("b_id")))
_addresses = (
    select(*_ADDRESS)
    .where(addresses.c.identity_id == bindparam("b_id"), addresses.c.kind != "anonymous")
    .order_by(*_newest_first)
)


def place_of(connection: Connection, ticket_id: str, accounts: Accounts) -> Place | None:
    """All that is needed to write on a ticket; None when there is none with this id."""
    rows = connection.execute(_PLACE, {"b_id": ticket_id}).all()
    if not rows:
        return None
    values = iter(rows[0])
    ticket, conversation, identity, last = (dict(zip(names, values, strict=False)) for names in _NAMES)
    channel = accounts.channel(ticket["account"], ticket["channel"])
    found = [row[-len(_ADDRESS) :] for row in rows]
    return Place(
        ticket,
        conversation,
        identity,
        _reachable([] if found[0][0] is None else found, channel),
        None if last["id"] is None else last,
    )


def last_words(connection: Connection, place: Place) -> RowMapping | None:
    """The context of what the ticket's own person said last, where somebody else has written since."""
    statement = (
        select(messages.c.context)
        .where(
            messages.c.conversation_id == place.conversation["id"],
            messages.c.identity_id == place.identity["id"],
            messages.c.direction == "inbound",
            messages.c.visibility != "note",
        )
        .order_by(messages.c.id.desc())
        .limit(1)
    )
    return connection.execute(statement).mappings().first()


def writes_from(connection: Connection, identity_id: str) -> str:
    """The address an identity wrote from last, "" where it is nobody's."""
    known = connection.execute(_addresses.limit(1), {"b_id": identity_id}).mappings().first()
    return str(known["value"]) if known is not None else ""


def place_at(connection: Connection, ticket: Record, identity: RowMapping, channel: Channel) -> Place:
    """The place another identity would be written to at, without writing anything: its latest private conversation, or
    one as it would be begun."""
    found = (
        connection.execute(
            select(conversations)
            .where(
                conversations.c.identity_id == identity["id"],
                conversations.c.account == identity["account"],
                conversations.c.channel == identity["channel"],
                conversations.c.kind.in_(("private", "mail")),
            )
            .order_by(conversations.c.id.desc())
            .limit(1)
        )
        .mappings()
        .first()
    )
    begun: dict[str, Any] = {
        "id": "",
        "kind": "mail" if channel.key == "message_id" else "private",
        "key": identity["id"],
    }
    there = dict(ticket) | {
        "account": identity["account"], "channel": identity["channel"], "identity_id": identity["id"],
        "status": "open", "channel_info": "{}",
    }  # fmt: skip
    rows = connection.execute(_addresses, {"b_id": identity["id"]}).all()
    last = connection.execute(_last_inbound, {"b_id": found["id"]}).mappings().first() if found is not None else None
    return Place(there, begun if found is None else found, identity, _reachable(rows, channel), last)


def _reachable(rows: Iterable[Sequence[Any]], channel: Channel | None) -> tuple[Address, ...]:
    """The identity's addresses one can send to, the best kind first; of a kind the newest first."""
    kinds = channel.address_kinds if channel is not None else ()
    found = [address for address in (Address(*row) for row in rows) if not kinds or address.kind in kinds]
    return tuple(sorted(found, key=lambda address: kinds.index(address.kind) if kinds else 0))
