"""Live events over HTTP: server-sent events that can be taken up again where they broke off.

An event's id names a series and its number there; with a bus of several processes it is good in all of them. Whoever
comes back with an id that is not known any more is told `reset`: something may be missing, so look at the lists again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from gateway.bus import RESET, LiveEvent
from gateway.permissions import permission
from gateway.store.dialect import StoreUnavailable
from gateway.web.auth import Authenticator, Caller
from gateway.web.problems import Problem
from gateway.web.routes import Call

HEARTBEAT_S = 15.0
BEHIND_MAX = 4000  # events a listener may be behind before it is cut off
STREAMS_MAX = 1000
PERMISSION = permission("Events", "read")
_encode = msgspec.json.Encoder().encode


class Streams:
    """All open streams of one process."""

    def __init__(self, authenticator: Authenticator, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._authenticator = authenticator
        self.heartbeat_s = heartbeat_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0

    async def serve(self, call: Call) -> web.StreamResponse:
        """`GET /api/v1/events`: until the listener goes, the key is revoked, or the gateway stops."""
        after = call.request.headers.get("Last-Event-ID") or call.query.get("after", "")
        if self._open >= STREAMS_MAX:
            raise Problem("unavailable", "too many streams are open")
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # a proxy must not collect what is meant to be live
            }
        )
        queue: asyncio.Queue[LiveEvent | None] = asyncio.Queue(BEHIND_MAX)
        listener = asyncio.get_running_loop().create_task(_listen(call.core.bus.listen(after), queue))
        self._tasks.add(listener)
        self._open += 1
        try:
            await response.prepare(call.request)
            with contextlib.suppress(ConnectionError):
                await response.write(b"retry: 2000\n: connected\n\n")
                await self._pump(response, queue, call)
        finally:
            self._open -= 1
            self._tasks.discard(listener)
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener
        return response

    async def _pump(self, response: web.StreamResponse, queue: asyncio.Queue[LiveEvent | None], call: Call) -> None:
        """Events as they come. Who listens is asked again at every heartbeat, however much there is to tell."""
        loop = asyncio.get_running_loop()
        caller: Caller | None = call.key
        due = loop.time() + self.heartbeat_s
        while True:
            event: LiveEvent | None = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    event = await queue.get()
                    if event is None:
                        return
            if loop.time() >= due:
                caller = await self._still(call, caller)
                if caller is None:
                    return
                await response.write(b": \n\n")
                due = loop.time() + self.heartbeat_s
            if event is None or caller is None:
                continue
            if event.type == RESET:
                await response.write(b"event: reset\ndata: {}\n\n")
            elif visible(caller, event):
                body = _encode(event.data)
                head = f"event: {event.type}\nid: {event.id}\ndata: ".encode()
                await response.write(head + body + b"\n\n")

    async def _still(self, call: Call, before: Caller | None) -> Caller | None:
        """The caller as he is now: with other accounts, perhaps; None when he may listen no more."""
        try:
            caller = await self._authenticator.caller(call.request)
        except Problem:
            return None
        except StoreUnavailable:
            return before
        return caller if caller.may(PERMISSION) else None

    async def close(self) -> None:
        """End every stream."""
        for task in list(self._tasks):
            task.cancel()


def visible(key: Caller, event: LiveEvent) -> bool:
    """Whether the key may see it: a limited key sees its accounts, and nothing that belongs to none."""
    return key.accounts is None or event.account in key.accounts


async def _listen(events: AsyncIterator[LiveEvent], queue: asyncio.Queue[LiveEvent | None]) -> None:
    """Move events into the queue without waiting for a slow connection; None at the end, or when too far behind."""
    try:
        async for event in events:
            queue.put_nowait(event)
    except asyncio.QueueFull:
        while not queue.empty():
            queue.get_nowait()
    finally:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)
