"""One item of a `messaging` or `standby` list: messages, echoes, receipts, reactions and who holds the conversation.

Sources: Meta, Messenger Platform, Webhook events reference; message_echoes; Conversation Routing, 2026-05; Instagram
Messaging, Webhooks, 2026-07.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

from normalizers._fields import Broken, digest, mapping, need, plain, text
from normalizers._meta_attachments import Item, Part, address, part_of
from normalizers._meta_envelope import Scope, ignored, moment_at
from normalizers.model import (
    AccountEvent,
    Address,
    ConsentChange,
    Context,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    InboundMessage,
    Interactive,
    MessageDeleted,
    MessageEdited,
    Person,
    Reaction,
    Referral,
    Story,
    ThreadControl,
)

ADDRESS_KINDS: Final[Mapping[str, str]] = {"messenger": "psid", "instagram": "igsid"}
"""What a person's id is called on each surface. It holds for one account only."""

EMOJI: Final[Mapping[str, str]] = {
    "love": "❤", "smile": "😆", "wow": "😮", "sad": "😢", "angry": "😠", "like": "👍", "dislike": "👎",
}  # fmt: skip
"""The platform's words for reactions."""

_APPS: Final[Mapping[str, str]] = {"263902037430900": "Page inbox", "1217981644879628": "Instagram inbox"}

_Reader: TypeAlias = Callable[[Item, Item, Scope, str], tuple[Event, ...]]
"""(what stands under the event's key, the item, scope, path) to events. Raises `Broken`."""


def messaging(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """The events of one item. Raises `Broken` when it is not what its kind promises."""
    message = item.get("message")
    if type(message) is dict:  # as nearly always
        return _message(message, item, scope, path)
    for key in item:
        reader = _READERS.get(key)
        if reader is not None:
            inner = item[key]
            if type(inner) is not dict:
                raise Broken(f".{key}", "not an object")
            return reader(inner, item, scope, path)
    known = ("sender", "recipient", "timestamp")
    return ignored(item, scope, path, f"event {', '.join(sorted(key for key in item if key not in known))[:80]!r}")


def _person(item: Item, role: str, scope: Scope) -> Person:
    """Who stands in `sender` or `recipient`: by `user_ref` until a visitor of a plugin has written."""
    who = item.get(role)
    if type(who) is not dict:
        raise Broken(f".{role}.id", "missing")
    if name := text(who, "id"):
        return Person((Address(scope.channel, ADDRESS_KINDS[scope.channel], name),))
    if name := text(who, "user_ref"):
        return Person((Address(scope.channel, "user_ref", name),))
    raise Broken(f".{role}.id", "missing")


def _ourselves(person: Person, scope: Scope) -> bool:
    """An entry may be named by the Page, and its sender by the Page's Instagram account."""
    name = person.addresses[0].value
    return name == scope.key or name in scope.own


def referral_of(item: Item) -> Referral | None:
    """The ad, link or product that brought the person."""
    given = mapping(item, "referral")
    if not given:
        return None
    about = mapping(given, "ads_context_data")
    return Referral(
        type=text(given, "source") or text(given, "type") or ("product" if "product" in given else ""),
        source_id=text(given, "ad_id") or text(mapping(given, "product"), "id"),
        url=address(given.get("referer_uri")),
        title=text(about, "ad_title"),
        text=text(given, "ref"),
    )


def _context(message: Item) -> tuple[Context | None, Story | None]:
    answered = message.get("reply_to")
    if answered is None and "referral" not in message:
        return None, None
    answered = mapping(message, "reply_to")
    told = mapping(answered, "story")
    story = Story(text(told, "id"), address(told.get("url"))) if told else None
    return Context(reply_to=text(answered, "mid"), referral=referral_of(message), story=story), story


# --- messages ---------------------------------------------------------------------------------------------------------


def _message(message: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    mid = need(message, "mid")
    if message.get("is_echo") is True:
        if message.get("is_self") is True:
            return ignored(item, scope, path, "written to ourselves")
        return _echo(message, mid, item, scope, path)
    at, sender = moment_at(item, "timestamp", scope), _person(item, "sender", scope)
    if _ourselves(sender, scope):
        return ignored(item, scope, path, "sent by ourselves")
    if message.get("is_deleted") is True:
        return (
            MessageDeleted(
                id=f"{mid}:deleted", at=at, routing_key=scope.key, channel=scope.channel, path=path, target=mid,
                sender=sender,
            ),
        )  # fmt: skip
    part = part_of(message, mid)
    context, story = _context(message)
    if part.story is not None:
        context = Context(story=part.story)
    found = InboundMessage(
        id=mid,
        at=at,
        routing_key=scope.key,
        channel=scope.channel,
        path=path,
        sender=sender,
        kind="story" if story is not None and part.kind in ("text", "unsupported") else part.kind,
        text=part.words,
        attachments=part.files,
        content=part.content,
        context=context,
        flags=_flags(part, scope) if scope.standby or part.story is not None else (),
    )
    return (found, _held_elsewhere(found)) if scope.standby else (found,)


def _flags(part: Part, scope: Scope) -> tuple[str, ...]:
    """A mention in a story asks for no answer by itself; what another application holds is not ours to answer."""
    return ("mention",) * (part.story is not None) + ("standby",) * scope.standby


def _held_elsewhere(message: InboundMessage) -> ThreadControl:
    """Another application holds the conversation: we only watch."""
    return ThreadControl(
        id=f"{message.id}:standby", at=message.at, routing_key=message.routing_key, channel=message.channel,
        path=message.path, person=message.sender, action="standby",
    )  # fmt: skip


def _echo(message: Item, mid: str, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """What the account sent, by whatever application. Our own message comes back with its id in `metadata`.

    An echo may be faster than the answer to its send, and is the proof of it when that answer was lost: so the second
    event. With our app's id configured, only what that app sent is taken for ours.
    """
    recipient, at = _person(item, "recipient", scope), moment_at(item, "timestamp", scope)
    app = text(message, "app_id")
    mine = app == scope.app if scope.app else app not in _APPS
    ours = text(message, "metadata") if mine else ""
    deleted = message.get("is_deleted") is True
    part = Part("text") if deleted else part_of(message, mid)
    context, _ = _context(message)
    echo = Echo(
        id=f"{mid}:deleted" if deleted else mid,
        at=at,
        routing_key=scope.key,
        channel=scope.channel,
        path=path,
        recipient=recipient,
        kind=part.kind,
        text=part.words,
        attachments=part.files,
        content=part.content,
        context=context,
        app=_APPS.get(app, app),
        own_app=bool(scope.app) and app == scope.app,
        ours="" if deleted else ours,
        action="deleted" if deleted else "sent",
        target=mid if deleted else "",
    )
    if not ours or deleted:
        return (echo,)
    update = DeliveryUpdate(
        id=f"{mid}:sent", at=at, routing_key=scope.key, channel=scope.channel, path=path, status="sent", target=mid,
        ours=ours, recipient=recipient.addresses[0],
    )  # fmt: skip
    return echo, update


def _edit(edit: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    mid = need(edit, "mid")
    name, at, words = f"{mid}:{text(edit, 'num_edit')}", moment_at(item, "timestamp", scope), text(edit, "text")
    sender = _person(item, "sender", scope)
    if _ourselves(sender, scope):
        recipient = _person(item, "recipient", scope)
        return (
            Echo(
                id=name, at=at, routing_key=scope.key, channel=scope.channel, path=path, recipient=recipient,
                text=words, action="edited", target=mid,
            ),
        )  # fmt: skip
    return (
        MessageEdited(
            id=name, at=at, routing_key=scope.key, channel=scope.channel, path=path, target=mid, text=words,
            sender=sender,
        ),
    )  # fmt: skip


def _postback(postback: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """A button, a menu row or an ice breaker. Without payload where another application holds the conversation."""
    sender, title = _person(item, "sender", scope), text(postback, "title")
    referral = referral_of(postback)
    found = InboundMessage(
        id=text(postback, "mid") or digest([mapping(item, "sender"), item.get("timestamp"), postback]),
        at=moment_at(item, "timestamp", scope),
        routing_key=scope.key,
        channel=scope.channel,
        path=path,
        sender=sender,
        kind="interactive",
        text=title,
        content=Interactive(text(postback, "payload"), title, type="postback"),
        context=Context(referral=referral) if referral is not None else None,
        flags=("standby",) if scope.standby else (),
    )
    return (found, _held_elsewhere(found)) if scope.standby else (found,)


def _reaction(reaction: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    mid, sender = need(reaction, "mid"), _person(item, "sender", scope)
    if _ourselves(sender, scope):
        return ignored(item, scope, path, "our own reaction")
    word, action = text(reaction, "reaction"), text(reaction, "action")
    emoji = "" if action == "unreact" else text(reaction, "emoji") or EMOJI.get(word, word)
    at = moment_at(item, "timestamp", scope)
    return (
        Reaction(
            id=f"{mid}:{sender.addresses[0].value}:{action}:{text(item, 'timestamp')}", at=at, routing_key=scope.key,
            channel=scope.channel, path=path, target=mid, emoji=emoji, sender=sender,
        ),
    )  # fmt: skip


# --- receipts ---------------------------------------------------------------------------------------------------------


def _receipt(status: Literal["delivered", "read"]) -> _Reader:
    def read(receipt: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
        """All of ours up to the watermark; beside it messages by id (delivery), or one and all before it (read)."""
        person, at = _person(item, "sender", scope).addresses[0], moment_at(item, "timestamp", scope)
        listed = receipt.get("mids")
        mids = [mid for mid in listed if type(mid) is str and mid] if type(listed) is list else []
        up_to = text(receipt, "mid")
        found = [
            DeliveryUpdate(
                id=f"{mid}:{status}:{person.value}", at=at, routing_key=scope.key, channel=scope.channel, path=path,
                status=status, target=mid, up_to=mid == up_to, recipient=person,
            )
            for mid in (*mids, *filter(None, (up_to,)))
        ]  # fmt: skip
        if text(receipt, "watermark"):
            watermark = moment_at(receipt, "watermark", scope)
            found.append(
                DeliveryUpdate(
                    id=f"{person.value}:{status}:{text(receipt, 'watermark')}", at=at, routing_key=scope.key,
                    channel=scope.channel, path=path, status=status, watermark=watermark, recipient=person,
                )
            )  # fmt: skip
        if not found:
            raise Broken(".watermark", "missing")
        return tuple(found)

    return read


# --- what is no message -----------------------------------------------------------------------------------------------


def _engagement(kind: str, inner: Item, item: Item, scope: Scope, path: str) -> Engagement:
    referral = referral_of(item)
    return Engagement(
        id=digest([kind, mapping(item, "sender"), item.get("timestamp"), inner]),
        at=moment_at(item, "timestamp", scope),
        routing_key=scope.key,
        channel=scope.channel,
        path=path,
        person=_person(item, "sender", scope),
        kind=kind,
        values=plain(inner),
        context=Context(referral=referral) if referral is not None else None,
    )


def _referral(referral: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """A link into the existing conversation opens the window; an ad only together with a message."""
    kind = "ad" if text(referral, "source") == "ADS" else "referral"
    return (_engagement(kind, referral, item, scope, path),)


def _optin(optin: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """A plugin, a one-time request, or the choice to get marketing messages of one topic."""
    found = _engagement("optin", optin, item, scope, path)
    if text(optin, "type") != "notification_messages":
        return (found,)
    stopped = text(optin, "notification_messages_status") == "STOP_NOTIFICATIONS"
    change = ConsentChange(
        id=found.id, at=found.at, routing_key=scope.key, channel=scope.channel, path=path, person=found.person,
        state="opted_out" if stopped else "opted_in", scope="marketing", source="notification_messages",
        topic=text(optin, "topic") or text(optin, "title"),
    )  # fmt: skip
    return change, found


def _control(action: Literal["pass", "take", "request"]) -> _Reader:
    def read(control: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
        app = text(control, "new_owner_app_id") or text(control, "requested_owner_app_id")
        return (
            ThreadControl(
                id=digest([action, mapping(item, "sender"), item.get("timestamp"), control]),
                at=moment_at(item, "timestamp", scope), routing_key=scope.key, channel=scope.channel, path=path,
                person=_person(item, "sender", scope), action=action, app=_APPS.get(app, app),
            ),
        )  # fmt: skip

    return read


def _account(kind: str) -> _Reader:
    def read(told: Item, item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
        """About the account itself. A policy block calls for a person, its end does not."""
        return (
            AccountEvent(
                id=digest([scope.key, kind, item.get("timestamp"), told]), at=moment_at(item, "timestamp", scope),
                routing_key=scope.key, channel=scope.channel, path=path, kind=kind, values=plain(told),
                alarming=kind == "policy" and text(told, "action") != "unblock",
            ),
        )  # fmt: skip

    return read


_READERS: Final[Mapping[str, _Reader]] = {
    "message": _message,
    "delivery": _receipt("delivered"),
    "read": _receipt("read"),
    "postback": _postback,
    "reaction": _reaction,
    "message_edit": _edit,
    "referral": _referral,
    "optin": _optin,
    "pass_thread_control": _control("pass"),
    "take_thread_control": _control("take"),
    "request_thread_control": _control("request"),
    "app_roles": _account("app_roles"),
    "policy-enforcement": _account("policy"),
    "policy_enforcement": _account("policy"),
}
