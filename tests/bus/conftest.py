"""Buses of several processes side by side, and listeners that write down what they hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from gateway.bus import RESET, Bus, LiveEvent
from gateway.bus.redis import RedisBus
from gateway.metrics import Metrics
from tests.support.redis import RedisServer
from tests.support.world import eventually

PATIENCE_S = 30.0


class Ear:
    """A listener that keeps up."""

    def __init__(self, bus: Bus, after: str = "") -> None:
        self.heard: list[LiveEvent] = []
        self.ended = False
        self._task = asyncio.get_running_loop().create_task(self._listen(bus, after))

    async def _listen(self, bus: Bus, after: str) -> None:
        async for event in bus.listen(after):
            self.heard.append(event)
        self.ended = True

    @property
    def words(self) -> list[str]:
        """What was said, `RESET` included."""
        return [RESET if event.type == RESET else event.data["word"] for event in self.heard]

    @property
    def events(self) -> list[str]:
        """The same without `RESET`."""
        return [word for word in self.words if word != RESET]

    async def until(self, *words: str) -> None:
        """Wait until all of them were heard."""
        await eventually(lambda: set(words) <= set(self.words), PATIENCE_S)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def saying(*words: str) -> list[LiveEvent]:
    return [LiveEvent("message.updated", {"word": word}, "a") for word in words]


class Buses:
    """Makes buses and ears that end with the test."""

    def __init__(self, make: Callable[[], Bus], stack: AsyncExitStack) -> None:
        self._make, self._stack = make, stack

    async def bus(self) -> Bus:
        bus = self._make()
        await bus.start()
        self._stack.push_async_callback(bus.stop)
        return bus

    async def pair(self) -> tuple[Bus, Bus]:
        return await self.bus(), await self.bus()

    async def ear(self, bus: Bus, after: str = "") -> Ear:
        ear = Ear(bus, after)
        self._stack.push_async_callback(ear.close)
        await asyncio.sleep(0)  # it listens now
        return ear


@pytest.fixture
async def buses(redis_server: RedisServer) -> AsyncIterator[Buses]:
    """Buses over one Redis."""
    async with AsyncExitStack() as stack:
        yield Buses(lambda: RedisBus(redis_server.url, "tests", Metrics()), stack)


@pytest.fixture(params=["memory", "redis"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Buses]:
    """Buses of each kind: what every bus does."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield Buses(Bus, stack)
        else:
            server: RedisServer = request.getfixturevalue("redis_server")
            yield Buses(lambda: RedisBus(server.url, "tests", Metrics()), stack)


def connected(*buses: Bus) -> bool:
    return not any(bus.warnings() for bus in buses)


def in_order(heard: Sequence[str], said: Sequence[str]) -> bool:
    """Whether what was heard of it was heard in the order in which it was said, and nothing of it twice."""
    places = {word: place for place, word in enumerate(said)}
    found = [places[word] for word in heard if word in places]
    return found == sorted(set(found))
