"""`gateway`, but for its senders, which hardly ever look for work by themselves: what is sent was told of."""

from __future__ import annotations

from gateway.__main__ import main
from outbox import dispatcher

if __name__ == "__main__":
    dispatcher.POLL_S = 3600.0
    main()
