"""What became of a send to Twilio whose answer was lost: told from the account's list of messages, or not told.

The list shows neither our id nor the callback's address. So a message of the list is ours when it went to the same
person with the same words since this try began, and is none whose id this process learned from an answer; two that fit
tell nothing. Source: Twilio, Message resource, 2026-09.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from adapters._base import Sent
from adapters._errors import SendError
from adapters._http import HttpAnswer
from normalizers._fields import items, text

KEPT: Final = 20_000  # sends remembered
MARGIN: Final = timedelta(seconds=2)  # the list counts in whole seconds
SURE_AFTER: Final = timedelta(minutes=5)  # what Twilio does not list by then it never took (assumed; calls take 15 s)


class Attempts:
    """What this process remembers of its own sends; the oldest are forgotten."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._begun: OrderedDict[str, datetime] = OrderedDict()  # our id -> when its newest try began
        self._taken: OrderedDict[str, None] = OrderedDict()  # ids of messages whose answer came

    def begin(self, ours: str) -> None:
        """A try to send begins."""
        self._begun[ours] = self._clock()
        self._begun.move_to_end(ours)
        _trim(self._begun)

    def took(self, ours: str, sid: str) -> None:
        """The answer came: nothing is open about this send."""
        self._begun.pop(ours, None)
        self._taken[sid] = None
        _trim(self._taken)

    def find(self, ours: str, form: Iterable[tuple[str, str]], listed: HttpAnswer) -> Sent | None:
        """`Sent` for the one message that can only be ours, None when Twilio surely has none.

        `form` is what was sent, `listed` the answer to the list call. Raises `SendError` when it cannot be said.
        """
        begun = self._begun.get(ours)
        if begun is None:
            raise _unsaid("not-remembered", "the send was made by another process")
        now = self._clock()
        ahead = (_date(listed.headers.get("date", "")) or now) - now  # of Twilio's clock
        since = (begun + ahead - MARGIN).replace(microsecond=0)
        sent = list(form)
        fresh = [
            message
            for _, message in items(listed.json_or_empty(), "messages")
            if text(message, "direction").startswith("outbound")
            and text(message, "sid") not in self._taken
            and (_date(text(message, "date_created")) or now) >= since
        ]
        fitting = [message for message in fresh if _fits(message, sent)]
        if len(fitting) == 1:
            return Sent(external_id=text(fitting[0], "sid"))
        if fresh:
            raise _unsaid("not-alone", "several messages to this person could be it" if fitting else "words differ")
        if now - begun < SURE_AFTER:
            raise _unsaid("not-listed", "not listed yet")
        return None


def _fits(message: Mapping[str, Any], sent: list[tuple[str, str]]) -> bool:
    values = dict(sent)
    files = sum(name == "MediaUrl" for name, _ in sent)
    return (
        "ContentSid" not in values  # Twilio fills it in: the words are not known here
        and text(message, "body") == values.get("Body", "")
        and text(message, "num_media") == str(files)
    )


def _unsaid(code: str, detail: str) -> SendError:
    return SendError("unknown", code, detail, certain=False)


def _date(value: str) -> datetime | None:
    """An RFC 2822 date."""
    try:
        found = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _trim(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > KEPT:
        kept.popitem(last=False)
