"""What the sandbox of X knows, and the rules by which it refuses: no network here.

Sources: X, Create Post; Direct Messages, Manage; Media upload; Response codes and errors; OAuth 1.0a, 2026-08.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from oauthlib.oauth1.rfc5849 import signature

from adapters._weighted import weight

_EPOCH_MS = 1288834974657
PROBLEMS = "https://api.x.com/2/problems"
_POST_KEYS = frozenset({"text", "reply", "media"})
_DIRECT_KEYS = frozenset({"text", "attachments"})
_CLOCK_S = 300.0


class Refusal(Exception):
    """X refuses a call. `code`: of a v1.1-style error list; without one a problem of v2 is answered."""

    def __init__(self, status: int, detail: str, *, slug: str = "", code: int = 0) -> None:
        super().__init__(detail)
        self.status, self.detail, self.slug, self.code = status, detail, slug, code

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        if self.code:
            return {"errors": [{"code": self.code, "message": self.detail}]}
        kind = f"{PROBLEMS}/{self.slug}" if self.slug else "about:blank"
        return {"title": "Refused", "detail": self.detail, "type": kind, "status": self.status}


@dataclass(slots=True)
class User:
    """Somebody on X. `open`: takes direct messages from everybody."""

    id: str
    username: str
    name: str
    open: bool = False
    blocks_us: bool = False

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "username": self.username, "name": self.name}


@dataclass(frozen=True, slots=True)
class Post:
    """A public post, of anybody."""

    id: str
    author: str
    text: str
    root: str
    parent: str = ""
    mentions: tuple[str, ...] = ()
    reply_settings: str = "everyone"

    def shown(self, users: Mapping[str, User]) -> dict[str, Any]:
        """As the v2 API shows it."""
        shown: dict[str, Any] = {
            "id": self.id, "text": self.text, "author_id": self.author, "conversation_id": self.root,
            "edit_history_tweet_ids": [self.id], "reply_settings": self.reply_settings, "created_at": iso_of(self.id),
        }  # fmt: skip
        if self.mentions:
            named = [{"id": one, "username": users[one].username, "start": 0, "end": 1} for one in self.mentions]
            shown["entities"] = {"mentions": named}
        if self.parent:
            shown["in_reply_to_tweet_id"] = self.parent
            shown["referenced_tweets"] = [{"type": "replied_to", "id": self.parent}]
        return shown


@dataclass(frozen=True, slots=True)
class Direct:
    """A direct message between us and `other`."""

    id: str
    sender: str
    other: str
    text: str
    media: str = ""


@dataclass(slots=True)
class File:
    """An upload. `polls`: how often it is still being processed."""

    category: str
    content: bytes = b""
    ready: bool = False
    polls: int = 0


@dataclass(slots=True)
class World:
    """Everything the sandbox remembers."""

    own: User
    users: dict[str, User] = field(default_factory=dict)
    posts: dict[str, Post] = field(default_factory=dict)
    directs: list[Direct] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    wrote_to_us: set[str] = field(default_factory=set)
    _ids: itertools.count[int] = field(default_factory=itertools.count)

    def new_id(self) -> str:
        """An id with the moment in it, as X makes them."""
        now_ms = time.time_ns() // 1_000_000 - _EPOCH_MS
        return str((now_ms << 22) + next(self._ids) % 2**22)

    def check_post(self, body: Mapping[str, Any], *, require_summon: bool) -> Post:
        """The post this request makes. Raises `Refusal`."""
        _known(body, _POST_KEYS)
        words, media = str(body.get("text", "")), body.get("media", {}).get("media_ids", [])
        if not words and not media:
            raise Refusal(400, "One of text, media is required", slug="invalid-request")
        if weight(words) > 280:
            raise Refusal(403, "Tweet needs to be a bit shorter.", code=186)
        self._check_files(media, "tweet_", 4)
        reply = body.get("reply", {})
        parent = self.posts.get(str(reply.get("in_reply_to_tweet_id", "")))
        if reply and parent is None:
            raise Refusal(403, "You attempted to reply to a Tweet that is deleted or not visible to you.")
        if parent is not None:
            self._check_answerable(parent, require_summon)
        mine = [post for post in self.posts.values() if post.author == self.own.id]
        if any(post.text == words and post.parent == (parent.id if parent else "") for post in mine):
            raise Refusal(403, "You are not allowed to create a Tweet with duplicate content.")
        name = self.new_id()
        return Post(name, self.own.id, words, parent.root if parent else name, parent.id if parent else "")

    def _check_answerable(self, parent: Post, require_summon: bool) -> None:
        if self.users[parent.author].blocks_us:
            raise Refusal(403, "You have been blocked from the author of this tweet.", code=136)
        mentioned = self.own.id in parent.mentions
        if parent.reply_settings != "everyone" and not mentioned:
            raise Refusal(403, "The original Tweet author restricted who can reply to this Tweet.", code=433)
        if require_summon and not mentioned:
            raise Refusal(403, "Reply to this conversation is not allowed because you have not been mentioned or "
                               "otherwise engaged by the author of the post you are replying to.")  # fmt: skip

    def check_direct(self, body: Mapping[str, Any], other: str) -> Direct:
        """The direct message this request makes. Raises `Refusal`."""
        _known(body, _DIRECT_KEYS)
        words, attachments = str(body.get("text", "")), body.get("attachments", [])
        if not words and not attachments:
            raise Refusal(400, "One of text, attachments is required", slug="invalid-request")
        if len(words) > 10_000:
            raise Refusal(403, "The text of your direct message is over the max character limit.", code=354)
        if (user := self.users.get(other)) is None:
            raise Refusal(404, f"Could not find user with id: [{other}].", slug="resource-not-found")
        if user.blocks_us or not (user.open or other in self.wrote_to_us):
            raise Refusal(403, "You cannot send messages to this user.", code=349)
        media = [str(one.get("media_id", "")) for one in attachments]
        self._check_files(media, "dm_", 1)
        return Direct(self.new_id(), self.own.id, other, words, media[0] if media else "")

    def _check_files(self, ids: list[str], category: str, most: int) -> None:
        if len(ids) > most:
            raise Refusal(400, "Too many media ids", slug="invalid-request")
        for one in ids:
            file = self.files.get(one)
            if file is None or not file.ready or not file.category.startswith(category):
                raise Refusal(400, "Your media IDs are invalid.", code=324)


def _known(body: Mapping[str, Any], keys: frozenset[str]) -> None:
    if unknown := set(body) - keys:
        raise Refusal(400, f"unknown properties: {sorted(unknown)}", slug="invalid-request")


def check_signature(
    method: str, url: str, header: str, consumer_key: str, consumer_secret: str, token: str, token_secret: str
) -> None:
    """OAuth 1.0a: key, token, clock, and the signature over method and address. Raises `Refusal`."""
    if not header.startswith("OAuth "):
        raise Refusal(
            403, "Authenticating with this kind of credential is forbidden.", slug="unsupported-authentication"
        )
    address, _, query = url.partition("?")
    fields = signature.collect_parameters(query, headers={"Authorization": header}, exclude_oauth_signature=False)
    given = dict(fields)
    if given.get("oauth_consumer_key") != consumer_key or given.get("oauth_token") != token:
        raise Refusal(401, "Could not authenticate you.", code=32)
    if abs(float(given.get("oauth_timestamp", "0")) - time.time()) > _CLOCK_S:
        raise Refusal(401, "Timestamp out of bounds.", code=135)
    request = SimpleNamespace(
        http_method=method, uri=address, signature=given.get("oauth_signature", ""),
        params=[(name, value) for name, value in fields if name != "oauth_signature"],
    )  # fmt: skip
    if not signature.verify_hmac_sha1(request, consumer_secret, token_secret):
        raise Refusal(401, "Could not authenticate you.", code=32)


def iso_of(name: str) -> str:
    """The moment in an id, as X writes it."""
    seconds, ms = divmod((int(name) >> 22) + _EPOCH_MS, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03d}Z"


def ms_of(name: str) -> str:
    """The moment in an id, as legacy events tell it."""
    return str((int(name) >> 22) + _EPOCH_MS)
