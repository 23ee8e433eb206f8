"""How often: per address before anything is verified, per API key after."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from aiohttp import web
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

ADDRESSES_MAX = 50_000
SIGN_INS_PER_MINUTE = 10  # from one address, and for one user


class PerMinute:
    """At most `limit` a minute per address: one dictionary, because the accept path has no microseconds to give.

    Counts start anew each minute. A crowd of addresses larger than `ADDRESSES_MAX` starts it anew, too.
    """

    def __init__(self, limit: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._monotonic = limit, monotonic
        self._minute = 0
        self._counts: dict[str, int] = {}

    def allows(self, address: str) -> bool:
        """Count one; False when it is one too many."""
        minute = int(self._monotonic()) // 60
        if minute != self._minute or len(self._counts) > ADDRESSES_MAX:
            self._minute = minute
            self._counts.clear()
        count = self._counts.get(address, 0) + 1
        self._counts[address] = count
        return count <= self._limit


class KeyLimiter:
    """At most so many requests a minute per API key, over a sliding window."""

    def __init__(self, per_minute: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._item = RateLimitItemPerMinute(per_minute)

    async def wait_s(self, key_id: str) -> int:
        """Count one request: 0 when it may go on, else the whole seconds to wait."""
        if await self._limiter.hit(self._item, key_id):
            return 0
        reset_at, _ = await self._limiter.get_window_stats(self._item, key_id)
        return max(1, math.ceil(reset_at - time.time()))


SIGN_INS = web.AppKey("sign_ins", KeyLimiter)
