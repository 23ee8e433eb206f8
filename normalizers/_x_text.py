"""Text and files of X: shortened links written out, escapes undone, media of both generations as attachments."""

from __future__ import annotations

from typing import Any

from normalizers._fields import mapping, objects, text, whole
from normalizers._x_people import Item
from normalizers.model import Attachment, MediaKind

_KINDS: dict[str, MediaKind] = {"photo": "image", "image": "image", "video": "video", "animated_gif": "video"}
_KEY_KINDS: dict[str, MediaKind] = {"3": "image", "7": "video", "13": "video", "16": "video"}  # of media keys: "3_1"


def readable(words: str, entities: Item, drop: tuple[str, ...] = ()) -> str:
    """The text as its author saw it: t.co links written out, links that only stand for a file (`drop`) cut."""
    if "&" in words:
        words = unescaped(words)
    if "t.co/" not in words:
        return words
    for link in drop:
        words = words.replace(link, "")
    for url in objects(entities, "urls"):
        if link := text(url, "url"):
            words = words.replace(link, "" if "media_key" in url else text(url, "expanded_url") or link)
    return words.strip()


def unescaped(words: str) -> str:
    """X escapes &, < and > in legacy texts, and nothing else; assumed for all of them."""
    return words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def media_links(media: Any) -> tuple[str, ...]:
    """The t.co links by which a text names its own files."""
    if not media:
        return ()
    given = media if type(media) is list else [media]
    return tuple(link for one in given if type(one) is dict and (link := text(one, "url")).startswith("https://t.co/"))


def best_url(media: Item) -> str:
    """Where the file itself lies: a picture's address, or the video variant with the highest bit rate."""
    variants = mapping(media, "video_info").get("variants") or media.get("variants")
    if type(variants) is list:
        videos = [one for one in variants if type(one) is dict and text(one, "content_type") == "video/mp4"]
        if videos:
            rated = max(videos, key=lambda one: whole(one, "bitrate") or whole(one, "bit_rate") or 0)
            return text(rated, "url")
    link = text(media, "media_url_https")
    return link or ("" if (url := text(media, "url")).startswith("https://t.co/") else url)


def public_file(media: Item, post: str, key: str = "") -> Attachment:
    """A file of a post: its address where it came along, else what finds it (`ref`)."""
    if not media:
        return Attachment(kind=_KEY_KINDS.get(key.partition("_")[0], "file"), ref=f"post:{post}:{key}")
    kind = _KINDS.get(text(media, "type")) or _KEY_KINDS.get(key.partition("_")[0]) or "file"
    duration = whole(mapping(media, "video_info"), "duration_millis") or whole(media, "duration_ms")
    url = best_url(media)
    return Attachment(kind=kind, url=url, ref="" if url else f"post:{post}:{key}", duration_ms=duration)


def direct_file(media: Item, event: str) -> Attachment:
    """A file of a direct message: its address tells by which ids the API hands it out.

    Of ".../dm/<message>/<media>/<resource>" the last three parts are taken; of any other address the last one, with
    the message's and the file's own id (assumed).
    """
    address = best_url(media)
    parts = address.partition("?")[0].split("/")
    number = text(media, "id_str") or text(media, "id")
    ids = parts[-3:] if len(parts) > 3 and parts[-4] == "dm" else [event, number, parts[-1]]
    duration = whole(mapping(media, "video_info"), "duration_millis")
    return Attachment(
        kind=_KINDS.get(text(media, "type"), "file"), ref=f"dm:{'/'.join(ids)}", url=address, duration_ms=duration
    )  # fmt: skip
