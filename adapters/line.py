"""LINE Official Accounts by the Messaging API.

Sources: LINE, Messaging API reference; Retry failed API requests; Development guidelines, 2026-07.

A message that carries a reply token answers by it: free of charge, once, within a minute, and without any key, so that
a lost answer proves nothing and may not be repeated. Every other message is pushed with `X-Line-Retry-Key`, which makes
a repeat safe for 24 hours. A token that LINE refuses has sent nothing: the message is then pushed in the same breath.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from adapters._base import OK, Adapter, Answer, Callback, Sent
from adapters._channel import Channel
from adapters._errors import Ambiguous, MalformedBody, MediaError, SendError, VerificationError, platform_error
from adapters._http import Http, HttpAnswer, retry_after
from adapters._line_body import check_content, objects_for, recipient_of
from adapters._line_facts import (
    ACCEPTED,
    ACCEPTED_REQUEST_ID,
    ALREADY_ACCEPTED,
    CHANNEL,
    ERRORS,
    INVALID_TOKEN,
    REQUEST_ID,
    TYPING_S,
    UNAUTHORIZED,
    code_of,
)
from adapters._line_quota import Quota
from adapters._line_tokens import AccessTokens, Kind, assertion_key, key_id
from adapters._signing import check_hmac
from adapters._tokens import InProcessTokens, TokenCache
from config.secret import Secret, Secrets
from config.values import MANY, check_numbers
from normalizers import line
from normalizers._fields import NotWellFormed, items, load_json, text
from normalizers.model import Account, Address, Attachment, Event, OutboundMessage, Person, Received, Thread

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Settings:
    """`channel_secret` signs webhooks, `access_token` opens the API: two values that are easily confused.

    `bot_user_id` is `userId` of `GET /v2/bot/info`, by which events name the account. `token_kind`: "long-lived" is the
    token of the console (the first of several sends); the others are fetched with `channel_id` and renewed by
    themselves: "stateless" (15 minutes) and "short-lived" (30 days) with the channel secret, "v2.1" (30 days) with
    `assertion_key`, the private key of an assertion signing key, and its id.

    `quota_reserve`: so many of the month's messages are kept for replies; other messages wait when no more are left.
    """

    channel_secret: Secrets
    bot_user_id: str
    access_token: Secrets = ()
    token_kind: Kind = "long-lived"  # noqa: S105 - the name of a kind
    channel_id: str = ""
    assertion_key: Secrets = ()  # the first one signs
    assertion_kid: str = ""
    quota_reserve: int = 0
    api_base: str = "https://api.line.me"
    data_base: str = "https://api-data.line.me"  # files only; not interchangeable with the other

    def __post_init__(self) -> None:
        """Raises `ValueError` ("key: problem")."""
        for key in ("channel_secret", "bot_user_id"):
            if not getattr(self, key):
                raise ValueError(f"{key}: is empty")
        check_numbers(self, quota_reserve=(0, MANY))
        if self.token_kind == "long-lived":  # noqa: S105
            if not any(self.access_token):
                raise ValueError("access_token: is empty, and token_kind is 'long-lived'")
            return
        if self.access_token:
            raise ValueError(f"access_token: has no use with token_kind {self.token_kind!r}")
        if not self.channel_id:
            raise ValueError(f"channel_id: missing, and token_kind is {self.token_kind!r}")
        if self.token_kind == "v2.1":  # noqa: S105
            if not self.assertion_key:
                raise ValueError("assertion_key: missing, and token_kind is 'v2.1'")
            try:
                assertion_key(self.assertion_key[0])
            except ValueError as error:
                raise ValueError(f"assertion_key: {error}") from None
            if not key_id(self.assertion_key[0], self.assertion_kid):
                raise ValueError("assertion_kid: missing, and the key does not tell its id")


class LineAdapter:
    """One official account."""

    name: ClassVar[str] = "line"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = ("x-line-signature",)
    transcoding_delays_s: ClassVar[tuple[float, ...]] = (1.0, 3.0)  # while a film just sent is still prepared

    def __init__(self, account: Account, settings: Settings, http: Http) -> None:
        own = account.own_addresses | {settings.bot_user_id}
        self.account = msgspec.structs.replace(account, own_addresses=own)
        self._settings, self._http = settings, http
        self._access = AccessTokens(
            settings.token_kind,
            settings.channel_id,
            settings.channel_secret[0],
            _assertion(settings),
            settings.api_base,
            http,
            InProcessTokens(),
            configured=settings.access_token[0] if settings.access_token else None,
        )
        self._quota = Quota(settings.quota_reserve, lambda path: self._get(f"{self._api}{path}"))
        self._api = f"{settings.api_base.rstrip('/')}/v2/bot"
        self._data = f"{settings.data_base.rstrip('/')}/v2/bot"

    @property
    def tokens(self) -> TokenCache:
        """Where a token that is fetched is kept."""
        return self._access.cache

    @tokens.setter
    def tokens(self, cache: TokenCache) -> None:
        self._access.cache = cache

    def routing_keys(self) -> frozenset[str]:
        """The bot's user id: `destination` of every delivery."""
        return frozenset({self._settings.bot_user_id})

    # --- hearing ------------------------------------------------------------------------------------------------------

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless the channel secret signed the bytes as they came.

        The signature covers no moment: what protects from replay is that every event is filed once. LINE publishes no
        addresses to filter by.
        """
        (header,) = self.signature_headers
        if len(callback.headers.get(header, ())) > 1:
            raise VerificationError("the signature is doubled")
        check_hmac(self._settings.channel_secret, callback.body, callback.header(header), encoding="base64")

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` unless the body is JSON."""
        try:
            load_json(callback.body)
        except NotWellFormed as error:
            raise MalformedBody(str(error)) from None

    def acknowledge(self, callback: Callback) -> Answer:
        """LINE reads the status only."""
        return OK

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.line`."""
        return line.normalize(received)

    # --- speaking -----------------------------------------------------------------------------------------------------

    def check_content(self, message: OutboundMessage) -> None:
        """Pure: see `_line_body`. Raises `ContentRefused`."""
        check_content(message)

    async def send(self, message: OutboundMessage) -> Sent:
        """Reply with the token the message carries, else push. Raises `SendError`.

        The pushing after a refused token is no second send: the token proved that nothing had left. Accepted is not
        delivered: LINE takes and drops what goes to somebody who has blocked the account.
        """
        objects, to = objects_for(message), recipient_of(message)
        token = message.context.reply_token if message.context is not None else ""
        if token:
            try:
                return await self._post("reply", {"replyToken": token, "messages": objects})
            except SendError as error:
                if error.code != INVALID_TOKEN or not to:
                    raise
        if not to:
            raise SendError("bad-recipient", "no-address", "neither a LINE user nor a group")
        if message.purpose != "reply":
            await self._quota.check(to)
        return await self._post("push", {"to": to, "messages": objects}, {"X-Line-Retry-Key": message.key})

    async def _post(self, call: str, body: Mapping[str, Any], key: Mapping[str, str] | None = None) -> Sent:
        """One call. With a key, "already accepted" is the success of an earlier try, told with its ids."""
        answer, token = await self._ask("POST", f"{self._api}/message/{call}", headers=key, json=_encode(body))
        if key and answer.status == ALREADY_ACCEPTED:
            return _sent(answer.json_or_empty(), answer.headers.get(ACCEPTED_REQUEST_ID, ""))
        return _sent(read_answer(answer, self._secrets(token)), answer.headers.get(REQUEST_ID, ""))

    async def _ask(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: bytes | None = None
    ) -> tuple[HttpAnswer, str]:
        """The answer, and the token it was for. A fetched token that LINE refuses did nothing: another one, once."""
        token = await self._access.current()
        answer = await self._http.request(method, url, headers=headers, json=json, bearer=token)
        if answer.status == UNAUTHORIZED and self._access.renewable:
            token = await self._access.current(refused=token)
            answer = await self._http.request(method, url, headers=headers, json=json, bearer=token)
        return answer, token

    def _secrets(self, token: str) -> tuple[Secret, ...]:
        return (*self._settings.access_token, Secret(token))

    async def show_typing(self, to: tuple[Address, ...], thread: Thread) -> bool:
        """For 20 seconds or until the answer comes; not in groups. Raises `SendError`."""
        user_id = next((address.value for address in to if address.kind == "user_id"), "")
        if thread.kind == "group" or not user_id:
            return False
        body = _encode({"chatId": user_id, "loadingSeconds": TYPING_S})
        answer, token = await self._ask("POST", f"{self._api}/chat/loading/start", json=body)
        if answer.status != ACCEPTED:
            read_answer(answer, self._secrets(token))
        return True

    # --- files, people, credentials -----------------------------------------------------------------------------------

    async def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file in chunks. LINE deletes it after a time it does not tell: to be fetched at once.

        Films and sounds are prepared first; one that is not ready is worth a later try, and of a film that LINE cannot
        prepare its preview is all there is. A file kept elsewhere is fetched by its public address, without our token.
        Raises `MediaError`.
        """
        if attachment.ref:
            content = f"{self._data}/message/{quote(attachment.ref, safe='')}/content"
            if attachment.kind in ("video", "audio") and not await self._prepared(content):
                if attachment.kind == "audio":
                    raise MediaError("LINE could not prepare the file", retryable=False)
                content += "/preview"
            chunks = self._http.download(content, bearer=await self._media_token())
        elif attachment.url:
            chunks = self._http.download(attachment.url)
        else:
            raise MediaError("the file has neither id nor address", retryable=False)
        async for chunk in chunks:
            yield chunk

    async def _media_token(self) -> str:
        try:
            return await self._access.current()
        except SendError as error:
            raise MediaError(f"{error.code} {error.detail}".strip(), retryable=True) from None

    async def _prepared(self, content: str) -> bool:
        """Wait a little until the file can be fetched; False when it never will be.

        What cannot be asked is left to the download to find out. Raises `MediaError`.
        """
        for delay_s in (*self.transcoding_delays_s, None):
            try:
                status = text(await self._get(f"{content}/transcoding"), "status")
            except SendError as error:
                if error.error_class == "auth":
                    raise MediaError(f"{error.code} {error.detail}".strip(), retryable=True) from None
                return True
            if status != "processing":
                return status != "failed"
            if delay_s is not None:
                await asyncio.sleep(delay_s)
        raise MediaError("LINE is still preparing the file", retryable=True)

    async def profile(self, address: Address) -> Person | None:
        """Name, picture, status and language. Raises `SendError`.

        None for who is no friend, has blocked us or did not consent: LINE answers all of them with 404.
        """
        return await self._profile(address, f"profile/{quote(address.value, safe='')}")

    async def member_profile(self, address: Address, thread: Thread) -> Person | None:
        """Name and picture of a member of a group or room, friend or not. Raises `SendError`."""
        kind = "room" if thread.key.startswith("R") else "group"
        return await self._profile(
            address, f"{kind}/{quote(thread.key, safe='')}/member/{quote(address.value, safe='')}"
        )

    async def _profile(self, address: Address, place: str) -> Person | None:
        if address.kind != "user_id":
            return None
        try:
            found = await self._get(f"{self._api}/{place}")
        except SendError as error:
            if error.code == "404":
                return None
            raise
        told = {"picture": text(found, "pictureUrl"), "status": text(found, "statusMessage")}
        return Person(
            (address,),
            text(found, "displayName"),
            profile={name: value for name, value in told.items() if value},
            language=text(found, "language"),
        )

    async def probe(self) -> None:
        """Ask who we are: proves the token, and that it is this account's. Raises `SendError`."""
        found = text(await self._get(f"{self._api}/info"), "userId")
        if found != self._settings.bot_user_id:
            raise SendError("auth", "another-account", f"the access token is of the bot {found!r}, not of bot_user_id")

    async def _get(self, url: str) -> dict[str, Any]:
        answer, token = await self._ask("GET", url)
        return read_answer(answer, self._secrets(token))


def _assertion(settings: Settings) -> tuple[Any, str] | None:
    if not settings.assertion_key:
        return None
    return assertion_key(settings.assertion_key[0]), key_id(settings.assertion_key[0], settings.assertion_kid)


def read_answer(answer: HttpAnswer, secrets: tuple[Secret, ...] = ()) -> dict[str, Any]:
    """The answer's object when it is a success. Raises `SendError`; `secrets` are cut from what is shown."""
    if answer.status < 300:
        body = answer.json()
        if not isinstance(body, dict):
            raise Ambiguous("unreadable", f"status {answer.status} with a body that is no object")
        return body
    error = answer.json_or_empty()
    message = text(error, "message")
    places = (f"{text(detail, 'property')}: {text(detail, 'message')}" for _, detail in items(error, "details"))
    words = "; ".join(filter(None, (message, *places)))
    raise platform_error(
        ERRORS,
        answer.status,
        code_of(answer.status, message),
        words,
        retry_after_s=retry_after(answer.headers),
        request_id=answer.headers.get(REQUEST_ID, ""),
        secrets=secrets,
    )


def _sent(answer: dict[str, Any], request_id: str) -> Sent:
    """The first object's id, the others as aliases; none when LINE tells none, as it once did."""
    first, *others = [name for _, sent in items(answer, "sentMessages") if (name := text(sent, "id"))] or [""]
    return Sent(first, aliases=tuple(others), request_id=request_id)


_: type[Adapter] = LineAdapter
