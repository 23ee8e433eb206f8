"""The bus of several processes, over Redis.

While Redis answers, every live event goes through one stream in Redis and reaches the listeners of every process,
those of its own included, as the stream numbers it: each once, in one order, with an id that is good in every process.
While it does not, listeners here are told at once what happens here, out of the series; it is kept and follows into the
stream when Redis is back, for the others. Wake-ups are heard here in any case, and elsewhere when Redis is there.

Nobody waits for Redis: `wake` and `publish` only note what one task brings away.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Iterator

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from gateway.bus.memory import QUEUE_MAX, REPLAY_MAX, Bus, LiveEvent, Place, parse_id
from gateway.bus.relay import Entry, Page, Relay
from gateway.metrics import Metrics

log = logging.getLogger(__name__)

GATHER_S = 0.003  # what is woken and told meanwhile goes in one message
BATCH = 200  # events
PORTION = QUEUE_MAX // 2  # events told in one go
UNSEEN_MAX = 10_000  # events of ours kept for other processes while Redis is away
BEAT_S = 5.0  # how often everybody calls, wanted or not
SILENCE_S = 20.0  # who hears not even himself for so long is cut off
LOOK_S = 5.0  # how often the stream is looked at, told or not
START_S = 1.0
STOP_S = 1.0
BACKOFF_MAX_S = 5.0


class RedisBus(Bus):
    """The bus of the processes that share a Redis and a `name`. Raises `ValueError` for an address that is none."""

    def __init__(self, url: str, name: str, metrics: Metrics) -> None:
        super().__init__()
        self._origin = secrets.token_hex(4)  # also the series of what is told here alone
        self._relay = Relay(url, name, self._origin)
        self._metrics = metrics
        self._series = ""  # none known yet
        self._connected: bool | None = None  # None: not tried yet
        self._unseen: deque[LiveEvent] = deque()  # ours that have not come back by the stream; their `own` is gapless
        self._accepted = 0  # `own` of the newest one that Redis has taken
        self._gap = False  # some that others should have been told are gone
        self._heard: dict[str, int] = {}  # of each other process, which of its events was the newest here
        self._topics: set[str] = set()
        self._work, self._news, self._tried = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        metrics.bus_connected.set(0)

    async def start(self) -> None:
        """Go to Redis; returns when it has answered, or when it takes longer than a second."""
        self._task = asyncio.create_task(self._run(), name="bus")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._tried.wait()

    async def stop(self) -> None:
        """Bring away what waits, a second at most, and leave."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while self._connected and (self._topics or self._accepted < self._published):  # noqa: ASYNC110
                    await asyncio.sleep(GATHER_S)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(Exception):  # a connection that is broken already cannot be closed properly
            await self._relay.close()

    def warnings(self) -> list[str]:
        """See `Bus`."""
        return [] if self._connected else ["Redis does not answer: wake-ups and live events stay in this process"]

    def wake(self, topic: str, *, everywhere: bool = True) -> None:
        """See `Bus`."""
        super().wake(topic)
        if everywhere:
            self._topics.add(topic)
            self._work.set()

    def publish(self, events: Iterable[LiveEvent]) -> None:
        """See `Bus`."""
        for event in events:
            self._published += 1
            ours = event.at(self._origin, self._published, self._published)
            if len(self._unseen) >= UNSEEN_MAX:
                self._drop_oldest()
            self._unseen.append(ours)
            if not self._connected:
                self._tell(ours)
        self._work.set()

    def _drop_oldest(self) -> None:
        if self._unseen.popleft().own > self._accepted:
            self._accepted += 1
            self._gap = True
            self._metrics.bus_dropped.inc()

    def _resume(self, after: str) -> tuple[list[LiveEvent], Place]:
        series, number = parse_id(after)
        alone = [event for event in self._recent if event.series == self._origin]
        if series == self._origin and alone and alone[0].number <= number + 1:
            return [event for event in alone if event.number > number], Place(self._series, self._last, number)
        return super()._resume(after)

    # --- connection ---

    async def _run(self) -> None:
        """Work until cancelled. The client repeats no command: what a loss asks for is all of `_connect` again."""
        while True:
            retrying = AsyncRetrying(
                wait=wait_random_exponential(multiplier=0.2, max=BACKOFF_MAX_S),
                before_sleep=self._failed,
                sleep=asyncio.sleep,
            )
            await retrying(self._connect)
            self._found()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._hear())
                    group.create_task(self._bring())
                    group.create_task(self._follow())
            except* Exception as errors:
                await self._lost(errors.exceptions[0])
            await asyncio.sleep(0.1)  # one that lets us in and throws us out must not keep us busy

    async def _connect(self) -> None:
        """Subscribe first, then read: so nothing falls between."""
        with contextlib.suppress(Exception):  # the same; what matters is whether the new ones work
            await self._relay.leave()
        await self._relay.subscribe()
        if self._series != await self._relay.begin(secrets.token_hex(4)):
            await self._begin()
        await self._catch_up()
        await self._bring_events()  # one that takes nothing (full, read-only) is as good as none
        await self._relay.call(())

    async def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        await self._lost(error or RuntimeError())

    async def _lost(self, error: BaseException) -> None:
        if self._connected is not False:
            log.warning("bus.lost", extra={"error": type(error).__name__})  # its words may hold the address
            self._metrics.bus_connected.set(0)
            if self._connected:  # before the first connection everything is told at once
                await self._tell_unseen()
            self._connected = False
        self._tried.set()

    async def _tell_unseen(self) -> None:
        """Listeners here need not wait for what is on its way; in portions, or they would be cut off."""
        told = 0
        while self._unseen and self._unseen[-1].own > told:
            begin = max(told + 1 - self._unseen[0].own, 0)
            for event in list(itertools.islice(self._unseen, begin, begin + PORTION)):
                self._tell(event)
                told = event.own
            await asyncio.sleep(0)

    def _found(self) -> None:
        log.info("bus.connected")
        self._metrics.bus_connected.set(1)
        self._connected = True
        # what was told alone comes in its place in the series, and is kept as such
        self._recent = deque((event for event in self._recent if event.series == self._series), REPLAY_MAX)
        for waker in self._wakers.values():  # calls may have gone past us
            waker.set()
        self._tried.set()
        self._work.set()

    # --- what others say ---

    async def _hear(self) -> None:
        while True:
            async with asyncio.timeout(SILENCE_S):
                call = await self._relay.hear()
            if call is None:
                self._news.set()
            elif call.origin != self._origin:
                for topic in call.topics:
                    super().wake(topic)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
            self._news.clear()
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Read the stream to its end."""
        while True:
            page = await self._relay.read(self._last)
            if page.series != self._series:
                await self._begin()
                continue
            if not page.entries and page.count > self._last:  # they are gone from the stream already
                self._last = page.count
                self._push_reset()
            self._take(page)
            if self._last >= page.count:
                return

    def _take(self, page: Page) -> None:
        for event in self._placed(page.series, page.entries):
            while event.own and self._unseen and self._unseen[0].own <= event.own:
                self._unseen.popleft()
            self._accepted = max(self._accepted, event.own)
            self._tell(event)
        if page.entries:
            self._last = page.entries[-1][0]

    def _placed(self, series: str, entries: Iterable[tuple[int, Entry | None]]) -> Iterator[LiveEvent]:
        """What can be read of it; the rest is a gap, which listeners are told."""
        for number, entry in entries:
            if entry is None:
                continue
            ours = entry.origin == self._origin
            if not ours:
                if entry.own <= self._heard.get(entry.origin, 0):
                    continue  # we had it from the series before, and its publisher could not know
                self._heard[entry.origin] = entry.own
            yield LiveEvent(entry.type, entry.data, entry.account, series, number, entry.own if ours else 0)

    async def _begin(self) -> None:
        """Go over to the series that is under way: our first, or the next one after Redis has forgotten ours.

        Of the next one nobody here has heard anything yet, so it is read from its beginning. What stands in our first
        one may be days old: it is kept for those who come back.
        """
        series = await self._relay.begin(secrets.token_hex(4))
        page = Page(series, 0, [])
        if not self._series:
            page = await self._relay.newest()
            if page.series != series:
                raise ConnectionError("the series ended as it began")
        self._series, self._last = series, page.count
        self._recent.clear()
        self._recent.extend(self._placed(series, page.entries))
        if self._unseen:  # what the old series had taken of ours may not have reached everybody
            self._accepted = self._unseen[0].own - 1
        self._push_reset()
        self._work.set()

    # --- what we say ---

    async def _bring(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._work.wait()
            await asyncio.sleep(GATHER_S)
            self._work.clear()
            await self._bring_events()
            topics, self._topics = self._topics, set()
            try:
                await self._relay.call(topics)
            except BaseException:
                self._topics |= topics
                raise

    async def _bring_events(self) -> None:
        while self._accepted < self._published:
            begin = self._accepted + 1 - self._unseen[0].own
            batch = list(itertools.islice(self._unseen, begin, begin + BATCH))
            gap, self._gap = self._gap, False
            series, taken = self._series, False
            try:
                taken = await self._relay.publish(series, batch, gap=gap)
            finally:
                self._gap = self._gap or (gap and not taken)
            if not taken:
                self._news.set()  # whoever reads finds the new series
                return
            if series == self._series:
                self._accepted = max(self._accepted, batch[-1].own)
