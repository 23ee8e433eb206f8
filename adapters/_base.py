"""What an adapter is: the few things it does, beside its channels as data (`_channel.py`).

The core reads `Channel` and calls `Adapter`; it never asks which channel it deals with. An `async def` touches the
world; a plain `def` computes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Protocol, runtime_checkable

from adapters._channel import Channel
from adapters._http import Http
from normalizers.model import (
    Account,
    Address,
    Attachment,
    Event,
    InboundMessage,
    OutboundMessage,
    Person,
    Received,
    TemplateState,
    Thread,
)

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

    `settings_type` is a frozen dataclass; every field is a setting of `[[accounts]]`, no default means required. A
    further class attribute `family` is shared by adapters whose platform may post to one of them what is for another;
    `signs_address = True` says that signatures cover the address called, which must then be known behind a proxy.
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
class MemberProfiles(Protocol):
    """Adapters whose platform tells the profile of a member of a group where it tells no other."""

    async def member_profile(self, address: Address, thread: Thread) -> Person | None:
        """None when the platform does not tell. Raises `SendError`."""
        ...


@runtime_checkable
class TypingSignal(Protocol):
    """Adapters that can show a customer that an answer is being written. It ends by itself, or with the answer."""

    async def show_typing(self, to: tuple[Address, ...], thread: Thread) -> bool:
        """False where this conversation cannot show it. Raises `SendError`."""
        ...


@runtime_checkable
class Lookups(Protocol):
    """Adapters that can complete a message whose payload is only a pointer (`InboundMessage.lookup`)."""

    async def look_up(self, message: InboundMessage) -> InboundMessage:
        """The message with what the platform tells when asked, `lookup` empty. Raises `SendError`."""
        ...


@runtime_checkable
class ContentCheck(Protocol):
    """Adapters that know whether their platform takes structured content, and what fills a template, in this form."""

    def check_content(self, message: OutboundMessage) -> None:
        """Pure; asked before a message is accepted that has content, a quote, a template, or a link in its text where
        the channel shows one (`links_in_text`). A template's language and file may still be found. Raises
        `ContentRefused`, which names the field."""
        ...


@runtime_checkable
class Moderator(Protocol):
    """Adapters that can hide or delete public comments on what the account has posted."""

    async def hide(self, external_id: str, *, hidden: bool) -> None:
        """Show a comment to its author only, or to everybody again. Raises `SendError`."""
        ...

    async def delete(self, external_id: str) -> None:
        """Take a comment away for good. Raises `SendError`."""
        ...


@runtime_checkable
class Subscriber(Protocol):
    """Adapters whose platform may silently stop posting to us, so that somebody must look now and then."""

    subscription_checks: ClassVar[timedelta]  # how often

    async def subscribe(self) -> bool:
        """See that the platform posts to us; True when it did not and was told to again. Raises `SendError`."""
        ...


@runtime_checkable
class TemplateCatalogue(Protocol):
    """Adapters whose platform lists the templates of an account. The rules judge by that list."""

    template_refresh: ClassVar[timedelta]  # how often to ask

    async def templates(self) -> Sequence[TemplateState] | None:
        """All templates of the account; None where this one cannot ask. Raises `SendError`."""
        ...


@runtime_checkable
class SharedKeys(Protocol):
    """Adapters whose accounts may belong to one business above them, which some events name instead of an account."""

    def shared_keys(self) -> frozenset[str]:
        """Those of `routing_keys` that several accounts may have; the first of them takes such events."""
        ...


@runtime_checkable
class SharedAddress(Protocol):
    """Adapters of several platforms of one owner, whose app may post the events of all of them to one address."""

    def meant_for(self, received: Received) -> str:
        """The name of the adapter whose format the delivery has; "" for none of them."""
        ...


@runtime_checkable
class Variants(Protocol):
    """An adapter class behind whose name several providers stand, each with a class of its own."""

    @classmethod
    def variant(cls, settings: Any) -> type[Any]:
        """The adapter class that serves an account with these settings (an instance of `settings_type`)."""
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
