"""What the API takes to write to a customer, and what it gets back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.store.waiting import Wait
from gateway.tickets import Status
from normalizers.model import ContactCards, Interactive, Link, Location, Sticker
from outbox.verdict import Decision, Verdict

TEXT_MAX, HTML_MAX, FILES_MAX, STEPS_MAX = 1_000_000, 2_000_000, 100, 10


ContentRequest = Location | ContactCards | Interactive | Sticker | Link
"""Structured content by its `kind`. Of an interactive one `values` hold what is offered: buttons, rows, a url, ..."""


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class AttachmentRequest(_Request, frozen=True, kw_only=True):
    """A file to send: an upload of ours, or an address the platform may fetch it from."""

    upload: Annotated[str, Meta(max_length=64)] = ""
    url: Annotated[str, Meta(max_length=2000)] = ""
    filename: Annotated[str, Meta(max_length=255)] = ""


class TemplateRequest(_Request, frozen=True, kw_only=True):
    """An approved template. `parameters`: texts for the body, or an object by component."""

    name: Annotated[str, Meta(min_length=1, max_length=512)]
    language: Annotated[str, Meta(max_length=16)] = ""
    parameters: list[str] | dict[str, Any] = []


class AuthorRequest(_Request, frozen=True, kw_only=True):
    """Who speaks. Omitted: an agent when the API key belongs to a user, else a bot."""

    type: Literal["agent", "bot"]
    id: Annotated[str, Meta(max_length=200)] = ""
    name: Annotated[str, Meta(max_length=200)] = ""


class FallbackRequest(_Request, frozen=True, kw_only=True):
    """A step to take when the rules refuse: a template in place of the text, or another channel of the same contact.

    In a template's parameters "{text}" stands for what was written and "{name}" for the contact's name.
    """

    channel: Annotated[str, Meta(max_length=32)] = ""
    account: Annotated[str, Meta(max_length=64)] = ""
    template: TemplateRequest | None = None


class ReplyRequest(_Request, frozen=True, kw_only=True):
    """A reply or note on a ticket. Without `visibility` it is seen as the ticket's channel shows it."""

    text: Annotated[str, Meta(max_length=TEXT_MAX)] = ""
    html: Annotated[str, Meta(max_length=HTML_MAX)] = ""
    attachments: Annotated[list[AttachmentRequest], Meta(max_length=FILES_MAX)] = []
    template: TemplateRequest | None = None
    status: Status | None = None
    author: AuthorRequest | None = None
    visibility: Literal["private", "public", "note"] | None = None
    fallback: Annotated[list[FallbackRequest], Meta(max_length=STEPS_MAX)] | None = None  # None: as configured
    content: ContentRequest | None = None
    in_reply_to: Annotated[str, Meta(max_length=64)] = ""  # a message of the conversation to quote
    override: Annotated[list[Literal["suppression"]], Meta(max_length=10)] = []  # rules an agent passes over


class MessageRequest(_Request, frozen=True, kw_only=True):
    """A first message to somebody: to an address, or to a contact by one of its addresses on the channel."""

    channel: Annotated[str, Meta(max_length=32)] = ""
    account: Annotated[str, Meta(max_length=64)] = ""
    direction: Literal["outbound"] = "outbound"
    to: Annotated[str, Meta(max_length=320)] = ""
    contact: Annotated[str, Meta(max_length=64)] = ""
    name: Annotated[str, Meta(max_length=500)] = ""
    subject: Annotated[str, Meta(max_length=1000)] = ""
    text: Annotated[str, Meta(max_length=TEXT_MAX)] = ""
    html: Annotated[str, Meta(max_length=HTML_MAX)] = ""
    attachments: Annotated[list[AttachmentRequest], Meta(max_length=FILES_MAX)] = []
    template: TemplateRequest | None = None
    content: ContentRequest | None = None
    purpose: Literal["reply", "transactional", "marketing"] = "transactional"
    status: Status | None = None
    author: AuthorRequest | None = None
    fallback: Annotated[list[FallbackRequest], Meta(max_length=STEPS_MAX)] | None = None  # None: as configured
    override: Annotated[list[Literal["suppression"]], Meta(max_length=10)] = []


class Submitted(msgspec.Struct, frozen=True, tag=True):
    """The message stands in the ticket and, unless it is a note, in the outbox. `verdicts`: changes and deferrals."""

    message_id: str
    ticket_id: str
    status: str
    verdicts: tuple[Verdict, ...] = ()


class Alternative(msgspec.Struct, frozen=True):
    """Another address of the same contact, where the rules would let the message pass now.

    `until` is when its window ends, `remaining` how many messages it still takes; None: there is no such limit.
    """

    account: str
    channel: str
    identity_id: str
    until: datetime | None = None
    remaining: int | None = None


class Denied(msgspec.Struct, frozen=True, tag=True):
    """The rules refuse it; nothing was queued."""

    verdicts: tuple[Verdict, ...]
    ticket_id: str = ""
    alternatives: tuple[Alternative, ...] = ()


class Tried(msgspec.Struct, frozen=True):
    """A step that was refused: by which rule, and why. `rule` is "address" where there was nobody to write to, and
    "platform" where the platform itself refused."""

    account: str
    channel: str
    template: str
    rule: str
    reason: str


class Detour(msgspec.Struct, frozen=True):
    """Where a fallback chain leads, and what was tried before. `ticket_id` "": a new ticket."""

    account: str
    channel: str
    template: str
    ticket_id: str
    tried: tuple[Tried, ...]


class Planned(msgspec.Struct, frozen=True):
    """One message as the platform would get it. `length` in the channel's unit; `segments` where SMS counts them."""

    text: str
    template: str
    tag: str
    files: tuple[str, ...]
    length: int
    unit: str
    segments: int | None


class WindowState(msgspec.Struct, frozen=True):
    """How long the business may write freely. A channel without window is always open, `until` None."""

    open: bool
    until: datetime | None = None
    remaining: int | None = None  # messages, where the platform counts them
    tag_until: datetime | None = None  # with the longest of the channel's tags


class Judged(msgspec.Struct, frozen=True):
    """What would become of a message now, the strongest verdict first. Nothing was written.

    `parts` are what would leave, `window` is how long it stays so, `detour` where a chain would lead; `waits` are what
    it would wait for although the rules let it pass.
    """

    decision: Decision
    verdicts: tuple[Verdict, ...] = ()
    parts: tuple[Planned, ...] = ()
    window: WindowState = WindowState(True)
    alternatives: tuple[Alternative, ...] = ()
    detour: Detour | None = None
    waits: tuple[Wait, ...] = ()


class RequestError(Exception):
    """A request that cannot be carried out: the HTTP `status`, a stable `code`, the `field`, and a sentence."""

    def __init__(self, status: Literal[404, 409, 422, 502], code: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.field = status, code, detail, field


def not_found(what: str) -> RequestError:
    """404: there is none."""
    return RequestError(404, "not_found", f"there is no such {what}")
