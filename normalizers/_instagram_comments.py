"""One change of an Instagram account: comments, comments on live broadcasts, and mentions elsewhere.

Sources: Meta, Graph API, Webhooks reference for Instagram; Instagram Platform, Webhooks and their examples, 2025-11.
No webhook tells of edits and deletions of comments (unverified), nor when a comment was written: the entry's moment
stands in for it.
"""

from __future__ import annotations

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


def change(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """The events of one change. Raises `Broken` when it is not what its kind promises."""
    value, field = item.get("value"), item.get("field")
    if type(value) is not dict:
        raise Broken(".value", "missing")
    path += ".value"
    if field in ("comments", "live_comments"):
        return _comment(value, scope, path, live=field == "live_comments")
    if field == "mentions":
        return _mention(value, scope, path)
    if "sender" in value:  # a direct event as a change: how the test button of the app's dashboard sends it
        return messaging(value, replace(scope, channel=SPACE, standby=field == "standby"), path)
    return ignored(item, scope, path, f"field {text(item, 'field')!r}")


def _comment(value: Item, scope: Scope, path: str, *, live: bool) -> tuple[Event, ...]:
    """A comment below a post, reel, story or ad of ours, or an answer to one.

    One below an ad may come twice, as the ad's and as the post's: its id is the same, and so is the thread. What we
    wrote comes back too: it is no customer's word, and an answer to it would never end.
    """
    ref = text(value, "id") or need(value, "comment_id")
    media, author, words = mapping(value, "media"), mapping(value, "from"), text(value, "text")
    parent = text(value, "parent_id") if "parent_id" in value else ""
    name, handle, place = text(author, "id"), text(author, "username"), text(media, "id")
    post = (text(media, "original_media_id") if "original_media_id" in media else "") or place
    thread = Thread(kind="public", key=post or f"comment:{parent or ref}", parent=parent)
    if parent:  # an answer to an answer names its person
        context = Context(reply_to=parent, metadata={"parent": parent, "username": handle})
    else:
        context = Context(reply_to=place)
    if "ad_id" in media:
        context = replace(context, referral=Referral("ad", text(media, "ad_id"), title=text(media, "ad_title")))
    if name and (name == scope.key or name in scope.own or name == author.get("self_ig_scoped_id")):
        return (
            Echo(
                id=ref, at=scope.at, routing_key=scope.key, channel=scope.channel, path=path, text=words,
                context=context, thread=thread,
            ),
        )  # fmt: skip
    found = InboundMessage(
        id=ref, at=scope.at, routing_key=scope.key, channel=scope.channel, path=path,
        sender=Person((Address(SPACE, "igsid", name),), "", handle) if name else _nobody(ref),
        text=words, context=context, thread=thread, opens_window=False, flags=("live",) if live else (),
    )  # fmt: skip
    if words:
        return (found,)
    unknown = Unsupported("comment", "its content has to be looked up")
    return (replace(found, kind="unsupported", content=unknown, lookup=f"comment:{ref}"),)


def _nobody(ref: str) -> Person:
    """One placeholder for each comment: never merged, never written to."""
    return Person((Address(SPACE, "anonymous", ref, evidence="claimed"),))


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
            sender=_nobody(ref),
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
