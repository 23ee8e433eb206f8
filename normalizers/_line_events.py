"""LINE's events other than messages. Source: LINE, Messaging API reference, Webhook event objects, 2026-07."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from normalizers._fields import Broken, items, mapping, plain, text
from normalizers._line_source import (
    CHANNEL,
    Item,
    Scope,
    address,
    event_id,
    known_source,
    moment_of,
    part_of,
    person_of,
    right_to_answer,
    source_of,
)
from normalizers.model import (
    AccountEvent,
    ConsentChange,
    DeliveryUpdate,
    Engagement,
    Event,
    InboundMessage,
    MessageDeleted,
    MessageEdited,
    SystemNote,
    ThreadControl,
)

Read: TypeAlias = Callable[[Item, Scope, str], tuple[Event, ...]]


def unsend(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """Taken back by its author; it may come before the message itself."""
    target = text(mapping(item, "unsend"), "messageId")
    if not target:
        raise Broken(".unsend.messageId", "missing")
    person, thread = known_source(item)
    gone = MessageDeleted(
        id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        target=target, sender=person, thread=thread,
    )  # fmt: skip
    return (gone,)


def edited(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """A text message of a group was edited; the latest moment is the valid one, in whatever order they come.

    Source: LINE, Messaging API reference, Edit event, 2026-10. That `message.id` names the message edited is assumed.
    """
    message = part_of(item, "message")
    target, words = text(message, "id"), message.get("text")
    if not target or type(words) is not str:
        raise Broken(".message.text" if target else ".message.id", "missing")
    person, thread = known_source(item)
    edit = MessageEdited(
        id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        target=target, text=text(message, "text"), sender=person, thread=thread,
    )  # fmt: skip
    return (edit,)


def follow(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """Added as a friend, or no longer blocked. Being followed is no message, yet it may be answered."""
    user_id, _ = source_of(item)
    name, at, person = event_id(item), moment_of(item, scope), person_of(user_id, event_id(item))
    consent = ConsentChange(
        id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, person=person, state="unblocked",
        source="follow",
    )  # fmt: skip
    engagement = Engagement(
        id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, person=person, kind="follow",
        values={"is_unblocked": mapping(item, "follow").get("isUnblocked") is True}, context=right_to_answer(item),
    )  # fmt: skip
    return consent, engagement


def unfollow(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """Blocked: the only sign of it, as sends to who has blocked us are accepted and dropped."""
    user_id, _ = source_of(item)
    name = event_id(item)
    consent = ConsentChange(
        id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        person=person_of(user_id, name), state="blocked", source="unfollow",
    )  # fmt: skip
    return (consent,)


def join(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """We were added to a group or room: it can be written to."""
    _, thread = source_of(item)
    name, at = event_id(item), moment_of(item, scope)
    consent = ConsentChange(
        id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, person=None, state="unblocked",
        source="join", thread=thread,
    )  # fmt: skip
    engagement = Engagement(
        id=name, at=at, routing_key=scope.routing_key, channel=CHANNEL, path=path, person=None, kind="join",
        context=right_to_answer(item), thread=thread,
    )  # fmt: skip
    return consent, engagement


def leave(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """We were removed from a group or room, or it was closed."""
    _, thread = source_of(item)
    consent = ConsentChange(
        id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        person=None, state="blocked", source="leave", thread=thread,
    )  # fmt: skip
    return (consent,)


def _members(kind: str, key: str, words: str) -> Read:
    """One line in the group's thread, whoever many came or went; its sender is the first of them."""

    def read(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
        _, thread = source_of(item)
        named = [text(member, "userId") for _, member in items(part_of(item, key), "members")]
        members, name = [user_id for user_id in named if user_id], event_id(item)
        note = InboundMessage(
            id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
            sender=person_of(members[0] if members else "", name), kind="system", automatic="generated",
            text=words if len(named) < 2 else f"{len(named)} people {words}",
            content=SystemNote(kind, {"members": members}), context=right_to_answer(item), thread=thread,
            opens_window=False,
        )  # fmt: skip
        return (note,)

    return read


def _engaged(kind: str, key: str) -> Read:
    """Something the person did that is no message: `values` is LINE's own object."""

    def read(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
        user_id, thread = source_of(item)
        name = event_id(item)
        engagement = Engagement(
            id=name, at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
            person=person_of(user_id, name), kind=kind, values=plain(part_of(item, key)),
            context=right_to_answer(item), thread=thread,
        )  # fmt: skip
        return (engagement,)

    return read


def played(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """A video of ours was watched to its end: the one receipt there is. The tracking id is our message's."""
    user_id, _ = source_of(item)
    ours = text(mapping(item, "videoPlayComplete"), "trackingId")
    if not ours:
        raise Broken(".videoPlayComplete.trackingId", "missing")
    update = DeliveryUpdate(
        id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        status="read", ours=ours, recipient=address(user_id) if user_id else None,
    )  # fmt: skip
    return (update,)


def _account(kind: str, *, alarming: bool = False) -> Read:
    """About the account as a whole."""

    def read(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
        values = plain(mapping(item, "module"))
        event = AccountEvent(
            id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
            kind=kind, values=values, alarming=alarming or values.get("type") == "detached",
        )  # fmt: skip
        return (event,)

    return read


def activated(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """We hold the conversation now, among several modules of one account."""
    return (_control(item, scope, path, gained=True),)


def deactivated(item: Item, scope: Scope, path: str) -> tuple[Event, ...]:
    """Another module holds it now."""
    return (_control(item, scope, path, gained=False),)


def _control(item: Item, scope: Scope, path: str, *, gained: bool) -> Event:
    person, thread = known_source(item)
    return ThreadControl(
        id=event_id(item), at=moment_of(item, scope), routing_key=scope.routing_key, channel=CHANNEL, path=path,
        person=person, action="pass" if gained else "take", thread=thread,
    )  # fmt: skip


EVENTS: dict[str, Read] = {
    "unsend": unsend,
    "messageEdited": edited,
    "follow": follow,
    "unfollow": unfollow,
    "join": join,
    "leave": leave,
    "memberJoined": _members("member_joined", "joined", "joined the group"),
    "memberLeft": _members("member_left", "left", "left the group"),
    "videoPlayComplete": played,
    "beacon": _engaged("beacon", "beacon"),
    "accountLink": _engaged("account_link", "link"),
    "membership": _engaged("membership", "membership"),
    "module": _account("module"),
    "botSuspended": _account("bot_suspended", alarming=True),
    "botResumed": _account("bot_resumed"),
    "activated": activated,
    "deactivated": deactivated,
}
"""By LINE's name. `delivery` reports on notification messages, which we never send, and is ignored like the unknown."""
