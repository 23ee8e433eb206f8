"""What the API answers, as types. The OpenAPI document is made from them. Moments are RFC 3339, UTC."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from gateway.conditions import Conditions

T = TypeVar("T")

Status = Literal["new", "open", "pending", "hold", "solved", "closed"]
Priority = Literal["low", "normal", "high", "urgent"]
MessageStatus = Literal[
    "received", "queued", "held", "sending", "sent", "delivered", "read", "failed", "unknown", "cancelled"
]
ErrorClass = Literal[
    "retry", "throttle", "window-closed", "opted-out", "bad-recipient", "auth", "permanent", "policy", "unknown"
]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Out(msgspec.Struct, kw_only=True):
    """Something the API shows."""


class Page(Out, Generic[T]):
    """One page of a list. `next` is the cursor of the page after it, null on the last."""

    items: list[T]
    next: str | None = None


# --- tickets and messages ---------------------------------------------------------------------------------------------


class Ticket(Out):
    """A piece of work on a conversation. `via`: the channel, "api", or "closed_ticket". `sequence` rises with every
    event on it and is its ETag."""

    id: Id
    number: int
    subject: str
    status: Status
    priority: Priority
    channel: str
    account: str
    via: str
    updated_via: str
    contact_id: Id
    contact_name: str
    identity_id: str
    conversation_id: Id
    assignee: str | None
    group: str | None
    tags: list[str]
    fields: dict[str, Any]
    channel_info: dict[str, Any]
    follow_up_of: str | None
    follow_ups: list[Id]
    conversation_state: Literal["started", "replied"]
    created_at: Moment
    updated_at: Moment
    solved_at: Moment | None
    closed_at: Moment | None
    external_refs: dict[str, Any]
    sequence: int


class View(Out):
    """A kept question for tickets. `built_in`: always there; its id is a word. `mine`: may be changed by the caller."""

    id: str
    title: str
    conditions: Conditions
    sort: SortView
    columns: list[str]
    sharing: Literal["personal", "group", "everyone"]
    group: str | None
    owner: str
    owner_name: str
    position: int
    active: bool
    built_in: bool
    mine: bool
    created_at: Moment | None
    updated_at: Moment | None


class SortView(Out):
    """The order of a view."""

    by: Literal["created_at", "updated_at", "solved_at", "status", "priority"] = "updated_at"
    descending: bool = True


class ViewCount(Out):
    """How many tickets a view has; `exact` false: at least so many."""

    id: str
    count: int
    exact: bool


class ViewCounts(Out):
    """How many tickets several views have."""

    items: list[ViewCount]


class ViewPreview(Out):
    """The first tickets of a view that is not kept (yet), and how many there are."""

    items: list[Ticket]
    count: int
    exact: bool


class TicketField(Out):
    """A custom field of tickets. `required`: cannot be emptied, and must be filled when a person solves the ticket."""

    name: str
    title: str
    type: Literal["text", "number", "date", "checkbox", "choice"]
    choices: list[str]
    required: bool
    position: int


class BulkOutcome(Out):
    """What became of one ticket of a bulk change. `code`, `field` and `detail` where it was refused."""

    id: Id
    outcome: Literal["changed", "unchanged", "refused"]
    code: str = ""
    field: str = ""
    detail: str = ""


class BulkReport(Out):
    """Every ticket's own outcome. `next`: where to go on with a view that has more."""

    items: list[BulkOutcome]
    next: str | None = None


class Author(Out):
    """Who wrote or did something."""

    type: str
    id: str = ""
    name: str = ""


class AttachmentView(Out):
    """A file of a message. `url` is served by the gateway with the API key, once `state` is "stored"."""

    id: Id
    kind: str
    media_type: str
    filename: str
    size: int | None
    state: Literal["pending", "stored", "failed", "linked"]
    reason: str
    url: str
    content_id: str


class MessageError(Out):
    """Why a message failed, or why it still waits."""

    code: str = ""
    error_class: str = msgspec.field(name="class", default="")
    detail: str = ""


class Attempt(Out):
    """One try to hand a part of a message to its platform. `number` counts the part's tries, whoever asked for them."""

    number: int
    part: int
    at: Moment
    finished_at: Moment | None
    outcome: str
    error_class: str = msgspec.field(name="class")
    code: str
    detail: str
    request_id: str


class Receipt(Out):
    """What the platform reported of a message. `applied` false: it came too late to change anything."""

    status: str
    at: Moment
    received_at: Moment
    recipient: str
    applied: bool
    part: int | None
    error: MessageError | None


class Part(Out):
    """One of the several sends a reply went in."""

    id: Id
    part: int
    state: str
    external_id: str
    attempts: int
    not_before: Moment | None
    sent_at: Moment | None
    error: MessageError | None


class ReactionView(Out):
    """One person's reaction to a message."""

    emoji: str
    identity_id: str
    contact_id: str
    at: Moment


class Message(Out):
    """One message of a thread. `content` has locations, contact cards and interactive answers by kind."""

    id: Id
    ticket_id: str
    conversation_id: str
    contact_id: str
    direction: Literal["inbound", "outbound"]
    visibility: Literal["private", "public", "note"]
    channel: str
    account: str
    external_id: str
    kind: str
    subject: str
    text: str
    html: str
    full_text: str
    content: dict[str, Any] | None
    context: dict[str, Any] | None
    attachments: list[AttachmentView]
    in_reply_to: str | None
    author: Author
    purpose: str
    automatic: str
    flags: list[str]
    reactions: list[ReactionView]
    sent_at: Moment | None
    received_at: Moment | None
    created_at: Moment
    status: MessageStatus
    error: MessageError | None
    edited_at: Moment | None
    deleted_at: Moment | None


class Waiting(Out):
    """What something in the outbox waits for. `class` is empty where nothing is wrong and only its turn is missing."""

    code: str
    error_class: str = msgspec.field(name="class")
    reason: str
    until: Moment | None


class MessageDetail(Message):
    """A message with all that was tried and heard of it. `parts` only where it went in several.

    `undecided`: nobody could find out whether it arrived; a person sends it again (retry) or leaves it (leave).
    """

    attempts: list[Attempt]
    receipts: list[Receipt]
    parts: list[Part]
    waiting: Waiting | None
    undecided: bool


class Accepted(Out):
    """Durable and not filed yet: the message appears by itself."""

    delivery_id: Id
    status: Literal["accepted"] = "accepted"


class Typing(Out):
    """Whether the customer is shown that an answer is being written."""

    shown: bool


class TicketEvent(Out):
    """A line of a ticket's event log."""

    id: Id
    sequence: int
    kind: str
    actor: Author
    data: dict[str, Any]
    at: Moment


class VerdictView(Out):
    """What one rule says of a message, why, and how or when it would pass."""

    rule: str
    decision: Literal["allow", "deny", "defer", "change"]
    reason: str = ""
    source: str = ""
    until: Moment | None = None
    remedy: str = ""


class WindowView(Out):
    """How long the business may still write freely. A channel without window is always open."""

    open: bool
    until: Moment | None = None
    remaining: int | None = None
    tag_until: Moment | None = None


class AlternativeView(Out):
    """Another open address of the same contact: the rules would let the message pass there now.

    `until`: when its window ends; `remaining`: how many messages it takes; null: there is no such limit.
    """

    account: str
    channel: str
    identity_id: str
    until: Moment | None = None
    remaining: int | None = None


class PlannedPart(Out):
    """One message as the platform would get it. `length` is in the channel's `unit`; `segments` only of SMS."""

    text: str
    template: str | None
    tag: str | None
    files: list[str]
    length: int
    unit: str
    segments: int | None


class TriedStep(Out):
    """A step that was refused, by which rule. Rule "address": there was nobody to write to."""

    account: str
    channel: str
    template: str | None
    rule: str
    reason: str


class DetourView(Out):
    """Where a fallback chain leads. `ticket_id` null: a new ticket. `tried`: what was refused before, in order."""

    account: str
    channel: str
    template: str | None
    ticket_id: str | None
    tried: list[TriedStep]


class DryRun(Out):
    """What would become of the message: every verdict that is not "allow", the strongest first.

    `parts` are the messages that would leave, `window` says how long one may write freely, `alternatives` where else a
    refused message would pass. `waits` is what keeps it in the queue although no rule says so: its turn (`order`), the
    breaker, the pace; it leaves by itself. With `detour` all of it is about the step the fallback chain would take.
    """

    decision: Literal["allow", "deny", "defer", "change"]
    verdicts: list[VerdictView]
    parts: list[PlannedPart]
    window: WindowView
    alternatives: list[AlternativeView]
    waits: list[Waiting]
    detour: DetourView | None


# --- contacts ---------------------------------------------------------------------------------------------------------


class Identity(Out):
    """What one channel knows as one person."""

    id: Id
    channel: str
    account: str
    external_id: str
    name: str
    handle: str
    profile: dict[str, Any]
    state: Literal["active", "opted_out", "blocked"]
    opted_out_of: list[str]
    last_inbound_at: Moment | None
    window: WindowView


class AttributeValue(Out):
    """A value a contact has, where it comes from and since when.

    `source`: the platform attests it, the customer claims it, or an agent, the API, an automatic answer, a CRM or an
    import set it, `by` whom. What a channel told names the channel, account and identity.
    """

    name: str
    value: Any
    kind: Literal["platform", "custom"]
    source: Literal["platform", "customer", "agent", "api", "automatic", "crm", "import", "unknown"]
    by: str = ""
    at: Moment | None = None
    channel: str = ""
    account: str = ""
    identity_id: str = ""


class Contact(Out):
    """One person: identities and attributes. `values` says of each attribute where it comes from."""

    id: Id
    name: str
    language: str
    organization: str
    tags: list[str]
    vip: bool
    attributes: dict[str, Any]
    values: list[AttributeValue]
    identities: list[Identity]
    created_at: Moment
    last_seen_at: Moment


class Unmerged(Out):
    """Where the identity is now."""

    contact_id: Id
    contact: Contact


class MergeEntry(Out):
    """An entry of the journal. `merge`: `other_contact_id` went into `contact_id` (null: a new identity was linked at
    once); `unmerge`: the identity was taken out of `contact_id`, into `other_contact_id`. `before` is what the other
    one had of its own, `gained` what was taken over of it."""

    id: Id
    kind: Literal["merge", "unmerge"]
    contact_id: Id
    other_contact_id: Id | None
    identities: list[Id]
    attribute: str
    value: str
    evidence: str
    reason: str
    by: str
    at: Moment
    before: dict[str, Any]
    gained: dict[str, Any]
    undone_at: Moment | None
    undone_by: str


class Conflict(Out):
    """Two contacts that share a value of a matching attribute and contradict each other in what must be unique."""

    id: Id
    state: Literal["open", "merged", "kept_apart"]
    contact_ids: list[Id]
    identity_ids: list[Id]
    attribute: str
    value: str
    reason: str
    at: Moment
    decided_by: str
    decided_at: Moment | None


class ImportedRow(Out):
    """What became of a row of a file: `row` is its number there. A refused one names the field and the reason."""

    row: int
    outcome: Literal["created", "updated", "unchanged", "refused"]
    contact_id: str = ""
    field: str = ""
    code: str = ""
    reason: str = ""


class ImportReport(Out):
    """What became of a file, or would become of it (`dry_run`). `applied` false: nothing was written."""

    dry_run: bool
    mode: Literal["each", "all"]
    applied: bool
    rows: int
    created: int
    updated: int
    unchanged: int
    refused: int
    items: list[ImportedRow]


class Deletion(Out):
    """Who deleted which contact, and when. `removed`: how much of what went, by kind."""

    contact_id: Id
    deleted_by: str
    deleted_at: Moment
    channels: list[str]
    removed: dict[str, int]


class Attribute(Out):
    """A contact attribute. Platform attributes are filled by the `channels` named and cannot be edited.

    `managed_by`: the CRM that fills it; agents may change it where it is `editable`.
    """

    name: str
    title: str
    kind: Literal["platform", "custom"]
    type: Literal["text", "choice"]
    choices: list[str]
    position: int
    visible: bool
    unique: bool
    standard: bool
    channels: list[str]
    managed_by: str
    editable: bool


# --- queues, files, the gateway itself --------------------------------------------------------------------------------


class OutboxEntry(Out):
    """One part of a message in the outbox. `queued_at`: since when it could leave; for one that a rule holds until a
    later time, that time."""

    id: Id
    message_id: Id
    ticket_id: str
    part: int
    account: str
    channel: str
    state: MessageStatus
    attempts: int
    queued_at: Moment
    not_before: Moment | None
    lease_until: Moment | None
    sent_at: Moment | None
    external_id: str
    settled: bool
    undecided: bool
    waiting: Waiting | None
    error: MessageError | None


class AccountQueue(Out):
    """What one account has in the outbox. `oldest_queued_s`: the age of the oldest that waits, in seconds; what a rule
    holds until a later time counts from then on."""

    account: str
    states: dict[str, int]
    oldest_queued_s: float | None


class OutboxSummary(Out):
    """The outbox in figures: open parts by state, over all accounts and for each; what waits for a person."""

    states: dict[str, int]
    undecided: int
    dead: int
    oldest_queued_s: float | None
    accounts: list[AccountQueue]


class DeadLetter(Out):
    """What could not be handled: kept until it is replayed or dropped."""

    id: Id
    direction: Literal["inbound", "outbound"]
    kind: str
    ref: str
    account: str
    channel: str
    message_id: str | None
    error: MessageError
    attempts: int
    created_at: Moment
    replayed_at: Moment | None
    dropped_at: Moment | None


class RawDelivery(Out):
    """What the platform sent, as it was kept. `text` where it is text, else `base64`."""

    id: Id
    source: str
    received_at: Moment
    headers: dict[str, Any]
    text: str | None
    base64: str | None


class DeadLetterDetail(DeadLetter):
    """A dead letter with what it is about: `raw` and `event` of an inbound one, `history` and `payload` of an outbound
    one."""

    raw: RawDelivery | None
    event: dict[str, Any] | None
    history: list[Attempt]
    payload: dict[str, Any] | None


class DeadJob(Out):
    """Many dead letters handled by one order. `refused`: by a rule, or handled by somebody else meanwhile."""

    id: Id
    action: Literal["replay", "drop"]
    state: Literal["running", "done", "cancelled"]
    filter: dict[str, Any]
    per_second: int
    total: int
    done: int
    refused: int
    actor: Author
    created_at: Moment
    updated_at: Moment


class Suspended(Out):
    """A message put aside before it became part of any ticket: kept until it is released, dropped, or its time is over.

    `cause` is the strongest of `causes`. `ticket_id`: the ticket it would have gone to, where there is one.
    """

    id: Id
    account: str
    channel: str
    cause: str
    causes: list[str]
    sender: str
    name: str
    subject: str
    own_address: str
    ticket_id: str | None
    received_at: Moment
    expires_at: Moment
    state: Literal["open", "released", "dropped"]
    settled_at: Moment | None
    settled_by: str


class SuspendedFile(Out):
    """A file of a message put aside; it can be had once the message is released."""

    filename: str
    media_type: str
    size: int | None


class SuspendedMessage(Suspended):
    """A message put aside, with what it says."""

    text: str
    full_text: str
    html: str
    flags: list[str]
    attachments: list[SuspendedFile]


class Decided(Out):
    """What became of several: done, or skipped because they were decided before or are not there."""

    done: list[Id]
    skipped: list[Id]


class Suppression(Out):
    """An address nothing is sent to. `detail`: the platform's words, or what a person wrote."""

    id: Id
    channel: str
    address: str
    scope: Literal["all", "automatic", "marketing"]
    reason: Literal["bounce", "complaint", "manual"]
    detail: str
    message_id: str | None
    created_by: str
    created_at: Moment
    expires_at: Moment | None


class Upload(Out):
    """A file that can be attached to a reply by its id."""

    id: Id
    filename: str
    media_type: str
    size: int
    sha256: str


class ChannelView(Out):
    """A channel and what its platform can do."""

    name: str
    title: str
    adapter: str
    accounts: list[str]
    capabilities: dict[str, Any]


class RuleChange(Out):
    """What the operator set of a rule, for a channel of an account."""

    account: str
    channel: str
    off: bool
    settings: dict[str, Any]


class RuleView(Out):
    """A rule every message passes. `settings` are its data with their defaults; null: what the adapter declares.

    `kept` says why it cannot be switched off. `fallback`: after its refusal a chain goes on. `changed`: where the
    configuration says otherwise.
    """

    name: str
    what: str
    decisions: list[Literal["allow", "deny", "defer", "change"]]
    source: str
    switchable: bool
    kept: str
    fallback: bool
    origin: str
    settings: dict[str, Any]
    changed: list[RuleChange]


class Pause(Out):
    """Something an account waits for."""

    scope: str
    until: Moment
    error_class: str = msgspec.field(name="class")
    reason: str


class AccountView(Out):
    """A configured account."""

    id: str
    adapter: str
    channels: list[str]
    webhook: str
    paused: list[Pause]


class Items(Out, Generic[T]):
    """A whole list, not paged; `next` is always null."""

    items: list[T]
    next: None = None


class User(Out):
    """Somebody who works here. `accounts` empty: sees all."""

    id: Id
    email: str
    name: str
    role: str
    accounts: list[str]
    groups: list[str]
    active: bool
    created_at: Moment
    last_seen_at: Moment | None


class Role(Out):
    """A set of permissions. Those `built_in` cannot be changed."""

    name: str
    title: str
    permissions: list[str]
    built_in: bool


class Group(Out):
    """Users who share tickets. `members` are ids."""

    id: Id
    name: str
    members: list[Id]
    created_at: Moment


class KeyView(Out):
    """An API key, without the key itself."""

    id: Id
    name: str
    scope: str
    accounts: list[str]
    user: Id | None
    created_at: Moment
    last_used_at: Moment | None
    revoked_at: Moment | None


class NewKey(Out):
    """A key as it is shown this once."""

    id: Id
    key: str


class Me(Out):
    """Who calls. `csrf` belongs into the header X-CSRF-Token of a session's unsafe requests."""

    id: str
    name: str
    user_id: str
    role: str
    permissions: list[str]
    accounts: list[str]
    csrf: str
