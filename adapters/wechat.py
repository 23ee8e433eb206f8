"""WeChat Official Account (service account), by its message callbacks and the customer service messages.

Sources: WeChat, Service account, Receiving standard messages; Message encryption; Send customer service messages;
Get stable access token, 2026.

A sent message has no id, no key and no receipt: an answer that is lost stays `unknown`. Passive replies are not used:
they must leave within five seconds and tell nothing of their fate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import msgspec

from adapters._base import Adapter, Answer, Callback, Sent
from adapters._channel import Channel
from adapters._errors import HandshakeRefused, MalformedBody, MediaError, SendError, VerificationError
from adapters._http import Http
from adapters._tokens import InProcessTokens, TokenCache
from adapters._wechat_api import WeChatApi, before_sending
from adapters._wechat_body import check_content, file_of, request_for, upload_for
from adapters._wechat_crypto import KEY_CHARS, Envelope, Replays, check_fresh, check_signature
from adapters._wechat_facts import CHANNEL, MEDIA_GONE, NO_SUCH_AGENT, THUMB
from config.secret import Secrets
from normalizers import wechat
from normalizers._fields import NotWellFormed, digest, text
from normalizers._wechat_xml import BODY_MAX, load
from normalizers.model import (
    Account,
    Address,
    Attachment,
    Event,
    OutboundFile,
    OutboundMessage,
    Person,
    Received,
    Thread,
    Unreadable,
)

SUCCESS: Final = Answer(200, b"success")
"""This word or nothing, encrypted or not: of anything else the platform tells the customer as of a fault."""
FRESH_S: Final = 300.0
"""How far the time of a plain signature may be off. An encrypted post's covers the message and needs no limit."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`original_id` is the account's own id, gh_…; `kf_account` (name@alias) is shown as the one who speaks.

    `security`: "plain" takes clear and encrypted posts, "secure" encrypted ones only. Older tokens and keys stay valid
    beside the newest.
    """

    app_id: str
    app_secret: Secrets  # the first is used
    token: Secrets
    original_id: str
    encoding_aes_key: Secrets = ()
    security: Literal["plain", "secure"] = "plain"
    api_base: str = "https://api.weixin.qq.com"
    kf_account: str = ""

    def __post_init__(self) -> None:
        """Raises `ValueError` ("key: problem")."""
        for key in ("app_id", "app_secret", "token", "original_id"):
            if not getattr(self, key):
                raise ValueError(f"{key}: is empty")
        if self.security == "secure" and not any(self.encoding_aes_key):
            raise ValueError("encoding_aes_key: missing, and security is 'secure'")
        if not all(KEY_CHARS.fullmatch(key.reveal()) for key in self.encoding_aes_key if key):
            raise ValueError("encoding_aes_key: must have 43 letters and digits")


class WeChatAdapter:
    """One official account. `tokens` may be replaced, before the first call, by a cache that processes share."""

    name: ClassVar[str] = "wechat"
    channels: ClassVar[tuple[Channel, ...]] = (CHANNEL,)
    settings_type: ClassVar[type[Any]] = Settings
    signature_headers: ClassVar[tuple[str, ...]] = ()  # all signatures stand in the query
    webhook_max_bytes: ClassVar[int] = BODY_MAX

    def __init__(
        self, account: Account, settings: Settings, http: Http, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.account = msgspec.structs.replace(account, own_addresses=account.own_addresses | {settings.original_id})
        self._settings, self._clock = settings, clock
        self._envelope = Envelope(settings.app_id, tuple(filter(None, settings.encoding_aes_key)))
        self._replays = Replays(2 * FRESH_S, clock)
        self._api = WeChatApi(
            settings.app_id, settings.app_secret, settings.api_base, http, InProcessTokens(), clock
        )  # fmt: skip
        self.normalize = self._open_and_normalize  # type: ignore[method-assign]  # the class has no keys

    def __repr__(self) -> str:
        return f"WeChatAdapter({self.account.id!r})"

    @property
    def tokens(self) -> TokenCache:
        return self._api.tokens

    @tokens.setter
    def tokens(self, cache: TokenCache) -> None:
        self._api.tokens = cache

    def routing_keys(self) -> frozenset[str]:
        """The account's original id, which every callback is addressed to."""
        return frozenset({self._settings.original_id})

    # --- hearing ------------------------------------------------------------------------------------------------------

    def handshake(self, callback: Callback) -> Answer:
        """The echo as it came: it is never encrypted, whatever the mode. Raises `HandshakeRefused`."""
        query = callback.query
        echo = query.get("echostr", "")
        if not echo:
            raise HandshakeRefused("echostr is missing")
        try:
            check_signature(
                self._settings.token, query.get("signature", ""), query.get("timestamp", ""), query.get("nonce", "")
            )
        except VerificationError as error:
            raise HandshakeRefused(str(error)) from None
        return Answer(200, echo.encode("utf-8", "replace"))

    def verify(self, callback: Callback) -> None:
        """Raise `VerificationError` unless a token of ours made the signature, and a key of ours the content.

        Plain: the signature proves only that somebody once saw a callback, so it must be fresh and is good for one
        body. Encrypted: the envelope is read to find the text that was signed.
        """
        query = callback.query
        timestamp, nonce = query.get("timestamp", ""), query.get("nonce", "")
        if _encrypted(query.get("encrypt_type", "")):
            if not self._envelope:
                raise VerificationError("the content is encrypted, and no encoding_aes_key is configured")
            sealed = _sealed(callback.body)
            check_signature(self._settings.token, query.get("msg_signature", ""), timestamp, nonce, sealed)
            self._envelope.open(sealed)
            return
        if self._settings.security == "secure":
            raise VerificationError("the content is not encrypted")
        check_signature(self._settings.token, query.get("signature", ""), timestamp, nonce)
        check_fresh(timestamp, self._clock(), FRESH_S)
        self._replays.check(timestamp, nonce, callback.body)

    def well_formed(self, callback: Callback) -> None:
        """Raise `MalformedBody` unless the message, opened, is XML without a DTD, or JSON."""
        try:
            load(self._clear(callback.body, callback.query.get("encrypt_type", "")))
        except (NotWellFormed, VerificationError) as error:
            raise MalformedBody(str(error)) from None

    def acknowledge(self, callback: Callback) -> Answer:
        """The platform waits five seconds for the word, three times, and then tells the customer of a fault."""
        return SUCCESS

    @staticmethod
    def normalize(received: Received) -> tuple[Event, ...]:
        """Pure: see `normalizers.wechat`. An account's adapter opens what is encrypted first."""
        return wechat.normalize(received)

    def _open_and_normalize(self, received: Received) -> tuple[Event, ...]:
        """What is encrypted stays so in the store, and is opened when it is read."""
        try:
            clear = self._clear(received.body, received.query.get("encrypt_type", ""))
        except VerificationError as error:
            return (
                Unreadable(
                    id=digest(received.body), at=received.received_at, channel=CHANNEL.name, path="$.Encrypt",
                    problem=str(error),
                ),
            )  # fmt: skip
        return wechat.normalize(msgspec.structs.replace(received, body=clear))

    def _clear(self, body: bytes, encrypt_type: str) -> bytes:
        """The message in clear; of both copies in compatible mode the encrypted one. Raises `VerificationError`."""
        return self._envelope.open(_sealed(body)) if _encrypted(encrypt_type) else body

    # --- speaking -----------------------------------------------------------------------------------------------------

    def check_content(self, message: OutboundMessage) -> None:
        """Pure: see `_wechat_body`. Raises `ContentRefused`."""
        check_content(message)

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand the message over, once; a file is uploaded before. Raises `SendError`.

        Two refusals are mended and the message sent again, as nothing left: the agent's name is not known (then without
        one), and the uploaded file is gone (then it is uploaded again).
        """
        agent = self._settings.kf_account
        try:
            return await self._send(message, agent)
        except SendError as error:
            unknown_agent = error.code == NO_SUCH_AGENT and bool(agent)
            if not error.certain or not (unknown_agent or (error.code == MEDIA_GONE and file_of(message))):
                raise
        if not unknown_agent:
            return await self._send(message, agent)
        return replace(await self._send(message, ""), note=NO_SUCH_AGENT)

    async def _send(self, message: OutboundMessage, agent: str) -> Sent:
        file = file_of(message)
        request = request_for(message, {}, agent)  # what cannot be said costs no upload
        if file is not None:
            request = request_for(message, await self._upload(file), agent)
        answer = await self._api.call(request.path, request.body)
        return Sent(text(answer, "msgid"))

    async def _upload(self, file: OutboundFile) -> dict[str, str]:
        """The ids of the file and, for a film, of its preview. Raises `SendError`; no message has left then."""
        how = upload_for(file)
        ids = {"media_id": await self._api.upload(await self._content(file, how.max_bytes), how, file.media_type)}
        if how.type == "video" and file.preview_url:
            with suppress(MediaError, SendError):  # better without a preview than not at all: it is optional (assumed)
                picture = await _collected(self._api.download(file.preview_url), THUMB.max_bytes)
                ids["thumb_media_id"] = await self._api.upload(picture, THUMB, "image/jpeg")
        return ids

    async def _content(self, file: OutboundFile, most: int) -> bytes:
        if not file.open_path and not file.url:
            raise SendError("permanent", "file", f"{file.filename}: neither on disk nor at an address")
        try:
            if file.open_path:
                return await asyncio.to_thread(Path(file.open_path).read_bytes)
            return await _collected(self._api.download(file.url), most)
        except OSError as error:
            raise SendError("permanent", "file-gone", f"{file.filename}: {error.strerror}") from None
        except MediaError as error:
            kind: Literal["retry", "permanent"] = "retry" if error.retryable else "permanent"
            raise SendError(kind, "file-gone", f"{file.filename}: {error.reason}") from None

    async def show_typing(self, to: tuple[Address, ...], thread: Thread) -> bool:
        """For up to 15 seconds; only while messages may be sent at all. Raises `SendError`."""
        openid = next((address.value for address in to if address.kind == "openid"), "")
        if not openid:
            return False
        try:
            await self._api.call("/cgi-bin/message/custom/typing", {"touser": openid, "command": "Typing"})
        except SendError as error:
            raise before_sending(error) from None
        return True

    # --- files, people, credentials -----------------------------------------------------------------------------------

    async def fetch(self, attachment: Attachment, raw: bytes) -> AsyncIterator[bytes]:
        """The file in chunks, by its id, which is good for three days; a picture else by its address.

        Raises `MediaError`.
        """
        if not attachment.ref and not attachment.url:
            raise MediaError("the file has no id", retryable=False)
        begun = False
        if attachment.ref:
            try:
                async for chunk in self._api.media(attachment.ref):
                    begun = True
                    yield chunk
                return
            except MediaError:
                if begun or not attachment.url:
                    raise
        async for chunk in self._api.download(attachment.url):
            yield chunk

    async def profile(self, address: Address) -> Person | None:
        """What is left of profiles: whether they follow, since when, by what. Names and pictures are told no more.

        Raises `SendError`.
        """
        if address.kind != "openid":
            return None
        try:
            answer = await self._api.ask("/cgi-bin/user/info", openid=address.value, lang="zh_CN")
        except SendError as error:
            raise before_sending(error) from None
        addresses = [Address(CHANNEL.name, "openid", address.value)]
        if unionid := text(answer, "unionid"):
            addresses.append(Address(CHANNEL.name, "unionid", unionid, "platform"))
        known = {key: told for key in _PROFILE if (told := text(answer, key))}
        tags = answer.get("tagid_list")
        if isinstance(tags, list) and tags:
            known["tagid_list"] = ",".join(str(tag) for tag in tags if isinstance(tag, int))
        language = text(answer, "language").replace("_", "-")
        return Person(tuple(addresses), "", "", known, language, unreachable=answer.get("subscribe") == 0)

    async def probe(self) -> None:
        """Fetch a token: proves app id, secret and that our address is allowed. Raises `SendError`."""
        await self._api.renew()


_PROFILE: Final = ("subscribe", "subscribe_time", "subscribe_scene", "remark", "qr_scene_str")


def _encrypted(encrypt_type: str) -> bool:
    """Raises `VerificationError` for a way of hiding that nobody knows."""
    if encrypt_type not in ("", "raw", "aes"):
        raise VerificationError("an unknown encrypt_type")
    return encrypt_type == "aes"


def _sealed(body: bytes) -> str:
    """The encrypted text of the envelope. Raises `VerificationError`."""
    try:
        sealed = text(load(body), "Encrypt")
    except NotWellFormed as error:
        raise VerificationError(f"no envelope: {error}") from None
    if not sealed:
        raise VerificationError("an envelope without its content")
    return sealed


async def _collected(chunks: AsyncIterator[bytes], most: int) -> bytes:
    """All of a file of at most `most` bytes. Raises `MediaError`."""
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > most:
            raise MediaError(f"larger than {most} bytes", retryable=False)
    return bytes(content)


_: type[Adapter] = WeChatAdapter
