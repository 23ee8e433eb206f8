"""Writing first: whom, from which account, in which conversation, on which ticket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from adapters import Channel
from gateway import identity as rules
from gateway.core import Core
from gateway.crm import Begun, want_lookups
from gateway.ids import new_id
from gateway.intake.ensure import ensure_identity
from gateway.intake.worker import rules_of
from gateway.requests import MessageRequest, RequestError
from gateway.store import search_index, vip
from gateway.store import tickets as ticket_store
from gateway.store.schema import contact_values, contacts, conversations, identities, tickets
from gateway.store.tickets import to_json
from gateway.tickets import Actor, Entry, channel_tags, subject_of
from gateway.vip import vip_policy
from normalizers.model import Address, Person

_OPEN = ("new", "open", "pending", "hold")


class Opened(msgspec.Struct, frozen=True):
    """The ticket a first message goes on; `new`: it was made for it."""

    ticket: RowMapping
    channel: Channel
    new: bool


def open_ticket(connection: Connection, core: Core, request: MessageRequest, actor: Actor, now: int) -> Opened:
    """The open ticket of the conversation with the person, else a new one. Raises `RequestError`."""
    account, channel = whence(core, request)
    identity = recipient(connection, core, request, account, channel, now)
    return open_on(connection, core, request, identity, account, channel, actor, now)


def open_on(
    connection: Connection, core: Core, request: MessageRequest, identity: RowMapping, account: str, channel: Channel,
    actor: Actor, now: int, *, about: str = "",
) -> Opened:  # fmt: skip
    """The open ticket of the conversation with an identity, else a new one.

    `about`: where every subject is a conversation of its own (mail), an open ticket with this subject is taken up.
    """
    if (ticket := _thread_about(connection, identity, channel, about)) is not None:
        return Opened(ticket, channel, False)
    threaded = channel.key == "message_id"  # each mail with a subject of its own begins a thread
    conversation = None if threaded and request.subject else _conversation(connection, identity, account, channel)
    if conversation is not None:
        ticket = (
            connection.execute(
                select(tickets)
                .where(tickets.c.conversation_id == conversation, tickets.c.status.in_(_OPEN))
                .order_by(tickets.c.id.desc())
                .limit(1)
            )
            .mappings()
            .first()
        )
        if ticket is not None:
            return Opened(ticket, channel, False)
    if conversation is None or threaded:
        conversation = _begin(connection, identity, account, channel, request.subject, now)
    ticket_id = _create(connection, request, identity, conversation, account, channel, actor, now)
    vip.prefer(connection, ticket_id, vip_policy(core.settings), now)
    made = ticket_store.load(connection, ticket_id)
    assert made is not None
    begun = Begun(ticket_id, made["contact_id"], channel.name, account)
    want_lookups(connection, core.settings.crm, [begun], now)
    return Opened(made, channel, True)


def _thread_about(connection: Connection, identity: RowMapping, channel: Channel, subject: str) -> RowMapping | None:
    if not subject or channel.key != "message_id":
        return None
    statement = select(tickets).where(
        tickets.c.identity_id == identity["id"], tickets.c.subject == subject, tickets.c.status.in_(_OPEN)
    )
    return connection.execute(statement.order_by(tickets.c.id.desc()).limit(1)).mappings().first()


def whence(core: Core, request: MessageRequest) -> tuple[str, Channel]:
    """The account and channel to write from. Raises `RequestError`."""
    if request.account:
        account = core.accounts.get(request.account)
        if account is None:
            raise RequestError(422, "unknown_account", f"no account {request.account!r}", "account")
        names = [request.channel] if request.channel else list(account.channels)
        if len(names) > 1:
            raise RequestError(422, "unknown_channel", f"one of {', '.join(names)} must be chosen", "channel")
        channel = account.channels.get(names[0])
        if channel is None:
            raise RequestError(422, "unknown_channel", f"{request.account} does not serve {names[0]!r}", "channel")
        return account.id, channel
    if not request.channel:
        raise RequestError(422, "unknown_channel", "a channel or an account must be given", "channel")
    serving = core.accounts.serving(request.channel)
    if not serving:
        raise RequestError(422, "unknown_channel", f"no account serves {request.channel!r}", "channel")
    return serving[0].id, serving[0].channels[request.channel]


def recipient(
    connection: Connection, core: Core, request: MessageRequest, account: str, channel: Channel, now: int
) -> RowMapping:
    """The identity to write to, made where it is new. Raises `RequestError`."""
    if bool(request.to) == bool(request.contact):
        raise RequestError(422, "invalid", 'exactly one of "to" and "contact" must be given', "to")
    contact = _living(connection, request.contact) if request.contact else ""
    found = _known(connection, contact, account, channel) if contact else None
    if found is None:
        value = request.to or _value_of(connection, contact, channel)
        address = address_of(core, value, account, channel)
        return identity_at(connection, core, address, account, channel, now, contact, request.name)
    return connection.execute(select(identities).where(identities.c.id == found)).mappings().one()


def identity_at(
    connection: Connection, core: Core, address: Address, account: str, channel: Channel, now: int,
    contact_id: str = "", name: str = "",
) -> RowMapping:  # fmt: skip
    """The identity of an address; a new one becomes the contact's, where one is given."""
    found = ensure_identity(connection, rules_of(core), channel.name, account, Person((address,), name=name), now)
    row = connection.execute(select(identities).where(identities.c.id == found)).mappings().one()
    if contact_id and row["contact_id"] != contact_id and row["created_at"] == now:
        _give_to(connection, row, contact_id)
        row = connection.execute(select(identities).where(identities.c.id == found)).mappings().one()
    return row


def _give_to(connection: Connection, identity: RowMapping, contact_id: str) -> None:
    """An identity just made for a contact is that contact's, whatever matching would have made of it."""
    made_for_it = identity["contact_id"]
    connection.execute(update(identities).where(identities.c.id == identity["id"]).values(contact_id=contact_id))
    connection.execute(
        update(contact_values).where(contact_values.c.identity_id == identity["id"]).values(contact_id=contact_id)
    )
    others = select(identities.c.id).where(identities.c.contact_id == made_for_it)
    if connection.execute(others.limit(1)).first() is None:
        connection.execute(
            delete(contacts).where(contacts.c.id == made_for_it, contacts.c.created_at == identity["created_at"])
        )
    search_index.reindex_contacts(connection, (contact_id, made_for_it))


def _living(connection: Connection, contact_id: str) -> str:
    """The contact, or the one it is part of by now. Raises `RequestError` for one nobody has or that was deleted."""
    columns = contacts.c.id, contacts.c.deleted_at, contacts.c.merged_into
    row = connection.execute(select(*columns).where(contacts.c.id == contact_id)).first()
    if row is None or row.deleted_at is not None:
        raise RequestError(422, "unknown_contact", "there is no such contact", "contact")
    return str(row.merged_into or row.id)


def _known(connection: Connection, contact_id: str, account: str, channel: Channel) -> str | None:
    """The identity by which a contact was last heard on the account."""
    return connection.execute(
        select(identities.c.id)
        .where(
            identities.c.contact_id == contact_id,
            identities.c.account == account,
            identities.c.channel == channel.name,
        )
        .order_by(identities.c.last_inbound_at.desc().nulls_last(), identities.c.id.desc())
        .limit(1)
    ).scalar()


def _value_of(connection: Connection, contact_id: str, channel: Channel) -> str:
    """A phone number or mail address of the contact that the channel can write to."""
    for kind in channel.address_kinds:
        attribute = channel.attribute_of.get(kind)
        value = (
            attribute
            and connection.execute(
                select(contact_values.c.value)
                .where(contact_values.c.contact_id == contact_id, contact_values.c.attribute == attribute)
                .order_by(contact_values.c.at.desc())
                .limit(1)
            ).scalar()
        )
        if value:
            return str(value)
    raise RequestError(422, "no_address", f"the contact has no address for {channel.title}", "contact")


_LOOKS: defaultdict[str, Callable[[str], bool]] = defaultdict(lambda: bool)
"""What a value of a kind of address must look like, where that can be told; any text that is not empty otherwise."""
_LOOKS |= {
    "short_code": str.isdigit,
    "sender_name": lambda _text: False,  # one-way: nobody can write to it
    "anonymous": lambda _text: False,
    "bsuid": lambda text: "." in text,
}


def address_of(core: Core, value: str, account: str, channel: Channel) -> Address:
    """The address a text names, by the kinds the channel can write to. Raises `RequestError`."""
    bound = core.accounts.get(account)
    region = (bound.settings.region if bound is not None else "") or core.settings.gateway.region
    text = value.strip()
    kinds = channel.address_kinds or ("address",)
    for kind in kinds:
        attribute = channel.attribute_of.get(kind)
        reader = {"phone": lambda: rules.phone(text, region), "email": lambda: rules.email(text)}.get(attribute or "")
        if reader is not None and (found := reader()):
            return Address(channel.name, kind, found, "everywhere", "authenticated")
    plain = next((kind for kind in kinds if kind not in channel.attribute_of and _LOOKS[kind](text)), None)
    broken = not text or text.startswith("+") or "@" in text or any(map(str.isspace, text))
    if plain is None or broken:
        raise RequestError(422, "invalid", f"{value!r} is no address {channel.title} can write to", "to")
    return Address(channel.name, plain, text, "account", "authenticated")


def _conversation(connection: Connection, identity: RowMapping, account: str, channel: Channel) -> str | None:
    return connection.execute(
        select(conversations.c.id)
        .where(
            conversations.c.identity_id == identity["id"],
            conversations.c.account == account,
            conversations.c.channel == channel.name,
            conversations.c.kind.in_(("private", "mail")),
        )
        .order_by(conversations.c.id.desc())
        .limit(1)
    ).scalar()


def _begin(connection: Connection, identity: RowMapping, account: str, channel: Channel, subject: str, now: int) -> str:
    conversation_id = new_id()
    mail = channel.key == "message_id"
    row = {
        "id": conversation_id, "identity_id": identity["id"], "account": account, "channel": channel.name,
        "kind": "mail" if mail else "private", "key": conversation_id if mail else identity["id"], "subject": subject,
        "participants": to_json([identity["external_id"].casefold()] if mail else []), "created_at": now,
    }  # fmt: skip
    connection.execute(insert(conversations), [row])
    return conversation_id


def _create(
    connection: Connection, request: MessageRequest, identity: RowMapping, conversation: str, account: str,
    channel: Channel, actor: Actor, now: int,
) -> str:  # fmt: skip
    ticket_id = new_id()
    tags = channel_tags(channel.name, channel.private and channel.messaging)
    info = {
        "channel": channel.name, "channel_title": channel.title, "account": account,
        "address": identity["external_id"], "name": identity["name"],
    }  # fmt: skip
    row = {
        "id": ticket_id, "number": ticket_store.next_numbers(connection, 1), "conversation_id": conversation,
        "contact_id": identity["contact_id"], "identity_id": identity["id"], "channel": channel.name,
        "account": account, "subject": request.subject or subject_of(request.text, _kind(request)),
        "status": "pending", "via": "api", "updated_via": "api", "tags": to_json(tags),
        "channel_info": to_json({name: value for name, value in info.items() if value}),
        "created_at": now, "updated_at": now,
    }  # fmt: skip
    connection.execute(insert(tickets), [row])
    ticket_store.set_tags(connection, ticket_id, tags)
    entry = Entry("ticket.created", actor, {"via": "api", "why": "a message of ours begins the conversation"})
    ticket_store.log(connection, ticket_id, [entry], now)
    search_index.reindex_tickets(connection, [ticket_id])
    return ticket_id


def _kind(request: MessageRequest) -> str:
    return f"template {request.template.name}" if request.template is not None else "message"
