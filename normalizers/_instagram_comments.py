"""One change of an Instagram account: comments, comments on live broadcasts, and mentions elsewhere.

Sources: Meta, Graph API, Webhooks reference for Instagram; Instagram Platform, Webhooks and their examples, 2025-11.
No webhook tells of edits and deletions of comments (unverified), nor when a comment was written: the entry's moment
stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.structs import replace

from normalizers._fields import Broken, mapping, need, text
from normalizers._meta_attachments import Item
from normalizers._meta_envelope import Scope, ignored
from normalizers._meta_messaging import messaging
from normalizers.model import Address, Context, Echo, Event, InboundMessage, Person, Referral, Thread, Unsupported

SPACE: Final = "instagram"
"""The space of people's ids: the same person has the same id in a direct message."""

_COMMENTS: Final = frozenset({"comments", "live_comments"})


def change(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """The events of one change. Raises `Broken` when it is not what its kind promises."""
    value, field = item.get("value"), text(item, "field")
    if type(value) is not dict:
        raise Broken(".value", "missing")
    path += ".value"
    if field in _COMMENTS:
        return _comment(value, scope, path, live=field == "live_comments")
    if field == "mentions":
        return _mention(value, scope, path)
    if "sender" in value:  # a direct event as a change: how the test button of the app's dashboard sends it
        return messaging(value, scope._replace(channel=SPACE, standby=field == "standby"), path)
    return ignored(item, scope, path, f"field {field!r}")


def _comment(value: Item, scope: Scope, path: str, *, live: bool) -> tuple[Event, ...]:
    """A comment below a post, reel, story or ad of ours, or an answer to one.

    One below an ad may come twice, as the ad's and as the post's: its id is the same, and so is the thread.
    """
    ref = text(value, "id") or need(value, "comment_id")
    media, words, parent = mapping(value, "media"), text(value, "text"), text(value, "parent_id")
    author = _author(value)
    post = text(media, "original_media_id") or text(media, "id") or f"comment:{parent or ref}"
    thread = Thread(kind="public", key=post, parent=parent)
    context = Context(reply_to=parent or text(media, "id"), referral=_ad(media), metadata=_told(value, media, parent))
    if author is not None and _ourselves(value, author, scope):
        return (
            Echo(
                id=ref, at=scope.at, routing_key=scope.key, channel=scope.channel, path=path, text=words,
                context=context, thread=thread,
            ),
        )  # fmt: skip
    return (
        InboundMessage(
            id=ref,
            at=scope.at,
            routing_key=scope.key,
            channel=scope.channel,
            path=path,
            sender=author or _nobody(scope, ref),
            kind="text" if words else "unsupported",
            text=words,
            content=None if words else Unsupported("comment", "its content has to be looked up"),
            context=context,
            thread=thread,
            opens_window=False,
            lookup="" if words else f"comment:{ref}",
            flags=("live",) if live else (),
        ),
    )


def _author(value: Item) -> Person | None:
    given = mapping(value, "from")
    name = text(given, "id")
    return Person((Address(SPACE, "igsid", name),), handle=text(given, "username")) if name else None


def _ourselves(value: Item, author: Person, scope: Scope) -> bool:
    """What we wrote comes back: it is no customer's word, and an answer to it would never end."""
    name = author.addresses[0].value
    return name == scope.key or name in scope.own or name == text(mapping(value, "from"), "self_ig_scoped_id")


def _nobody(scope: Scope, ref: str) -> Person:
    """One placeholder for each comment: never merged, never written to."""
    return Person((Address(SPACE, "anonymous", ref, evidence="claimed"),))


def _ad(media: Item) -> Referral | None:
    name = text(media, "ad_id")
    return Referral("ad", name, title=text(media, "ad_title")) if name else None


def _told(value: Item, media: Item, parent: str) -> Mapping[str, Any]:
    """What the answer must know: an answer to an answer is addressed by name."""
    told = {"product": text(media, "media_product_type"), "parent": parent}
    if parent:
        told["username"] = text(mapping(value, "from"), "username")
    return {key: given for key, given in told.items() if given}


def _mention(value: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """We are mentioned in a comment or caption elsewhere. Neither text nor author is told, only where it stands."""
    media, comment = need(value, "media_id"), text(value, "comment_id")
    ref = comment or media
    return (
        InboundMessage(
            id=ref,
            at=scope.at,
            routing_key=scope.key,
            channel=scope.channel,
            path=path,
            sender=_nobody(scope, ref),
            kind="unsupported",
            content=Unsupported("mention", "its words have to be looked up"),
            context=Context(metadata={"mention": media}),
            thread=Thread(kind="public", key=media),
            opens_window=False,
            lookup=f"{'mentioned_comment' if comment else 'mentioned_media'}:{ref}",
            flags=("mention",),
        ),
    )


# --- what a look-up tells ---------------------------------------------------------------------------------------------


def completed(message: InboundMessage, node: Item) -> InboundMessage:
    """The message with what the platform tells of its comment, or of the media whose caption mentions us."""
    words = text(node, "text") or text(node, "caption")
    sender, handle = message.sender, text(node, "username") or text(mapping(node, "from"), "username")
    if name := text(mapping(node, "from"), "id"):
        sender = Person((Address(SPACE, "igsid", name),), handle=handle)
    elif handle:
        sender = replace(sender, handle=handle)
    found: dict[str, Any] = {"lookup": "", "sender": sender, "at": _written(node, message.at)}
    if words:
        found |= {"kind": "text", "text": words, "content": None}
    return replace(message, **found)


def _written(node: Item, default: datetime) -> datetime:
    try:
        return datetime.strptime(text(node, "timestamp"), "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC)
    except ValueError:
        return default
