"""Where a customer's answer goes, as the operator says it: `[tickets] follow_up`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One `[[tickets.follow_up]]`: where an answer goes on a channel, by the ticket's status and for how long it has
    stood so. The first that fits decides; a closed ticket is never touched whatever they say."""

    action: Literal["reopen", "create", "append"]
    channel: str = ""  # empty: any
    account: str = ""
    status: tuple[str, ...] = ("solved",)
    older_than: float = 0.0  # days

    def __post_init__(self) -> None:
        for status in self.status:
            if status not in ("new", "open", "pending", "hold", "solved"):
                raise ValueError(f"status: {status!r} is not new, open, pending, hold or solved")
        if not 0 <= self.older_than <= 36_500:
            raise ValueError("older_than: must be days, 0 to 36500")
