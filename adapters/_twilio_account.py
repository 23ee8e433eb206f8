"""What accounts of Twilio have in common, whichever channel they serve: webhooks, sends, files, credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar, Protocol

import msgspec

from adapters._base import Answer, Callback, Sent
from adapters._http import Http
from adapters._twilio import NO_REPLY, SIGNATURE_HEADER, Form, TwilioApi, check_signature, check_well_formed
from config.secret import Secret
from normalizers.model import Account, Attachment, OutboundMessage


class TwilioSettings(Protocol):
    """The settings every account of Twilio has."""

    @property
    def account_sid(self) -> str: ...

    @property
    def auth_token(self) -> tuple[Secret, ...]: ...

    @property
    def number(self) -> str: ...

    @property
    def messaging_service_sid(self) -> str: ...

    @property
    def api_base(self) -> str: ...


class TwilioAccount:
    """One number, or one messaging service, of a Twilio account. A channel adds `form` and `normalize`."""

    name: ClassVar[str]
    family: ClassVar[str] = "twilio"  # a messaging service posts what comes on all its channels to one of our accounts
    key_prefix: ClassVar[str] = ""  # of the senders among the routing keys
    signature_headers: ClassVar[tuple[str, ...]] = (SIGNATURE_HEADER,)
    signs_address: ClassVar[bool] = True
    media_delays_s: ClassVar[tuple[float, ...]] = (1.0, 3.0)  # while a file just announced is still missing

    def __init__(self, account: Account, settings: TwilioSettings, http: Http) -> None:
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
        self._twilio = settings
        self._api = TwilioApi(settings.account_sid, settings.auth_token, settings.api_base, http)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.account.id!r})"

    def routing_keys(self) -> frozenset[str]:
        """By number and by service: see `normalizers._twilio.routing_key` for which of them an event names."""
        settings = self._twilio
        senders = (settings.number, settings.messaging_service_sid)
        return frozenset(f"{settings.account_sid}:{self.key_prefix}{sender}" for sender in senders if sender)

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless one of the auth tokens signed the callback."""
        check_signature(self._twilio.auth_token, callback)

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` when the body is neither a form nor the JSON it says it is."""
        check_well_formed(callback)

    def acknowledge(self, callback: Callback) -> Answer:
        """Empty TwiML: nothing is ever said in the answer to a webhook."""
        return NO_REPLY

    def form(self, message: OutboundMessage) -> Form:
        """The fields of a send. Raises `SendError` for what the channel cannot say."""
        raise NotImplementedError

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once. Raises `SendError`."""
        return await self._api.send(self.form(message), message.id)

    async def find(self, message: OutboundMessage) -> Sent | None:
        """What became of a send whose answer was lost, by the account's list of messages: see `_twilio_find`.

        A status callback, which brings our id, may tell before.
        """
        return await self._api.find(self.form(message), message.id)

    def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file's bytes. Raises `MediaError`."""
        return self._api.media(attachment.ref, self.media_delays_s)

    async def probe(self) -> None:
        """Raises `SendError` unless the credentials work and the account is active."""
        await self._api.probe()


def senders_of(settings: TwilioSettings, own_address: str) -> Form:
    """`From` and the service: of a service's pool the number the customer wrote to, where that is known."""
    service = settings.messaging_service_sid
    sender = settings.number or (own_address if service else "")
    return (*([("From", sender)] if sender else []), *([("MessagingServiceSid", service)] if service else []))
