"""An Instagram professional account: direct messages in private, comments and mentions in public.

Two generations of the API are spoken, by `login_type`: the account's own (Instagram Login), and the Messenger Platform
of the Page it is linked to.
Sources: Meta, Instagram Messaging, Send a message, 2026-07; Instagram Platform, Private replies, 2026-06; Comment
moderation, 2025-11; IG User mentions, 2025-11.

There is no key that would make a repeated send safe. A lost answer is settled by `find`, or by the echo where a message
may carry our id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from adapters._base import Adapter, Sent
from adapters._channel import Channel
from adapters._errors import Ambiguous, SendError
from adapters._http import Http
from adapters._instagram_facts import (
    COMMENT_ERRORS,
    COMMENT_MAX,
    COMMENTS,
    DIRECT,
    DIRECT_BY_PAGE,
    INSTAGRAM,
    PAGE_FIELDS,
    SUBSCRIBED_FIELDS,
    by_page,
)
from adapters._instagram_token import LongLivedToken
from adapters._meta_account import MetaAccount, cannot_say, made_at, untold
from adapters._meta_messaging import answered_of, file_of, refused
from adapters._tokens import TokenCache
from config.secret import Secret, Secrets
from normalizers import instagram
from normalizers._fields import items, mapping, text
from normalizers._instagram_comments import completed
from normalizers._meta_attachments import address as web_address
from normalizers.model import Account, Address, Event, InboundMessage, OutboundMessage, Person, Received

_BASES: Final = {"instagram": "https://graph.instagram.com/v23.0", "page": "https://graph.facebook.com/v23.0"}
_PROFILE_FIELDS: Final = (
    "name,username,profile_pic,follower_count,is_user_follow_business,is_business_follow_user,is_verified_user"
)
_COMMENT_FIELDS: Final = "text,timestamp,username,from"
_MENTIONS: Final = {  # of what a look-up of this kind tells
    "mentioned_comment": "text,timestamp",
    "mentioned_media": "caption,timestamp,username",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """`instagram_id` is the id webhooks name: `user_id` of the API's `me`, not its `id`. `page_id`: the linked Page.

    `human_agent`: the app is approved for the human-agent tag. `app_secret`: of the app webhooks come from; it is not
    documented whether Meta's or Instagram's own secret signs them, so both may be given.
    """

    instagram_id: str
    access_token: Secrets  # the first sends
    app_secret: Secrets
    verify_token: Secrets
    human_agent: bool = False
    login_type: Literal["instagram", "page"] = "instagram"
    page_id: str = ""
    api_base: str = ""
    app_id: str = ""
    appsecret_proof: bool = False

    def __post_init__(self) -> None:
        for key in ("instagram_id", "access_token", "app_secret", "verify_token"):
            if not getattr(self, key):
                raise ValueError(f"{key}: is empty")
        if self.login_type == "page" and not self.page_id:
            raise ValueError('page_id: missing, as login_type is "page"')
        if not self.api_base:
            object.__setattr__(self, "api_base", _BASES[self.login_type])


class InstagramAdapter(MetaAccount):
    """One account."""

    name: ClassVar[str] = "instagram"
    channels: ClassVar[tuple[Channel, ...]] = (INSTAGRAM, COMMENTS)
    settings_type: ClassVar[type[Any]] = Settings

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        self._id, self._page = settings.instagram_id, settings.page_id if settings.login_type == "page" else ""
        super().__init__(
            account, settings, http, node=self._page or self._id, own=filter(None, (self._id, settings.page_id)),
            surface=DIRECT_BY_PAGE if self._page else DIRECT, token=None if self._page else self._renewed,
        )  # fmt: skip
        self._token = LongLivedToken(account.id, settings.access_token[0], settings.api_base, http)
        if self._page:
            vars(self)["channels"] = by_page(self.channels)

    @property
    def tokens(self) -> TokenCache:
        """Where the renewed token is kept: `adapters._tokens.TokenHolder`. A Page's token has no end."""
        return self._token.cache

    @tokens.setter
    def tokens(self, cache: TokenCache) -> None:
        self._token.cache = cache

    async def _renewed(self) -> Secret:
        return await self._token.current()

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.instagram`."""
        return instagram.normalize(received)

    async def subscribe(self) -> bool:
        """See that the account posts to our app; True when it did not and was told to again. Raises `SendError`.

        Whoever is subscribed to anything gets all the fields of the app, so any will do.
        """
        return await self._subscribe(PAGE_FIELDS if self._page else SUBSCRIBED_FIELDS, all_of_them=False)

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once; a file is uploaded before where that is possible. Raises `SendError`.

        On the public channel a private message is the one private reply to the comment it answers.
        """
        if message.channel != COMMENTS.name:
            return await self._send_private(message, INSTAGRAM.errors, platform="instagram")
        if message.visibility == "private":
            if file_of(message) is not None:
                raise refused("file", "a private reply is a text")
            return await self._send_private(message, COMMENT_ERRORS)
        return await self._comment(message)

    async def _comment(self, message: OutboundMessage) -> Sent:
        """A public answer to a comment, a mention, or below a post of ours."""
        if message.template is not None or message.content is not None or message.reaction is not None:
            raise refused("content", "a comment is a text")
        if file_of(message) is not None:
            raise refused("file", "a comment carries no file")
        if not message.text:
            raise refused("empty", "nothing to send")
        target, media = answered_of(message), _told(message, "mention")
        body = {"message": _addressed(message)}
        if media:  # elsewhere: answered by its own call
            body |= {"media_id": media} | ({"comment_id": target} if target != media else {})
            path = f"{self._id}/mentions"
        else:
            path = f"{target}/{'comments' if target == message.thread.key else 'replies'}"
        external_id = text(await self._graph.post(path, body, COMMENT_ERRORS), "id")
        if not external_id:
            raise Ambiguous("no-id", "a success without a comment id")
        return Sent(external_id)

    async def find(self, message: OutboundMessage) -> Sent | None:
        """The message whose answer was lost: by us, with equal text, not older than it was made.

        A comment among those below the one answered (what answers an answer stands beside it). A direct message
        in the conversation with the person; one that is not found there may still be on its way, so that only a find
        is an answer. Raises `SendError` when it cannot say.
        """
        made = made_at(message)
        if message.channel != COMMENTS.name or message.visibility == "private":
            return await self._find_direct(message, made)
        target = _told(message, "parent") or answered_of(message)
        if _told(message, "mention"):
            raise cannot_say()
        edge = "comments" if target == message.thread.key else "replies"
        listed = await self._graph.get(
            f"{target}/{edge}", COMMENT_ERRORS, fields="id,text,timestamp,from", limit="100"
        )  # fmt: skip
        found = self._ours_among(listed, _addressed(message), made, words="text", time="timestamp")
        if found is None and "next" in mapping(listed, "paging"):  # in which order they come is not documented
            raise cannot_say()
        return found

    async def _find_direct(self, message: OutboundMessage, made: datetime) -> Sent:
        person = next((address.value for address in message.to if address.kind == "igsid"), "")
        if not person or not message.text:
            raise cannot_say()
        conversations = await self._graph.get(
            f"{self._node}/conversations", INSTAGRAM.errors, platform="instagram", user_id=person,
            fields="messages.limit(20){id,created_time,from,message}",
        )  # fmt: skip
        for _, conversation in items(conversations, "data"):
            listed = mapping(conversation, "messages")
            found = self._ours_among(listed, message.text, made, words="message", time="created_time")
            if found is not None:
                return found
        raise cannot_say()

    async def hide(self, external_id: str, *, hidden: bool) -> None:
        """Show a comment to its author only, or to everybody again; never one of our own. Raises `SendError`."""
        await self._graph.post(external_id, {"hide": hidden}, COMMENT_ERRORS)

    async def delete(self, external_id: str) -> None:
        """Take a comment below our posts away for good. Raises `SendError`."""
        await self._graph.delete(external_id, COMMENT_ERRORS)

    # --- people, look-ups ---------------------------------------------------------------------------------------------

    async def profile(self, address: Address) -> Person | None:
        """Told only of who has written to us in private (else error 230): None then. Raises `SendError`."""
        if address.kind != "igsid":
            return None
        try:
            told = await self._graph.get(address.value, INSTAGRAM.errors, fields=_PROFILE_FIELDS)
        except SendError as error:
            if untold(error):
                return None
            raise
        profile = {
            "picture": web_address(told.get("profile_pic")),
            "followers": told.get("follower_count"),
            "follows_us": told.get("is_user_follow_business"),
            "followed_by_us": told.get("is_business_follow_user"),
            "verified": told.get("is_verified_user"),
        }
        known = {key: value for key, value in profile.items() if value != "" and isinstance(value, str | int)}
        return Person((address,), text(told, "name"), text(told, "username"), known)

    async def look_up(self, message: InboundMessage) -> InboundMessage:
        """A comment without words, or a mention, of which only the place was told. Raises `SendError`.

        A mention in a caption or comment on media that takes no comments is not told at all.
        """
        kind, _, ref = message.lookup.partition(":")
        if kind == "comment":
            return completed(message, await self._graph.get(ref, COMMENT_ERRORS, fields=_COMMENT_FIELDS))
        if kind not in _MENTIONS:
            return message
        name = "comment_id" if kind == "mentioned_comment" else "media_id"
        asked = f"{kind}.{name}({ref}){{{_MENTIONS[kind]}}}"
        return completed(message, mapping(await self._graph.get(self._id, COMMENT_ERRORS, fields=asked), kind))

    async def probe(self) -> None:
        """Ask who we are: proves the token, and that webhooks will name us by `instagram_id`. Raises `SendError`."""
        if self._page:
            told = await self._graph.get(self._page, INSTAGRAM.errors, fields="id,instagram_business_account")
            found = text(mapping(told, "instagram_business_account"), "id")
        else:
            found = text(await self._graph.get("me", INSTAGRAM.errors, fields="user_id,username"), "user_id")
        if found and found != self._id:
            raise SendError("permanent", "wrong-id", f"the token is of the account {found}: set instagram_id to it")


def _told(message: OutboundMessage, key: str) -> str:
    """What the message answered brought along for its answer."""
    given: Mapping[str, Any] = message.context.metadata if message.context is not None else {}
    value = given.get(key, "")
    return value if isinstance(value, str) else ""


def _addressed(message: OutboundMessage) -> str:
    """An answer to an answer lands below the first comment: only its @name tells whom it is for."""
    handle = message.to_handle or _told(message, "username")
    named = f"@{handle} {message.text}"
    if not handle or not _told(message, "parent") or f"@{handle}" in message.text or len(named) > COMMENT_MAX:
        return message.text
    return named


_: type[Adapter] = InstagramAdapter
