"""Named points around every commit of delivery, at which a test lets the process die.

In production nobody has armed one, and passing costs a comparison. `written`: all of it is written and not committed;
`committed`: it is durable, and nobody has been told.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

POINTS = (
    "enqueue.written",
    "enqueue.committed",
    "claim.written",
    "claim.committed",
    "send.begun",
    "send.answered",
    "record.written",
    "record.committed",
    "settle.written",
    "settle.committed",
    "sweep.written",
    "sweep.committed",
    "receipts.written",
    "receipts.committed",
    "decide.written",
    "decide.committed",
    "job.written",
    "job.committed",
)

_armed: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """The process passes this point."""
    if _armed is not None:
        _armed(name)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(name: str, passing: int = 1, die: Callable[[], None] = _kill) -> None:
    """Die, as by `kill -9`, when the point `name` is passed for the `passing`-th time. Raises `ValueError`."""
    global _armed
    if name not in POINTS:
        raise ValueError(f"no crash point named {name!r}")
    left = passing

    def passed(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                die()

    _armed = passed


def disarm() -> None:
    """Nobody dies any more."""
    global _armed
    _armed = None
