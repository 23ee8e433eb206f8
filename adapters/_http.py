"""The only door to platforms over HTTP: one request, one try, and every transport fault mapped to what it means.

An adapter's `Http` reaches the hosts its account configures and no others, follows no redirect, and never repeats a
request by itself: what may be repeated is the dispatcher's decision. Files come through `MediaClient`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from adapters._deadline import Deadline
from adapters._errors import Ambiguous, SendError, Unreachable
from adapters._media import MediaClient
from normalizers._fields import NotWellFormed, load_json

__all__ = ["Http", "HttpAnswer", "host_key", "new_session", "retry_after"]

CONNECT_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 30.0
KEEPALIVE_S = 10.0  # shorter than any platform's, so that a closed connection is not taken for a lost answer
ANSWER_MAX = 4 * 2**20  # bytes
_SECRET_QUERY = re.compile(r"([?&](?:access_token|appsecret_proof|secret|appid)=)[^&\s]+")


class HttpAnswer(msgspec.Struct, frozen=True):
    """A platform's complete answer."""

    status: int
    headers: Mapping[str, str]  # lower-case names, or any that are asked for whatever their case
    body: bytes

    def json(self) -> Any:
        """The decoded body. Raises `Ambiguous`: an answer nobody can read proves nothing."""
        try:
            return load_json(self.body)
        except NotWellFormed:
            raise Ambiguous("unreadable", f"status {self.status} with a body that is not JSON") from None

    def json_or_empty(self) -> dict[str, Any]:
        """The decoded object, or an empty one."""
        try:
            value = load_json(self.body)
        except NotWellFormed:
            return {}
        return value if isinstance(value, dict) else {}


def host_key(url: str | URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: what a credential may be sent to."""
    parsed = URL(url)
    return parsed.scheme, parsed.host or "", parsed.port


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the `Retry-After` header (seconds or an HTTP date), at most a day; None without one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdigit():
        return min(float(value), 86_400.0)
    try:
        seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), 86_400.0)


def new_session(limit: int = 0) -> aiohttp.ClientSession:
    """The session all platform calls share. Proxies of the environment are not used, cookies not kept.

    Connections are not limited here: the dispatcher limits those of each account, and one that is slow must take no
    connection from another on the same host.
    """
    connector = aiohttp.TCPConnector(limit=limit, limit_per_host=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=60)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=SEND_TIMEOUT_S, connect=None, sock_connect=CONNECT_TIMEOUT_S),
        trust_env=False,
        headers={"User-Agent": "channel-gateway"},
    )


class Http:
    """Requests for one account, only to its own hosts. Raises `Unreachable`, `Ambiguous`, or `SendError`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        hosts: Iterable[str],
        media: MediaClient,
        *,
        timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._session, self._media = session, media
        self._hosts = frozenset(host_key(host) for host in hosts)
        self._timeout_s = timeout_s
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)  # the rest is our `Deadline`

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: bytes | None = None,
        form: Iterable[tuple[str, str]] | None = None,
        data: Any = None,
        basic: tuple[str, str] | None = None,
        bearer: str = "",
    ) -> HttpAnswer:
        """One request, whole answer. `json` is the encoded body. Any status is an answer; only transport faults raise.

        The client library sends PUT, DELETE and GET once more after a disconnect: a send must be a POST.
        """
        target = URL(url, encoded=True)
        if host_key(target) not in self._hosts:
            raise SendError("permanent", "host-not-configured", f"{target.host} is no host of this account")
        sent_headers = dict(headers or {})
        if authorization := _authorization(bearer, basic):
            sent_headers["Authorization"] = authorization
        body: Any = data
        if json is not None:
            sent_headers.setdefault("Content-Type", "application/json")
            body = json
        elif form is not None:
            body = aiohttp.FormData(list(form))
        try:
            with Deadline(self._timeout_s):
                response = await self._session.request(
                    method,
                    target,
                    data=body,
                    headers=sent_headers,
                    allow_redirects=False,
                    timeout=self._timeout,
                )
                content = await _whole(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ssl.SSLError) as error:
            raise Unreachable(_words(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError, EOFError) as error:
            raise Ambiguous(_code(error), _words(error)) from None
        return HttpAnswer(response.status, response.headers, content)

    def download(
        self,
        url: str,
        *,
        bearer: str = "",
        basic: tuple[str, str] | None = None,
        authorization: str = "",
        media_hosts: Iterable[str] = (),
        missing_delays_s: Sequence[float] = (),
    ) -> AsyncIterator[bytes]:
        """A file in chunks through the guarded client, from any public host or one of the account's own.

        The credential (`authorization`: the header's whole value) goes to the account's hosts and to `media_hosts`
        (host names, https only), and never across a redirect to another host. A 404 is asked again after each of
        `missing_delays_s`. Raises `MediaError`.
        """
        return self._media.download(
            url,
            authorization=authorization or _authorization(bearer, basic),
            own_hosts=self._hosts,
            media_hosts=frozenset(media_hosts),
            missing_delays_s=missing_delays_s,
        )


def _authorization(bearer: str, basic: tuple[str, str] | None) -> str:
    """The header's value, "" without a credential."""
    return aiohttp.encode_basic_auth(*basic) if basic else f"Bearer {bearer}" if bearer else ""


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The whole answer, and its connection given back. Raises `Ambiguous` past `ANSWER_MAX`: no platform's answer is
    that long."""
    if (response.content_length or ANSWER_MAX) < ANSWER_MAX and "Content-Encoding" not in response.headers:
        return await response.read()  # ends the response, whatever happens
    pieces: list[bytes] = []
    size = 0
    async with response:
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > ANSWER_MAX:
                raise Ambiguous("unreadable", f"an answer of more than {ANSWER_MAX} bytes")
            pieces.append(piece)
    return b"".join(pieces)


def _code(error: BaseException) -> str:
    return "timeout" if isinstance(error, TimeoutError) else "connection-lost"


def _words(error: BaseException) -> str:
    return _SECRET_QUERY.sub(r"\1***", f"{type(error).__name__}: {error}")[:300]
