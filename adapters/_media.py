"""The guarded client for files from the outside: the one place where an address somebody else chose is fetched.

A customer, or whoever forges one, decides where these requests go. So only https to public addresses passes, judged by
the address the socket really connects to; every redirect is judged again; a credential stays with the host it was
meant for; and bytes are counted as they come, whatever the headers promise.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed
from yarl import URL

from adapters._errors import MediaError

__all__ = ["MediaClient", "MediaTimeouts", "Origin", "is_public"]

Origin = tuple[str, str, int | None]
"""Scheme, host and port."""

MAX_HOPS = 3  # redirects followed
CHUNK = 64 * 1024  # bytes
CONNECT_RETRY_S = (0.2, 0.6)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 409, 425, 429})  # statuses below 500 that a later try may better
_UNQUOTED = re.compile(r"[^\x21-\x7e]")

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments
            "192.88.99.0/24",  # 6to4 relays, withdrawn
            "64:ff9b:1::/48",  # NAT64 within one network
            "100::/64",  # discard
            "2001::/23",  # protocol assignments, Teredo among them
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing
            "fec0::/10",  # site-local, withdrawn
        ),
    )
)  # blocks some Python releases call global. Source: IANA special-purpose address registries, 2026


def is_public(address: str) -> bool:
    """Whether the IP address is one of the public network, also after unwrapping mapped, 6to4, Teredo and NAT64."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return all(_is_public(part) for part in _unwrapped(ip))


def _is_public(ip: _Ip) -> bool:
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return not any(ip in network for network in _NOT_PUBLIC)


def _unwrapped(ip: _Ip) -> tuple[_Ip, ...]:
    """The addresses a packet to `ip` may end at: the IPv4 ones inside, else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return (ip,)
    if ip.ipv4_mapped is not None:
        return (ip.ipv4_mapped,)
    if ip.sixtofour is not None:
        return (ip.sixtofour,)
    if ip in _NAT64:
        return (ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF),)
    return (ip, *ip.teredo) if ip.teredo is not None else (ip,)


class _Blocked(OSError):
    """The address is not public. No errno and one text, so that the connector hands it on as it is."""

    def __init__(self) -> None:
        super().__init__("the address is not public")


def _guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """The connector's last step before connecting: whatever name or literal led here, this is the final address."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise _Blocked
    return socket.socket(family=family, type=kind, proto=protocol)


class _GuardedResolver(AbstractResolver):
    """Drops answers that are not public, so that one bad record among good ones does no harm."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        public = [answer for answer in found if is_public(answer["host"])]
        if found and not public:
            raise _Blocked
        return public

    async def close(self) -> None:
        await self._inner.close()


class _Unreached(MediaError):
    """No connection: worth another try at once."""


class _Missing(MediaError):
    """404: some platforms announce a file before they serve it."""


@dataclass(frozen=True, slots=True)
class MediaTimeouts:
    """Seconds. `idle_s` is the longest silence, `total_s` the longest download, redirects included."""

    connect_s: float = 5.0
    idle_s: float = 15.0
    total_s: float = 300.0


@dataclass(frozen=True, slots=True)
class _Hop:
    """One request on the way to the file."""

    url: URL
    own_hosts: frozenset[Origin]
    authorization: str = field(default="", repr=False)

    @property
    def own(self) -> bool:
        return _origin(self.url) in self.own_hosts

    def next(self, location: str) -> _Hop:
        """The hop a redirect asks for; a credential does not follow to another host. Raises `MediaError`."""
        url = _parse(location, self.url)
        same = _origin(url) == _origin(self.url)
        return replace(self, url=url, authorization=self.authorization if same else "")


class MediaClient:
    """Downloads under guard. `max_bytes` is of one file.

    `allow_private` is for closed networks and tests: plain http, any port and private addresses pass too. `resolver`
    replaces the system's; its answers are judged like any.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        max_bytes: int = 100 * 2**20,
        timeouts: MediaTimeouts | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_private, self._max_bytes = allow_private, max_bytes
        self._timeouts, self._resolver = timeouts or MediaTimeouts(), resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # guarded or not; made on first use, inside the loop

    async def aclose(self) -> None:
        """Close all connections. The client may be used again afterwards."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    async def download(
        self,
        url: str,
        *,
        authorization: str = "",
        own_hosts: frozenset[Origin] = frozenset(),
        media_hosts: frozenset[str] = frozenset(),
        missing_delays_s: Sequence[float] = (),
    ) -> AsyncIterator[bytes]:
        """The file in chunks. Raises `MediaError`, also in the middle of the file.

        `own_hosts` may be loopback and plain http: the operator chose them. `authorization` is sent to them and to
        `media_hosts` (exact names, https on 443), and is dropped for good when a redirect leads to another host. A 404
        is asked again after each of `missing_delays_s`.
        """
        target = _parse(url)
        trusted = _origin(target) in own_hosts or (
            target.scheme == "https" and target.port == 443 and target.host in media_hosts
        )
        hop = _Hop(target, own_hosts, authorization if trusted else "")
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s + sum(missing_delays_s)
        response: aiohttp.ClientResponse = await _patient(_Missing, missing_delays_s)(
            _patient(_Unreached, CONNECT_RETRY_S), self._follow, hop, deadline
        )
        async with response:
            async for chunk in self._chunks(response, deadline):
                yield chunk

    async def _follow(self, hop: _Hop, deadline: float) -> aiohttp.ClientResponse:
        """The answer that carries the file, after at most `MAX_HOPS` redirects."""
        for _ in range(MAX_HOPS + 1):
            response = await self._get(hop, deadline)
            if response.status == 200:
                return response
            response.release()
            if response.status not in _REDIRECTS:
                raise _refusal(response.status)
            hop = hop.next(response.headers.get("Location", ""))
        raise MediaError(f"more than {MAX_HOPS} redirects", retryable=False)

    async def _get(self, hop: _Hop, deadline: float) -> aiohttp.ClientResponse:
        self._judge(hop)
        headers = {"Accept-Encoding": "identity"}  # what is counted is what is kept
        if hop.authorization:
            headers["Authorization"] = hop.authorization
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise MediaError("timeout", retryable=True)
        timeout = aiohttp.ClientTimeout(
            total=left, sock_connect=self._timeouts.connect_s, sock_read=self._timeouts.idle_s
        )
        session = self._session(guarded=not (hop.own or self._allow_private))
        try:
            return await session.get(hop.url, headers=headers, timeout=timeout, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError, OSError, EOFError, ValueError) as error:
            raise _transport_error(error) from None

    def _judge(self, hop: _Hop) -> None:
        """Scheme and port; the address is judged when the socket is made."""
        if hop.own:
            return
        if hop.url.scheme != "https" and not (self._allow_private and hop.url.scheme == "http"):
            raise MediaError("blocked: the address is not https", retryable=False)
        if hop.url.port not in (80, 443) and not self._allow_private:
            raise MediaError("blocked: the port is neither 80 nor 443", retryable=False)

    async def _chunks(self, response: aiohttp.ClientResponse, deadline: float) -> AsyncIterator[bytes]:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise MediaError("the file comes compressed, unasked", retryable=False)
        if (response.content_length or 0) > self._max_bytes:
            raise _too_large(self._max_bytes)
        clock, seen = asyncio.get_running_loop().time, 0
        try:
            async for chunk in response.content.iter_chunked(CHUNK):
                seen += len(chunk)
                if seen > self._max_bytes:
                    raise _too_large(self._max_bytes)
                if clock() > deadline:  # the transport's own timer sleeps while bytes are at hand
                    raise TimeoutError
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError, EOFError) as error:
            raise _transport_error(error, begun=True) from None

    def _session(self, *, guarded: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(guarded)
        if session is None:
            session = self._sessions[guarded] = aiohttp.ClientSession(
                connector=self._connector(guarded=guarded),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": "channel-gateway"},
            )
        return session

    def _connector(self, *, guarded: bool) -> aiohttp.TCPConnector:
        resolver = self._resolver or ThreadedResolver()
        if not guarded:
            return aiohttp.TCPConnector(limit=64, limit_per_host=16, resolver=resolver)
        return aiohttp.TCPConnector(
            limit=64,
            limit_per_host=16,
            resolver=_GuardedResolver(resolver),
            socket_factory=_guarded_socket,
        )


def _patient(error: type[MediaError], delays_s: Sequence[float]) -> AsyncRetrying:
    """Tries again after each delay while `error` is raised; then the error itself goes on."""
    return AsyncRetrying(
        retry=retry_if_exception_type(error),
        stop=stop_after_attempt(len(delays_s) + 1),
        wait=wait_chain(*(wait_fixed(delay) for delay in delays_s or (0,))),
        reraise=True,
    )


def _origin(url: URL) -> Origin:
    return url.scheme, url.host or "", url.port


def _parse(address: str, base: URL | None = None) -> URL:
    """The absolute address, its quoting untouched: many are signed. Raises `MediaError`."""
    try:
        url = URL(address, encoded=not _UNQUOTED.search(address))
        if base is not None and address:
            url = base.join(url)
        whole = bool(url.host) and address != ""
        has_user = "@" in url.raw_authority
    except ValueError:
        raise MediaError("blocked: not an address", retryable=False) from None
    if not whole:
        raise MediaError("blocked: not an address", retryable=False)
    if has_user:
        raise MediaError("blocked: the address holds a user name", retryable=False)
    return url.with_fragment(None)


def _refusal(status: int) -> MediaError:
    if status == 404:
        return _Missing("status 404", retryable=True)
    return MediaError(f"status {status}", retryable=status >= 500 or status in _PASSING)


def _too_large(limit: int) -> MediaError:
    return MediaError(f"larger than {limit} bytes", retryable=False)


def _transport_error(error: BaseException, *, begun: bool = False) -> MediaError:
    """What a fault of the connection means. Its text may hold a signed address and is left out."""
    if isinstance(error, _Blocked) or isinstance(getattr(error, "os_error", None), _Blocked):
        return MediaError("blocked: the address is not public", retryable=False)
    if begun:
        timed_out = isinstance(error, TimeoutError)
        return MediaError("timeout" if timed_out else "the connection broke off", retryable=True)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | ssl.SSLError):
        return _Unreached(f"unreachable: {type(error).__name__}", retryable=True)
    if isinstance(error, ValueError):
        return MediaError("blocked: not an address", retryable=False)
    return MediaError("timeout" if isinstance(error, TimeoutError) else "the connection broke off", retryable=True)
