"""The one door to platforms: whole answers, connections used again, and what never ends ended."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from adapters import Ambiguous, Http, SendError
from adapters._http import ANSWER_MAX, new_session
from adapters._media import MediaClient

WORDS = b'{"id":"p1"}'


@dataclass
class Side:
    """A platform on loopback, and our door to it."""

    url: str = ""
    http: Http | None = None
    connections: list[object] = field(default_factory=list)

    async def ask(self, path: str, data: aiohttp.FormData | None = None) -> tuple[int, bytes]:
        assert self.http is not None
        answer = await self.http.request("POST", f"{self.url}/{path}", data=data)
        return answer.status, answer.body


async def _answer(request: web.Request) -> web.StreamResponse:
    kind = request.match_info["kind"]
    if kind == "length":
        await request.read()
        return web.Response(body=WORDS)
    if kind == "nothing":
        return web.Response(status=204)
    if kind == "early":
        return web.Response(status=413, body=WORDS)
    headers = {"Content-Encoding": "gzip"} if kind == "gzip" else {}
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    if kind == "endless":
        for _ in range(ANSWER_MAX // 2**16 + 2):
            await response.write(b"x" * 2**16)
    elif kind == "half":
        await response.write(WORDS[:4])
        await asyncio.sleep(30)
    else:
        await response.write(gzip.compress(WORDS) if kind == "gzip" else WORDS)
    await response.write_eof()
    return response


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    made = Side()

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.transport not in made.connections:
            made.connections.append(request.transport)
        return await _answer(request)

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/{kind}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    media = MediaClient(allow_private=False, max_bytes=1)
    async with new_session() as session:
        made.http = Http(session, [made.url], media, timeout_s=2.0)
        yield made
    await media.aclose()
    await runner.cleanup()


async def test_an_answer_is_read_whole_and_its_connection_used_again(side: Side) -> None:
    for kind, expected in (("length", (200, WORDS)), ("chunks", (200, WORDS)), ("gzip", (200, WORDS)),
                           ("nothing", (204, b"")), ("length", (200, WORDS))):  # fmt: skip
        assert await side.ask(kind) == expected
    assert len(side.connections) == 1


async def test_an_answer_without_end_is_unreadable_and_its_connection_closed(side: Side) -> None:
    with pytest.raises(Ambiguous) as caught:
        await side.ask("endless")
    assert caught.value.code == "unreadable"
    assert await side.ask("length") == (200, WORDS)
    assert len(side.connections) == 2


async def test_half_an_answer_ends_with_a_timeout_and_its_connection_is_closed(side: Side) -> None:
    with pytest.raises(Ambiguous) as caught:
        await side.ask("half")
    assert caught.value.code == "timeout"
    assert await side.ask("length") == (200, WORDS)
    assert len(side.connections) == 2


async def test_an_answer_that_comes_before_all_was_written_is_heard(side: Side) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"x" * 2**20, filename="large")
    assert (await side.ask("early", form))[0] == 413
    assert await side.ask("length") == (200, WORDS)


async def test_no_other_host_is_asked(side: Side) -> None:
    assert side.http is not None
    with pytest.raises(SendError) as caught:
        await side.http.request("POST", "http://127.0.0.1:9/length")
    assert (caught.value.code, side.connections) == ("host-not-configured", [])
