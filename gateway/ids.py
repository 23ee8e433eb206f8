"""Time-ordered ids and moments as the store keeps them."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_lock = threading.Lock()
_last = 0
_chance = memoryview(b"")  # random bytes drawn ahead: one system call serves many ids


def new_id() -> str:
    """A UUIDv7 in 32 hex digits. Those of one process rise strictly, within a millisecond and when the clock jumps too.

    The 12 bits after the version count within the millisecond; a burst borrows from the next.
    """
    global _last, _chance
    now = time.time_ns() // 1_000_000 << 12
    with _lock:
        _last = tick = max(now, _last + 1)
        if not _chance:
            _chance = memoryview(os.urandom(4096))
        chance, _chance = _chance[:8], _chance[8:]
    tail = int.from_bytes(chance, "big") & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    return f"{tick >> 12:012x}7{tick & 0xFFF:03x}{tail:016x}"


class Clock(Protocol):
    """Where the time comes from: an argument, so that tests and simulations can set it."""

    def __call__(self) -> datetime:
        """Now, aware UTC."""
        ...


def system_clock() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


def micros(moment: datetime) -> int:
    """Whole microseconds since 1970 UTC."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def moment(value: int) -> datetime:
    """The aware UTC datetime of whole microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=value)


def rfc3339(value: int | None) -> str | None:
    """The moment as the API shows it: RFC 3339, UTC, milliseconds."""
    return None if value is None else moment(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
