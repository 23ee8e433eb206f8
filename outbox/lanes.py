"""What is under way for each account: so many sends at a time, and more claimed ahead while its platform is quick.

A claim beside sends takes longer than a quick platform's answer does: without the next messages at hand an account
would stand idle half of the time. So more are claimed while half as many as are under way still wait. What is claimed
ahead stands as `sending` before it has begun, and a crash leaves its outcome unknown: so nothing is, unless so many
answers in a row were quick that it begins within a moment.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from outbox.breaker import Breaker
from outbox.ports import Parcel

CONCURRENCY = 128  # sends of one account at a time: a slow platform delays nobody else's messages
BATCH = 200  # of one account in one claim
QUICK_S = 0.1  # an answer within it
AHEAD = 2  # for each send at a time so many are claimed ahead: they begin within as many quick answers
AHEAD_FROM = 32  # sends at a time from which on claiming ahead pays


class Lane:
    """The sends of one account: those in a turn, and those that wait for one. Its breaker decides whether any may
    begin."""

    def __init__(self, concurrency: int = CONCURRENCY) -> None:
        self.breaker = Breaker()
        self.claimed = 0
        self._concurrency = concurrency
        self._waiting: deque[Parcel] = deque()
        self._turns = 0  # taken
        self._quick = 0  # answers in a row that were quick

    @property
    def ahead(self) -> int:
        """How many may be claimed beyond those that are sent at a time."""
        return AHEAD * self._concurrency if self._quick >= self._concurrency >= AHEAD_FROM else 0

    def room(self, now: datetime) -> int:
        """How many more to claim."""
        return self.breaker.room(now, max(min(BATCH, self._concurrency + self.ahead - self.claimed), 0))

    def take(self, parcel: Parcel, now: datetime) -> bool:
        """One was claimed, and waits. True when a turn was free and is taken now: somebody has to send in it."""
        self.claimed += 1
        self.breaker.started(now)
        self._waiting.append(parcel)
        if self._turns >= self._concurrency:
            return False
        self._turns += 1
        return True

    def next(self) -> Parcel | None:
        """The one that has waited longest; None when nobody waits and the turn can end."""
        return self._waiting.popleft() if self._waiting else None

    def end_turn(self) -> None:
        """Nobody sends in it any more."""
        self._turns -= 1

    def drop(self) -> None:
        """Forget what waits, as a crash would."""
        self._waiting.clear()

    def done(self, took_s: float | None) -> bool:
        """One has ended; `took_s`: the seconds until the platform's answer, None where none came. True when it is time
        to claim more."""
        self.claimed -= 1
        self._quick = self._quick + 1 if took_s is not None and took_s <= QUICK_S else 0
        return self.claimed == (3 * self._concurrency // 2 if self.ahead else self._concurrency // 2)
