"""X: public mentions and replies, and direct messages, of one account.

Sources: X, Webhooks; X Activity API; Create Post; Direct Messages; Rate limits, 2026-08. Encrypted chats (XChat) are
shown as received and cannot be answered. There is no key that would make a repeated send safe; what became of a send
whose answer was lost is found by its text: a second equal post is refused by X itself, and a direct message is looked
for only by the process that tried to send it.
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from adapters import _x_media
from adapters._base import OK, Adapter, Answer, Callback, Sent
from adapters._channel import Channel
from adapters._errors import Ambiguous, HandshakeRefused, MalformedBody, SendError, VerificationError
from adapters._http import Http
from adapters._signing import check_hmac
from adapters._tokens import InProcessTokens, TokenCache
from adapters._x_api import Keys, XApi, first_error
from adapters._x_body import (
    check_files,
    check_permission,
    direct_body,
    direct_path,
    essence,
    files_of,
    metadata_of,
    person_of,
    post_body,
)
from adapters._x_facts import DIRECT, POST_MAX, POSTS, SUMMONED
from adapters._x_oauth2 import AccessTokens, OAuth2
from adapters._x_webhooks import Webhooks
from config.secret import Secrets
from config.values import check_numbers
from normalizers import x
from normalizers._fields import NotWellFormed, items, load_json, mapping, text
from normalizers._x_people import Scope, moment_of, person
from normalizers.model import Account, Address, Attachment, Event, OutboundMessage, Person, Received

SIGNATURE = "x-twitter-webhooks-signature"
_USER_FIELDS = "name,username,description,location,profile_image_url,public_metrics,verified,verified_type"
_TRIED_MAX = 1000
_SKEW = timedelta(seconds=2)  # by which X's clock may differ from ours; more of it X refuses by itself


@dataclass(frozen=True, slots=True)
class Settings:
    """`consumer_secret` and the tokens: the first signs; the webhook's signature may be made with any consumer secret.

    `require_summon` False is for Enterprise access. `post_max`: of accounts that may write longer posts.
    `subscriptions`: the kinds of events (`dm.received`, `post.mention.create`, ...) that are subscribed to where they
    are not; empty: somebody else sees to it. They cost money, and the app's number of them is limited.
    """

    user_id: str
    consumer_key: str
    consumer_secret: Secrets
    access_token: Secrets
    access_token_secret: Secrets
    require_summon: bool = True
    oauth2: OAuth2 | None = None
    post_max: int = POST_MAX
    subscriptions: tuple[str, ...] = ()
    api_base: str = "https://api.x.com"

    def __post_init__(self) -> None:
        for key in ("user_id", "consumer_key", "consumer_secret", "access_token", "access_token_secret"):
            if not getattr(self, key):
                raise ValueError(f"{key}: is empty")
        if not (self.user_id.isascii() and self.user_id.isdecimal()):
            raise ValueError("user_id: must be the account's number, not its handle")
        if self.subscriptions and self.oauth2 is None:
            raise ValueError("subscriptions: need the setting oauth2")
        check_numbers(self, post_max=(1, 1_000_000))


class XAdapter:
    """One account on X: its mentions and replies (`x`), and its direct messages (`x_dm`).

    `tokens` may be replaced, before the first call, by a cache that is durable and shared.
    """

    name: ClassVar[str] = "x"
    channels: ClassVar[tuple[Channel, ...]] = (POSTS, DIRECT)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = (SIGNATURE,)
    subscription_checks: ClassVar[timedelta] = timedelta(hours=1)

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        self.account = msgspec.structs.replace(account, own_addresses=account.own_addresses | {settings.user_id})
        self.channels = _channels(settings)  # type: ignore[misc]  # what the account's access level makes of them
        self._settings, self._http = settings, http
        keys = Keys(
            settings.consumer_key,
            settings.consumer_secret[0],
            settings.access_token[0],
            settings.access_token_secret[0],
        )
        self._api = XApi(keys, settings.api_base, http)
        self._uploads = _x_media.Uploads(self._api)
        self._webhooks = Webhooks(keys, settings.api_base, http)
        oauth2 = settings.oauth2
        self._cache: TokenCache = InProcessTokens()
        self._tokens: AccessTokens | None = None
        if oauth2 is not None:
            self._tokens = AccessTokens(account.id, oauth2, settings.api_base, http, self._cache)
        self._tried: OrderedDict[str, datetime] = OrderedDict()  # our message id -> when it was written to X

    def routing_keys(self) -> frozenset[str]:
        """The account's user id."""
        return frozenset({self._settings.user_id})

    @property
    def tokens(self) -> TokenCache:
        """Where the tokens of OAuth 2.0 are kept. A refresh token works once: losing its successor needs a person."""
        return self._cache

    @tokens.setter
    def tokens(self, cache: TokenCache) -> None:
        self._cache = cache
        if self._tokens is not None:
            self._tokens.cache = cache

    # --- hearing ------------------------------------------------------------------------------------------------------

    def handshake(self, callback: Callback) -> Answer:
        """Answer the CRC, at whatever rate it comes, with the current consumer secret. Raises `HandshakeRefused`."""
        token = callback.query.get("crc_token", "")
        if not token:
            raise HandshakeRefused("crc_token is missing")
        secret = self._settings.consumer_secret[0].reveal().encode()
        mac = hmac.digest(secret, token.encode("utf-8", "surrogatepass"), "sha256")
        answer = {"response_token": f"sha256={base64.b64encode(mac).decode()}"}
        return Answer(200, msgspec.json.encode(answer), "application/json")

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless our app signed the bytes as they came."""
        if len(callback.headers.get(SIGNATURE, ())) > 1:
            raise VerificationError("the signature is doubled")
        given = callback.header(SIGNATURE)
        check_hmac(self._settings.consumer_secret, callback.body, given, encoding="base64", prefix="sha256=")

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` unless the body is JSON."""
        try:
            load_json(callback.body)
        except NotWellFormed as error:
            raise MalformedBody(str(error)) from None

    def acknowledge(self, callback: Callback) -> Answer:
        """X wants a bare 200."""
        return OK

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.x`."""
        return x.normalize(received)

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once; its files are uploaded before. Raises `SendError`."""
        if message.channel == POSTS.name:
            return await self._post(message)
        return await self._direct(message)

    async def _post(self, message: OutboundMessage) -> Sent:
        """An equal post that X refuses as a duplicate is our own earlier try, when it stands where ours belongs."""
        check_permission(message, self.channels[0].answer_rules)
        check_files(files_of(message), public=True)
        post_body(message, (), self._settings.post_max)
        body = post_body(message, await self._media(message, "tweet"), self._settings.post_max)
        try:
            answer = await self._api.call("POST", "/2/tweets", json=body)
        except SendError as error:
            if error.code != "187" or (found := await self._found_post(message)) is None:
                raise
            return found
        return _sent(answer, "id")

    async def _direct(self, message: OutboundMessage) -> Sent:
        path = direct_path(message)
        check_files(files_of(message), public=False)
        direct_body(message, ())
        await self._check_reachable(message)
        body = direct_body(message, await self._media(message, "dm"))
        self._remember(message.id)
        return _sent(await self._api.call("POST", path, json=body), "dm_event_id")

    async def _media(self, message: OutboundMessage, purpose: str) -> list[str]:
        return [await self._uploads.media_id(file, purpose) for file in files_of(message)]

    async def _check_reachable(self, message: OutboundMessage) -> None:
        """Who has not written to us first must take our messages. Raises `SendError`."""
        if message.thread.kind == "group" or "dm_event_id" in metadata_of(message):
            return
        path = f"/2/users/{quote(person_of(message), safe='')}"
        answer = await self._api.ask("GET", path, {"user.fields": "receives_your_dm,connection_status"})
        if mapping(answer, "data").get("receives_your_dm") is not True:
            raise SendError("bad-recipient", "349", "this person takes no direct messages from us")

    def _remember(self, message_id: str) -> None:
        self._tried[message_id] = datetime.now(UTC)
        while len(self._tried) > _TRIED_MAX:
            self._tried.popitem(last=False)

    # --- what became of it --------------------------------------------------------------------------------------------

    async def find(self, message: OutboundMessage) -> Sent | None:
        """The message as X shows it. Raises `SendError` when it is not seen: that never proves that it was not sent."""
        found = await (self._found_post(message) if message.channel == POSTS.name else self._found_direct(message))
        if found is None:
            raise SendError("retry", "not-seen", "X does not show it")
        return found

    async def _found_post(self, message: OutboundMessage) -> Sent | None:
        """A post of ours below the same post with the same words: X takes no second one."""
        parent = message.context.reply_to if message.context is not None else ""
        query = {"max_results": "100", "tweet.fields": "referenced_tweets,created_at", "exclude": "retweets"}
        answer = await self._api.ask("GET", f"/2/users/{self._settings.user_id}/tweets", query)
        for _, post in items(answer, "data"):
            answered = {
                text(one, "id") for _, one in items(post, "referenced_tweets") if one.get("type") == "replied_to"
            }
            if parent and parent in answered and essence(text(post, "text")) == essence(message.text):
                return Sent(text(post, "id"), note="found")
        return None

    async def _found_direct(self, message: OutboundMessage) -> Sent | None:
        """Our words in the conversation, not older than our try: only the process that made it knows when that was."""
        since = self._tried.get(message.id)
        if since is None or not essence(message.text):
            return None
        fields = {"dm_event.fields": "sender_id,created_at,text", "event_types": "MessageCreate", "max_results": "50"}
        path = direct_path(message).removesuffix("/messages") + "/dm_events"
        scope = Scope(self._settings.user_id, frozenset(), {}, datetime.min.replace(tzinfo=UTC))
        for _, event in items(await self._api.ask("GET", path, fields), "data"):
            name = text(event, "id")
            ours = text(event, "sender_id") == self._settings.user_id and moment_of(event, scope, name) >= since - _SKEW
            if ours and essence(text(event, "text")) == essence(message.text):
                return Sent(name, note="found")
        return None

    # --- people, files and credentials --------------------------------------------------------------------------------

    async def profile(self, address: Address) -> Person | None:
        """Name, handle and what the profile shows. Raises `SendError`."""
        query = {"user.fields": _USER_FIELDS}
        try:
            answer = await self._api.ask("GET", f"/2/users/{quote(address.value, safe='')}", query)
        except SendError as error:
            if error.error_class == "bad-recipient":
                return None
            raise
        user = mapping(answer, "data")
        return person(address.value, {address.value: user}) if user else None

    def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file's bytes. Raises `MediaError`."""
        return _x_media.fetch(attachment, self._api, self._tokens)

    async def probe(self) -> None:
        """Ask who we are: proves the keys and that they are this account's. Raises `SendError`."""
        answer = await self._api.ask("GET", "/2/users/me")
        found = text(mapping(answer, "data"), "id")
        if found != self._settings.user_id:
            raise SendError("auth", "wrong-account", f"the access token is of the user {found}", pause="account")

    async def subscribe(self) -> bool:
        """See that X has not switched our webhooks off after failed checks, and that what we want is subscribed to.

        True when something had to be mended. Raises `SendError`.
        """
        mended, wanted = await self._webhooks.revive(), self._settings.subscriptions
        if wanted and self._tokens is not None:
            mended |= await self._webhooks.complete(self._settings.user_id, self.account.id, wanted, self._tokens)
        return mended


def _channels(settings: Settings) -> tuple[Channel, ...]:
    rules = tuple(rule for rule in POSTS.answer_rules if settings.require_summon or rule is not SUMMONED)
    limits = replace(POSTS.limits, text_max=settings.post_max, caption_max=settings.post_max)
    return replace(POSTS, answer_rules=rules, limits=limits), DIRECT


def _sent(answer: dict[str, Any], key: str) -> Sent:
    """The id X gave. A success may carry errors beside it: the first one is noted."""
    name = text(mapping(answer, "data"), key)
    if not name:
        raise Ambiguous("no-id", "a success without an id")
    error = first_error(answer)
    return Sent(name, note=text(error, "detail") or text(error, "message") or text(error, "title"))


_: type[Adapter] = XAdapter
