"""The snapshot a batch is decided on, read in a few queries whatever the batch's size."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, func, select

from gateway import identity as values_of
from gateway.intake import echoes, forwards
from gateway.intake.context import Rules
from gateway.intake.messages import external_id
from gateway.intake.records import (
    AddressKey,
    AddressRow,
    Contact,
    Conversation,
    EventRow,
    Identity,
    Known,
    Snapshot,
    Ticket,
)
from gateway.store import linking, vip
from gateway.store.many import among
from gateway.store.schema import (
    addresses,
    contact_values,
    contacts,
    conversations,
    erased,
    identities,
    message_refs,
    messages,
    tickets,
)
from normalizers.model import (
    Address,
    CallEvent,
    ConsentChange,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    IdentityChange,
    InboundMessage,
    MessageDeleted,
    MessageEdited,
    Reaction,
    Thread,
    ThreadControl,
)

_decode = msgspec.json.decode
HOUR = 3_600_000_000  # microseconds


@dataclass(slots=True)
class _Wanted:
    """What the events of a batch name."""

    addresses: dict[AddressKey, Address] = field(default_factory=dict)
    groups: list[list[AddressKey]] = field(default_factory=list)  # of several addresses that one event gives a person
    surfaces: set[tuple[str, str]] = field(default_factory=set)  # (account, event channel)
    refs: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    message_ids: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)  # of conversations whoever the identity is
    roots: set[str] = field(default_factory=set)  # public root posts


def load(connection: Connection, rows: Sequence[EventRow], rules: Rules) -> Snapshot:
    """Everything `decide` may need for these events."""
    wanted = _Wanted()
    for row in rows:
        _want(wanted, row.account, row.event, rules)
    snapshot = Snapshot()
    _load_people(connection, snapshot, wanted, rules)
    _load_messages(connection, snapshot, wanted)
    _load_conversations(connection, snapshot, wanted)
    snapshot.forwarders = forwards.load(connection, rows)
    echoes.load(connection, rows, snapshot, rules)
    if any(rules.screen(account, channel).tickets_per_hour for account, channel in wanted.surfaces):
        _load_begun(connection, snapshot, max(row.received_at for row in rows))
    _load_vips(connection, snapshot, rules)
    if connection.execute(select(erased.c.hash).limit(1)).first() is not None:
        hashes = [rules.tokens.keyed_hash(f"{row.account}:{row.event.id}") for row in rows]
        found = connection.execute(select(erased.c.hash).where(erased.c.hash.in_(hashes)))
        snapshot.erased = frozenset(found.scalars())
    return snapshot


def _load_begun(connection: Connection, snapshot: Snapshot, now: int) -> None:
    """How many tickets each known sender has begun within the hour."""
    owners = {identity.contact_id for identity in snapshot.identities.values()}
    statement = (
        select(tickets.c.identity_id, func.count())
        .where(among(connection, tickets.c.contact_id, owners), tickets.c.created_at > now - HOUR)
        .group_by(tickets.c.identity_id)
    )
    snapshot.begun = {row[0]: int(row[1]) for row in connection.execute(statement)}


def _load_vips(connection: Connection, snapshot: Snapshot, rules: Rules) -> None:
    known = (*snapshot.values.values(), *snapshot.platform.values())
    candidates = {contact for entries in known for contact, _ in entries} - set(snapshot.contacts)
    snapshot.vips = {contact.id for contact in snapshot.contacts.values() if contact.vip}
    if candidates:
        statement = select(contacts.c.id).where(among(connection, contacts.c.id, candidates), contacts.c.vip)
        snapshot.vips.update(connection.execute(statement).scalars())
    if snapshot.vips:
        snapshot.vip = vip.in_force(connection, rules.vip)


def load_people(
    connection: Connection, persons: Iterable[Address], channel: str, account: str, rules: Rules
) -> Snapshot:
    """What is known of the people with these addresses."""
    wanted = _Wanted(surfaces={(account, channel)})
    _want_people(wanted, persons, channel, account)
    snapshot = Snapshot()
    _load_people(connection, snapshot, wanted, rules)
    return snapshot


def _people_of(event: Event) -> Iterable[Address]:
    match event:
        case InboundMessage() | Reaction():
            return event.sender.addresses
        case Echo():
            return event.recipient.addresses if event.recipient else ()
        case ConsentChange() | Engagement() | CallEvent() | ThreadControl():
            return event.person.addresses if event.person else ()
        case IdentityChange():
            return (*event.old, *event.new)
        case DeliveryUpdate():
            return event.learned
        case _:
            return ()


def _want(wanted: _Wanted, account: str, event: Event, rules: Rules) -> None:
    wanted.surfaces.add((account, event.channel))
    _want_people(wanted, _people_of(event), event.channel, account)
    if (author := forwards.author_of(event)) is not None:
        _want_people(wanted, author.addresses, event.channel, account)
    match event:
        case InboundMessage() | Echo():
            wanted.refs.add(event.id)
            if isinstance(event, InboundMessage):
                wanted.refs.add(external_id(event))
            if event.context is not None and event.context.reply_to:
                wanted.refs.add(event.context.reply_to)
            if isinstance(event, Echo) and event.target:
                wanted.refs.add(event.target)
            _want_thread(wanted, event.thread, rules)
        case MessageEdited() | MessageDeleted() | Reaction():
            wanted.refs.add(event.target)
        case ConsentChange():
            _want_thread(wanted, event.thread, rules)
        case _:
            pass


def _want_people(wanted: _Wanted, persons: Iterable[Address], channel: str, account: str) -> None:
    keys = []
    for address in persons:
        key = (address.channel or channel, account, address.kind, address.value)
        wanted.addresses[key] = address
        keys.append(key)
    if len(keys) > 1:
        wanted.groups.append(keys)


def _want_thread(wanted: _Wanted, thread: Thread, rules: Rules) -> None:
    if thread.kind in ("group", "session"):
        wanted.keys.add(f"{thread.kind}:{thread.key}")
    elif thread.kind == "public":
        wanted.roots.add(thread.key)
    for token in thread.tokens:
        number = rules.tokens.ticket_number(token)
        if number is not None:
            wanted.numbers.add(number)
    for reference in thread.references:
        wanted.refs.add(reference)
        own = rules.tokens.own_message(reference)
        if own is not None:
            wanted.message_ids.add(own)


# --- people ---

_ADDRESS_COLUMNS = (
    addresses.c.id, addresses.c.identity_id, addresses.c.channel, addresses.c.account, addresses.c.kind,
    addresses.c.value, addresses.c.scope, addresses.c.evidence, addresses.c.attested_at,
)  # fmt: skip
_IDENTITY_COLUMNS = (
    identities.c.id, identities.c.contact_id, identities.c.channel, identities.c.account, identities.c.external_id,
    identities.c.name, identities.c.handle, identities.c.language, identities.c.profile, identities.c.state,
    identities.c.optouts, identities.c.opened_at, identities.c.window_used, identities.c.last_inbound_at,
    identities.c.pinned, identities.c.created_at, identities.c.allowed_until, identities.c.private_reply_ticket,
    identities.c.heard,
)  # fmt: skip
_CONTACT_COLUMNS = (
    contacts.c.id, contacts.c.name, contacts.c.language, contacts.c.vip, contacts.c.created_at, contacts.c.last_seen_at,
)  # fmt: skip


def _rows(connection: Connection, columns: Sequence[Any], key: Any, wanted: Iterable[str]) -> Iterable[Any]:
    """The rows whose `key` is among `wanted`; no query when nothing is wanted."""
    names = list(wanted)
    return connection.execute(select(*columns).where(among(connection, key, names))).all() if names else ()


def _load_people(connection: Connection, snapshot: Snapshot, wanted: _Wanted, rules: Rules) -> None:
    if not wanted.addresses:
        return
    names = {key[3] for key in wanted.addresses}
    for row in connection.execute(select(*_ADDRESS_COLUMNS).where(among(connection, addresses.c.value, names))).all():
        found = AddressRow(*row)
        if found.key in wanted.addresses:
            snapshot.addresses[found.key] = found
    ids = {row.identity_id for row in snapshot.addresses.values()}
    for values in _rows(connection, _IDENTITY_COLUMNS, identities.c.id, ids):
        identity = Identity(*values)
        identity.profile, identity.optouts = _decode(values.profile), _decode(values.optouts)
        identity.heard = _decode(values.heard)
        snapshot.identities[identity.id] = identity
    contact_ids = {identity.contact_id for identity in snapshot.identities.values()}
    for values in _rows(connection, _CONTACT_COLUMNS, contacts.c.id, contact_ids):
        snapshot.contacts[values.id] = Contact(*values)
    _load_matches(connection, snapshot, wanted, rules)


def _load_matches(connection: Connection, snapshot: Snapshot, wanted: _Wanted, rules: Rules) -> None:
    """Whom the addresses we do not know yet may belong to, and what could contradict it."""
    fresh = {key: address for key, address in wanted.addresses.items() if _is_news(snapshot, key, address)}
    candidates = _about_to_change(snapshot, wanted, fresh)
    names = set()
    for (_, account, kind, value), _address in fresh.items():
        for surface_account, surface in wanted.surfaces:
            declared = rules.channel(account, surface) if surface_account == account else None
            attribute = declared.attribute_of.get(kind, "") if declared else ""
            if attribute in rules.matching:
                names.add(values_of.normalise(attribute, value, rules.region(account)))
    if names:
        statement = select(
            contact_values.c.attribute, contact_values.c.value, contact_values.c.contact_id, contact_values.c.evidence
        ).where(contact_values.c.attribute.in_(rules.matching), among(connection, contact_values.c.value, names))
        for attribute, value, contact_id, evidence in connection.execute(statement).all():
            snapshot.values.setdefault((attribute, value), []).append((contact_id, evidence))
            candidates.add(contact_id)
    shared = {address.value for address in fresh.values() if address.scope == "platform"}
    if shared:
        statement = (
            select(addresses.c.channel, addresses.c.kind, addresses.c.value, identities.c.contact_id)
            .join(identities, identities.c.id == addresses.c.identity_id)
            .where(
                among(connection, addresses.c.value, shared),
                addresses.c.scope == "platform",
                addresses.c.evidence == "attested",
            )
        )
        for channel, kind, value, contact_id in connection.execute(statement).all():
            snapshot.platform.setdefault((channel, kind, value), []).append((contact_id, "attested"))
            candidates.add(contact_id)
    if candidates:
        load_candidates(connection, snapshot, candidates)


def _about_to_change(snapshot: Snapshot, wanted: _Wanted, fresh: Container[AddressKey]) -> set[str]:
    """The contacts we know of whom an event gives us a further address, or tells that they are one person."""
    found: set[str] = set()
    for keys in (*wanted.groups, *([key] for key in wanted.addresses if key in fresh)):
        owners = {row.identity_id for key in keys if (row := snapshot.addresses.get(key)) is not None}
        if len(owners) > 1 or (owners and any(key in fresh for key in keys)):
            found |= {known.contact_id for owner in owners if (known := snapshot.identities.get(owner)) is not None}
    return found


def _is_news(snapshot: Snapshot, key: AddressKey, address: Address) -> bool:
    """Whether an address may change who is whose: nobody has it yet, or only by a claim."""
    known = snapshot.addresses.get(key)
    return known is None or (known.evidence == "claimed" and address.evidence != "claimed")


def load_candidates(connection: Connection, snapshot: Snapshot, contact_ids: Iterable[str]) -> None:
    """What is known of contacts that may be somebody's, and what could contradict it."""
    snapshot.facts |= linking.facts_of(connection, contact_ids)
    apart, disputed = linking.pairs_among(connection, contact_ids)
    snapshot.apart |= apart
    snapshot.disputed |= disputed
    for values in _rows(connection, _CONTACT_COLUMNS, contacts.c.id, set(contact_ids) - set(snapshot.contacts)):
        snapshot.contacts[values.id] = Contact(*values)


# --- messages, conversations, tickets ---

_KNOWN_COLUMNS = (
    messages.c.id, messages.c.ticket_id, messages.c.conversation_id, messages.c.identity_id, messages.c.direction,
    messages.c.reactions, messages.c.delivery_id, messages.c.raw_path, messages.c.external_id,
    messages.c.created_at,
    messages.c.deleted_at.is_not(None).label("deleted"),
)  # fmt: skip


def _load_messages(connection: Connection, snapshot: Snapshot, wanted: _Wanted) -> None:
    ids = set(wanted.message_ids)
    if wanted.refs:
        accounts = {"", *(account for account, _ in wanted.surfaces)}  # "": what any account of ours may have had
        statement = select(message_refs.c.account, message_refs.c.ref, message_refs.c.message_id).where(
            message_refs.c.account.in_(accounts), among(connection, message_refs.c.ref, wanted.refs)
        )
        for account, ref, message_id in connection.execute(statement).all():
            snapshot.refs[account, ref] = message_id
            ids.add(message_id)
    for values in _rows(connection, _KNOWN_COLUMNS, messages.c.id, ids):
        known = Known(*values)
        known.reactions = _decode(values.reactions)
        known.delivery_id = values.delivery_id or ""
        snapshot.messages[known.id] = known


_CONVERSATION_COLUMNS = (
    conversations.c.id, conversations.c.identity_id, conversations.c.account, conversations.c.channel,
    conversations.c.kind, conversations.c.key, conversations.c.subject, conversations.c.participants,
    conversations.c.created_at,
)  # fmt: skip
_TICKET_COLUMNS = (
    tickets.c.id, tickets.c.number, tickets.c.conversation_id, tickets.c.contact_id, tickets.c.identity_id,
    tickets.c.channel, tickets.c.account, tickets.c.subject, tickets.c.status, tickets.c.priority, tickets.c.via,
    tickets.c.updated_via, tickets.c.follow_up_of, tickets.c.conversation_state, tickets.c.sequence,
    tickets.c.created_at, tickets.c.updated_at, tickets.c.solved_at, tickets.c.closed_at,
)  # fmt: skip


def _load_conversations(connection: Connection, snapshot: Snapshot, wanted: _Wanted) -> None:
    keys = {*snapshot.identities, *wanted.keys}
    keys |= {f"{identity}:{root}" for identity in snapshot.identities for root in wanted.roots}
    if keys:
        here = conversations.c.account.in_({account for account, _ in wanted.surfaces})
        surface = conversations.c.channel.in_({channel for _, channel in wanted.surfaces})
        _take_conversations(connection, snapshot, and_(here, surface, among(connection, conversations.c.key, keys)))
    ids = {known.conversation_id for known in snapshot.messages.values()} - set(snapshot.conversations_by_id)
    if wanted.numbers:
        by_number = select(tickets.c.conversation_id, tickets.c.number).where(tickets.c.number.in_(wanted.numbers))
        numbered = {number: conversation for conversation, number in connection.execute(by_number)}
        ids |= set(numbered.values())
    if ids:
        _take_conversations(connection, snapshot, among(connection, conversations.c.id, ids))
    if snapshot.conversations_by_id:
        _take_tickets(connection, snapshot)
    if wanted.numbers:
        for number, conversation_id in numbered.items():
            snapshot.tickets_by_number[number] = snapshot.tickets[conversation_id]


def _take_conversations(connection: Connection, snapshot: Snapshot, condition: Any) -> None:
    for row in connection.execute(select(*_CONVERSATION_COLUMNS).where(condition)).all():
        conversation = Conversation(*row)
        conversation.participants = _decode(row.participants)
        snapshot.conversations[conversation.account, conversation.channel, conversation.key] = conversation
        snapshot.conversations_by_id[conversation.id] = conversation


def _take_tickets(connection: Connection, snapshot: Snapshot) -> None:
    """The newest ticket of each conversation: ids rise with time."""
    newest = (
        select(func.max(tickets.c.id))
        .where(among(connection, tickets.c.conversation_id, snapshot.conversations_by_id))
        .group_by(tickets.c.conversation_id)
    )
    for values in connection.execute(select(*_TICKET_COLUMNS).where(tickets.c.id.in_(newest))).all():
        snapshot.tickets[values.conversation_id] = Ticket(**values._mapping, tags=[], channel_info={})
