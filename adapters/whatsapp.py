"""WhatsApp, by Meta's Cloud API or through Twilio: `provider` decides.

Sources: Meta, WhatsApp Cloud API, Service messages; Media; Templates, 2026-05; Business Management API, Message
templates, 2026-05.

There is no key that would make a repeated send safe. Our message id travels as `biz_opaque_callback_data` and comes
back in every receipt, so that a receipt finds its message even when the answer to the send was lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from adapters import _meta
from adapters._base import OK, Adapter, Answer, Callback, Sent
from adapters._channel import Channel
from adapters._errors import Ambiguous, SendError
from adapters._http import Http
from adapters._meta_graph import Graph
from adapters._whatsapp_body import body_for, check_content, file_of
from adapters._whatsapp_facts import CHANNEL, ERRORS
from adapters._whatsapp_media import Uploads, fetch
from adapters._whatsapp_settings import Settings
from adapters._whatsapp_templates import next_page, states_of
from adapters._whatsapp_twilio import TwilioWhatsApp
from normalizers import whatsapp
from normalizers._fields import items, text
from normalizers._whatsapp_people import addresses_of
from normalizers.model import Account, Attachment, Event, OutboundMessage, Received, TemplateState

__all__ = ["Settings", "WhatsAppAdapter"]

_TEMPLATES_PER_PAGE, _PAGES_MAX = 200, 50


class WhatsAppAdapter:
    """One phone number of the business, by the Cloud API."""

    name: ClassVar[str] = "whatsapp"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = (_meta.SIGNATURE,)
    template_refresh: ClassVar[timedelta] = timedelta(hours=1)  # between webhooks that tell of changes
    subscription_checks: ClassVar[timedelta] = timedelta(hours=6)

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        self.account, self._settings, self._http = account, settings, http
        self._graph = Graph(
            http, settings.api_base, settings.access_token, settings.app_secret, prove=settings.appsecret_proof
        )
        self._number = settings.phone_number_id
        self._uploads = Uploads(self._graph, self._number)

    @classmethod
    def variant(cls, settings: Settings) -> type[Any]:
        """Who serves an account with these settings."""
        return TwilioWhatsApp if settings.provider == "twilio" else cls

    def routing_keys(self) -> frozenset[str]:
        """The phone number's id, and the business account's where it is configured."""
        return frozenset({self._settings.phone_number_id, self._settings.waba_id} - {""})

    def shared_keys(self) -> frozenset[str]:
        """Numbers of one business account share it."""
        return frozenset({self._settings.waba_id} - {""})

    # --- hearing ------------------------------------------------------------------------------------------------------

    def handshake(self, callback: Callback) -> Answer:
        """Answer the GET that follows each change of the webhook's address. Raises `HandshakeRefused`."""
        return _meta.answer_handshake(callback, self._settings.verify_token)

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless our app signed the body."""
        _meta.check_signature(callback, self._settings.app_secret)

    def meant_for(self, received: Received) -> str:
        """Which of Meta's platforms the delivery is of."""
        return _meta.meant_for(received)

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` unless the body is JSON."""
        _meta.check_json(callback)

    def acknowledge(self, callback: Callback) -> Answer:
        """Meta wants a bare 200."""
        return OK

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.whatsapp`."""
        return whatsapp.normalize(received)

    def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file in chunks. Raises `MediaError`, also when the hash does not fit."""
        return fetch(self._graph, self._http, self._settings.access_token[0], attachment)

    # --- speaking -----------------------------------------------------------------------------------------------------

    def check_content(self, message: OutboundMessage) -> None:
        """Pure: see `_whatsapp_body`. Raises `ContentRefused`."""
        check_content(message)

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once; a file that lies on our disk is uploaded before. Raises `SendError`.

        200 means accepted: many failures come as a receipt only.
        """
        catalogue = self.account.templates
        body, file = body_for(message, templates=catalogue), file_of(message)
        known = False
        if file is not None and file.open_path:
            media_id, known = await self._uploads.id_of(file)
            body = body_for(message, media_id, catalogue)
        try:
            return _sent(await self._graph.post(f"{self._number}/messages", body, ERRORS))
        except SendError as error:
            raise self._uploads.refused(file, error) if file is not None and known else error from None

    # --- the account --------------------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """Ask for our own number: proves token and phone number id. Raises `SendError`."""
        await self._graph.get(self._number, ERRORS, fields="id")

    async def templates(self) -> Sequence[TemplateState] | None:
        """The business account's templates; None where `waba_id` is not configured. Raises `SendError`."""
        if not self._settings.waba_id:
            return None
        found: list[TemplateState] = []
        query = {"fields": "name,language,status,category,components", "limit": str(_TEMPLATES_PER_PAGE)}
        for _ in range(_PAGES_MAX):
            page = await self._graph.get(f"{self._settings.waba_id}/message_templates", ERRORS, **query)
            found += states_of(page)
            if not (after := next_page(page)):
                return found
            query["after"] = after
        raise SendError("permanent", "templates", f"more than {_PAGES_MAX * _TEMPLATES_PER_PAGE} templates")

    async def subscribe(self) -> bool:
        """See that our app is subscribed to the business account's webhooks. Raises `SendError`."""
        waba = self._settings.waba_id
        if not waba:
            return False
        apps = await self._graph.get(f"{waba}/subscribed_apps", ERRORS)
        if any(True for _ in items(apps, "data")):
            return False
        await self._graph.post(f"{waba}/subscribed_apps", {}, ERRORS)
        return True


def _sent(answer: dict[str, Any]) -> Sent:
    """The platform's id, and the ids it knows the recipient by: they may differ from what we sent to."""
    message = _first(answer, "messages")
    external_id = text(message, "id")
    if not external_id:
        raise Ambiguous("no-id", "a success without a message id")
    contact, status = _first(answer, "contacts"), text(message, "message_status")
    return Sent(
        external_id,
        addresses=addresses_of(text(contact, "user_id"), text(contact, "wa_id")),
        note="" if status == "accepted" else status,
    )


def _first(answer: dict[str, Any], key: str) -> dict[str, Any]:
    listed = answer.get(key)
    first = listed[0] if isinstance(listed, list) and listed else None
    return first if isinstance(first, dict) else {}


_: type[Adapter] = WhatsAppAdapter
