"""What is under way for each account: so many sends at a time, and as many claimed ahead while its platform is quick.

A claim takes as long as a quick platform's answer does: without the next messages at hand an account would stand idle
half of the time. What is claimed ahead stands as `sending` before it has begun, and a crash leaves its outcome unknown:
so nothing is, unless so many answers in a row were quick that it begins within a moment.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from outbox.breaker import Breaker

CONCURRENCY = 128  # sends of one account at a time: a slow platform delays nobody else's messages
BATCH = 200  # of one account in one claim
QUICK_S = 0.25  # an answer within it
AHEAD_FROM = 32  # sends at a time from which on claiming ahead pays


class Lane:
    """The sends of one account. Its breaker decides whether any may begin."""

    def __init__(self, concurrency: int = CONCURRENCY) -> None:
        self.breaker = Breaker()
        self.claimed = 0
        self._concurrency = concurrency
        self._turns = asyncio.Semaphore(concurrency)
        self._quick = 0  # answers in a row that were quick

    @property
    def ahead(self) -> int:
        """How many may be claimed beyond those that are sent at a time."""
        return self._concurrency if self._quick >= self._concurrency >= AHEAD_FROM else 0

    def room(self, now: datetime) -> int:
        """How many more to claim."""
        return self.breaker.room(now, max(min(BATCH, self._concurrency + self.ahead - self.claimed), 0))

    def take(self, now: datetime) -> None:
        """One was claimed."""
        self.claimed += 1
        self.breaker.started(now)

    async def turn(self) -> None:
        """Wait until one more may be sent."""
        await self._turns.acquire()

    def done(self, took_s: float | None) -> bool:
        """One has ended; `took_s`: the seconds until the platform's answer, None where none came. True when it is time
        to claim more."""
        self._turns.release()
        self.claimed -= 1
        self._quick = self._quick + 1 if took_s is not None and took_s <= QUICK_S else 0
        return self.claimed == (self._concurrency if self.ahead else self._concurrency // 2)
