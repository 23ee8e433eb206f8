"""Waking and telling: workers are woken when there is something to do, live events go to whoever listens.

Nothing here is the truth. What is lost with the process is found again in the database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

QUEUE_MAX = 1000  # live events a slow listener may be behind before it is cut off
REPLAY_MAX = 2000  # live events kept for listeners that come back


class LiveEvent(msgspec.Struct, frozen=True):
    """Something that happened, for the console and for listeners of the API. `type` as in "ticket.created"."""

    type: str
    data: dict[str, Any]
    account: str = ""
    id: int = 0


class Bus:
    """The bus of one process."""

    def __init__(self) -> None:
        self._wakers: dict[str, asyncio.Event] = {}
        self._listeners: set[asyncio.Queue[LiveEvent | None]] = set()
        self._recent: deque[LiveEvent] = deque(maxlen=REPLAY_MAX)
        self._count = 0

    def wake(self, topic: str) -> None:
        """Something waits for whoever works on `topic`: intake, outbox, media."""
        self._waker(topic).set()

    async def wait(self, topic: str, timeout_s: float) -> bool:
        """Until `topic` is woken or `timeout_s` has passed; True when woken."""
        waker = self._waker(topic)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):  # wait_for of Python 3.11 loses a cancellation that meets a wake-up
                await waker.wait()
        woken = waker.is_set()
        waker.clear()
        return woken

    def _waker(self, topic: str) -> asyncio.Event:
        return self._wakers.setdefault(topic, asyncio.Event())

    def publish(self, events: Iterable[LiveEvent]) -> None:
        """Tell every listener; one that is too far behind is cut off and comes back by its last id."""
        for event in events:
            self._count += 1
            numbered = LiveEvent(event.type, event.data, event.account, self._count)
            self._recent.append(numbered)
            for queue in list(self._listeners):
                try:
                    queue.put_nowait(numbered)
                except asyncio.QueueFull:
                    self._cut(queue)

    def _cut(self, queue: asyncio.Queue[LiveEvent | None]) -> None:
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def listen(self, after: int | None = None) -> AsyncIterator[LiveEvent]:
        """Live events from now on, or from after the event numbered `after` as far as they are still known."""
        queue: asyncio.Queue[LiveEvent | None] = asyncio.Queue(QUEUE_MAX)
        missed = [event for event in self._recent if after is not None and event.id > after]
        self._listeners.add(queue)  # before the first wait, so that nothing falls between
        try:
            for event in missed:
                yield event
            while (event_or_end := await queue.get()) is not None:
                yield event_or_end
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """End every listener."""
        for queue in list(self._listeners):
            self._cut(queue)
