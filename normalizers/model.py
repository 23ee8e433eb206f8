"""The common message model: every channel speaks it, the core understands nothing else.

All values are frozen and typed. Moments are aware UTC datetimes. Text never holds NUL or lone surrogates
(`normalizers.clean` sees to it), so every store and every JSON writer takes it.

A normaliser turns one `Received` into a tuple of `Event`s. An adapter sends one `OutboundMessage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

Scope = Literal["account", "platform", "everywhere"]
"""Where an address means the same person: within one account (WhatsApp BSUID, PSID, IGSID), on the whole platform
(X user id), or everywhere (phone number, mail address)."""

Evidence = Literal["attested", "authenticated", "claimed"]
"""Who vouches for a value: the platform, an authenticated party of ours, or only the customer. A claim never merges."""

MessageKind = Literal[
    "text", "image", "audio", "video", "file", "sticker", "location", "contacts", "interactive", "template",
    "order", "story", "link", "call", "system", "unsupported",
]  # fmt: skip
MediaKind = Literal["image", "audio", "video", "file", "sticker"]
ThreadKind = Literal["private", "group", "public", "mail", "session"]
Visibility = Literal["private", "public", "note"]
Purpose = Literal["reply", "transactional", "marketing"]


class Value(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A frozen value without identity of its own. Nothing frozen can hold itself, so the collector need not look."""


class Named(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """A frozen value with too many fields to be given by position."""


# --- people -----------------------------------------------------------------------------------------------------------


class Address(Value, frozen=True):
    """One way to reach or to know a person, e.g. a phone number or a WhatsApp user id.

    `channel` names the space of ids: the public and the private side of one platform share it (an X user id is of "x"
    in a mention and in a direct message), while the event's own `channel` names the surface. Where the platform hides
    who wrote, `kind` is "anonymous" and the value the message's id, claimed.

    `kind` is a word of the channel's own: phone (E.164 with +), email, bsuid, psid, igsid, user_id, openid, visitor.
    Two addresses of one person stand side by side in `Person.addresses`.
    """

    channel: str
    kind: str
    value: str
    scope: Scope = "account"
    evidence: Evidence = "attested"


class Person(Value, frozen=True):
    """Who wrote, as the channel tells it. `addresses[0]` is the one the platform itself keys by."""

    addresses: tuple[Address, ...]
    name: str = ""
    handle: str = ""
    profile: Mapping[str, Any] = {}  # further platform attributes: city, language, picture, verified, ...
    language: str = ""  # BCP 47
    unreachable: bool = False  # the platform says that nothing we send can reach them


# --- content ----------------------------------------------------------------------------------------------------------


class Attachment(Named, frozen=True, kw_only=True):
    """A file that came with a message. `ref` is what the adapter's `fetch` needs; `url` may be fetched as it stands.

    `size` is in bytes, None when the platform does not say. `no_store` keeps only the URL (Instagram stories).
    `content_id` is set when the HTML body shows the file inline.
    """

    kind: MediaKind
    media_type: str = ""
    filename: str = ""
    size: int | None = None
    sha256: str = ""  # hex
    ref: str = ""
    url: str = ""
    content_id: str = ""
    duration_ms: int | None = None
    no_store: bool = False


class _Content(Value, frozen=True, tag_field="kind"):
    """One of the `Content` kinds; in JSON its `kind` tells which."""


class Location(_Content, frozen=True, tag="location"):
    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    url: str = ""


class ContactCard(Value, frozen=True):
    name: str
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    organization: str = ""


class ContactCards(_Content, frozen=True, tag="contacts"):
    contacts: tuple[ContactCard, ...]


class Interactive(_Content, frozen=True, tag="interactive"):
    """A button pressed, a list row chosen, a form filled in, a postback."""

    id: str = ""
    title: str = ""
    description: str = ""
    type: str = ""  # the platform's own word: button_reply, list_reply, nfm_reply, postback, ...
    values: Mapping[str, Any] = {}  # a form's answers


class Sticker(_Content, frozen=True, tag="sticker"):
    id: str = ""
    pack: str = ""
    animated: bool = False
    keywords: tuple[str, ...] = ()


class OrderItem(Value, frozen=True):
    id: str
    quantity: float = 1
    price: str = ""  # decimal as text, in `currency`
    currency: str = ""


class Order(_Content, frozen=True, tag="order"):
    catalog: str = ""
    items: tuple[OrderItem, ...] = ()


class Template(_Content, frozen=True, tag="template"):
    """A pre-approved message. `parameters`: texts for the body, or an object by component."""

    name: str
    language: str = ""
    parameters: tuple[str, ...] | Mapping[str, Any] = ()


class Link(_Content, frozen=True, tag="link"):
    """A shared page, post or card."""

    url: str
    title: str = ""
    description: str = ""
    image_url: str = ""


class SystemNote(_Content, frozen=True, tag="system"):
    """Something the platform says about the conversation, shown as a line in it."""

    type: str
    values: Mapping[str, Any] = {}


class Unsupported(_Content, frozen=True, tag="unsupported"):
    """A message of a kind we do not know: the agent sees that something came."""

    type: str
    detail: str = ""


Content = (
    Location | ContactCards | Interactive | Sticker | Order | Template | Link | SystemNote | Unsupported
)  # text and attachments stand on the message itself


class Referral(Value, frozen=True):
    """What brought the customer here: an ad, a link, a post."""

    type: str = ""
    source_id: str = ""
    url: str = ""
    title: str = ""
    text: str = ""
    click_id: str = ""


class Story(Value, frozen=True):
    """The story a message answers or mentions."""

    id: str = ""
    url: str = ""
    mention: bool = False


class Context(Named, frozen=True, kw_only=True):
    """What a message refers to. Ids are the platform's own and may be unknown to us."""

    reply_to: str = ""
    forwarded: bool = False
    referral: Referral | None = None
    story: Story | None = None
    forwarded_from: Person | None = None  # claimed, as the forward says it
    post_text: str = ""  # of the public post a comment stands under
    permalink: str = ""
    reply_token: str = ""  # a platform's one-time right to answer (LINE)
    quote_token: str = ""
    metadata: Mapping[str, Any] = {}


class Thread(Named, frozen=True, kw_only=True):
    """Which conversation an event belongs to.

    private: this person with this account; `key` stays empty. group: `key` is the group's id. public: `key` is the root
    post, `parent` the comment answered. session: `key` is the chat session. mail: `tokens` are reply tokens as found in
    addresses (unchecked: only the core has the key), `references` message ids, the strongest first.
    """

    kind: ThreadKind = "private"
    key: str = ""
    parent: str = ""
    tokens: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


PRIVATE = Thread()


# --- events: what a normaliser returns --------------------------------------------------------------------------------


class _Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag_field="event",
    tag=lambda name: "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_"),
):
    """What every event carries.

    `id` is the dedupe key within (account, kind of event): the platform's own id where it has one, else derived from
    the payload alone. `routing_key` names the account as the platform does (phone number id, page id, `To` number).
    Empty: the account that received the delivery. Several, the best first, stand with blanks between them.
    `at` is the platform's moment, or the moment of receipt where the platform gives none. `path` finds the slice in the
    raw payload ("$.entry[0].changes[0].value.messages[1]").
    """

    id: str
    at: datetime
    routing_key: str = ""
    channel: str = ""
    path: str = ""


class InboundMessage(_Event, frozen=True, kw_only=True):
    """A customer wrote. `id` is the platform's message id and becomes `external_id`."""

    sender: Person
    kind: MessageKind = "text"
    text: str = ""
    html: str = ""  # sanitised
    full_text: str = ""  # with what was quoted, when `text` leaves it out
    subject: str = ""
    attachments: tuple[Attachment, ...] = ()
    content: Content | None = None
    context: Context | None = None
    thread: Thread = PRIVATE
    recipients: tuple[Address, ...] = ()  # who else got it: Cc of a mail
    automatic: str = ""  # ooo, generated, bulk, own_loop: never answered by a machine
    opens_window: bool = True  # False where the platform does not count it as the customer's word
    own_address: str = ""  # which of our addresses the customer wrote to, where an account has several
    answer_to: tuple[Address, ...] = ()  # where the customer wants the answer, when not at `sender`
    lookup: str = ""  # the payload is only a pointer: what the adapter must look up before filing
    flags: tuple[str, ...] = ()  # unchecked, unaligned, from_service, ... shown to the agent


class MessageEdited(_Event, frozen=True, kw_only=True):
    target: str  # external id of the message
    new_id: str = ""  # where an edit gives the message another id
    text: str = ""
    html: str = ""
    attachments: tuple[Attachment, ...] = ()
    sender: Person | None = None
    thread: Thread = PRIVATE


class MessageDeleted(_Event, frozen=True, kw_only=True):
    """Unsent or deleted by its author: text, media and the raw slice go too."""

    target: str
    sender: Person | None = None
    thread: Thread = PRIVATE


class Reaction(_Event, frozen=True, kw_only=True):
    """`emoji` empty: the reaction was taken back."""

    target: str
    emoji: str
    sender: Person
    thread: Thread = PRIVATE


class PlatformError(Value, frozen=True):
    """An error in the platform's own words."""

    code: str
    title: str = ""
    detail: str = ""
    final: bool = True


class DeliveryUpdate(_Event, frozen=True, kw_only=True):
    """How far a message of ours came. Either `target` (its external id) or `watermark`: all up to that moment.

    `ours` is our own message id where the platform hands it back, so that the receipt finds its message even if the
    answer to the send was lost. `recipient` tells several recipients of one message apart.
    """

    status: Literal["queued", "sent", "delivered", "read", "failed"]
    target: str = ""
    ours: str = ""
    watermark: datetime | None = None
    up_to: bool = False  # `target` and all before it
    tokens: tuple[str, ...] = ()  # sealed envelope tokens of a bounce, unchecked
    recipient: Address | None = None
    learned: tuple[Address, ...] = ()  # addresses of the recipient that the platform attests
    error: PlatformError | None = None


class Echo(_Event, frozen=True, kw_only=True):
    """Sent by the business outside the gateway (native app), or our own message coming back (`ours` is then set)."""

    recipient: Person | None = None  # None where the platform names nobody, as under our own post
    kind: MessageKind = "text"
    text: str = ""
    html: str = ""
    subject: str = ""
    recipients: tuple[Address, ...] = ()
    app: str = ""  # which application sent it
    own_app: bool = False  # that application is this gateway
    attachments: tuple[Attachment, ...] = ()
    content: Content | None = None
    context: Context | None = None
    thread: Thread = PRIVATE
    ours: str = ""
    action: Literal["sent", "edited", "deleted", "reacted"] = "sent"
    target: str = ""  # of an edit or delete


class ConsentChange(_Event, frozen=True, kw_only=True):
    """The customer allows or forbids. blocked and unblocked are the platform's own word."""

    person: Person | None
    state: Literal["opted_in", "opted_out", "blocked", "unblocked"]
    scope: Literal["all", "marketing", "automatic"] = "all"
    source: str = ""  # keyword, platform, error code, ...
    topic: str = ""  # consent for one template or topic only
    thread: Thread = PRIVATE  # a group as a whole, when `person` is None


class IdentityChange(_Event, frozen=True, kw_only=True):
    """The platform says that `old` and `new` are the same person: a new number, a new user id, an alias learned."""

    old: tuple[Address, ...]
    new: tuple[Address, ...]
    name: str = ""
    source: str = ""
    old_thread: Thread | None = None  # a group that moved to another id
    new_thread: Thread | None = None


class Engagement(_Event, frozen=True, kw_only=True):
    """Not a message, yet it may open a window: menu click, follow, an m.me link. (A postback is a message.)"""

    person: Person | None
    kind: str
    values: Mapping[str, Any] = {}
    context: Context | None = None
    thread: Thread = PRIVATE


class TemplateState(Value, frozen=True):
    """What the platform thinks of a template now. `status`: approved, paused, disabled, rejected, pending; "" where
    only something else about it was told."""

    name: str
    language: str
    status: str
    category: str = ""
    parameters: int | None = None  # texts its body takes, where the platform tells


class AccountEvent(_Event, frozen=True, kw_only=True):
    """About the account itself: template status, token revoked, limit changed, policy warning."""

    kind: str
    values: Mapping[str, Any] = {}
    template: TemplateState | None = None
    alarming: bool = False


class ThreadControl(_Event, frozen=True, kw_only=True):
    """Who holds the conversation: handed over to us, taken from us, or only watched (standby)."""

    person: Person | None
    action: Literal["pass", "take", "request", "standby"]
    app: str = ""
    thread: Thread = PRIVATE


class CallEvent(_Event, frozen=True, kw_only=True):
    """One step of a call. `call` is equal over all steps of one call (its first leg)."""

    call: str
    person: Person | None = None
    status: str  # ringing, answered, missed, ended, voicemail
    direction: Literal["inbound", "outbound"] = "inbound"
    duration_s: float | None = None
    recording: Attachment | None = None
    transcript: str = ""
    values: Mapping[str, Any] = {}
    thread: Thread = PRIVATE


class Ignored(_Event, frozen=True, kw_only=True):
    """Well-formed and of no use to us: kept and counted."""

    reason: str


class Unreadable(_Event, frozen=True, kw_only=True):
    """An item that breaks its platform's own format at `path`. Kept raw, to be normalised again after a fix."""

    problem: str


Event = (
    InboundMessage
    | MessageEdited
    | MessageDeleted
    | Reaction
    | DeliveryUpdate
    | Echo
    | ConsentChange
    | IdentityChange
    | Engagement
    | AccountEvent
    | ThreadControl
    | CallEvent
    | Ignored
    | Unreadable
)


# --- what a normaliser reads ------------------------------------------------------------------------------------------


class Account(Value, frozen=True):
    """What a normaliser may know of the account that received a delivery. No secrets."""

    id: str
    adapter: str
    own_addresses: frozenset[str] = frozenset()  # numbers, mail addresses, user ids that are ourselves
    region: str = ""  # ISO 3166 code for phone numbers without +
    options: Mapping[str, str] = {}
    templates: tuple[Mapping[str, Any], ...] = ()  # the operator's own catalogue: name, language, sid, ...


class Received(Value, frozen=True):
    """One delivery as it came. Header names are lower case. `received_at` is the only clock a normaliser has."""

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    received_at: datetime
    account: Account


# --- what an adapter sends --------------------------------------------------------------------------------------------


class OutboundFile(Named, frozen=True, kw_only=True):
    """A file to send. `open_path` is where it lies on our disk; `url` is an address the platform may fetch it from."""

    kind: MediaKind
    media_type: str
    filename: str
    size: int  # bytes
    open_path: str = ""
    url: str = ""
    inline_id: str = ""
    duration_ms: int | None = None
    preview_url: str = ""


class MailHeaders(Named, frozen=True, kw_only=True):
    """What makes a mail thread: the addresses and ids the core gives it."""

    subject: str
    message_id: str
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    reply_to: str = ""
    cc: tuple[str, ...] = ()
    sender_name: str = ""
    envelope_sender: str = ""
    automatic: bool = False
    loop_token: str = ""
    unsubscribe_url: str = ""


class OutboundMessage(Named, frozen=True, kw_only=True):
    """One message, or one part of a longer one, ready to leave. Rules have passed; the adapter only speaks.

    `id` is ours and travels with the message wherever the platform lets it, so that receipts find their way back.
    `key` is equal over all attempts (UUID text) for platforms with an idempotency key.
    """

    id: str
    key: str
    account: str
    channel: str
    to: tuple[Address, ...]
    text: str = ""
    html: str = ""
    file: OutboundFile | None = None  # where a channel takes one in a message
    files: tuple[OutboundFile, ...] = ()  # where it takes several (`Limits.files_per_message`), also if there is one
    template: Template | None = None
    content: Content | None = None
    context: Context | None = None
    thread: Thread = PRIVATE
    mail: MailHeaders | None = None
    visibility: Visibility = "private"
    purpose: Purpose = "reply"
    tag: str = ""  # a message tag a rule has chosen (Messenger's human agent)
    overrides: tuple[str, ...] = ()  # rules a person has decided to pass over, where a rule lets him
    author_name: str = ""
    own_address: str = ""  # which of the account's addresses speaks
    to_handle: str = ""
    reaction: str | None = None  # an emoji on `context.reply_to`; "" takes it back
    callback_url: str = ""  # where the platform may report on this message
