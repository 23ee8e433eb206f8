"""The bus of one process, and what a bus of several has in common with it: wakers, listeners, what they missed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

QUEUE_MAX = 1000  # live events a slow listener may be behind before it is cut off
REPLAY_MAX = 2000  # live events kept for listeners that come back
RESET = "reset"  # the type of an event that means: something may be missing, look at the lists again


class LiveEvent(msgspec.Struct, frozen=True):
    """Something that happened, for the console and for listeners of the API. `type` as in "ticket.created".

    The bus says the rest: the event's number in a series, and its number (0: none) among those this process published.
    """

    type: str
    data: dict[str, Any]
    account: str = ""
    series: str = ""
    number: int = 0
    own: int = 0

    @property
    def id(self) -> str:
        """What a listener comes back with: `listen(after=event.id)`."""
        return f"{self.series}-{self.number}"

    def at(self, series: str, number: int, own: int = 0) -> LiveEvent:
        """The same event in its place."""
        return LiveEvent(self.type, self.data, self.account, series, number, own)


class Place:
    """How far one listener is: in the series, and in what this process published (`own`)."""

    def __init__(self, series: str, number: int, own: int) -> None:
        self.series, self.number, self.own = series, number, own

    def pass_on(self, event: LiveEvent) -> Iterable[LiveEvent]:
        """What of it the listener is told: nothing twice, and of every gap that there is one."""
        if event.type == RESET:
            self.series, self.number = event.series, event.number
            return (event,)
        known = 0 < event.own <= self.own
        self.own = max(self.own, event.own)
        if event.series != self.series:  # told here alone, out of the series
            return () if known else (event,)
        if event.number <= self.number:
            return ()
        told = () if known else (event,)
        gap = event.number > self.number + 1
        self.number = event.number
        return (_reset(event.series, event.number - 1), *told) if gap else told


class Bus:
    """The bus of one process."""

    def __init__(self) -> None:
        self._wakers: dict[str, asyncio.Event] = {}
        self._listeners: set[asyncio.Queue[LiveEvent | None]] = set()
        self._recent: deque[LiveEvent] = deque(maxlen=REPLAY_MAX)
        self._series = secrets.token_hex(4)
        self._last = 0  # number in the series
        self._published = 0  # by this process

    async def start(self) -> None:
        """Begin to work with other processes, if there are any. Never fails."""

    async def stop(self) -> None:
        """Tell other processes what they have not been told yet, and leave them."""

    def warnings(self) -> list[str]:
        """What an operator should know, in sentences."""
        return []

    # --- waking ---

    def wake(self, topic: str, *, everywhere: bool = True) -> None:
        """Something waits for whoever works on `topic` (intake, outbox, media, ...), here and in other processes.

        Returns at once, never raises. Not `everywhere`: what waits is for this process to take.
        """
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

    # --- live events ---

    def publish(self, events: Iterable[LiveEvent]) -> None:
        """Tell every listener, in this order; one that is too far behind is cut off and comes back by its last id."""
        for event in events:
            self._last += 1
            self._tell(event.at(self._series, self._last))

    async def listen(self, after: str = "") -> AsyncIterator[LiveEvent]:
        """Live events from now on, or all after the one with the id `after`.

        Where that cannot be said any more, and at every gap, an event of type `RESET` comes first.
        """
        queue: asyncio.Queue[LiveEvent | None] = asyncio.Queue(QUEUE_MAX)
        missed, place = self._resume(after)
        self._listeners.add(queue)  # before the first wait, so that nothing falls between
        try:
            for event in missed:
                for told in place.pass_on(event):
                    yield told
            while (event_or_end := await queue.get()) is not None:
                for told in place.pass_on(event_or_end):
                    yield told
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """End every listener."""
        for queue in list(self._listeners):
            self._cut(queue)

    def _resume(self, after: str) -> tuple[list[LiveEvent], Place]:
        """What a listener has missed, and its place before that."""
        if not after:
            return [], Place(self._series, self._last, self._published)
        numbers = [event.number for event in self._recent if event.series == self._series]
        first = numbers[0] if numbers else self._last + 1
        series, number = parse_id(after)
        if not series or series != self._series:
            return [_reset(self._series, first - 1), *self._recent], Place(self._series, first - 1, 0)
        missed = [event for event in self._recent if event.series != series or event.number > number]
        if number < self._last and not any(event.series == series for event in missed):
            missed.insert(0, _reset(series, self._last))
        return missed, Place(series, number, 0)

    def _tell(self, event: LiveEvent) -> None:
        self._recent.append(event)
        self._push(event)

    def _push(self, event: LiveEvent) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._cut(queue)

    def _push_reset(self) -> None:
        self._push(_reset(self._series, self._last))

    def _cut(self, queue: asyncio.Queue[LiveEvent | None]) -> None:
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


def parse_id(given: str) -> tuple[str, int]:
    """Series and number; what is no id of ours is in no series."""
    series, _, number = given.rpartition("-")
    return (series, int(number)) if number.isascii() and number.isdigit() and len(number) < 16 else ("", 0)


def _reset(series: str, number: int) -> LiveEvent:
    return LiveEvent(RESET, {}, "", series, number)
