"""Posts: mentions, replies, quotes, our own, edits and deletions. Both generations of the post object are read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from normalizers._fields import Broken, clean, mapping, need, objects, text
from normalizers._x_people import DIRECT, PUBLIC, Item, Scope, app_of, moment_of, others, person, unwrapped, user_id
from normalizers._x_text import media_links, public_file, readable
from normalizers.model import (
    Attachment,
    ConsentChange,
    Context,
    Echo,
    Event,
    Ignored,
    InboundMessage,
    MessageDeleted,
    MessageEdited,
    Thread,
)


class _Post(msgspec.Struct, frozen=True, gc=False):
    """A post, whatever its generation. `first`: the id it had before any edit.

    Made by position: by name it would cost a tenth of all reading.
    """

    id: str
    first: str
    author: str
    user: Item
    at: datetime
    text: str
    full_text: str
    files: tuple[Attachment, ...]
    root: str
    parent: str
    parent_author: str
    about: str  # the text of the post answered or quoted
    quotes_us: bool
    mentions: Any
    settings: str
    repost: bool
    app: str


def _current(item: Item, scope: Scope) -> _Post:
    """A post of the v2 API."""
    name, author = need(item, "id"), need(item, "author_id")
    history = item.get("edit_history_tweet_ids")
    first = clean(history[0]) if type(history) is list and history and type(history[0]) is str else name
    note = mapping(item, "note_tweet") if "note_tweet" in item else {}
    entities = mapping(note or item, "entities")
    files: tuple[Attachment, ...] = ()
    if "attachments" in item and type(keys := mapping(item, "attachments").get("media_keys")) is list:
        known = [clean(key) for key in keys if type(key) is str]
        files = tuple([public_file(scope.media.get(key, {}), name, key) for key in known])
    words, shown = text(note, "text") or text(item, "text"), _shown(item)
    said = readable(words[shown:], entities)
    linked: dict[str, str] = {}
    if "referenced_tweets" in item:
        linked = {text(one, "type"): text(one, "id") for one in objects(item, "referenced_tweets")}
    quoted = scope.posts.get(linked.get("quoted", ""), {})
    return _Post(
        name,  # id
        first or name,  # first
        author,  # author
        {},  # user
        moment_of(item, scope, name),  # at
        said,  # text
        words[:shown] + said if shown else "",  # full_text
        files,  # files
        text(item, "conversation_id") or name,  # root
        text(item, "in_reply_to_tweet_id") or linked.get("replied_to", ""),  # parent
        text(item, "in_reply_to_user_id"),  # parent_author
        text(scope.posts.get(linked.get("replied_to", ""), quoted), "text"),  # about
        bool(quoted) and text(quoted, "author_id") in scope.ours,  # quotes_us
        mapping(item, "entities").get("mentions"),  # mentions
        text(item, "reply_settings"),  # settings
        "retweeted" in linked,  # repost
        "",  # app
    )


def _legacy(item: Item, scope: Scope) -> _Post:
    """A post of v1.1. It does not tell its thread's root: the post answered stands in for it."""
    name, user = need(item, "id_str"), mapping(item, "user")
    long = mapping(item, "extended_tweet")
    body = long or item
    entities = mapping(body, "entities")
    media = (mapping(body, "extended_entities") or entities).get("media")
    pictures, drop = media if type(media) is list else (), media_links(media)
    words, shown = text(body, "full_text") or text(item, "text"), _shown(body)
    said = readable(words[shown:], entities, drop)
    quoted, parent = mapping(item, "quoted_status"), text(item, "in_reply_to_status_id_str")
    return _Post(
        name,  # id
        name,  # first
        need(user, "id_str"),  # author
        user,  # user
        moment_of(item, scope, name),  # at
        said,  # text
        words[:shown] + said if shown else "",  # full_text
        tuple(public_file(one, name) for one in pictures if type(one) is dict),  # files
        text(item, "conversation_id_str") or parent or name,  # root
        parent,  # parent
        text(item, "in_reply_to_user_id_str"),  # parent_author
        text(quoted, "full_text") or text(quoted, "text"),  # about
        user_id(mapping(quoted, "user")) in scope.ours,  # quotes_us
        entities.get("user_mentions"),  # mentions
        text(item, "reply_settings"),  # settings
        bool(mapping(item, "retweeted_status")),  # repost
        app_of(item, scope),  # app
    )


def _shown(item: Item) -> int:
    """Where the text proper begins, after the handles X puts in front of a reply, which hold nothing to be undone."""
    if "display_text_range" not in item:
        return 0
    given = item.get("display_text_range")
    start = given[0] if type(given) is list and given else 0
    return start if type(start) is int and start > 0 else 0


def post(item: Item, scope: Scope, path: str) -> list[Event]:
    """A customer's post, or our own coming back. `created_at` without an ISO date: the id tells the moment."""
    given = _current(item, scope) if "author_id" in item else _legacy(item, scope)
    place: dict[str, Any] = {"at": given.at, "routing_key": scope.own, "channel": PUBLIC, "path": path}
    if given.repost:
        return [Ignored(id=given.id, reason="a repost", **place)]
    if given.author in scope.ours:
        return [_own(given, scope, place)]
    return _inbound(given, scope, place)


def _inbound(given: _Post, scope: Scope, place: dict[str, Any]) -> list[Event]:
    mentioned, third = others(given.mentions, scope.own, given.author)
    summoned = mentioned or given.quotes_us
    restricted = given.settings not in ("", "everyone") and not mentioned
    sender = person(given.author, scope.users, given.user)
    thread = Thread(kind="public", key=given.root, parent=given.parent)
    facts: dict[str, Any] = {"summoned": summoned}
    if third:
        facts["mentioned"] = third
    if given.settings:
        facts["reply_settings"] = given.settings
    flags: tuple[str, ...] = ("summoned",) if summoned else ()
    flags += (("replies_restricted",) if restricted else ()) + (("blocked_by_us",) if scope.blocked_by_us else ())
    message = InboundMessage(
        id=given.first,
        sender=sender,
        kind=given.files[0].kind if given.files else "text",
        text=given.text,
        full_text=given.full_text,
        attachments=given.files,
        context=Context(
            reply_to=given.parent,
            post_text=readable(given.about, {}) if given.about else "",
            permalink=f"https://x.com/{sender.handle or 'i'}/status/{given.id}",
            metadata=facts,
        ),
        thread=thread,
        flags=flags,
        **place,
    )
    events: list[Event] = [message]
    if given.first != given.id:
        events.append(
            MessageEdited(id=given.id, target=given.first, new_id=given.id, text=given.text, attachments=given.files,
                          sender=sender, thread=thread, **place)
        )  # fmt: skip
    if scope.blocked_us:
        events.append(
            ConsentChange(id=f"{given.id}:blocked", person=sender, state="blocked", source="is_blocked_by", **place)
        )
    return events


def _own(given: _Post, scope: Scope, place: dict[str, Any]) -> Event:
    if given.author != scope.own:
        return Ignored(id=given.id, reason="written by another account of ours", **place)
    customer = given.parent_author if given.parent_author not in scope.ours else ""
    edited = given.first != given.id
    return Echo(
        id=given.id,
        recipient=person(customer, scope.users) if customer else None,
        kind=given.files[0].kind if given.files else "text",
        text=given.text,
        attachments=given.files,
        context=Context(reply_to=given.parent) if given.parent else None,
        thread=Thread(kind="public", key=given.root, parent=given.parent),
        app=given.app,
        action="edited" if edited else "sent",
        target=given.first if edited else "",
        **place,
    )


def post_deleted(item: Item, scope: Scope, path: str) -> list[Event]:
    """Deleted: our own post as a rule, since X tells of no others. It may be told in both envelopes: one id."""
    status = mapping(item, "status") or item
    name, author = need(status, "id"), text(status, "author_id") or text(status, "user_id")
    if not author:
        raise Broken(".author_id", "missing")
    place: dict[str, Any] = {
        "id": f"{name}:deleted", "at": moment_of(item, scope), "routing_key": scope.own,
        "channel": PUBLIC, "path": path,
    }  # fmt: skip
    if author in scope.ours:
        return [Echo(action="deleted", target=name, **place)]
    return [MessageDeleted(target=name, sender=person(author, scope.users), **place)]


def like(item: Item, scope: Scope, path: str) -> list[Event]:
    """A like is never taken back in words, and most concern posts that are no part of a conversation."""
    return [
        Ignored(id=text(item, "id") or f"{scope.delivery}:{path}", at=moment_of(item, scope), routing_key=scope.own,
                channel=PUBLIC, path=path, reason="a like")
    ]  # fmt: skip


def block(item: Item, scope: Scope, path: str, word: str) -> list[Event]:
    """Our account blocked or unblocked somebody: direct messages cannot pass meanwhile, either way."""
    whom = unwrapped(item.get("target")) or unwrapped(item.get("user"))
    name = user_id(whom) or text(item, "target_id")
    if not name:
        raise Broken(".target", "missing")
    at = moment_of(item, scope)
    key = scope.delivery or f"{word}:{name}:{text(item, 'created_timestamp')}"
    return [
        ConsentChange(id=key, at=at, routing_key=scope.own, channel=DIRECT, path=path,
                      person=person(name, scope.users, whom), state="unblocked" if word == "unblock" else "blocked",
                      source="our account")
    ]  # fmt: skip
