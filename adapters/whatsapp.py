"""WhatsApp by Meta's Cloud API. Sources: Meta, WhatsApp Cloud API, Service messages; Media; Templates, 2026-05.

There is no key that would make a repeated send safe. Our message id travels as `biz_opaque_callback_data` and comes
back in every receipt, so that a receipt finds its message even when the answer to the send was lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import aiohttp
import msgspec

from adapters import _meta
from adapters._base import OK, Adapter, Answer, Callback, Channel, Sent
from adapters._errors import Ambiguous, MediaError, SendError
from adapters._http import Http
from adapters._whatsapp_body import KINDS, body_for, file_of
from adapters._whatsapp_facts import CHANNEL, ERRORS
from config.secret import Secrets
from normalizers import whatsapp
from normalizers._fields import mapping, text
from normalizers._whatsapp_content import sha256_hex
from normalizers._whatsapp_people import addresses_of
from normalizers.model import Account, Attachment, Event, OutboundFile, OutboundMessage, Received

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Settings:
    """`waba_id`, the id of the WhatsApp business account, lets events about templates and the account find us."""

    phone_number_id: str
    access_token: Secrets  # the first sends
    app_secret: Secrets
    verify_token: Secrets
    api_base: str = "https://graph.facebook.com/v23.0"
    waba_id: str = ""

    def __post_init__(self) -> None:
        for key in ("phone_number_id", "access_token", "app_secret", "verify_token"):
            if not getattr(self, key):
                raise ValueError(f"{key}: is empty")


class WhatsAppAdapter:
    """One phone number of the business."""

    name: ClassVar[str] = "whatsapp"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = (_meta.SIGNATURE,)

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        self.account, self._settings, self._http = account, settings, http
        self._token = settings.access_token[0]
        self._base = settings.api_base.rstrip("/")
        self._number = f"{self._base}/{quote(settings.phone_number_id, safe='')}"

    def routing_keys(self) -> frozenset[str]:
        """The phone number's id, and the business account's where it is configured."""
        return frozenset({self._settings.phone_number_id, self._settings.waba_id} - {""})

    # --- hearing ------------------------------------------------------------------------------------------------------

    def handshake(self, callback: Callback) -> Answer:
        """Answer the GET that follows each change of the webhook's address. Raises `HandshakeRefused`."""
        return _meta.answer_handshake(callback, self._settings.verify_token)

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless our app signed the body."""
        _meta.check_signature(callback, self._settings.app_secret)

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

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once; a file that lies on our disk is uploaded before. Raises `SendError`.

        200 means accepted: many failures come as a receipt only.
        """
        body, file = body_for(message), file_of(message)
        if file is not None and file.open_path:
            body = body_for(message, await self._upload(file))
        answer = await self._http.request(
            "POST", f"{self._number}/messages", json=_encode(body), bearer=self._token.reveal()
        )
        return _sent(_meta.read_answer(answer, ERRORS, self._settings.access_token))

    async def _upload(self, file: OutboundFile) -> str:
        """The id under which the platform keeps the file for 30 days. Raises `SendError`; no message has left then."""
        try:
            content = open(file.open_path, "rb")  # noqa: SIM115, ASYNC230 - the client reads it in a thread and closes it
        except OSError as error:
            raise SendError("permanent", "file-gone", f"{file.filename}: {error.strerror}") from None
        with content:
            form = aiohttp.FormData()
            form.add_field("messaging_product", "whatsapp")
            form.add_field("type", file.media_type)
            form.add_field("file", content, filename=file.filename or KINDS[file.kind], content_type=file.media_type)
            try:
                answer = await self._http.request(
                    "POST", f"{self._number}/media", data=form, bearer=self._token.reveal()
                )
                media_id = text(_meta.read_answer(answer, ERRORS, self._settings.access_token), "id")
            except SendError as error:
                raise _meta.before_sending(error) from None
        if not media_id:
            raise SendError("retry", "no-media-id", "the upload brought no id")
        return media_id

    # --- files and credentials ----------------------------------------------------------------------------------------

    async def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file in chunks: its address first, valid for five minutes, then the file itself, both with our token.

        An address that does not work is asked for afresh once. Raises `MediaError`, also when the hash does not fit.
        """
        for fresh_left in (1, 0):
            address, sha256 = await self._media_address(attachment.ref)
            chunks = self._http.download(address, bearer=self._token.reveal(), media_hosts=_meta.MEDIA_HOSTS)
            begun = False
            try:
                async for chunk in _checked(chunks, attachment.sha256 or sha256):
                    begun = True
                    yield chunk
                return
            except MediaError:
                if begun or not fresh_left:
                    raise

    async def _media_address(self, ref: str) -> tuple[str, str]:
        if not ref:
            raise MediaError("the file has no id", retryable=False)
        try:
            answer = await self._http.request(
                "GET", f"{self._base}/{quote(ref, safe='')}", bearer=self._token.reveal()
            )  # fmt: skip
            found = _meta.read_answer(answer, ERRORS, self._settings.access_token)
        except SendError as error:
            gone = error.error_class in ("permanent", "bad-recipient")
            raise MediaError(f"{error.code} {error.detail}".strip(), retryable=not gone) from None
        address = text(found, "url")
        if not address:
            raise MediaError("the platform told no address", retryable=True)
        return address, sha256_hex(text(found, "sha256"))

    async def probe(self) -> None:
        """Ask for our own number: proves token and phone number id. Raises `SendError`."""
        answer = await self._http.request("GET", f"{self._number}?fields=id", bearer=self._token.reveal())
        _meta.read_answer(answer, ERRORS, self._settings.access_token)


async def _checked(chunks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """The chunks as they come. Raises `MediaError` at the end when `sha256` (hex) is given and differs."""
    seen = hashlib.sha256()
    async for chunk in chunks:
        seen.update(chunk)
        yield chunk
    if sha256 and seen.hexdigest() != sha256:
        raise MediaError("the file's hash does not fit", retryable=True)


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
    return dict(mapping({"first": listed[0]}, "first")) if isinstance(listed, list) and listed else {}


_: type[Adapter] = WhatsAppAdapter
