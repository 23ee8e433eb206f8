"""What a batch works on: rows as small mutable records, and the snapshot that holds all a batch needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.linking import Facts, Pair
from gateway.store.suppressions import Entry as Suppression
from gateway.tickets import Actor, Entry
from gateway.vip import VipPolicy
from normalizers.model import Address, Event

AddressKey = tuple[str, str, str, str]
"""(channel, account, kind, value)"""


@dataclass(slots=True)
class EventRow:
    """A claimed event with the place it came from."""

    id: str
    delivery_id: str
    account: str
    received_at: int
    attempts: int
    event: Event
    released: tuple[str, ...] = ()  # causes of a suspension that a person has waived


@dataclass(slots=True)
class Identity:
    id: str
    contact_id: str
    channel: str
    account: str
    external_id: str
    name: str
    handle: str
    language: str
    profile: dict[str, Any]
    state: str
    optouts: list[str]
    opened_at: int | None
    window_used: int
    last_inbound_at: int | None
    pinned: bool
    created_at: int
    allowed_until: int | None = None
    private_reply_ticket: str | None = None
    heard: dict[str, int] = field(default_factory=dict)  # matter of consent -> moment of the last word on it
    new: bool = False
    dirty: bool = False
    told: bool = False  # its name, handle or profile changed: it is found by other words now
    opened: bool = False  # something opened its window, or widened it: only then what it has used is written


@dataclass(slots=True)
class AddressRow:
    id: str
    identity_id: str
    channel: str
    account: str
    kind: str
    value: str
    scope: str
    evidence: str
    attested_at: int

    @property
    def key(self) -> AddressKey:
        return self.channel, self.account, self.kind, self.value


@dataclass(slots=True)
class Contact:
    id: str
    name: str
    language: str
    vip: bool
    created_at: int
    last_seen_at: int
    new: bool = False
    dirty: bool = False


@dataclass(slots=True)
class ContactValue:
    id: str
    contact_id: str
    identity_id: str
    attribute: str
    value: str
    evidence: str
    at: int


@dataclass(slots=True)
class Conversation:
    id: str
    identity_id: str
    account: str
    channel: str
    kind: str
    key: str
    subject: str
    participants: list[str]
    created_at: int
    new: bool = False
    dirty: bool = False


@dataclass(slots=True)
class Ticket:
    id: str
    number: int  # 0 until one is reserved
    conversation_id: str
    contact_id: str
    identity_id: str
    channel: str
    account: str
    subject: str
    status: str
    priority: str
    via: str
    updated_via: str
    tags: list[str]
    channel_info: dict[str, Any]
    follow_up_of: str | None
    conversation_state: str
    sequence: int
    created_at: int
    updated_at: int
    solved_at: int | None
    closed_at: int | None
    group_name: str = ""  # of a new one
    new: bool = False
    dirty: bool = False
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class Known:
    """What a batch needs to know of a message that is there already (or was made by this batch)."""

    id: str
    ticket_id: str
    conversation_id: str
    identity_id: str
    direction: str
    reactions: list[dict[str, Any]]
    delivery_id: str = ""
    raw_path: str = ""
    external_id: str = ""
    created_at: int = 0
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A part of a message of ours that is being sent (`unknown_at` None), or whose answer was lost then."""

    id: str
    account: str
    words: str
    unknown_at: int | None


@dataclass(slots=True)
class Merge:
    """A merge to be carried out and written into the journal. `loser` empty: the identities `moved`, new like their
    contact, were linked at once."""

    winner: str
    loser: str
    identity_id: str
    attribute: str
    value: str
    evidence: str
    reason: str
    moved: tuple[str, ...] = ()


@dataclass(slots=True)
class Snapshot:
    """All that a batch may look at. `decide` changes the records in it and adds new ones."""

    identities: dict[str, Identity] = field(default_factory=dict)
    addresses: dict[AddressKey, AddressRow] = field(default_factory=dict)
    platform: dict[tuple[str, str, str], list[tuple[str, str]]] = field(default_factory=dict)  # -> (contact, evidence)
    contacts: dict[str, Contact] = field(default_factory=dict)
    values: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)  # -> (contact, evidence)
    facts: dict[str, Facts] = field(default_factory=dict)  # contact -> what could contradict that it is somebody's
    apart: set[Pair] = field(default_factory=set)  # contacts a person keeps apart
    disputed: set[Pair] = field(default_factory=set)  # contacts between which a conflict is open
    conversations: dict[tuple[str, str, str], Conversation] = field(default_factory=dict)
    conversations_by_id: dict[str, Conversation] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)  # conversation id -> its newest ticket
    tickets_by_number: dict[int, Ticket] = field(default_factory=dict)
    refs: dict[tuple[str, str], str] = field(default_factory=dict)  # (account, ref) -> message id
    messages: dict[str, Known] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()
    vips: set[str] = field(default_factory=set)  # contacts, also of those who may be joined
    vip: VipPolicy | None = None  # where there are any, and the attribute is on
    on_their_way: dict[str, list[OnItsWay]] = field(default_factory=dict)  # identity id -> what echoes may prove
    forwarders: dict[str, Actor] = field(default_factory=dict)  # address -> the user of ours who forwards a mail
    begun: dict[str, int] = field(default_factory=dict)  # identity -> tickets within the hour, where that counts


@dataclass(slots=True)
class Changes:
    """What a batch has decided beside what it changed in the snapshot's records."""

    identities: list[Identity] = field(default_factory=list)
    addresses: list[AddressRow] = field(default_factory=list)
    moved_addresses: list[AddressRow] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    values: list[ContactValue] = field(default_factory=list)
    doubted: list[tuple[str, str, str]] = field(default_factory=list)  # identity, attribute, value it no longer has
    merges: list[Merge] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)  # rows
    erased: list[EventRow] = field(default_factory=list)  # of people who were erased, delivered again
    conversations: list[Conversation] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)  # rows
    attachments: list[dict[str, Any]] = field(default_factory=list)  # rows
    refs: list[dict[str, Any]] = field(default_factory=list)  # rows
    lookups: list[dict[str, Any]] = field(default_factory=list)  # rows
    handed_over: list[Identity] = field(default_factory=list)  # whose conversations nobody else holds any more
    groups: list[tuple[str, int, bool]] = field(default_factory=list)  # conversation, moment, whether we are out of it
    edits: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # message id -> columns
    deletions: list[tuple[Known, int]] = field(default_factory=list)
    reactions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    receipts: list[EventRow] = field(default_factory=list)
    templates: list[dict[str, Any]] = field(default_factory=list)  # rows
    aliases: list[tuple[str, Address]] = field(default_factory=list)  # private replies, whom they reached
    linked: list[tuple[Identity, Ticket, str]] = field(default_factory=list)  # a private answer, its public ticket's id
    suspended: list[dict[str, Any]] = field(default_factory=list)  # rows
    suppressions: list[Suppression] = field(default_factory=list)
    notices: list[tuple[str, str]] = field(default_factory=list)  # event, ticket id: customers to be told
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)  # event id -> (state, reason)
    stopped: list[tuple[str, str]] = field(default_factory=list)  # automatic messages refused or held: channel, rule
    live: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)  # type, data, account
    asked: list[str] = field(default_factory=list)  # CRMs that are to be asked about people of new tickets
