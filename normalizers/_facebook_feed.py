"""One change of a Page's feed: comments, visitors' posts, reactions, and what the Page itself wrote.

Source: Meta, Pages API, Webhooks for Pages; Comments and @mentions, 2026-04. Moments are in seconds here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from normalizers._fields import Broken, digest, mapping, need, text
from normalizers._meta_attachments import Item, address
from normalizers._meta_envelope import Scope, ignored, moment_at
from normalizers._meta_messaging import EMOJI
from normalizers.model import (
    Address,
    Attachment,
    Content,
    Context,
    Echo,
    Engagement,
    Event,
    InboundMessage,
    Link,
    MediaKind,
    MessageDeleted,
    MessageEdited,
    MessageKind,
    Person,
    Reaction,
    Sticker,
    Thread,
    Unsupported,
)

_FILES: Final = frozenset({"photo", "video", "photos"})
_ITEMS: Final = frozenset({"comment", "post", "status", "photo", "video", "share", "link", "reaction"})
_REACTIONS: Final[Mapping[str, str]] = {**EMOJI, "haha": "😆", "care": "🤗", "sorry": "😢", "anger": "😠"}


class _Entry(msgspec.Struct, frozen=True):
    """A comment or post as its change names it."""

    value: Item
    item: str
    ref: str  # the comment's id, or the post's
    thread: Thread
    author: Person | None  # None where the platform does not tell
    own: bool
    verb: str
    at: datetime
    scope: Scope
    path: str
    mention: bool

    @property
    def place(self) -> dict[str, Any]:
        """What every event of it shares, but its id."""
        return {"at": self.at, "routing_key": self.scope.key, "channel": self.scope.channel, "path": self.path}

    @property
    def change_id(self) -> str:
        """The dedupe key of anything but the first writing."""
        parts = (self.ref, self.verb, text(self.value, "created_time"), digest(text(self.value, "message"))[:8])
        return ":".join(parts)


def change(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """The events of one change. Raises `Broken` when it is not what its kind promises."""
    value, field = item.get("value"), text(item, "field")
    if type(value) is not dict:
        raise Broken(".value", "missing")
    path += ".value"
    if field == "mention":
        entry = _entry(value, "comment" if text(value, "comment_id") else "post", scope, path, mention=True)
        return _VERBS.get(entry.verb, _useless)(entry)
    kind = text(value, "item")
    if field != "feed" or kind not in _ITEMS:
        return ignored(item, scope, path, f"field {field!r} {kind!r}")
    if kind == "reaction":
        return _reaction(value, scope, path)
    entry = _entry(value, kind, scope, path)
    return _VERBS.get(entry.verb, _useless)(entry)


def _entry(value: Item, item: str, scope: Scope, path: str, *, mention: bool = False) -> _Entry:
    post = need(value, "post_id")
    ref, parent = post, ""
    if item == "comment":
        ref, parent = need(value, "comment_id"), text(value, "parent_id")
    author = _author(value, scope)
    name = author.addresses[0].value if author is not None else ""
    own = bool(name) and (name == scope.key or name in scope.own)
    thread = Thread(kind="public", key=post, parent="" if parent == post else parent)
    return _Entry(
        value, item, ref, thread, author, own, text(value, "verb") or "add", moment_at(value, "created_time", scope),
        scope, path, mention,
    )  # fmt: skip


def _author(value: Item, scope: Scope) -> Person | None:
    """Who wrote. The id is the Page's own for this person, yet not known to be one that Messenger takes."""
    author = value.get("from")
    if type(author) is dict and (name := text(author, "id")):
        return Person((Address(scope.channel, "commenter", name),), text(author, "name"))
    if name := text(value, "sender_id"):
        return Person((Address(scope.channel, "commenter", name),), text(value, "sender_name"))
    return None


# --- what happened to a comment or post -------------------------------------------------------------------------------


def _added(entry: _Entry) -> tuple[Event, ...]:
    value, words = entry.value, text(entry.value, "message")
    files, content = _files(entry), _shared(entry) if "link" in value else None
    kind: MessageKind = files[0].kind if files else "link" if content is not None and not words else "text"
    post = mapping(value, "post")
    context = Context(
        reply_to=entry.thread.parent or ("" if entry.ref == entry.thread.key else entry.thread.key),
        post_text=text(post, "message") if post else "",
        permalink=address(value.get("permalink_url") or post.get("permalink_url")),
    )
    if entry.own:
        return (
            Echo(
                id=entry.ref, **entry.place, kind=kind, text=words, attachments=files, content=content,
                context=context, thread=entry.thread,
            ),
        )  # fmt: skip
    empty = not words and not files and content is None
    if empty:  # a sticker, a GIF, or a file the change does not tell of
        kind, content = "unsupported", Unsupported(entry.item, "a sticker or a file that has to be looked up")
    return (
        InboundMessage(
            id=entry.ref,
            at=entry.at,
            routing_key=entry.scope.key,
            channel=entry.scope.channel,
            path=entry.path,
            sender=entry.author or _nobody(entry),
            kind=kind,
            text=words,
            attachments=files,
            content=content,
            context=context,
            thread=entry.thread,
            opens_window=False,
            lookup=entry.ref if empty else "",
            flags=("mention",) if entry.mention else (),
        ),
    )


def _nobody(entry: _Entry) -> Person:
    """One placeholder for each comment: never merged, never written to."""
    return Person((Address(entry.scope.channel, "anonymous", entry.ref, evidence="claimed"),))


def _files(entry: _Entry) -> tuple[Attachment, ...]:
    value = entry.value
    if entry.item not in ("photo", "video") and _FILES.isdisjoint(value):
        return ()
    ref = f"{'comment' if entry.item == 'comment' else 'post'}:{entry.ref}"
    found: list[tuple[MediaKind, str]] = [
        ("image", address(value.get("photo"))),
        ("video", address(value.get("video"))),
    ]
    if entry.item in ("photo", "video"):  # the address of the file itself
        found.append(("image" if entry.item == "photo" else "video", address(value.get("link"))))
    photos = value.get("photos")
    if type(photos) is list:
        found += [("image", address(photo)) for photo in photos]
    return tuple(Attachment(kind=kind, url=url, ref=ref) for kind, url in dict.fromkeys(found) if url)


def _shared(entry: _Entry) -> Content | None:
    url = address(entry.value.get("link")) if entry.item not in ("photo", "video", "comment") else ""
    return Link(url) if url else None


def _edited(entry: _Entry) -> tuple[Event, ...]:
    words = text(entry.value, "message")
    if entry.own:
        return (
            Echo(
                id=entry.change_id, **entry.place, text=words, thread=entry.thread, action="edited", target=entry.ref
            ),
        )  # fmt: skip
    return (
        MessageEdited(
            id=entry.change_id, **entry.place, target=entry.ref, text=words, attachments=_files(entry),
            sender=entry.author, thread=entry.thread,
        ),
    )  # fmt: skip


def _removed(entry: _Entry) -> tuple[Event, ...]:
    if entry.own:
        return (
            Echo(id=entry.change_id, **entry.place, thread=entry.thread, action="deleted", target=entry.ref),
        )  # fmt: skip
    return (
        MessageDeleted(
            id=entry.change_id, **entry.place, target=entry.ref, sender=entry.author, thread=entry.thread
        ),
    )  # fmt: skip


def _hidden(entry: _Entry) -> tuple[Event, ...]:
    """Hidden from all but its author, or shown again. Nothing public can be said under what is hidden."""
    kind = "hidden" if entry.verb == "hide" else "unhidden"
    return (
        Engagement(
            id=entry.change_id, **entry.place, person=None if entry.own else entry.author, kind=kind,
            values={"message": entry.ref}, thread=entry.thread,
        ),
    )  # fmt: skip


def _useless(entry: _Entry) -> tuple[Event, ...]:
    return ignored(entry.value, entry.scope, entry.path, f"{entry.item} {entry.verb!r}")


_VERBS: Final[Mapping[str, Callable[[_Entry], tuple[Event, ...]]]] = {
    "add": _added,
    "edit": _edited,
    "edited": _edited,
    "remove": _removed,
    "hide": _hidden,  # this and its opposite: verbs unverified
    "unhide": _hidden,
}


def _reaction(value: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """On a comment, or on a visitor's post. Those on the Page's own posts are only counted."""
    target, post, author = text(value, "comment_id"), text(value, "post_id"), _author(value, scope)
    if author is None or author.addresses[0].value in (scope.key, *scope.own):
        return ignored(value, scope, path, "a reaction of nobody, or our own")
    if not target:
        return ignored(value, scope, path, "a reaction to a post")
    word, verb = text(value, "reaction_type"), text(value, "verb")
    person = author.addresses[0].value
    return (
        Reaction(
            id=f"{target}:{person}:{verb}:{word}:{text(value, 'created_time')}",
            at=moment_at(value, "created_time", scope), routing_key=scope.key, channel=scope.channel, path=path,
            target=target, emoji="" if verb == "remove" else _REACTIONS.get(word.lower(), word), sender=author,
            thread=Thread(kind="public", key=post),
        ),
    )  # fmt: skip


# --- what a look-up tells ---------------------------------------------------------------------------------------------

LOOKUP_FIELDS: Final = "message,attachment,from,permalink_url,created_time"

_STICKERS: Final = frozenset({"sticker", "avatar_sticker"})  # spelling of the second unverified


def completed(message: InboundMessage, node: Item) -> InboundMessage:
    """The message with what the platform tells of its comment when asked: text, file, author, where it stands."""
    words, given = text(node, "message"), mapping(node, "attachment")
    author = mapping(node, "from")
    sender = message.sender
    if text(author, "id"):
        sender = Person((Address(message.channel, "commenter", text(author, "id")),), text(author, "name"))
    found: dict[str, Any] = {"lookup": "", "sender": sender, "text": words}
    if link := address(node.get("permalink_url")):
        found["context"] = replace(message.context or Context(), permalink=link)
    kind, media = text(given, "type"), mapping(given, "media")
    url = address(media.get("source")) or address(mapping(media, "image").get("src"))
    if url:
        what: MediaKind = "sticker" if kind in _STICKERS else "video" if address(media.get("source")) else "image"
        found |= {
            "kind": what,
            "attachments": (Attachment(kind=what, url=url, ref=f"comment:{message.id}"),),
            "content": Sticker() if what == "sticker" else None,
        }
    elif link := address(given.get("url")):
        found |= {"kind": "text" if words else "link", "content": Link(link, text(given, "title"))}
    elif words:
        found |= {"kind": "text", "content": None}
    return replace(message, **found)
