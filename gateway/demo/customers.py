"""The customers of a demo that stays: they write now and then, and answer what an agent writes to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

from gateway.demo.acts import says
from gateway.demo.platforms import NAMES, Place, Said
from gateway.demo.transcript import Transcript
from gateway.demo.world import NotAsTold, World

FIRST_AFTER_S, EVERY_S = 8.0, (20.0, 45.0)
ANSWER_AFTER_S = (2.0, 5.0)
QUESTIONS = (
    "Where is my order? It was due yesterday.",
    "Do you have this in blue?",
    "The invoice has the old address on it.",
    "Can I still change the delivery date?",
    "The code you sent does not work.",
    "How do I return a gift?",
)
ANSWERS = (
    "Perfect, thank you!",
    "Ah, I see. Thanks!",
    "And until when?",
    "Great, that helps.",
    "Could you check once more?",
)


class Customers:
    """Everybody who writes while the demo stays."""

    def __init__(self, world: World, transcript: Transcript) -> None:
        self._world, self._out = world, transcript
        self._chance = random.Random()  # noqa: S311 - chatter, no secret

    async def live(self) -> None:
        """Write and answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            for place in self._world.on:
                group.create_task(self._answer(place, group))

    async def _write(self) -> None:
        """Somebody on one platform after another, in an order of chance: each has its turn."""
        pause_s = FIRST_AFTER_S
        while True:
            for place in self._chance.sample(places := tuple(self._world.on), len(places)):
                await asyncio.sleep(pause_s)
                pause_s = self._chance.uniform(*EVERY_S)
                words = self._chance.choice(QUESTIONS)
                await self._quietly(place.writes(self._chance.randrange(len(NAMES)), words), words)

    async def _answer(self, place: Place[Any], group: asyncio.TaskGroup) -> None:
        """Whoever an agent wrote to answers a little later."""
        sends = place.simulator.sends
        seen = len(sends)
        while True:
            await asyncio.sleep(0.5)
            fresh, seen = sends[seen:], len(sends)
            for sent in fresh:
                group.create_task(self._soon(place, sent))

    async def _soon(self, place: Place[Any], sent: Any) -> None:
        await asyncio.sleep(self._chance.uniform(*ANSWER_AFTER_S))
        words = self._chance.choice(ANSWERS)
        await self._quietly(place.answers(sent, words), words)

    async def _quietly(self, writing: Awaitable[Said | None], words: str) -> None:
        """Have it done and told. One customer's trouble is not another's."""
        try:
            await says(self._world, self._out, writing, words)
        except (NotAsTold, OSError):
            return
