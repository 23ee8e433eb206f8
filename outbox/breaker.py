"""A breaker per account: while a platform is down, messages wait and use up no attempt.

Open once at least half of the last 20 sends within a minute failed (10 sends at least: one failure opens nothing). It
lasts 30 s, doubled up to 5 min as long as the one probe that is then let through fails too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

LAST = 20
LEAST = 10
SPAN = timedelta(seconds=60)
SHARE = 0.5
FIRST_OPEN, LONGEST_OPEN = timedelta(seconds=30), timedelta(minutes=5)

BreakerState = Literal["closed", "open", "half-open"]


@dataclass(slots=True)
class Breaker:
    """The state of one account. Only faults of the connection and 5xx count as failures."""

    _results: deque[tuple[datetime, bool]] = field(default_factory=lambda: deque(maxlen=LAST))
    _open_for: timedelta = timedelta(0)  # zero: closed
    _until: datetime | None = None
    _probing: bool = False
    _failed_at: datetime | None = None  # of the last failure

    def state(self, now: datetime) -> BreakerState:
        """Open until its time is over, then half-open until the probe has come back."""
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half-open"

    @property
    def until(self) -> datetime | None:
        """When it opens half, None while it is closed."""
        return self._until

    def room(self, now: datetime, wanted: int) -> int:
        """How many sends may start now."""
        match self.state(now):
            case "closed":
                return wanted
            case "open":
                return 0
            case "half-open":
                return 0 if self._probing else min(1, wanted)

    def started(self, now: datetime) -> None:
        """A send begins; half-open, it is the probe."""
        if self.state(now) == "half-open":
            self._probing = True

    def record(self, ok: bool, now: datetime) -> bool:
        """A send came back: `ok` unless the platform could not be reached or broke down. True when that has opened or
        closed the breaker."""
        if self._until is not None:
            if not self._probing:
                return False  # began before it opened
            self._probing = False
            if ok:
                self._results.clear()
                self._until, self._open_for = None, timedelta(0)
            else:
                self._trip(now)
            return True
        self._results.append((now, ok))
        if not ok:
            self._failed_at = now
        elif self._failed_at is None or now - self._failed_at > SPAN:
            return False  # nothing failed lately
        recent = [good for at, good in self._results if now - at <= SPAN]
        if len(recent) < LEAST or recent.count(False) < SHARE * len(recent):
            return False
        self._trip(now)
        return True

    def _trip(self, now: datetime) -> None:
        self._open_for = min(max(self._open_for * 2, FIRST_OPEN), LONGEST_OPEN)
        self._until = now + self._open_for
