"""Waking and telling: workers are woken when there is something to do, live events go to whoever listens.

Nothing here is the truth. What is lost with the process, or with Redis, is found again in the database. `Bus` is the
bus of one process; `redis.RedisBus` is the same for several. `runtime.py` chooses; nobody else knows which it is.
"""

from gateway.bus.memory import QUEUE_MAX, REPLAY_MAX, RESET, Bus, LiveEvent

__all__ = ["QUEUE_MAX", "REPLAY_MAX", "RESET", "Bus", "LiveEvent"]
