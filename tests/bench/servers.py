"""The servers under load, each a process of its own: `python -m tests.bench.servers KIND DIRECTORY`, prints its port.

bare: reads the body, answers 200. hmac: checks the signature before. durable: the gateway's own application on the
embedded store, every 200 on disk. platform: a platform's send call that answers after 20 ms.
All run on uvloop with the runner and collector settings the gateway uses.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
from pathlib import Path
from typing import cast

import uvloop
from aiohttp import web

from adapters import Adapter, Callback
from gateway.runtime import calm_collector
from gateway.web.app import create_app, make_runner
from tests.bench.world import make_core

PLATFORM_LATENCY_S = 0.02
_BODY_MAX = 2**22


def bare(_directory: Path) -> web.Application:
    """What any handler costs."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app = web.Application(client_max_size=_BODY_MAX)
    app.router.add_post("/webhooks/wa", handle)
    return app


def signed(directory: Path) -> web.Application:
    """What any handler that checks the signature costs; the check is the adapter's own."""
    adapter: Adapter = next(iter(make_core(directory).accounts)).adapter

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {"x-hub-signature-256": (request.headers.get("X-Hub-Signature-256", ""),)}
        adapter.verify(Callback("POST", "", "", {}, headers, body))
        return web.Response()

    app = web.Application(client_max_size=_BODY_MAX)
    app.router.add_post("/webhooks/wa", handle)
    return app


def durable(directory: Path) -> web.Application:
    """The gateway's accept path. What it keeps is filed by nobody here."""
    return create_app(make_core(directory))


class Platform(asyncio.Protocol):
    """A send call of WhatsApp's shape. Hand-made, as it shares the cores with what is measured."""

    _ids = itertools.count()

    def __init__(self) -> None:
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from it

    def data_received(self, data: bytes) -> None:
        """Answer a while after the request has come in whole; one at a time on a connection."""
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            self._got = b""
            asyncio.get_running_loop().call_later(PLATFORM_LATENCY_S, self._answer)

    def _answer(self) -> None:
        body = b'{"messaging_product":"whatsapp","contacts":[],"messages":[{"id":"wamid.out.%d"}]}' % next(self._ids)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


KINDS = {"bare": bare, "hmac": signed, "durable": durable}


async def serve(kind: str, directory: Path) -> None:
    """Listen until standard input ends."""
    directory.mkdir(parents=True, exist_ok=True)
    if kind == "platform":
        server = await asyncio.get_running_loop().create_server(Platform, "127.0.0.1", 0, backlog=1024)
        calm_collector()
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.close()
        return
    runner = make_runner(KINDS[kind](directory))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    calm_collector()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.Loop) as _runner:
        _runner.run(serve(sys.argv[1], Path(sys.argv[2])))
