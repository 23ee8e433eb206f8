"""When a message that surely was not sent is tried again, or given up. All waiting is stored, none is slept.

Chat: 5 s first, hourly in the end, a day at most. Mail: as mail servers do (RFC 5321, 4.5.4.1), but only for 72 h, and
24 h for automatic notices, which are stale by then. Sinks: as Svix does, a try for each delay and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

JITTER = 0.2  # of each delay, either way

_S, _MIN, _H = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Delays by number of failed tries; the last one repeats until `give_up` after the message was queued."""

    delays: tuple[timedelta, ...]
    give_up: timedelta
    give_up_automatic: timedelta
    delay_told: timedelta | None = None  # after so long agents are told that a message still waits

    def next(
        self, tries: int, queued_at: datetime, now: datetime, chance: float, *, automatic: bool
    ) -> datetime | None:
        """The moment of the next try after `tries` failed ones, or None to give up. `chance` is in [0, 1)."""
        delay = self.delays[min(max(tries, 1), len(self.delays)) - 1]
        at = now + delay * (1 + JITTER * (2 * chance - 1))
        return at if at - queued_at <= (self.give_up_automatic if automatic else self.give_up) else None


SCHEDULES: dict[str, Schedule] = {
    "chat": Schedule((5 * _S, 30 * _S, 2 * _MIN, 10 * _MIN, 30 * _MIN, _H), 24 * _H, 24 * _H),
    "sink": Schedule((5 * _S, 5 * _MIN, 30 * _MIN, 2 * _H, 5 * _H, 10 * _H, 10 * _H), 40 * _H, 40 * _H),
    "mail": Schedule(
        (_MIN, 5 * _MIN, 10 * _MIN, 20 * _MIN, 40 * _MIN, _H, 2 * _H, 4 * _H, 6 * _H), 72 * _H, 24 * _H, 4 * _H
    ),
}

THROTTLE_WAIT = 30 * _S  # when a platform says "too fast" and not how long
AUTH_PAUSE = 5 * _MIN  # between two probes of an account whose token is dead
POLICY_PAUSE = 15 * _MIN  # when an error names a pause and no length
MAIL_REPEATS = (10 * _MIN, 30 * _MIN)  # of the same bytes, after the answer to a mail's final dot was lost
RESEND_ONCE = 120 * _S  # `on_unknown = "resend_once"`: time for a receipt to prove that it arrived
UNKNOWN_HOLDS = 120 * _S  # followers wait so long for an unknown head
ASK_AFTER = 10 * _MIN  # then a person is asked about an unknown one
FIND_AFTER = (5 * _S, 30 * _S, 2 * _MIN, 10 * _MIN)  # when the platform is asked what became of an unknown one

SEND_TIMEOUT_S = {"chat": 30.0, "mail": 75.0}  # a mail's greeting, transfer and answer have their own limits
LEASE_MARGIN_S = 15.0  # a sender is believed to be alive for so much longer
ERRAND_TIMEOUT_S = 30.0  # of a question to the platform that sends nothing
SEARCH_EVERY = _MIN  # for what waits for nobody
