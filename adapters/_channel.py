"""What a channel is, as data: sizes, windows, paces, consent, error codes. The rules read it; nothing else decides.

Every value names its source where it is declared, in the `_CHANNEL_facts.py` of the channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from adapters._errors import ErrorRule
from normalizers.model import MediaKind

TextUnit = Literal["chars", "utf16", "bytes", "gsm", "weighted"]
"""`weighted`: as X weighs a post, see `adapters._weighted`."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an `Engagement` gives a business where it opens no whole window: so many messages for so long.

    It raises what is left to `messages` and moves the end to `duration` from now at least; it never adds up.
    """

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
    margin: timedelta = timedelta(0)  # kept free before its end; the operator's, no fact of the platform


@dataclass(frozen=True, slots=True)
class MediaRule:
    """Which files a channel takes. `media_types` may end in "/*"; sizes in bytes.

    `caption`: text may stand beside a file of this kind, if the channel takes captions at all.
    """

    kind: MediaKind
    media_types: tuple[str, ...]
    max_bytes: int
    caption: bool = True


NO_FILES: Final = (MediaRule("file", (), 0),)
"""`Limits.media` of a channel that takes no file: a rule no type fits. Without any rule every file would pass."""


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
    fetches: Literal["", "http", "https"] = ""  # the platform gets files by their address only; "https": of that kind
    link_max_bytes: int | None = None  # of a file's address in UTF-8, where the platform fetches files by it


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
    """What a platform asks of a message before it may be answered: that it carries `flag`, or (`absent`) does not.

    In public it is held against the message answered, in private against the customer's last one. `automatic_only`: a
    person may answer all the same. `lapses`: so long after the message it says nothing any more.
    """

    flag: str
    reason: str
    remedy: str
    source: str
    absent: bool = False
    automatic_only: bool = False
    lapses: timedelta | None = None


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
    invited_by: frozenset[str] = frozenset()  # `Engagement` kinds after which it is, where otherwise it is not
    contents: frozenset[str] = frozenset()  # structured kinds that can be sent: location, contacts, interactive, ...
    quotes: bool = False  # an answer may point at one message of the conversation
    quote_tokens: bool = False  # by a token that came with it: messages of ours have none
    links_in_text: bool = False  # `<a href>` in a text is shown as a link: the adapter checks what it opens
    reactions: bool = False
    edits: bool = False
    echoes_by_text: bool = False  # our own messages come back without our id: text and time tell
    attribute_of: Mapping[str, str] = field(default_factory=dict)  # address kind -> matching attribute (phone, email)
    private_reply: PrivateReply | None = None  # what is public here may be answered in private
    answer_rules: tuple[AnswerRule, ...] = ()
    automatic_per_message: int | None = None  # automatic answers to one message of a customer
    repeats: RepeatRule | None = None
    suspends: frozenset[str] = frozenset()  # causes for which an inbound message is put aside for a person to decide
    duplicates: str = ""  # where the platform refuses the same words twice in answer to one message: the source
    sources: tuple[str, ...] = ()
