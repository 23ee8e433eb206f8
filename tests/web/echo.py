"""An adapter of the tests' own: signed JSON in, text out. Real enough for everything the web layer does with one."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from adapters import (
    Adapter,
    Answer,
    Callback,
    Channel,
    HandshakeRefused,
    Http,
    Limits,
    MalformedBody,
    Pace,
    Sent,
    Window,
)
from adapters._signing import check_hmac, same
from config.secret import Secret
from normalizers.model import (
    Account,
    Address,
    Attachment,
    Event,
    InboundMessage,
    OutboundMessage,
    Person,
    Received,
    Unreadable,
)

SOURCE = "the tests"
CHANNEL = Channel(
    name="echo",
    title="Echo",
    limits=Limits(text_max=100, source=SOURCE, split=False),
    pace=Pace(per_second=1000, source=SOURCE),
    window=Window(timedelta(hours=24), SOURCE),
    address_kinds=("phone",),
    attribute_of={"phone": "phone"},
)


@dataclass(frozen=True, slots=True)
class Settings:
    secret: tuple[Secret, ...]
    verify_token: str = "hello"


def events_of(received: Received) -> tuple[Event, ...]:
    """One message per item of `messages`."""
    found: list[Event] = []
    for item in json.loads(received.body).get("messages", []):
        if "from" not in item:
            found.append(
                Unreadable(id=item.get("id", "?"), at=received.received_at, channel="echo", problem="no sender")
            )
            continue
        address = Address("echo", "phone", item["from"], "everywhere")
        files = tuple(
            Attachment(kind="image", media_type="image/png", url=f["url"], content_id=f.get("cid", ""), no_store=True)
            for f in item.get("files", [])
        )
        found.append(
            InboundMessage(
                id=item["id"],
                at=received.received_at,
                channel="echo",
                sender=Person((address,), name=item.get("name", ""), profile=item.get("profile", {})),
                text=item.get("text", ""),
                html=item.get("html", ""),
                attachments=files,
            )
        )
    return tuple(found)


class EchoAdapter:
    name: ClassVar[str] = "echo"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = ("x-echo-signature",)

    def __init__(self, account: Account, settings: Settings, http: Http | None = None) -> None:
        self.account, self._settings = account, settings
        self.sent: list[OutboundMessage] = []

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        return events_of(received)

    def routing_keys(self) -> frozenset[str]:
        return frozenset()

    def verify(self, callback: Callback) -> None:
        if callback.body == b"explode":
            raise RuntimeError("a fault of the adapter")
        check_hmac(self._settings.secret, callback.body, callback.header("x-echo-signature"), prefix="sha256=")

    def well_formed(self, callback: Callback) -> None:
        try:
            if not isinstance(json.loads(callback.body), dict):
                raise MalformedBody("not an object")
        except (ValueError, RecursionError):
            raise MalformedBody("not JSON") from None

    def acknowledge(self, callback: Callback) -> Answer:
        return Answer(200, b"thanks")

    def handshake(self, callback: Callback) -> Answer:
        if not same(self._settings.verify_token, callback.query.get("token", "")):
            raise HandshakeRefused("wrong token")
        return Answer(200, callback.query.get("challenge", "").encode())

    async def send(self, message: OutboundMessage) -> Sent:
        self.sent.append(message)
        return Sent(external_id=f"echo-{message.id}")


_: type[Adapter] = EchoAdapter


def signed(body: bytes, secret: str = "s3cret") -> dict[str, str]:
    """The headers of a correctly signed body."""
    return {
        "X-Echo-Signature": "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex(),
        "Content-Type": "application/json",
    }
