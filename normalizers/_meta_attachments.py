"""What stands in a message of Messenger or Instagram Direct, by the types of its attachments.

Sources: Meta, Messenger Platform, messages webhook reference; Changelog, 2026-06; Instagram Messaging, Webhooks,
2026-07.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from normalizers._fields import clean, items, mapping, number, plain, text
from normalizers.model import (
    Attachment,
    Content,
    Interactive,
    Link,
    Location,
    MediaKind,
    MessageKind,
    Sticker,
    Story,
    Template,
    Unsupported,
)

Item: TypeAlias = Mapping[str, Any]

_THUMBS = frozenset({"369239263222822", "369239343222814", "369239383222810"})


class Part(msgspec.Struct, frozen=True, gc=False):
    """What a message says: kind, what an agent reads, files, structured content, the story it is about."""

    kind: MessageKind
    words: str = ""
    files: tuple[Attachment, ...] = ()
    content: Content | None = None
    story: Story | None = None


def part_of(message: Item, mid: str) -> Part:
    """The content of one message. A type nobody knows is of kind "unsupported"; so is a message without any content.

    `Attachment.ref` is "<place>:<mid>", by which a fresh address can be asked for when the given one has expired.
    """
    words = text(message, "text")
    listed = message.get("attachments")
    if type(listed) is list and listed:
        return _joined(words, [_read(entry, f"{place}:{mid}") for place, entry in enumerate(listed)])
    choice = message.get("quick_reply")
    if type(choice) is dict:
        return Part("interactive", words, (), Interactive(text(choice, "payload"), words, type="quick_reply"))
    if words:
        return Part("text", words)
    if message.get("is_unsupported") is True:
        return Part("unsupported", content=Unsupported("unsupported", "to be seen in the app only"))
    return Part("unsupported", content=Unsupported("empty", "neither text nor a file"))


def address(url: object) -> str:
    """The text when it is a web address; "" otherwise (shared reels come with relative paths)."""
    return clean(url) if type(url) is str and url.startswith(("https://", "http://")) else ""


def _read(entry: Any, ref: str) -> Part:
    if type(entry) is not dict:
        return _unknown("unknown")
    kind = text(entry, "type")
    reader = _READERS.get(kind)
    found = reader(mapping(entry, "payload"), entry, ref) if reader is not None else None
    return found or _unknown(kind or "unknown", text(entry, "title"))


def _joined(words: str, parts: list[Part]) -> Part:
    """One message of several attachments: the first known kind is its kind, all files go with it.

    A link beside a text is the text's own preview. While `share` gives way to `ig_post` both come for one post; as a
    message has one content, the post is shown once.
    """
    first = next((part for part in parts if part.kind != "unsupported"), parts[0])
    files = tuple(file for part in parts for file in part.files)
    story = next((part.story for part in parts if part.story is not None), None)
    content = first.content or next((part.content for part in parts if part.content is not None), None)
    kind = "text" if words and first.kind in ("link", "unsupported") else first.kind
    return Part(kind, words or first.words, files, content, story)


def _unknown(kind: str, detail: str = "") -> Part:
    return Part("unsupported", content=Unsupported(kind, detail))


_Reader: TypeAlias = Callable[[Item, Item, str], Part | None]
"""(payload, the attachment, its ref) to a part; None when the payload is not what its type promises."""


def _media(kind: MediaKind) -> _Reader:
    def read(payload: Item, entry: Item, ref: str) -> Part | None:
        if "sticker_id" in payload:  # how stickers came until August 2026
            return _sticker(payload, entry, ref)
        url = address(payload.get("url"))
        if not url:
            return None
        name = url.partition("?")[0].rpartition("/")[2] if kind == "file" else ""
        return Part(kind, files=(Attachment(kind=kind, filename=name, url=url, ref=ref),))

    return read


def _sticker(payload: Item, entry: Item, ref: str) -> Part:
    name, url = text(payload, "sticker_id"), address(payload.get("url"))
    files = (Attachment(kind="sticker", url=url, ref=ref),) if url else ()
    return Part("sticker", "👍" if name in _THUMBS else "", files, Sticker(name))


def _location(payload: Item, entry: Item, ref: str) -> Part | None:
    place = mapping(payload, "coordinates")
    latitude, longitude = number(place, "lat"), number(place, "long")
    if latitude is None or longitude is None:
        return None
    title = text(entry, "title")
    return Part(
        "location", title or f"{latitude}, {longitude}",
        content=Location(latitude, longitude, title, url=address(entry.get("url"))),
    )  # fmt: skip


def _link(payload: Item, entry: Item, ref: str) -> Part | None:
    """A shared page, post or reel; its address may be missing, relative, or stand beside the payload."""
    url = address(payload.get("url")) or address(entry.get("url"))
    title = text(payload, "title") or text(entry, "title")
    if not url and not title:
        return None
    return Part(
        "link", title or url, content=Link(url, title, text(payload, "description") or text(payload, "subtitle"))
    )


def _template(payload: Item, entry: Item, ref: str) -> Part:
    """A card or buttons: of a shop, or what the business itself sent."""
    titles = [text(card, "title") for _, card in items(payload, "elements")]
    words = text(payload, "text") or ", ".join(filter(None, titles)) or text(entry, "title")
    rest = {key: plain(value) for key, value in payload.items() if key != "template_type"}
    return Part("template", words, content=Template(text(payload, "template_type"), parameters=plain(rest)))


def _appointment(payload: Item, entry: Item, ref: str) -> Part:
    values = plain(payload) or plain({key: value for key, value in entry.items() if key != "type"})
    return Part(
        "interactive", text(entry, "title") or text(payload, "status"),
        content=Interactive(type="appointment_booking", values=values),
    )  # fmt: skip


def _story_mention(payload: Item, entry: Item, ref: str) -> Part:
    """The person mentions us in a story: it may be shown while it lives, and must not be stored."""
    url = address(payload.get("url"))
    files = (Attachment(kind="image", url=url, no_store=True),) if url else ()
    return Part("story", files=files, story=Story(text(payload, "id"), url, mention=True))


def _heart(payload: Item, entry: Item, ref: str) -> Part:
    return Part("text", "❤️")


_READERS: Mapping[str, _Reader] = {
    "image": _media("image"),
    "video": _media("video"),
    "audio": _media("audio"),
    "file": _media("file"),
    "sticker": _sticker,
    "location": _location,
    "fallback": _link,
    "share": _link,
    "post": _link,
    "ig_post": _link,
    "reel": _link,
    "ig_reel": _link,
    "product": _template,
    "template": _template,
    "appointment_booking": _appointment,
    "story_mention": _story_mention,
    "like_heart": _heart,
}
