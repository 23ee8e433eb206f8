"""Slots: how many messages may leave within a span, and how soon one person may get another.

A window that slides is exact: no span ever sees more than its amount, the first one included. What was taken is written
down with the message's intent (`Limiter.spent`) and read again after a restart, or by another sender (`load`). The
`limits` library counts whole numbers against the machine's own clock; fractional rates, segments, our clock and the
store's transaction do not fit into it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from adapters import Pace

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_STEPS = 100  # a quota is counted in hundredths of its span: what was taken is free again at the end of its step
_FORGET_AT = 10_000  # pairs remembered before those that are free again are dropped
_PAIR = "whole"
_Taken = list[tuple[int, int]]
_decode = msgspec.json.Decoder(dict[str, _Taken]).decode
_encode = msgspec.json.Encoder().encode


class Span(NamedTuple):
    """At most `amount` slots within any `span_us` microseconds. Counted in steps of `step_us`."""

    amount: int
    span_us: int
    step_us: int = 1

    @property
    def name(self) -> str:
        """What it is kept under; another amount starts anew."""
        return f"{self.amount}/{self.span_us}"


class Slot(NamedTuple):
    """Something messages take from: a key of its own, and what it allows. `segments`: a message costs as many slots as
    it has segments."""

    key: str
    spans: tuple[Span, ...]
    segments: bool = False


def rate(pace: Pace) -> tuple[Span, ...]:
    """The limit by the second: as many as the rate in a span of about a second, so that a burst never exceeds it."""
    amount = max(1, math.floor(pace.per_second))
    return (Span(amount, round(amount / pace.per_second * 1e6)),)


def quotas(pace: Pace) -> tuple[Span, ...]:
    """The coarser limits beside it."""
    found = [(quota.messages, quota.duration // _US) for quota in pace.quotas]
    if pace.daily is not None:
        found.append((pace.daily, _DAY_US))
    return tuple(Span(amount, span, max(span // _STEPS, 1)) for amount, span in dict.fromkeys(found))


class Spent(msgspec.Struct, frozen=True):
    """What is to be kept of one key: what was taken, until when nothing more may go, and when all is free again.
    Moments in microseconds."""

    key: str
    taken: str
    full_until: int
    until: int


@dataclass(slots=True)
class _Window:
    """What was taken of a span. A message that costs more than its amount goes alone and is paid off."""

    span: Span
    taken: deque[tuple[int, int]] = field(default_factory=deque)  # (free again at, slots)
    used: int = 0

    def free(self, now: int) -> int:
        while self.taken and self.taken[0][0] <= now:
            self.used -= self.taken.popleft()[1]
        return self.span.amount - self.used

    def fits(self, cost: int, now: int) -> bool:
        return self.free(now) >= min(cost, self.span.amount)

    def take(self, cost: int, now: int) -> None:
        amount, length, step = self.span
        weight = min(cost, amount)
        if cost > amount:
            length = length * cost // amount
        at = -(-now // step) * step + length
        if self.taken and self.taken[-1][0] == at:
            self.taken[-1] = (at, self.taken[-1][1] + weight)
        else:
            self.taken.append((at, weight))
        self.used += weight

    def full_until(self, now: int) -> int:
        return 0 if self.free(now) > 0 else self.taken[0][0]


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _US


class Limiter:
    """What was taken of all slots, and when each pair of account and person may have its next message."""

    def __init__(self) -> None:
        self._slots: dict[str, tuple[tuple[Span, ...], tuple[_Window, ...]]] = {}
        self._pairs: dict[str, int] = {}  # when a pair's allowance is whole again
        self._changed: dict[str, None] = {}

    def _of(self, slot: Slot) -> tuple[_Window, ...]:
        known = self._slots.get(slot.key)
        if known is None or known[0] != slot.spans:
            known = self._slots[slot.key] = (slot.spans, tuple(_Window(span) for span in slot.spans))
        return known[1]

    def free(self, slots: Iterable[Slot], now: datetime) -> int:
        """How many messages all of these slots have room for."""
        at = _us(now)
        return min(window.free(at) for slot in slots for window in self._of(slot))

    def free_at(self, slots: Iterable[Slot], now: datetime) -> datetime:
        """When all of them have room again."""
        at = _us(now)
        full = max(window.full_until(at) for slot in slots for window in self._of(slot))
        return now if full <= at else _EPOCH + full * _US

    def take(self, slots: Sequence[Slot], segments: int, now: datetime) -> bool:
        """Take what one message costs of all these slots; nothing, and False, when one of them has not enough."""
        at = _us(now)
        costs: list[tuple[_Window, int]] = []
        for slot in slots:
            cost = max(segments, 1) if slot.segments else 1
            for window in self._of(slot):
                if not window.fits(cost, at):
                    return False
                costs.append((window, cost))
        for window, cost in costs:
            window.take(cost, at)
        for slot in slots:
            self._changed[slot.key] = None
        return True

    def pair_free_at(self, pair: str, pace: Pace, now: datetime) -> datetime | None:
        """When one more message may go to this person; None: now."""
        if (whole := self._pairs.get(pair)) is None:
            return None
        borrowed = round(pace.pair_seconds * (pace.pair_burst - 1) * 1e6)
        at = _EPOCH + (whole - borrowed) * _US
        return at if at > now else None

    def take_pair(self, pair: str, pace: Pace, now: datetime) -> None:
        """One more message went to this person."""
        at = _us(now)
        if len(self._pairs) >= _FORGET_AT:
            self._pairs = {name: whole for name, whole in self._pairs.items() if whole > at}
        self._pairs[pair] = max(self._pairs.get(pair, at), at) + round(pace.pair_seconds * 1e6)
        self._changed[pair] = None

    # --- what the store keeps ---

    def load(self, slots: Iterable[Slot], pairs: Iterable[str], kept: Mapping[str, str]) -> None:
        """Take the store's word for what was taken of these slots and by these pairs."""
        for slot in slots:
            taken = _decode(kept[slot.key]) if slot.key in kept else {}
            windows = tuple(_Window(span) for span in slot.spans)
            self._slots[slot.key] = slot.spans, windows
            for window in windows:
                window.taken.extend(taken.get(window.span.name, ()))
                window.used = sum(weight for _, weight in window.taken)
        for pair in pairs:
            self._pairs.pop(pair, None)
            if past := (_decode(kept[pair]) if pair in kept else {}).get(_PAIR):
                self._pairs[pair] = past[0][0]

    def spent(self, now: datetime) -> list[Spent]:
        """What has changed since the last call, to be kept."""
        at = _us(now)
        found: list[Spent] = []
        for key in sorted(self._changed):
            if (known := self._slots.get(key)) is not None:
                _, windows = known
                taken = {window.span.name: list(window.taken) for window in windows}
                full = max(window.full_until(at) for window in windows)
                until = max((window.taken[-1][0] for window in windows if window.taken), default=at)
            else:
                until, full = self._pairs.get(key, at), 0
                taken = {_PAIR: [(until, 1)]}
            found.append(Spent(key, _encode(taken).decode(), full, until))
        self._changed.clear()
        return found
