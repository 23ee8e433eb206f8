"""What every simulated platform shares: a real server on loopback, faults by script, webhooks posted back.

A simulator derives from `Platform`, gives its `routes`, and lets each *sending* call go through `answer`:

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        return await self.answer(request, lambda: self._accept(form))

`_accept` does what the platform does when all goes well: it refuses by the platform's own rules, or calls `record` and
`report` and returns the success. `answer` then plays the fault that stands next in the queue around it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import aiohttp
from aiohttp import web

Fault = Literal[
    "timeout", "timeout_after_accept",  # no answer ever comes
    "reset", "reset_after_accept",  # the connection is reset instead of an answer
    "500", "500_after_accept",
    "429",  # refused for its rate, not processed
    "slow",  # accepted; the answer comes in drops, `drop_s` apart
    "garbage",  # accepted; 200 with a body nobody can read
    "half",  # accepted; half of the answer, then the connection closes
]  # fmt: skip
"""What goes wrong with a call. Without `_after_accept` (or the word accepted) the platform did nothing."""

ACCEPTING: frozenset[Fault] = frozenset(
    {"timeout_after_accept", "reset_after_accept", "500_after_accept", "slow", "garbage", "half"}
)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, zero seconds: closing sends RST
_BODY_MAX = 128 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """One send the platform took. `ours` is our own message id as it came with the request, "" if it did not."""

    ours: str
    external_id: str
    to: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Webhook:
    """One POST to our side."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class Receipts:
    """How the platform behaves when it reports on messages. May be changed at any time."""

    delay_s: float = 0.0  # before each report
    copies: int = 1  # how often each is sent
    shuffle: bool = False  # in a random order instead of one after another
    hold: bool = False  # kept back until `Platform.release`
    mute: bool = False  # never sent


@dataclass(slots=True)
class Redelivery:
    """How often a webhook that is not answered 2xx is posted again."""

    tries: int = 1
    pause_s: float = 0.05


@dataclass(slots=True)
class _State:
    """What lives from start to stop."""

    runner: web.AppRunner
    session: aiohttp.ClientSession
    url: str
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)


class Platform(ABC):
    """A simulated platform: `async with Simulator(...) as platform:`, or `start()` and `stop()`."""

    def __init__(self, *, port: int = 0, seed: int = 0) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible disorder, not a secret
        self.sends: list[Accepted] = []
        self.calls = 0  # sending calls that arrived, whatever became of them
        self.posted: list[tuple[Webhook, int]] = []  # with the status we answered; 0: no answer
        self.latency_s = 0.0  # before each answer to a sending call
        self.drop_s = 0.05  # between two bytes of a slow answer
        self.receipts, self.redelivery = Receipts(), Redelivery()
        self._faults: deque[Fault] = deque()
        self._held: list[Webhook] = []
        self._port = port
        self._state: _State | None = None

    # --- for the simulator itself -------------------------------------------------------------------------------------

    @abstractmethod
    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """The platform's own calls."""

    def throttled(self) -> web.Response:
        """The platform's answer to too many requests."""
        return web.json_response({"error": "too many requests"}, status=429)

    def broken(self) -> web.Response:
        """The platform's answer when something failed on its side."""
        return web.json_response({"error": "internal"}, status=500)

    def record(self, accepted: Accepted) -> None:
        """Remember a send the platform took."""
        self.sends.append(accepted)

    def report(self, webhooks: Iterable[Webhook]) -> None:
        """Post reports in the background, as `receipts` says. Returns at once."""
        reports = [webhook for webhook in webhooks for _ in range(self.receipts.copies)]
        if self.receipts.mute or not reports:
            return
        if self.receipts.shuffle:
            self.random.shuffle(reports)
        if self.receipts.hold:
            self._held.extend(reports)
        else:
            self.spawn(self._post_all(reports, self.receipts.delay_s))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run in the background until `stop`."""
        state = self._running()
        task = asyncio.ensure_future(work)
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)

    async def answer(self, request: web.Request, accept: Callable[[], Awaitable[web.Response]]) -> web.StreamResponse:
        """Answer a sending call: play the next fault of the queue around `accept`, or just accept."""
        self.calls += 1
        fault = self._faults.popleft() if self._faults else None
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        response = await accept() if fault is None or fault in ACCEPTING else web.Response()
        match fault:
            case None:
                return response
            case "timeout" | "timeout_after_accept":
                await self._running().stopping.wait()
                return self._cut(request)
            case "reset" | "reset_after_accept":
                return self._cut(request)
            case "500" | "500_after_accept":
                return self.broken()
            case "429":
                return self.throttled()
            case "garbage":
                return web.Response(body=b"<!doctype html><p>\xff\xfe", content_type="text/html")
            case "half":
                return await self._drops(request, response, pause_s=0.0, cut=True)
            case "slow":
                return await self._drops(request, response, pause_s=self.drop_s)

    # --- for tests and demos ------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return self._running().url

    def fail_next(self, kind: Fault, times: int = 1) -> None:
        """Let the next `times` sending calls end in this fault; faults queue up in the order they are given."""
        if kind not in get_args(Fault):
            raise ValueError(f"no fault named {kind!r}")
        self._faults.extend([kind] * times)

    def sends_of(self, ours: str) -> list[Accepted]:
        """The sends the platform took that carried this message id of ours."""
        return [accepted for accepted in self.sends if accepted.ours == ours]

    async def post_webhook(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post to our side now, again while it is not answered 2xx. Returns the last status, 0 for no answer."""
        status = 0
        for attempt in range(self.redelivery.tries):
            if attempt:
                await asyncio.sleep(self.redelivery.pause_s)
            status = await self._post_once(Webhook(url, body, dict(headers)))
            if 200 <= status < 300:
                break
        return status

    def release(self) -> None:
        """Post the reports held back so far, in the order in which they were held."""
        held, self._held = self._held, []
        self.spawn(self._post_all(held, self.receipts.delay_s))

    async def settled(self) -> None:
        """Wait until everything under way in the background has been done."""
        while tasks := self._running().tasks:
            await asyncio.gather(*tasks)

    async def start(self) -> None:
        """Listen on loopback. Raises `OSError` when the port is taken."""
        app = web.Application(client_max_size=_BODY_MAX)
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        port = runner.addresses[0][1]
        connector = aiohttp.TCPConnector(force_close=True)  # an idle connection may be closed at our side as we post
        session = aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(total=20), connector=connector)
        self._state = _State(runner, session, f"http://127.0.0.1:{port}")

    async def stop(self) -> None:
        """Stop listening and drop what is under way in the background."""
        if (state := self._state) is None:
            return
        state.stopping.set()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await state.session.close()
        await state.runner.cleanup()
        self._state = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _running(self) -> _State:
        if self._state is None:
            raise RuntimeError("the platform is not started")
        return self._state

    async def _post_all(self, webhooks: Iterable[Webhook], delay_s: float) -> None:
        for webhook in webhooks:
            if delay_s:
                await asyncio.sleep(delay_s)
            await self.post_webhook(webhook.url, webhook.body, webhook.headers)

    async def _post_once(self, webhook: Webhook) -> int:
        try:
            async with self._running().session.post(
                webhook.url, data=webhook.body, headers=webhook.headers, allow_redirects=False
            ) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = 0
        self.posted.append((webhook, status))
        return status

    @staticmethod
    def _cut(request: web.Request) -> web.Response:
        """Reset the connection; the response returned finds nobody."""
        if (transport := request.transport) is not None:
            connection: socket.socket | None = transport.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        return web.Response()

    async def _drops(
        self, request: web.Request, response: web.Response, *, pause_s: float, cut: bool = False
    ) -> web.StreamResponse:
        """The response in single bytes, or only its first half."""
        body = response.body if isinstance(response.body, bytes) else b""
        stream = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type})
        stream.content_length = len(body)
        await stream.prepare(request)
        if cut:
            await stream.write(body[: len(body) // 2])
            if request.transport is not None:
                request.transport.close()
            return stream
        stopping = self._running().stopping
        for index in range(len(body)):
            if stopping.is_set():
                break
            await stream.write(body[index : index + 1])
            await asyncio.sleep(pause_s)
        return stream
