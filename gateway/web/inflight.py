"""How much is being accepted right now: requests and bytes, both capped, so that a flood cannot fill the memory."""

from __future__ import annotations


class InFlight:
    """Counts what is on its way. Used from one event loop; nothing here waits."""

    __slots__ = ("bytes", "max_bytes", "max_requests", "requests")

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.requests = 0
        self.bytes = 0
        self.max_requests, self.max_bytes = max_requests, max_bytes

    def enter(self, size: int) -> bool:
        """Take a place for a request of `size` bytes; False when there is none. One that got in must `leave`."""
        if self.requests >= self.max_requests or (self.bytes + size > self.max_bytes and self.requests > 0):
            return False
        self.requests += 1
        self.bytes += size
        return True

    def leave(self, size: int) -> None:
        """Give the place back."""
        self.requests -= 1
        self.bytes -= size
