"""Messages of customers, and what people of the business write in the WhatsApp Business app."""

from __future__ import annotations

from collections.abc import Callable

from normalizers._fields import Broken, mapping, need, plain, text
from normalizers._whatsapp_content import context_of, part
from normalizers._whatsapp_people import CHANNEL, Change, Item, addresses_of, moment_of, person_of, thread_of
from normalizers.model import (
    PRIVATE,
    Echo,
    Engagement,
    Event,
    IdentityChange,
    Ignored,
    InboundMessage,
    MessageDeleted,
    MessageEdited,
    Person,
    Reaction,
    SystemNote,
)


def message(item: Item, scope: Change, path: str) -> Event:
    name, sender = need(item, "id"), person_of(item, scope)
    if scope.own and item.get("from") == scope.own:
        return Ignored(
            id=name, at=scope.received_at, routing_key=scope.routing_key, channel=CHANNEL, path=path,
            reason="sent by our own number",
        )  # fmt: skip
    kind = item.get("type")
    special = _SPECIAL.get(kind) if type(kind) is str else None
    if special is not None:
        return special(item, name, sender, scope, path)
    what, words, files, content = part(item, scope.value.get("errors"))
    thread = thread_of(item) if "group_id" in item else PRIVATE
    return InboundMessage(
        id=name,
        at=moment_of(item, scope),
        routing_key=scope.routing_key,
        channel=CHANNEL,
        path=path,
        sender=sender,
        kind=what,
        text=words,
        attachments=files,
        content=content,
        context=context_of(item) if "context" in item or "referral" in item else None,
        thread=thread,
        opens_window=thread is PRIVATE,
        flags=("voice",) if what == "audio" and (kind == "voice" or item["audio"].get("voice") is True) else (),
    )


def _reaction(item: Item, name: str, sender: Person, scope: Change, path: str) -> Event:
    reaction = mapping(item, "reaction")
    target = text(reaction, "message_id")
    if not target:
        raise Broken(".reaction.message_id", "missing")
    return Reaction(
        id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL,
        path=path, target=target, emoji=text(reaction, "emoji"), sender=sender, thread=thread_of(item),
    )  # fmt: skip


def _edit(item: Item, name: str, sender: Person, scope: Change, path: str) -> Event:
    target, inner = _edited(item)
    _, words, files, _ = part(inner)
    return MessageEdited(
        id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL,
        path=path, target=target, text=words, attachments=files, sender=sender, thread=thread_of(item),
    )  # fmt: skip


def _edited(item: Item) -> tuple[str, Item]:
    edit = mapping(item, "edit")
    target, inner = text(edit, "original_message_id"), mapping(edit, "message")
    if not target or not inner:
        raise Broken(".edit", "names no message")
    return target, inner


def _revoke(item: Item, name: str, sender: Person, scope: Change, path: str) -> Event:
    return MessageDeleted(
        id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL,
        path=path, target=_revoked(item), sender=sender, thread=thread_of(item),
    )  # fmt: skip


def _revoked(item: Item) -> str:
    target = text(mapping(item, "revoke"), "original_message_id")
    if not target:
        raise Broken(".revoke.original_message_id", "missing")
    return target


def _welcome(item: Item, name: str, sender: Person, scope: Change, path: str) -> Event:
    """The chat was opened for the first time; the customer has written nothing yet."""
    return Engagement(
        id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL,
        path=path, person=sender, kind="request_welcome", context=context_of(item),
    )  # fmt: skip


_MOVED = frozenset({"user_changed_number", "customer_changed_number", "user_changed_user_id"})


def _system(item: Item, name: str, sender: Person, scope: Change, path: str) -> Event:
    """A new number or user id; anything else the platform says is a line in the conversation.

    The new user id is read from `user_id` beside the new `wa_id` (its place is unverified), the old one from
    `previous_user_id` of the note or of the message.
    """
    note = mapping(item, "system")
    kind, at = text(note, "type"), moment_of(item, scope)
    new = addresses_of(text(note, "user_id"), text(note, "wa_id"))
    if kind in _MOVED and new:
        previous = text(note, "previous_user_id") or text(item, "previous_user_id")
        known = tuple(one for one in sender.addresses if one.kind != "bsuid" or not previous)
        old = tuple(one for one in (*addresses_of(previous), *known) if one not in new)
        if old:
            return IdentityChange(
                id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, old=old, new=new,
                name=sender.name, source=kind,
            )  # fmt: skip
    rest = {key: plain(entry) for key, entry in note.items() if key not in ("type", "body")}
    return InboundMessage(
        id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, sender=sender, kind="system",
        text=text(note, "body"), content=SystemNote(kind or "system", plain(rest)), thread=thread_of(item),
        automatic="generated", opens_window=False,
    )  # fmt: skip


_SPECIAL: dict[str, Callable[[Item, str, Person, Change, str], Event]] = {
    "reaction": _reaction,
    "edit": _edit,
    "revoke": _revoke,
    "request_welcome": _welcome,
    "system": _system,
}


def echo(item: Item, scope: Change, path: str) -> Event:
    """Written by a person of the business in the WhatsApp Business app."""
    name, recipient = need(item, "id"), person_of(item, scope, "to")
    action, target, inner = "sent", "", item
    if item.get("type") == "edit":
        action = "edited"
        target, inner = _edited(item)
    elif item.get("type") == "revoke":
        action, target, inner = "deleted", _revoked(item), {}
    elif item.get("type") == "reaction":
        reaction = mapping(item, "reaction")
        action, target, inner = "reacted", text(reaction, "message_id"), {}
        if not target:
            raise Broken(".reaction.message_id", "missing")
    kind, words, files, content = part(inner) if inner else ("text", "", (), None)
    if action == "reacted":
        words = text(mapping(item, "reaction"), "emoji")
    return Echo(
        id=name,
        at=moment_of(item, scope),
        routing_key=scope.routing_key,
        channel=CHANNEL,
        path=path,
        recipient=recipient,
        kind=kind,
        text=words,
        attachments=files,
        content=content,
        context=context_of(item),
        thread=thread_of(item),
        action=action,  # type: ignore[arg-type]
        target=target,
    )
