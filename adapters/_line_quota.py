"""The month's messages of a LINE account: what is left of them, and what is kept back for replies.

Source: LINE, Messaging API reference, Get the target limit; Get number of messages sent this month, 2026-07. A push
counts once for each recipient, a member of a group among them; a reply by token counts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from adapters._errors import SendError, Throttled
from normalizers._fields import text, whole

_FRESH_S: Final = 300.0
_WAIT_S: Final = 3600.0

Get = Callable[[str], Awaitable[Mapping[str, Any]]]


class Quota:
    """Watches that `reserve` messages of the month stay for replies. What LINE does not tell stops nothing."""

    def __init__(self, reserve: int, get: Get, clock: Callable[[], float] = time.monotonic) -> None:
        self._reserve, self._get, self._clock = reserve, get, clock
        self._left: int | None = None  # None: without limit
        self._asked_at = float("-inf")

    async def check(self, to: str) -> None:
        """Before a push that is no reply. Raises `Throttled` when only the reserve is left."""
        if not self._reserve:
            return
        try:
            if self._clock() - self._asked_at >= _FRESH_S:
                self._left, self._asked_at = await self._look(), self._clock()
            if self._left is None:
                return
            cost = await self._cost(to)
        except SendError:
            return
        if self._left - cost < self._reserve:
            raise Throttled(
                "quota-reserve", f"{self._left} messages are left this month, and {self._reserve} are kept for replies",
                retry_after_s=_WAIT_S, pause=None,
            )  # fmt: skip
        self._left -= cost

    async def _look(self) -> int | None:
        quota = await self._get("/message/quota")
        value = whole(quota, "value")
        if text(quota, "type") != "limited" or value is None:
            return None
        return max(value - (whole(await self._get("/message/quota/consumption"), "totalUsage") or 0), 0)

    async def _cost(self, to: str) -> int:
        """How many people read it: all members of a group or room but the account itself."""
        kind = {"C": "group", "R": "room"}.get(to[:1])
        if kind is None:
            return 1
        return max(whole(await self._get(f"/{kind}/{quote(to, safe='')}/members/count"), "count") or 1, 1)
