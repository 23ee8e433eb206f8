"""The calls of one official account: every one with the shared access token, its error in a 200 with an `errcode`.

Sources: WeChat, Service account, Get stable access token; Upload temporary media; Get temporary media; Global return
codes, 2026.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec

from adapters._errors import Ambiguous, MediaError, SendError, hide, platform_error
from adapters._http import Http, HttpAnswer, retry_after
from adapters._tokens import Token, TokenCache, current, renewed
from adapters._wechat_facts import DAILY_QUOTA, ERRORS, TOKEN_REFUSED, Upload
from config.secret import Secret
from normalizers._fields import NotWellFormed, load_json, number, text

TOKEN_PATH: Final = "/cgi-bin/stable_token"  # noqa: S105 - a path
RENEW_BEFORE_S: Final = 300.0  # in its last five minutes a token is renewed, and both are taken
TOKEN_LIFE_S: Final = 7200.0
_CHINA: Final = timezone(timedelta(hours=8))
_RID: Final = re.compile(r"rid:\s*([0-9A-Za-z-]+)")
_OWN_HOST: Final = re.compile(r"http://(?:[A-Za-z0-9-]+\.)*(?:qpic\.cn|qlogo\.cn|qq\.com)/")
_NOTICE_MAX: Final = 64 * 1024  # bytes of an error that stands where a file should

_encode = msgspec.json.encode  # raw UTF-8: escaped text may be shown as it is written (assumed)


class WeChatApi:
    """Calls with the account's token. `tokens` may be replaced by a cache that other processes share."""

    def __init__(
        self, app_id: str, secrets: Sequence[Secret], api_base: str, http: Http, tokens: TokenCache,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._app_id, self._secrets, self._http, self._clock = app_id, tuple(secrets), http, clock
        self._base = api_base.rstrip("/")
        self.tokens = tokens
        self._key = f"wechat:{self._base}:{app_id}"

    async def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One POST of JSON. Raises `SendError`."""
        sent = _encode(body)
        return await self._with_token(lambda token: self._request("POST", path, token, json=sent))

    async def ask(self, path: str, **query: str) -> dict[str, Any]:
        """One GET. Raises `SendError`."""
        return await self._with_token(lambda token: self._request("GET", path, token, query=query))

    async def upload(self, content: bytes, how: Upload, media_type: str) -> str:
        """The id under which the platform keeps a file for three days. Raises `SendError`; no message has left then."""

        def post(token: Secret) -> Awaitable[HttpAnswer]:
            form = aiohttp.FormData()
            form.add_field("media", io.BytesIO(content), filename=f"file.{how.suffix}", content_type=media_type)
            return self._request("POST", "/cgi-bin/media/upload", token, query={"type": how.type}, data=form)

        try:
            answer = await self._with_token(post)
        except SendError as error:
            raise before_sending(error) from None
        media_id = text(answer, "media_id") or text(answer, "thumb_media_id")
        if not media_id:
            raise SendError("retry", "no-media-id", "the upload brought no id")
        return media_id

    async def media(self, media_id: str) -> AsyncIterator[bytes]:
        """A file in chunks. Raises `MediaError`.

        Where something is wrong, or a film lies elsewhere, JSON comes in the file's place, with status 200.
        """
        refused = ""
        for fresh_left in (True, False):
            token = await self._media_token(refused)
            chunks = self._http.download(self._url("/cgi-bin/media/get", token, {"media_id": media_id}))
            notice, begun = b"", False
            async for chunk in chunks:
                if begun or (chunk[:1] != b"{" and not notice):
                    begun = True
                    yield chunk
                elif len(notice := notice + chunk) > _NOTICE_MAX:
                    raise MediaError("neither a file nor an answer", retryable=False)
            if not notice:
                return
            told = _object(notice)
            if address := text(told, "video_url"):  # unverified
                async for chunk in self._http.download(https(address)):
                    yield chunk
                return
            if text(told, "errcode") not in TOKEN_REFUSED or not fresh_left:
                raise self._media_error(told, token)
            refused = token.reveal()

    def download(self, url: str) -> AsyncIterator[bytes]:
        """A file from any public address. Raises `MediaError`."""
        return self._http.download(https(url))

    async def token(self, refused: str = "") -> Secret:
        """The access token; a fresh one when the platform has `refused` this. Raises `SendError`: nothing was sent."""
        return await current(self.tokens, self._key, self._clock(), self._fetch_token, refused=refused)

    async def renew(self) -> None:
        """Fetch a token, whatever is in the cache: proves the credentials. Raises `SendError`."""
        await renewed(self.tokens, self._key, self._clock(), self._fetch_token, always=True)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _with_token(self, request: Callable[[Secret], Awaitable[HttpAnswer]]) -> dict[str, Any]:
        """The answer; with a fresh token once more when the platform refused the first one, and so did nothing.

        It is never forced to make a new token: that would take it from every other system of the account.
        """
        token = await self.token()
        try:
            return self._read(await request(token), token)
        except SendError as error:
            if error.code not in TOKEN_REFUSED or not error.certain:
                raise
            fresh = await self.token(refused=token.reveal())
            if fresh == token:
                raise
        return self._read(await request(fresh), fresh)

    async def _fetch_token(self, last: Token | None) -> Token:
        body = {"grant_type": "client_credential", "appid": self._app_id, "secret": self._secrets[0].reveal(),
                "force_refresh": False}  # fmt: skip
        asked_at = self._clock()
        try:
            answer = self._read(await self._http.request("POST", f"{self._base}{TOKEN_PATH}", json=_encode(body)))
        except SendError as error:
            raise before_sending(error) from None
        value, life = text(answer, "access_token"), number(answer, "expires_in") or TOKEN_LIFE_S
        if not value:
            raise SendError("retry", "no-token", "the platform gave no access token")
        return Token(Secret(value), asked_at + max(life - RENEW_BEFORE_S, life / 2))

    async def _request(
        self, method: str, path: str, token: Secret, *, query: Mapping[str, str] | None = None,
        json: bytes | None = None, data: Any = None,
    ) -> HttpAnswer:  # fmt: skip
        return await self._http.request(method, self._url(path, token, query or {}), json=json, data=data)

    def _url(self, path: str, token: Secret, query: Mapping[str, str]) -> str:
        return f"{self._base}{path}?{urlencode({'access_token': token.reveal(), **query})}"

    def _read(self, answer: HttpAnswer, token: Secret | None = None) -> dict[str, Any]:
        """The answer's object when it is a success: no `errcode`, or 0. Raises `SendError`."""
        body: dict[str, Any] | Any = answer.json() if answer.status < 300 else answer.json_or_empty()
        if not isinstance(body, dict):
            raise Ambiguous("unreadable", f"status {answer.status} with a body that is no object")
        code = text(body, "errcode")
        if answer.status < 300 and code in ("", "0"):
            return body
        words = text(body, "errmsg")
        rid = _RID.search(words)
        raise platform_error(
            ERRORS,
            answer.status,
            "" if code == "0" else code,
            words,
            retry_after_s=self._to_midnight() if code == DAILY_QUOTA else retry_after(answer.headers),
            request_id=rid[1] if rid else "",
            secrets=(*self._secrets, token),
        )

    def _to_midnight(self) -> float:
        """Seconds until the day's quotas are new: midnight in China (assumed)."""
        now = datetime.fromtimestamp(self._clock(), UTC).astimezone(_CHINA)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight - now).total_seconds()

    async def _media_token(self, refused: str) -> Secret:
        try:
            return await self.token(refused)
        except SendError as error:
            raise MediaError(f"no access token: {error.code} {error.detail}".rstrip(), retryable=True) from None

    def _media_error(self, told: Mapping[str, Any], token: Secret) -> MediaError:
        code = text(told, "errcode")
        rule = ERRORS.get(code)
        gone = rule is not None and rule.error_class in ("permanent", "bad-recipient")
        words = hide(text(told, "errmsg"), (*self._secrets, token))
        return MediaError(f"{code} {words}".strip()[:300] or "no file", retryable=not gone)


def before_sending(error: SendError) -> SendError:
    """The same error for a call made ahead of the message itself: whatever became of it, no message left."""
    if error.certain:
        return error
    return SendError("retry", error.code, error.detail, request_id=error.request_id)


def https(address: str) -> str:
    """The platform writes its own hosts with http too, and serves them all with https (assumed)."""
    return "https" + address.removeprefix("http") if _OWN_HOST.match(address) else address


def _object(notice: bytes) -> Mapping[str, Any]:
    try:
        value = load_json(notice)
    except NotWellFormed:
        return {}
    return value if isinstance(value, dict) else {}
