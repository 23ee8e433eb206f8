"""The guarded media client against hostile addresses and real servers on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from yarl import URL

from adapters._errors import MediaError
from adapters._media import MediaClient, MediaTimeouts, Origin, _GuardedResolver, is_public

QUICK = MediaTimeouts(connect_s=2.0, idle_s=0.2, total_s=0.5)
AUTH = "Bearer t0ken"


# --- which addresses are public ---------------------------------------------------------------------------------------

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::1", "2002:a00:1::1",
    "2001:0:7f00:1::1", "2001:0:808:808:0:0:80ff:fffe", "fe80::1", "fe80::1%lo", "fc00::1", "fd12::1", "fec0::1",
    "ff02::1", "ff0e::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "localhost", "", "8.8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_other_addresses_do_not(address: str) -> None:
    assert not is_public(address)


# --- hostile addresses ------------------------------------------------------------------------------------------------

HOSTILE = {  # name of the case -> (address, why it is refused)
    "plain http": ("http://8.8.8.8/", "not https"),
    "another scheme": ("ftp://8.8.8.8/", "not https"),
    "a file": ("file:///etc/passwd", "not an address"),
    "data": ("data:text/plain,x", "not an address"),
    "no scheme": ("//8.8.8.8/x", "not https"),
    "a bare path": ("/etc/passwd", "not an address"),
    "nothing": ("", "not an address"),
    "another port": ("https://8.8.8.8:6379/", "neither 80 nor 443"),
    "port 0": ("https://8.8.8.8:0/", "neither 80 nor 443"),
    "a port out of range": ("https://8.8.8.8:99999/", "not an address"),
    "a user name": ("https://example.com@127.0.0.1/", "user name"),
    "an empty user name": ("https://@8.8.8.8/", "user name"),
    "a user name and a password": ("https://a:b@8.8.8.8/", "user name"),
    "a backslash before a user name": ("https://8.8.8.8\\@127.0.0.1/", "not an address"),
    "loopback": ("https://127.0.0.1/", "not public"),
    "loopback on port 80": ("https://127.0.0.1:80/", "not public"),
    "loopback by name": ("https://localhost/", "not public"),
    "loopback by name with a dot": ("https://localhost./", "not public"),
    "loopback in hex": ("https://0x7f.1/", "not public"),
    "loopback as one number": ("https://2130706433/", "not an address"),
    "loopback, octal": ("https://0177.0.0.1/", "not an address"),
    "loopback, short": ("https://127.1/", "not an address"),
    "loopback in wide digits": ("https://１２７.0.0.1/", "not public"),
    "loopback, IPv6": ("https://[::1]/", "not public"),
    "loopback, mapped": ("https://[::ffff:127.0.0.1]/", "not public"),
    "loopback, mapped in hex": ("https://[::ffff:7f00:1]/", "not public"),
    "loopback, 6to4": ("https://[2002:7f00:1::]/", "not public"),
    "loopback, NAT64": ("https://[64:ff9b::7f00:1]/", "not public"),
    "site-local": ("https://[fec0::1]/", "not public"),
    "all interfaces": ("https://0.0.0.0/", "not public"),
    "cloud metadata": ("https://169.254.169.254/latest/meta-data/", "not public"),
    "a private network": ("https://10.0.0.1/", "not public"),
    "a name that answers loopback": ("https://evil.example/", "not public"),
    "a line break in the path": ("https://127.0.0.1/\r\nX-Evil: 1", "not public"),
}


class Names(AbstractResolver):
    """A resolver whose one bad name answers loopback; all others are the system's."""

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host not in self._answers:
            info = await asyncio.get_running_loop().getaddrinfo(host, port, family=socket.AF_INET)
            found = [str(entry[4][0]) for entry in info[:1]]
        else:
            found = self._answers[host].split()
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in found
        ]

    async def close(self) -> None: ...


@pytest.mark.parametrize(("url", "why"), HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_address_is_refused(url: str, why: str) -> None:
    client = MediaClient(resolver=Names({"evil.example": "127.0.0.1", "localhost.": "127.0.0.1"}))
    with pytest.raises(MediaError, match=f"blocked: .*{why}") as caught:
        await read(client, url)
    assert not caught.value.retryable
    await client.aclose()


# --- servers ----------------------------------------------------------------------------------------------------------


class Site:
    """A server on loopback that notes which credential each path was asked with."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.answers: dict[str, Any] = {}
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.raw_path, request.headers.get("Authorization")))
        answer = self.answers[request.path]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, str):
            raise web.HTTPFound(answer)
        if isinstance(answer, int):
            return web.Response(status=answer)
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        response = web.StreamResponse()
        await response.prepare(request)
        await answer(request, response)
        return response

    @property
    def origin(self) -> Origin:
        return ("http", "127.0.0.1", self.server.port)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.port}{path}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.server.start_server()
    yield site
    await site.server.close()


@pytest.fixture
async def other() -> AsyncIterator[Site]:
    site = Site()
    await site.server.start_server()
    yield site
    await site.server.close()


@pytest.fixture
async def guarded() -> AsyncIterator[MediaClient]:
    client = MediaClient(max_bytes=100_000, timeouts=QUICK)
    yield client
    await client.aclose()


@pytest.fixture
async def private() -> AsyncIterator[MediaClient]:
    client = MediaClient(allow_private=True, max_bytes=100_000, timeouts=QUICK)
    yield client
    await client.aclose()


async def read(client: MediaClient, url: str, **how: Any) -> bytes:
    return b"".join([chunk async for chunk in client.download(url, **how)])


async def test_own_hosts_may_be_loopback_and_plain_http(guarded: MediaClient, site: Site) -> None:
    site.answers["/f"] = b"file"
    assert await read(guarded, site.url("/f"), own_hosts=frozenset({site.origin}), authorization=AUTH) == b"file"
    assert site.asked == [("/f", AUTH)]


async def test_an_own_host_is_one_port_not_the_machine(guarded: MediaClient, site: Site, other: Site) -> None:
    with pytest.raises(MediaError, match="blocked"):
        await read(guarded, other.url("/f"), own_hosts=frozenset({site.origin}))
    assert other.asked == []


async def test_private_networks_pass_when_allowed(private: MediaClient, site: Site) -> None:
    site.answers["/f"] = b"file"
    assert await read(private, site.url("/f"), authorization=AUTH) == b"file"
    assert site.asked == [("/f", None)]  # no host the credential was meant for


@pytest.mark.parametrize(
    "target", ["https://127.0.0.1/x", "https://[::ffff:127.0.0.1]/x", "https://localhost/x", "{other}", "file:///x", ""]
)
async def test_a_redirect_is_judged_like_a_first_address(
    guarded: MediaClient, site: Site, other: Site, target: str
) -> None:
    site.answers["/f"] = target.format(other=other.url("/x")) or 302
    with pytest.raises(MediaError, match="blocked") as caught:
        await read(guarded, site.url("/f"), own_hosts=frozenset({site.origin}), authorization=AUTH)
    assert not caught.value.retryable
    assert other.asked == []


async def test_a_credential_stays_with_its_host(private: MediaClient, site: Site, other: Site) -> None:
    site.answers |= {"/f": other.url("/g"), "/end": b"file"}
    other.answers["/g"] = site.url("/end")
    assert await read(private, site.url("/f"), own_hosts=frozenset({site.origin}), authorization=AUTH) == b"file"
    assert (site.asked, other.asked) == ([("/f", AUTH), ("/end", None)], [("/g", None)])


async def test_a_credential_follows_on_its_own_host(private: MediaClient, site: Site) -> None:
    site.answers |= {"/a/f": "../b", "/b": b"file"}
    assert await read(private, site.url("/a/f"), own_hosts=frozenset({site.origin}), authorization=AUTH) == b"file"
    assert site.asked == [("/a/f", AUTH), ("/b", AUTH)]


async def test_a_media_host_gets_no_credential_over_plain_http(private: MediaClient, site: Site) -> None:
    site.answers["/f"] = b"file"
    assert await read(private, site.url("/f"), media_hosts=frozenset({"127.0.0.1"}), authorization=AUTH) == b"file"
    assert site.asked == [("/f", None)]


async def test_three_redirects_and_no_more(private: MediaClient, site: Site) -> None:
    site.answers |= {"/4": "/3", "/3": "/2", "/2": "/1", "/1": "/0", "/0": b"file"}
    assert await read(private, site.url("/3")) == b"file"
    with pytest.raises(MediaError, match="more than 3 redirects"):
        await read(private, site.url("/4"))


async def test_signed_addresses_keep_their_quoting(private: MediaClient, site: Site) -> None:
    site.answers["/a/b"] = b"file"
    assert await read(private, site.url("/a%2fb?sig=%2b%20+&x=%C3%A4")) == b"file"
    assert site.asked == [("/a%2fb?sig=%2b%20+&x=%C3%A4", None)]


async def endless(request: web.Request, response: web.StreamResponse) -> None:
    while request.transport is not None:
        await response.write(b"x" * 10_000)


async def dripping(request: web.Request, response: web.StreamResponse) -> None:
    while request.transport is not None:
        await response.write(b"x")
        await asyncio.sleep(0.05)


async def silent(request: web.Request, response: web.StreamResponse) -> None:
    await response.write(b"x")
    await asyncio.sleep(2)


async def broken_off(request: web.Request, response: web.StreamResponse) -> None:
    await response.write(b"x")
    assert request.transport is not None
    request.transport.abort()


async def test_one_bad_answer_among_good_ones_is_dropped() -> None:
    resolver = _GuardedResolver(Names({"cdn.example": "127.0.0.1 8.8.8.8 10.0.0.1"}))
    assert [answer["host"] for answer in await resolver.resolve("cdn.example")] == ["8.8.8.8"]


BODIES = {  # name of the case -> (body, why it is refused, whether a later try may help)
    "an endless body": (endless, "larger than 100000 bytes", False),
    "a body with more than it may have": (b"x" * 100_001, "larger than 100000 bytes", False),
    "a body in drops": (dripping, "timeout", True),
    "a body that stops": (silent, "timeout", True),
    "a body that breaks off": (broken_off, "broke off", True),
    "not there": (404, "status 404", True),
    "gone": (410, "status 410", False),
    "forbidden": (403, "status 403", False),
    "too many": (429, "status 429", True),
    "broken": (500, "status 500", True),
    "no content": (204, "status 204", False),
}


@pytest.mark.parametrize(("body", "why", "retryable"), BODIES.values(), ids=BODIES)
async def test_bodies(private: MediaClient, site: Site, body: Any, why: str, retryable: bool) -> None:
    site.answers["/f"] = body
    with pytest.raises(MediaError, match=why) as caught:
        await read(private, site.url("/f"))
    assert caught.value.retryable is retryable


async def test_a_file_as_large_as_allowed_passes(private: MediaClient, site: Site) -> None:
    site.answers["/f"] = b"x" * 100_000
    assert len(await read(private, site.url("/f"))) == 100_000


async def test_a_compressed_file_is_refused_unread(private: MediaClient) -> None:
    class Zipped(Site):
        async def _answer(self, request: web.Request) -> web.StreamResponse:
            return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    zipped = Zipped()
    await zipped.server.start_server()
    with pytest.raises(MediaError, match="compressed"):
        await read(private, zipped.url("/f"))
    await zipped.server.close()


async def test_a_file_not_there_yet_is_asked_for_again(private: MediaClient, site: Site) -> None:
    site.answers["/f"] = [404, 404, b"file"]
    assert await read(private, site.url("/f"), missing_delays_s=(0.01, 0.02)) == b"file"
    assert len(site.asked) == 3


async def test_a_file_that_stays_away_is_given_up(private: MediaClient, site: Site) -> None:
    site.answers["/f"] = 404
    with pytest.raises(MediaError, match="status 404"):
        await read(private, site.url("/f"), missing_delays_s=(0.01, 0.02))
    assert len(site.asked) == 3


async def test_nobody_listening_may_be_tried_later() -> None:
    client = MediaClient()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(MediaError, match="unreachable") as caught:
        await read(client, f"http://127.0.0.1:{port}/f?sig=s3cret", own_hosts=frozenset({("http", "127.0.0.1", port)}))
    assert caught.value.retryable
    assert "s3cret" not in str(caught.value)
    await client.aclose()


async def test_a_reader_may_stop_early(private: MediaClient, site: Site) -> None:
    site.answers["/f"] = endless
    async with aclosing(cast("AsyncGenerator[bytes]", private.download(site.url("/f")))) as download:
        assert await anext(download)


async def test_no_proxy_of_the_environment(
    private: MediaClient, site: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", str(URL(other.url("/"))))
    site.answers["/f"] = b"file"
    assert await read(private, site.url("/f")) == b"file"
    assert other.asked == []
