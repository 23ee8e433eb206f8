"""Our message as LINE's message objects: pure. Source: LINE, Messaging API reference, Message objects, 2026-07."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from adapters._errors import SendError
from adapters._line_facts import (
    ALT_TEXT_MAX,
    BUTTONS_TEXT_MAX,
    LABEL_MAX,
    OBJECTS_MAX,
    PREVIEW_MAX,
    QUICK_REPLIES_MAX,
    URL_MAX,
)
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
    if message.context is not None and message.context.quote_token and objects[0]["type"] in ("text", "sticker"):
        objects[0]["quoteToken"] = message.context.quote_token
    if isinstance(message.content, Interactive) and (choices := _choices(message.content.values)):
        objects[-1]["quickReply"] = {"items": choices}  # only the last object's are shown
    return objects


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
            return [*words, {"type": "sticker", "packageId": sticker.pack, "stickerId": sticker.id}]
        case Interactive() as offer:
            return _offer(words, message.text, offer.values)
        case other:
            raise _refused("content", f"{type(other).__name__} cannot be sent")


def _location(place: Location) -> Object:
    """LINE asks for title and address: what is missing is made up from the rest."""
    coordinates = f"{place.latitude}, {place.longitude}"
    return {
        "type": "location", "title": place.name or place.address or coordinates,
        "address": place.address or coordinates, "latitude": place.latitude, "longitude": place.longitude,
    }  # fmt: skip


def _offer(words: list[Object], text: str, values: Mapping[str, Any]) -> list[Object]:
    """`buttons` or `rows` are quick replies, `url` a button in a template; `object` (a flex message) goes as it is."""
    if "object" in values:
        return [*words, dict(values["object"])]
    if not text:
        raise _refused("interactive", "needs a text")
    if "url" in values:
        return _link(words, text, str(values["url"]), str(values.get("label") or values["url"]))
    if not _choices(values):
        raise _refused("interactive", "needs one of buttons, rows, url, object")
    return words


def _link(words: list[Object], text: str, url: str, label: str) -> list[Object]:
    """A button that opens an address. A text too long for the button's template stands in front of it."""
    long = len(text) > BUTTONS_TEXT_MAX
    action = {"type": "uri", "label": label[:LABEL_MAX], "uri": url}
    template = {"type": "buttons", "text": label[:BUTTONS_TEXT_MAX] if long else text, "actions": [action]}
    button = {"type": "template", "altText": text[:ALT_TEXT_MAX], "template": template}
    return [*words, button] if long else [button]


def _choices(values: Mapping[str, Any]) -> list[Object]:
    listed = values.get("buttons") or values.get("rows") or ()
    chosen = [_choice(entry) for entry in (listed if isinstance(listed, list | tuple) else (listed,))]
    if len(chosen) > QUICK_REPLIES_MAX:
        raise _refused("interactive", f"at most {QUICK_REPLIES_MAX} choices")
    return chosen


def _choice(entry: Any) -> Object:
    """The answer comes back as a postback with the id; the title shows in the chat as the person's word."""
    given = entry if isinstance(entry, Mapping) else {"title": str(entry)}
    title = str(given.get("title", ""))
    action = {
        "type": "postback", "label": title[:LABEL_MAX], "data": str(given.get("id") or title), "displayText": title,
    }  # fmt: skip
    return {"type": "action", "action": action}
