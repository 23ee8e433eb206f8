"""Direct messages, what is reported on them, encrypted chats, follows, and the account's own fate."""

from __future__ import annotations

from typing import Any

from normalizers._fields import Broken, digest, mapping, need, plain, text
from normalizers._x_people import (
    DIRECT,
    PUBLIC,
    Item,
    Scope,
    address,
    app_of,
    moment_of,
    person,
    unwrapped,
    user_id,
)
from normalizers._x_text import direct_file, media_links, readable
from normalizers.model import (
    PRIVATE,
    AccountEvent,
    Attachment,
    Content,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    Ignored,
    InboundMessage,
    Interactive,
    Location,
    MessageKind,
    Thread,
    Unsupported,
)

_Part = tuple[MessageKind, tuple[Attachment, ...], Content | None]


def direct(item: Item, scope: Scope, path: str) -> list[Event]:
    """A direct message: of a customer, or our own sent by whatever means."""
    name, given = need(item, "id"), mapping(item, "message_create")
    sender = text(given, "sender_id") or text(item, "sender_id")
    if not sender:
        raise Broken(".message_create.sender_id", "missing")
    target, message = mapping(given, "target"), mapping(given, "message_data")
    at, words = moment_of(item, scope, name), text(message, "text")
    what, files, content = _part(item, message, words, name)
    if "t.co/" in words or "&" in words:
        own = media_links(mapping(message, "attachment").get("media")) if "attachment" in message else ()
        words = readable(words, mapping(message, "entities"), own)
    thread = _thread(item, target)
    if sender not in scope.ours:
        return [
            InboundMessage(
                id=name, at=at, routing_key=scope.own, channel=DIRECT, path=path, sender=person(sender, scope.users),
                kind=what, text=words, attachments=files, content=content,
                context=Context(metadata={"dm_event_id": name}), thread=thread,
            )
        ]  # fmt: skip
    if sender != scope.own:
        return [
            Ignored(id=name, at=at, routing_key=scope.own, channel=DIRECT, path=path,
                    reason="written by another account of ours")
        ]  # fmt: skip
    recipient = need(target, "recipient_id") if thread is PRIVATE else ""
    return [
        Echo(
            id=name, at=at, routing_key=scope.own, channel=DIRECT, path=path,
            recipient=person(recipient, scope.users) if recipient else None, kind=what, text=words, attachments=files,
            content=content, thread=thread, app=app_of(given, scope),
        )
    ]  # fmt: skip


def _thread(item: Item, target: Item) -> Thread:
    """A conversation of two has both ids in its name ("1-2"); a group's has one (unverified)."""
    if "conversation_id" not in target and "dm_conversation_id" not in item:
        return PRIVATE
    conversation = text(target, "conversation_id") or text(item, "dm_conversation_id")
    return Thread(kind="group", key=conversation) if conversation and "-" not in conversation else PRIVATE


def _part(item: Item, message: Item, words: str, name: str) -> _Part:
    """What the message is besides its words."""
    if item.get("type") != "message_create":
        return "unsupported", (), Unsupported(text(item, "type"))
    if "quick_reply_response" in message and (answer := mapping(message, "quick_reply_response")):
        return "interactive", (), Interactive(text(answer, "metadata"), words, type="quick_reply_response")
    if "attachment" not in message and words:
        return "text", (), None
    attachment = mapping(message, "attachment")
    kind = text(attachment, "type")
    if kind == "media":
        file = direct_file(mapping(attachment, "media"), name)
        return file.kind, (file,), None
    if kind == "location":
        return _location(mapping(attachment, "location"))
    if kind:
        return "unsupported", (), Unsupported(kind)
    return ("text", (), None) if words else ("unsupported", (), Unsupported("empty"))


def _location(given: Item) -> _Part:
    """Coordinates stand as longitude, latitude."""
    pair = mapping(mapping(given, "shared_coordinate"), "coordinates").get("coordinates")
    if type(pair) is not list or len(pair) != 2 or not all(type(one) in (int, float) for one in pair):
        return "unsupported", (), Unsupported("location")
    return "location", (), Location(float(pair[1]), float(pair[0]))


def read(item: Item, scope: Scope, path: str) -> list[Event]:
    """Everything up to a message has been read. Its shape in the newer envelope is assumed to be the older one's."""
    reader, last = need(item, "sender_id"), need(item, "last_read_event_id")
    place: dict[str, Any] = {
        "id": f"{last}:read:{reader}", "at": moment_of(item, scope), "routing_key": scope.own, "channel": DIRECT,
        "path": path,
    }  # fmt: skip
    if reader in scope.ours:
        return [Ignored(reason="read by ourselves", **place)]
    return [DeliveryUpdate(status="read", target=last, up_to=True, recipient=address(reader), **place)]


def chat(item: Item, scope: Scope, path: str) -> list[Event]:
    """A message of an encrypted chat: somebody wrote, and only they can read it."""
    name, sender = need(item, "id"), need(item, "sender_id")
    conversation = text(item, "conversation_id")
    group = bool(conversation) and ":" not in conversation
    both = conversation.split(":")
    place: dict[str, Any] = {
        "id": name, "at": moment_of(item, scope), "routing_key": scope.own, "channel": DIRECT, "path": path,
        "kind": "unsupported", "content": Unsupported("xchat", "an encrypted message, to be read in X itself"),
        "thread": Thread(kind="group", key=conversation) if group else PRIVATE,
    }  # fmt: skip
    if sender == scope.own:
        other = next((one for one in both if one and one != sender), "")
        return [Echo(recipient=person(other, scope.users) if other and not group else None, **place)]
    if sender in scope.ours:
        return [Ignored(id=name, at=place["at"], routing_key=scope.own, channel=DIRECT, path=path,
                        reason="written by another account of ours")]  # fmt: skip
    return [InboundMessage(sender=person(sender, scope.users), **place)]


def follow(item: Item, scope: Scope, path: str) -> list[Event]:
    """Somebody follows us, or does no longer."""
    source, target = unwrapped(item.get("source")), unwrapped(item.get("target"))
    who, whom = user_id(source), user_id(target)
    if not who:
        raise Broken(".source", "missing")
    word, at = text(item, "type") or "follow", moment_of(item, scope)
    name = scope.delivery or f"{word}:{who}:{whom}:{text(item, 'created_timestamp')}"
    place: dict[str, Any] = {"id": name, "at": at, "routing_key": scope.own, "channel": PUBLIC, "path": path}
    if who in scope.ours:
        return [Ignored(reason=f"our own {word}", **place)]
    return [Engagement(person=person(who, scope.users, source), kind=word, **place)]


def revoked(item: Item, scope: Scope, path: str) -> list[Event]:
    """The account's user took our app's permission back: nothing works any more."""
    owner = text(item, "user_id") or text(mapping(item, "source"), "user_id")
    if not owner:
        raise Broken(".user_id", "missing")
    at = moment_of(item, scope)
    name = scope.delivery or digest(item)
    if at != scope.received_at:  # told in both envelopes it is one event
        name = f"revoked:{owner}:{at.timestamp():.0f}"
    return [
        AccountEvent(id=name, at=at, routing_key=owner, channel=PUBLIC, path=path, kind="revoked", values=plain(item),
                     alarming=True)
    ]  # fmt: skip
