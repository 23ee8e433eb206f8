"""Pigeon for the channel gateway: adapter and normaliser in one file.

The platform spoken to here is invented: it posts events as JSON, signed by HMAC-SHA256 over the raw body, and takes
notes by HTTP. What it can and cannot do stands in `CHANNEL`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import msgspec

from adapters.kit import (
    NO_FILES,
    Adapter,
    Address,
    Ambiguous,
    Callback,
    Channel,
    DeliveryUpdate,
    ErrorRule,
    Event,
    Ignored,
    InboundMessage,
    JsonAdapter,
    Limits,
    OutboundMessage,
    Pace,
    Person,
    Received,
    Secret,
    Secrets,
    Sent,
    Unsupported,
    Window,
    check_hmac,
    moment,
    need,
    platform_error,
    read_list,
    text,
)

SOURCE = "Pigeon, API reference, 2026-11"  # where a fact about the platform was read, and when
SIGNATURE = "x-pigeon-signature"

CHANNEL = Channel(
    name="pigeon",
    title="Pigeon",
    limits=Limits(text_max=500, media=NO_FILES, source=SOURCE),  # `send` below carries text alone
    pace=Pace(per_second=5, source=SOURCE),
    window=Window(duration=timedelta(hours=24), source=SOURCE),
    errors={
        "no_such_ring": ErrorRule("bad-recipient", "no pigeon has this ring"),
        "bad_token": ErrorRule("auth", "the token is not valid", pause="account"),
        "flock_busy": ErrorRule("throttle", "too many notes", wait=timedelta(seconds=10)),
    },
    receipts=("delivered",),
    address_kinds=("ring",),
    sources=(SOURCE,),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes into `[[accounts]]`; without a default it is required."""

    signing_secret: Secrets  # one, or several that are valid while it is changed
    token: Secret
    api_base: str = "https://api.pigeon.example"


def event_of(item: Mapping[str, Any], path: str, received: Received) -> Event:
    """One item of a delivery. Raises `Broken` where it lacks what the platform promises."""
    name, at = need(item, "id"), moment(item, "at", received.received_at)
    match text(item, "type"):
        case "note":
            ring = need(item, "from")
            sender = Person((Address(CHANNEL.name, "ring", ring),), name=text(item, "name"))
            words, kind = text(item, "text"), text(item, "kind") or "text"
            strange = None if kind == "text" else Unsupported(kind)
            return InboundMessage(
                id=name, at=at, channel=CHANNEL.name, path=path, sender=sender, text=words, content=strange,
                kind="text" if strange is None else "unsupported",
            )  # fmt: skip
        case "arrived":
            target = need(item, "note")
            return DeliveryUpdate(id=name, at=at, channel=CHANNEL.name, path=path, status="delivered", target=target)
        case other:
            return Ignored(id=name, at=at, channel=CHANNEL.name, path=path, reason=f"event {other!r}")


class PigeonAdapter(JsonAdapter):
    """One account at Pigeon."""

    name: ClassVar[str] = "pigeon"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = (SIGNATURE,)

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless a secret of ours signed the raw body."""
        check_hmac(self.settings.signing_secret, callback.body, callback.header(SIGNATURE))

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """A delivery as events: notes, receipts; what is unknown is shown or counted, never lost."""
        return read_list(received, CHANNEL.name, "events", lambda item, path: event_of(item, path, received))

    async def send(self, message: OutboundMessage) -> Sent:
        """One note, one try. Raises `SendError`."""
        body = {"to": message.to[0].value, "text": message.text, "reference": message.id}
        answer = await self.http.request(
            "POST",
            f"{self.settings.api_base}/notes",
            json=msgspec.json.encode(body),
            bearer=self.settings.token.reveal(),
        )
        told = answer.json_or_empty()
        if answer.status >= 400:
            code, words = text(told, "code"), text(told, "message")
            raise platform_error(CHANNEL.errors, answer.status, code, words, secrets=(self.settings.token,))
        if not text(told, "id"):
            raise Ambiguous("unreadable", "taken, without an id")  # never sent again by itself
        return Sent(external_id=text(told, "id"))


_: type[Adapter] = PigeonAdapter  # the type checker compares the class with the protocol
