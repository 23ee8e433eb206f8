"""Our message as the Cloud API reads it: pure. Source: Meta, WhatsApp Cloud API, Messages reference, 2026-05."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from adapters._errors import SendError
from adapters._interactive import ContentRefused, no_such, refuse_text
from adapters._whatsapp_facts import CHANNEL, MEDIA
from adapters._whatsapp_interactive import interactive_body
from adapters._whatsapp_templates import HEADER_MEDIA, template_body
from normalizers.model import (
    Address,
    ContactCard,
    ContactCards,
    Interactive,
    Location,
    MediaKind,
    OutboundFile,
    OutboundMessage,
    Template,
)

KINDS: Final[Mapping[MediaKind, str]] = {
    "image": "image", "audio": "audio", "video": "video", "sticker": "sticker", "file": "document",
}  # fmt: skip
_CAPTIONED = frozenset(rule.kind for rule in MEDIA if rule.caption)
CONTACTS_MAX: Final = 257


def body_for(
    message: OutboundMessage, media_id: str = "", templates: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The body of one send. `media_id`: of the uploaded file; `templates`: the operator's catalogue.

    Raises `SendError` for what cannot be said.
    """
    if message.thread.kind == "group":
        raise _refused("group", "a reply to a group is not supported")
    body: dict[str, Any] = {
        "messaging_product": "whatsapp", "recipient_type": "individual", **_recipient(message.to),
    }  # fmt: skip
    if message.context is not None and message.context.reply_to and message.reaction is None:
        body["context"] = {"message_id": message.context.reply_to}
    body["biz_opaque_callback_data"] = message.id
    body["type"], content = _content(message, media_id, templates)
    body[body["type"]] = content
    return body


def check_content(message: OutboundMessage) -> None:
    """Raises `ContentRefused` for structured content, or parameters of a template, the platform would not take."""
    if message.template is not None:  # its language and its file may still be found
        template_body(message.template, message.template.language)
    else:
        _content(message, "", ())


def file_of(message: OutboundMessage) -> OutboundFile | None:
    """The one file the message carries. Raises `SendError` for several."""
    if not message.files:
        return message.file
    if message.file is not None or len(message.files) > 1:
        raise _refused("files", "one file per message")
    return message.files[0]


def _recipient(to: tuple[Address, ...]) -> dict[str, str]:
    """A phone number goes into `to` as digits, a user id into `recipient`."""
    found: dict[str, str] = {}
    for address in to:
        found.setdefault(address.kind, address.value)
    for kind in CHANNEL.address_kinds:
        if value := found.get(kind):
            return {"to": value.removeprefix("+")} if kind == "phone" else {"recipient": value}
    raise SendError("bad-recipient", "no-address", "neither a phone number nor a WhatsApp user id")


def _content(message: OutboundMessage, media_id: str, templates: Sequence[Mapping[str, Any]]) -> tuple[str, Any]:
    file = file_of(message)
    template = message.template or (message.content if isinstance(message.content, Template) else None)
    if template is not None:
        header = {KINDS[file.kind]: _media(file, "", media_id)} if file is not None else None
        if header is not None and not HEADER_MEDIA & header.keys():
            raise _refused("template", "a template's header takes a picture, a video or a document")
        return "template", template_body(template, template.language or _language_of(template, templates), header)
    if message.reaction is not None:
        if message.context is None or not message.context.reply_to:
            raise _refused("reaction", "names no message")
        return "reaction", {"message_id": message.context.reply_to, "emoji": message.reaction}
    match message.content:
        case None:
            pass
        case Interactive() as content:
            return "interactive", interactive_body(content, message.text)
        case Location() as place:
            refuse_text(message.text, "a location")
            return "location", _place(place)
        case ContactCards() as cards:
            made = _cards(cards)
            refuse_text(message.text, "a contact card")
            return "contacts", made
        case other:
            raise no_such(other)
    if file is not None:
        return KINDS[file.kind], _media(file, message.text, media_id)
    if not message.text:
        raise _refused("empty", "nothing to send")
    return "text", {"body": message.text, "preview_url": False}


def _language_of(template: Template, templates: Sequence[Mapping[str, Any]]) -> str:
    """The language the operator's catalogue has the template in. Raises `SendError` when it does not tell."""
    found = (str(entry.get("language", "")) for entry in templates if entry.get("name") == template.name)
    if language := next(filter(None, found), ""):
        return language
    raise _refused("template", f"the template {template.name!r} needs a language")


def _media(file: OutboundFile, caption: str, media_id: str) -> dict[str, Any]:
    """Uploaded files go by id: Meta's own fetching follows no redirect and is limited per hosting network."""
    if not (media_id or file.open_path or file.url):
        raise _refused("file", f"{file.filename}: neither on disk nor at an address")
    media = {"link": file.url} if not (media_id or file.open_path) else {"id": media_id}
    if caption:
        if file.kind not in _CAPTIONED:
            raise _refused("caption", f"no text can stand beside a file of kind {file.kind}")
        media["caption"] = caption
    if file.kind == "file" and file.filename:
        media["filename"] = file.filename
    return media


def _refused(code: str, detail: str) -> SendError:
    return SendError("permanent", code, detail)


def _place(place: Location) -> dict[str, Any]:
    named = {"name": place.name, "address": place.address}
    return {"latitude": place.latitude, "longitude": place.longitude} | {k: v for k, v in named.items() if v}


def _cards(cards: ContactCards) -> list[dict[str, Any]]:
    if not 0 < len(cards.contacts) <= CONTACTS_MAX:
        raise ContentRefused(f"takes 1 to {CONTACTS_MAX} entries", "content.contacts", "contacts")
    return [_card(card) for card in cards.contacts]


def _card(card: ContactCard) -> dict[str, Any]:
    made: dict[str, Any] = {"name": {"formatted_name": card.name, "first_name": card.name}}
    if card.phones:
        made["phones"] = [{"phone": phone, "type": "WORK"} for phone in card.phones]
    if card.emails:
        made["emails"] = [{"email": email, "type": "WORK"} for email in card.emails]
    if card.organization:
        made["org"] = {"company": card.organization}
    return made
