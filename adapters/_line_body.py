"""Our message as LINE's message objects: pure. Source: LINE, Messaging API reference, Message objects, 2026-07."""

from __future__ import annotations

from typing import Any, TypeAlias

from adapters._errors import SendError
from adapters._interactive import ContentRefused, no_such
from adapters._line_facts import OBJECTS_MAX, PREVIEW_MAX, URL_MAX
from adapters._line_offers import offered
from normalizers.model import Interactive, Location, OutboundFile, OutboundMessage, Sticker

Object: TypeAlias = dict[str, Any]


def recipient_of(message: OutboundMessage) -> str:
    """The group or room, else the person; "" when there is none."""
    if message.thread.kind == "group":
        return message.thread.key
    return next((address.value for address in message.to if address.kind == "user_id"), "")


def objects_for(message: OutboundMessage) -> list[Object]:
    """One to five message objects: the text first, then what stands beside it. Raises `SendError`."""
    if message.template is not None or message.reaction is not None:
        raise _refused("content", "LINE has neither templates nor reactions to send")
    files = (*filter(None, (message.file,)), *message.files)
    words = [_text(message.text)] if message.text else []
    objects = _with_content(words, message) + [_file(file, message) for file in files]
    if not objects:
        raise _refused("empty", "nothing to send")
    if len(objects) > OBJECTS_MAX:
        raise _refused("objects", f"{len(objects)} objects; one call takes {OBJECTS_MAX}")
    for one in objects[:-1]:  # only the last object's are shown
        if choices := one.pop("quickReply", None):
            objects[-1]["quickReply"] = choices
    if message.context is not None and message.context.quote_token and objects[0]["type"] in ("text", "sticker"):
        objects[0]["quoteToken"] = message.context.quote_token
    return objects


def check_content(message: OutboundMessage) -> None:
    """Raises `ContentRefused` for structured content, or a quote, that LINE would not take like this."""
    objects = objects_for(message)
    quoting = message.context is not None and message.context.quote_token
    if quoting and objects[0]["type"] not in ("text", "sticker"):
        raise ContentRefused("only a text or a sticker can quote a message", "in_reply_to", "quote")


def _refused(code: str, detail: str) -> SendError:
    return SendError("permanent", code, detail)


def _text(words: str) -> Object:
    return {"type": "text", "text": words}


# --- files ------------------------------------------------------------------------------------------------------------


def _file(file: OutboundFile, message: OutboundMessage) -> Object:
    """A picture, video or sound where all is known that LINE asks for; anything else as a link.

    LINE fetches the file when the recipient first looks at it: the address must live for days.
    """
    url = _address(file.url, file.filename)
    if file.kind == "image" and (preview := file.preview_url or (url if file.size <= PREVIEW_MAX else "")):
        return {"type": "image", "originalContentUrl": url, "previewImageUrl": _address(preview, file.filename)}
    if file.kind == "video" and file.preview_url:
        preview = _address(file.preview_url, file.filename)
        video = {"type": "video", "originalContentUrl": url, "previewImageUrl": preview}
        # tells when it was watched to its end; refused in groups
        return video if message.thread.kind == "group" else video | {"trackingId": message.id}
    if file.kind == "audio" and file.duration_ms:
        return {"type": "audio", "originalContentUrl": url, "duration": file.duration_ms}
    return _text(f"{file.filename}\n{url}" if file.filename else url)


def _address(url: str, name: str) -> str:
    if not url:
        raise _refused("no-media-address", f"{name}: LINE fetches files by a public address, and there is none")
    if not url.startswith("https://") or len(url) > URL_MAX:
        raise _refused("media-address", f"{name}: LINE takes https addresses of at most {URL_MAX} characters")
    return url


# --- structured content -----------------------------------------------------------------------------------------------


def _with_content(words: list[Object], message: OutboundMessage) -> list[Object]:
    match message.content:
        case None:
            return words
        case Location() as place:
            return [*words, _location(place)]
        case Sticker() as sticker:
            if not sticker.pack or not sticker.id:
                raise ContentRefused("needs pack and id", "content", "content")
            return [*words, {"type": "sticker", "packageId": sticker.pack, "stickerId": sticker.id}]
        case Interactive() as offer:
            return offered(offer.values, message.text)
        case other:
            raise no_such(other)


def _location(place: Location) -> Object:
    """LINE asks for title and address: what is missing is made up from the rest."""
    coordinates = f"{place.latitude}, {place.longitude}"
    return {
        "type": "location", "title": place.name or place.address or coordinates,
        "address": place.address or coordinates, "latitude": place.latitude, "longitude": place.longitude,
    }  # fmt: skip
