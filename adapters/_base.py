"""What an adapter is: its channels as data, and the few things it does.

The core reads `Channel` and calls `Adapter`; it never asks which channel it deals with. An `async def` touches the
world; a plain `def` computes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from adapters._errors import ErrorRule
from adapters._http import Http
from normalizers.model import (
    Account,
    Address,
    Attachment,
    Event,
    InboundMessage,
    MediaKind,
    OutboundMessage,
    Person,
    Received,
)

# --- what the platform is: data, read by the rules --------------------------------------------------------------------

TextUnit = Literal["chars", "utf16", "bytes", "gsm"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an `Engagement` gives a business where it opens no whole window: so many messages for so long."""

    duration: timedelta
    messages: int


@dataclass(frozen=True, slots=True)
class Window:
    """How long a business may write after the customer's last word. `opened_by`: `Engagement` kinds that open it too.

    Outside of it only an approved template passes when `template_outside`, or a message with one of `tags` (tag name to
    its own longer duration; for people only, never for a bot).
    """

    duration: timedelta
    source: str
    opened_by: frozenset[str] = frozenset()
    template_outside: bool = False
    tags: Mapping[str, timedelta] = field(default_factory=dict)
    max_messages: int | None = None  # business messages allowed per opening
    allowances: Mapping[str, Allowance] = field(default_factory=dict)  # `Engagement` kind -> a smaller right, not added


@dataclass(frozen=True, slots=True)
class MediaRule:
    """Which files a channel takes. `media_types` may end in "/*"; sizes in bytes.

    `caption`: text may stand beside a file of this kind, if the channel takes captions at all.
    """

    kind: MediaKind
    media_types: tuple[str, ...]
    max_bytes: int
    caption: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes. `text_max` counts in `text_unit`. `segment_max`: most SMS segments of one message."""

    text_max: int
    source: str
    text_unit: TextUnit = "chars"
    split: bool = True  # a longer text may go in several messages
    caption_max: int = 0  # text beside a file, same unit; 0: a file carries no text
    segment_max: int | None = None
    files_per_message: int = 1
    media: tuple[MediaRule, ...] = ()
    total_bytes: int | None = None  # all files of one message together
    html: bool = False  # takes HTML beside the text
    links: bool = False  # files beyond `total_bytes` may leave as addresses in the text
    link_max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """At most so many messages of one account within any span of this length."""

    messages: int
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast. `unit` "segment": a message costs as many slots as it has SMS segments."""

    per_second: float
    source: str
    unit: Literal["message", "segment"] = "message"
    pair_seconds: float = 0.0  # least time between two messages to one person
    pair_burst: int = 1
    daily: int | None = None
    quotas: tuple[Quota, ...] = ()  # coarser limits beside `per_second`


@dataclass(frozen=True, slots=True)
class PrivateReply:
    """A private answer to a public comment or post: `per_item` for each, within `duration` of its creation.

    It travels on the public channel with `visibility="private"` and `context.reply_to`; the person's answer arrives on
    the channel `answers_on`. `limits` and `pace` are its own. One whose answer was lost counts as used.
    """

    duration: timedelta
    limits: Limits
    pace: Pace
    answers_on: str
    source: str
    per_item: int = 1


@dataclass(frozen=True, slots=True)
class Keywords:
    """Words that, alone in a message, change consent (compared case-folded). `scope` is what an opt-out covers."""

    stop: frozenset[str] = frozenset()
    start: frozenset[str] = frozenset()
    help: frozenset[str] = frozenset()
    scope: Literal["all", "marketing"] = "all"
    start_only_if_opted_out: frozenset[str] = frozenset()  # ordinary words such as YES
    source: str = ""


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """What a platform asks of a message before it may be answered: that it carries `flag`, or (`absent`) does not."""

    flag: str
    reason: str
    remedy: str
    source: str
    absent: bool = False


@dataclass(frozen=True, slots=True)
class RepeatRule:
    """The same words (case, blanks and links apart) may go to so many people within `duration`, then to no more."""

    recipients: int
    duration: timedelta
    source: str


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as the core knows it: everything that differs between channels stands here.

    `key`: how a repeated send is recognised. "request": by `OutboundMessage.key`; "message_id": by the mail's own id;
    "none": a lost answer makes the message `unknown`. `private` decides the default visibility of a reply.

    `reply_token_valid`: how long the `reply_token` of a customer's message gives the right to answer it, once, by one
    message of ours. A message that carries one (`OutboundMessage.context`) is not covered by `key`.
    """

    name: str
    title: str
    limits: Limits
    pace: Pace
    private: bool = True
    messaging: bool = True  # private social messaging: tickets get the tag messaging_support
    key: Literal["none", "request", "message_id"] = "none"
    key_valid: timedelta = timedelta(hours=24)
    reply_token_valid: timedelta | None = None  # from a message's receipt; None: there are no reply tokens
    window: Window | None = None
    keywords: Keywords = field(default_factory=Keywords)
    errors: Mapping[str, ErrorRule] = field(default_factory=dict)
    retry: Literal["chat", "mail"] = "chat"
    receipts: tuple[str, ...] = ()  # states the platform reports: sent, delivered, read
    delivered_after_failed: bool = False
    templates: bool = False
    template_parameters: bool = False  # the rules compare the number of parameters with the catalogue
    address_kinds: tuple[str, ...] = ()  # kinds one can send to, best first
    proactive: bool = True  # a first message to somebody who never wrote is possible
    reactions: bool = False
    edits: bool = False
    attribute_of: Mapping[str, str] = field(default_factory=dict)  # address kind -> matching attribute (phone, email)
    private_reply: PrivateReply | None = None  # what is public here may be answered in private
    answer_rules: tuple[AnswerRule, ...] = ()  # held against the flags of the message answered
    automatic_per_message: int | None = None  # automatic answers to one message of a customer
    repeats: RepeatRule | None = None
    sources: tuple[str, ...] = ()


# --- what comes and goes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Callback:
    """One HTTP request of a platform as it came. `target` is path and query exactly as received.

    `headers` has lower-case names and all values, in order, so that a doubled signature is seen.
    `url` is what the platform called: the configured public URL plus `target`.
    """

    method: str
    url: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, tuple[str, ...]]
    body: bytes

    def header(self, name: str) -> str:
        """The first value, or ""."""
        values = self.headers.get(name)
        return values[0] if values else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a platform wants to hear. `body` is sent as it stands."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


OK = Answer()


@dataclass(frozen=True, slots=True)
class Sent:
    """The platform took the message. `external_id` is its id ("" where it gives none).

    `aliases` are further ids the same message may be known by; `addresses` are what the platform told of the recipient.
    `note` is an early warning in the platform's own word (held_for_quality_assessment).
    """

    external_id: str
    aliases: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    request_id: str = ""
    note: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)  # recipients the platform did not take: address -> reason


class Adapter(Protocol):
    """One configured account on one platform.

    `settings_type` is a frozen dataclass; every field is a setting of `[[accounts]]`, no default means required.
    """

    name: ClassVar[str]
    channels: ClassVar[tuple[Channel, ...]]
    settings_type: ClassVar[type[Any]]
    signature_headers: ClassVar[tuple[str, ...]]  # lower case; more than one value is refused with 400

    account: Account

    def routing_keys(self) -> frozenset[str]:
        """The keys by which events name this account (`_Event.routing_key`)."""
        ...

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless a secret of this account made the signature. Never parses the body."""
        ...

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` when the verified body is not JSON, XML or a form at all."""
        ...

    def acknowledge(self, callback: Callback) -> Answer:
        """What to answer once the delivery is durable."""
        ...

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers`."""
        ...

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once. Raises `SendError`."""
        ...


@runtime_checkable
class Handshake(Protocol):
    """Adapters whose platform proves a webhook address by GET."""

    def handshake(self, callback: Callback) -> Answer:
        """Raises `HandshakeRefused`."""
        ...


@runtime_checkable
class MediaFetcher(Protocol):
    """Adapters that can fetch the files of inbound messages."""

    def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file's bytes in chunks. `raw` is the kept delivery (mail carries its files). Raises `MediaError`."""
        ...


@runtime_checkable
class Profiles(Protocol):
    """Adapters that can look a person's profile up."""

    async def profile(self, address: Address) -> Person | None:
        """None when the platform does not tell. Raises `SendError`."""
        ...


@runtime_checkable
class Lookups(Protocol):
    """Adapters that can complete a message whose payload is only a pointer (`InboundMessage.lookup`)."""

    async def look_up(self, message: InboundMessage) -> InboundMessage:
        """The message with what the platform tells when asked, `lookup` empty. Raises `SendError`."""
        ...


@runtime_checkable
class Subscriber(Protocol):
    """Adapters whose platform may silently stop posting to us, so that somebody must look now and then."""

    subscription_checks: ClassVar[timedelta]  # how often

    async def subscribe(self) -> bool:
        """See that the platform posts to us; True when it did not and was told to again. Raises `SendError`."""
        ...


@runtime_checkable
class Reconciler(Protocol):
    """Adapters that can find out what became of a send whose answer was lost."""

    async def find(self, message: OutboundMessage) -> Sent | None:
        """`Sent` when the platform has it, None when it surely has not. Raises `SendError` when it cannot say."""
        ...


@runtime_checkable
class Probe(Protocol):
    """Adapters that can prove that their credentials work (used by `gateway check` and to end an auth pause)."""

    async def probe(self) -> None:
        """Raises `SendError`."""
        ...


@runtime_checkable
class Dresser(Protocol):
    """Adapters whose messages wear the operator's template: header, footer, brand."""

    def dress(self, message: OutboundMessage, fields: Mapping[str, Mapping[str, str]]) -> OutboundMessage:
        """The message in its final form. `fields`: ticket, contact, agent, account, each a few texts by name. Pure."""
        ...


@runtime_checkable
class Adviser(Protocol):
    """Adapters that can tell what works as configured and is probably not meant (`gateway check` warns of it)."""

    def advice(self) -> Sequence[tuple[str, str]]:
        """(setting, sentence), the setting relative to the account."""
        ...


@runtime_checkable
class Closing(Protocol):
    """Adapters that keep connections open."""

    async def aclose(self) -> None:
        """Close them. A later `send` opens new ones."""
        ...


AdapterFactory = Callable[[Account, Any, Http], Adapter]
"""Adapter classes are called as `cls(account, settings, http)`; `settings` is its `settings_type`."""
