"""SMS and MMS through Twilio.

Sources: Twilio, "Message resource", "How long can a message be?", "Accepted content types for media", "Advanced
Opt-Out", "Understanding Twilio rate limits and message queues", 2026-09.

There is no `find`: the list of messages shows neither our id nor the callback's address, and two equal texts to one
person are told apart by nothing. A send whose answer was lost is settled by its status callback, which brings our id.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from adapters._base import Adapter, Answer, Callback, Channel, Keywords, Limits, MediaRule, Pace, Sent
from adapters._errors import SendError
from adapters._http import Http
from adapters._twilio import (
    API_BASE,
    ERRORS,
    NO_REPLY,
    SIGNATURE_HEADER,
    TwilioApi,
    check_signature,
    check_well_formed,
)
from config.secret import Secret
from normalizers import sms
from normalizers.model import Account, Attachment, Event, OutboundMessage, Received

_MB, _KB = 1_000_000, 1000  # bytes

CHANNEL: Final = Channel(
    name="sms",
    title="SMS",
    limits=Limits(
        text_max=1600,
        text_unit="gsm",
        split=True,
        caption_max=1600,
        segment_max=10,
        files_per_message=10,
        media=(
            MediaRule("image", ("image/jpeg", "image/png", "image/gif"), 5 * _MB),
            MediaRule("image", ("image/*",), 500 * _KB),
            MediaRule("audio", ("audio/*",), 500 * _KB),
            MediaRule("video", ("video/*",), 500 * _KB),
            MediaRule(
                "file",  # (assumed: of all further types, the ones handsets open)
                ("application/pdf", "text/vcard", "text/x-vcard", "text/calendar", "text/csv", "text/rtf"),
                500 * _KB,
            ),
        ),
        total_bytes=5 * _MB,
        source="Twilio, Message resource and Accepted content types for media, 2026-09",
    ),
    pace=Pace(
        per_second=1.0,
        unit="segment",
        source="Twilio, rate limits and message queues: a US long code, 2026-09; more for other senders, set by `rate`",
    ),
    messaging=False,
    key="none",
    keywords=Keywords(
        stop=frozenset({"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"}),
        start=frozenset({"start", "unstop"}),
        help=frozenset({"help", "info"}),
        start_only_if_opted_out=frozenset({"yes"}),
        scope="all",
        source="Twilio, support for opt-out keywords, 2026-03",
    ),
    errors=ERRORS,
    retry="chat",
    receipts=("sent", "delivered"),
    address_kinds=("phone", "short_code"),
    proactive=True,
    attribute_of={"phone": "phone"},
    sources=(
        "Twilio, Message resource, 2026-09",
        "Twilio, Webhooks security, 2026-09",
        "Twilio, Error and Warning Dictionary, 2026-09",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """`number` is E.164, a short code or a sender name; with `messaging_service_sid` it picks a sender of the pool."""

    account_sid: str
    auth_token: tuple[Secret, ...]
    number: str = ""
    messaging_service_sid: str = ""
    api_base: str = API_BASE

    def __post_init__(self) -> None:
        """Raises `ValueError` ("key: problem")."""
        if not any(self.auth_token):
            raise ValueError("auth_token: missing")
        if not self.number and not self.messaging_service_sid:
            raise ValueError("number: missing, and no messaging_service_sid in its place")
        number = sms.phone(self.number.strip())
        if re.fullmatch(r"[0-9]{9,}", re.sub(r"[\s().-]", "", number)):
            raise ValueError("number: must begin with + and the country code")
        object.__setattr__(self, "number", number)


class SmsAdapter:
    """One number, or one messaging service, of a Twilio account."""

    name: ClassVar[str] = "sms"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Settings]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = (SIGNATURE_HEADER,)
    media_delays_s: ClassVar[tuple[float, ...]] = (1.0, 3.0)  # while a file just announced is still missing

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        own = {settings.number} if settings.number else set()
        self.account = msgspec.structs.replace(
            account,
            own_addresses=account.own_addresses | own,
            options={
                **account.options,
                "account_sid": settings.account_sid,
                "number": settings.number,
                "messaging_service_sid": settings.messaging_service_sid,
            },
        )
        self._settings = settings
        self._api = TwilioApi(settings.account_sid, settings.auth_token, settings.api_base, http)

    def __repr__(self) -> str:
        return f"SmsAdapter({self.account.id!r})"

    def routing_keys(self) -> frozenset[str]:
        """By number and by service: see `normalizers.sms` for which of them an event names."""
        settings = self._settings
        senders = (settings.number, settings.messaging_service_sid)
        return frozenset(f"{settings.account_sid}:{sender}" for sender in senders if sender)

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless one of the auth tokens signed the callback."""
        check_signature(self._settings.auth_token, callback)

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` when the body is neither a form nor the JSON it says it is."""
        check_well_formed(callback)

    def acknowledge(self, callback: Callback) -> Answer:
        """Empty TwiML: nothing is ever said in the answer to a webhook."""
        return NO_REPLY

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.sms`."""
        return sms.normalize(received)

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once. Raises `SendError`."""
        return await self._api.send(form_for(message, self._settings))

    def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file's bytes. Raises `MediaError`."""
        return self._api.media(attachment.ref, self.media_delays_s)

    async def probe(self) -> None:
        """Raises `SendError` unless the credentials work and the account is active."""
        await self._api.probe()


def form_for(message: OutboundMessage, settings: Settings) -> list[tuple[str, str]]:
    """The request's fields. Raises `SendError` for what an SMS cannot be."""
    to = next((address.value for address in message.to if address.kind in CHANNEL.address_kinds), "")
    if not to:
        raise SendError("bad-recipient", "no-phone", "the person has no phone number")
    form = [("To", to)]
    if settings.number:
        form.append(("From", settings.number))
    if settings.messaging_service_sid:
        form.append(("MessagingServiceSid", settings.messaging_service_sid))
    if message.text:
        form.append(("Body", unicodedata.normalize("NFC", message.text)))
    files = message.files or ((message.file,) if message.file else ())
    if not all(file.url for file in files):
        raise SendError("permanent", "no-media-address", "Twilio fetches files by a public address, and there is none")
    form.extend(("MediaUrl", file.url) for file in files)
    if not message.text and not files:
        raise SendError("permanent", "empty", "neither text nor media")
    if message.callback_url:
        form.append(("StatusCallback", message.callback_url))
    return form


_: type[Adapter] = SmsAdapter
