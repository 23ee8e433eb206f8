"""The API channel (C16): tickets and messages made over our own API. It is always there and has no webhook.

An answer to it is not sent anywhere: whoever wrote over the API reads it there, or is told by a live event or a sink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adapters._base import OK, Adapter, Answer, Callback, Sent
from adapters._channel import Channel, Limits, Pace
from adapters._errors import VerificationError
from adapters._http import Http
from normalizers import api
from normalizers.model import Account, Event, OutboundMessage, Received

SOURCE = "our own API"
CHANNEL = Channel(
    name="api",
    title="API",
    limits=Limits(
        text_max=1_000_000, source=SOURCE, split=False, files_per_message=100, caption_max=1_000_000, html=True
    ),
    pace=Pace(per_second=1000, source=SOURCE),
    messaging=False,
    key="request",
    address_kinds=("external_id", "email", "phone", "anonymous"),
    attribute_of={"email": "email", "phone": "phone"},
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Nothing to set."""


class ApiAdapter:
    """The built-in account `api`."""

    name: ClassVar[str] = "api"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, account: Account, settings: Settings, http: Http | None = None) -> None:
        self.account = account

    def routing_keys(self) -> frozenset[str]:
        return frozenset()

    def verify(self, callback: Callback) -> None:
        """No webhook leads here: messages come through the API with its key."""
        raise VerificationError("the API channel has no webhook")

    def well_formed(self, callback: Callback) -> None:
        return None

    def acknowledge(self, callback: Callback) -> Answer:
        return OK

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        return api.normalize(received)

    async def send(self, message: OutboundMessage) -> Sent:
        """Done as soon as it is recorded: the API itself is where it is read."""
        return Sent(external_id=message.id)


_: type[Adapter] = ApiAdapter
