"""What stands in a LINE message, by its type. Source: LINE, Messaging API reference, Message event, 2026-07."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from normalizers._fields import Broken, clean, mapping, number, text, whole
from normalizers._line_source import Item
from normalizers.model import (
    Attachment,
    Content,
    Context,
    Location,
    MediaKind,
    MessageKind,
    Sticker,
    Unsupported,
)

Part: TypeAlias = tuple[MessageKind, str, tuple[Attachment, ...], Content | None]
"""Kind, what an agent reads, files, structured content."""


def part(message: Item) -> Part:
    """The content of one message. Raises `Broken`; its paths start at the event. A type nobody knows is unsupported."""
    kind = message.get("type")
    reader = _READERS.get(kind) if type(kind) is str else None
    if reader is not None:
        return reader(message)
    return "unsupported", "", (), Unsupported(text(message, "type") or "unknown")


def context_of(message: Item, reply_token: str) -> Context | None:
    """What the message quotes, and what an answer needs: the one-time right to reply, the token to quote it."""
    quote_token = text(message, "quoteToken")
    reply_to = text(message, "quotedMessageId") if "quotedMessageId" in message else ""
    metadata = _metadata(message) if not _TOLD.isdisjoint(message) else {}
    if not (reply_token or quote_token or reply_to or metadata):
        return None
    return Context(reply_to=reply_to, reply_token=reply_token, quote_token=quote_token, metadata=metadata)


def mentions_us(message: Item) -> bool:
    """Whether the bot itself is mentioned."""
    return any(one.get("isSelf") is True for one in _mentionees(message))


def _mentionees(message: Item) -> list[Item]:
    listed = mapping(message, "mention").get("mentionees")
    return [one for one in listed[:20] if isinstance(one, Mapping)] if type(listed) is list else []


_TOLD = frozenset({"markAsReadToken", "imageSet", "mention"})


def _metadata(message: Item) -> dict[str, Any]:
    """The token that marks as read, the set a picture belongs to, the people mentioned ("all" for everybody)."""
    found: dict[str, Any] = {}
    if token := text(message, "markAsReadToken"):
        found["mark_as_read_token"] = token
    if pictures := mapping(message, "imageSet"):
        found["image_set"] = {
            "id": text(pictures, "id"), "index": whole(pictures, "index"), "total": whole(pictures, "total"),
        }  # fmt: skip
    if "mention" in message:
        named = [text(one, "userId") or text(one, "type") for one in _mentionees(message)]
        found["mentions"] = [name for name in named if name]
    return found


def _text(message: Item) -> Part:
    """LINE's own emojis stand in the text by their names, as in "(love)"."""
    words = message.get("text")
    if type(words) is not str:
        raise Broken(".message.text", "missing" if words is None else "not a text")
    return "text", clean(words), (), None


def _media(kind: MediaKind) -> Callable[[Item], Part]:
    """A file LINE keeps is fetched by the message's id; one kept elsewhere (LIFF) has its own public address."""

    def read(message: Item) -> Part:
        provider = mapping(message, "contentProvider")
        external = provider.get("type") == "external"
        url = text(provider, "originalContentUrl") if external else ""
        if external and not url:
            raise Broken(".message.contentProvider.originalContentUrl", "missing")
        file = Attachment(
            kind=kind,
            filename=text(message, "fileName"),
            size=whole(message, "fileSize"),
            ref="" if external else text(message, "id"),
            url=url,
            duration_ms=whole(message, "duration"),
        )
        return kind, "", (file,), None

    return read


def _location(message: Item) -> Part:
    latitude, longitude = number(message, "latitude"), number(message, "longitude")
    if latitude is None or longitude is None:
        raise Broken(".message", "no coordinates")
    title, address = text(message, "title"), text(message, "address")
    words = ", ".join(filter(None, (title, address))) or f"{latitude}, {longitude}"
    return "location", words, (), Location(latitude, longitude, title, address)


def _sticker(message: Item) -> Part:
    """`text` is what the customer wrote onto a message sticker."""
    keywords = message.get("keywords")
    words = tuple(clean(word) for word in keywords if type(word) is str) if type(keywords) is list else ()
    kind = text(message, "stickerResourceType")
    content = Sticker(
        text(message, "stickerId"), text(message, "packageId"), "ANIMATION" in kind or "POPUP" in kind, words
    )
    return "sticker", text(message, "text"), (), content


_READERS: dict[str, Callable[[Item], Part]] = {
    "text": _text,
    "image": _media("image"),
    "video": _media("video"),
    "audio": _media("audio"),
    "file": _media("file"),
    "location": _location,
    "sticker": _sticker,
}
