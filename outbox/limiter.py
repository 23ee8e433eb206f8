"""Slots: how many messages an account may send now, and how soon one person may get another.

A window that slides is exact: no second ever sees more than the rate, the first one included. The `limits` library
counts whole numbers against the machine's own clock; fractional rates, segments and our clock do not fit into it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from adapters import Pace

_FORGET_AT = 10_000  # pairs remembered before those that are free again are dropped


@dataclass(slots=True)
class _Slots:
    """At most `amount` within any `window`. A message that costs more than `amount` goes alone and is paid off."""

    rate: float
    taken: deque[tuple[datetime, int]] = field(default_factory=deque)  # (free again at, slots)
    used: int = 0

    @property
    def amount(self) -> int:
        return max(1, math.floor(self.rate))

    def _expire(self, now: datetime) -> None:
        while self.taken and self.taken[0][0] <= now:
            self.used -= self.taken.popleft()[1]

    def free(self, now: datetime) -> int:
        self._expire(now)
        return self.amount - self.used

    def take(self, cost: int, now: datetime) -> bool:
        weight = min(cost, self.amount)
        if self.free(now) < weight:
            return False
        span = max(cost, self.amount) / self.rate if cost > self.amount else self.amount / self.rate
        self.taken.append((now + timedelta(seconds=span), weight))
        self.used += weight
        return True

    def free_at(self, now: datetime) -> datetime:
        return now if self.free(now) > 0 else self.taken[0][0]


class Limiter:
    """The slots of all accounts of one process. Losing them loses no message: the platform then says "too fast"."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Slots] = {}
        self._pairs: dict[Hashable, datetime] = {}  # when a pair's allowance is whole again

    def _slots(self, account: str, pace: Pace) -> _Slots:
        slots = self._accounts.get(account)
        if slots is None or slots.rate != pace.per_second:
            slots = self._accounts[account] = _Slots(pace.per_second)
        return slots

    def free(self, account: str, pace: Pace, now: datetime) -> int:
        """How many slots the account has now."""
        return self._slots(account, pace).free(now)

    def free_at(self, account: str, pace: Pace, now: datetime) -> datetime:
        """When the account has a slot again."""
        return self._slots(account, pace).free_at(now)

    def pair_free_at(self, account: str, person: str, pace: Pace, now: datetime) -> datetime | None:
        """When one more message may go to this person; None: now."""
        if pace.pair_seconds <= 0:
            return None
        whole = self._pairs.get((account, person))
        if whole is None:
            return None
        borrowed = timedelta(seconds=pace.pair_seconds * (pace.pair_burst - 1))
        return whole - borrowed if whole - borrowed > now else None

    def take(self, account: str, person: str, pace: Pace, cost: int, now: datetime) -> bool:
        """Take the slots of one message; False when the account has not enough of them."""
        if not self._slots(account, pace).take(max(cost, 1), now):
            return False
        if pace.pair_seconds > 0:
            if len(self._pairs) >= _FORGET_AT:
                self._pairs = {pair: whole for pair, whole in self._pairs.items() if whole > now}
            start = max(self._pairs.get((account, person), now), now)
            self._pairs[account, person] = start + timedelta(seconds=pace.pair_seconds)
        return True
