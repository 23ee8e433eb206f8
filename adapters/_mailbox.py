"""What the core must be able to do with a folder that somebody else fills and an account reads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened mailbox. While `validity` is the same a number means the same mail; new mail is numbered from
    `following` on, rising."""

    validity: int
    following: int


Waiting = Literal["pushed", "time", "stopped"]


class Mailbox(Protocol):
    """A folder that somebody else fills and we read. Its methods block, except `prepare` and `abort`: they are called
    in one thread of its own. They raise `MailboxTrouble`."""

    folder: str
    start: Literal["all", "new"]  # what a mailbox brings that is seen for the first time
    poll_s: float

    async def prepare(self) -> None:
        """Get what `open` needs from elsewhere. Raises `SendError`."""
        ...

    def open(self) -> Opened: ...

    def after(self, last: int) -> list[int]:
        """The numbers above `last`, rising."""
        ...

    def sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """Bytes of each; what is gone by now is missing."""
        ...

    def received_at(self, uid: int) -> datetime | None: ...

    def fetch(self, uid: int) -> bytes | None:
        """The whole mail, unchanged in the mailbox; None when it is gone."""
        ...

    def fetch_part(self, uid: int) -> bytes | None:
        """As much of its beginning as can be had."""
        ...

    def settle(self, uid: int) -> None:
        """What the operator wants done with a mail once it is stored."""
        ...

    def wait(self, seconds: float, stop: threading.Event) -> Waiting:
        """Until something new may be there, the time is over, or `stop` is set."""
        ...

    def close(self) -> None:
        """Never raises."""
        ...

    def abort(self) -> None:
        """Cut the connection, from any thread."""
        ...


@runtime_checkable
class ReadsMailbox(Protocol):
    """Adapters whose mail may have to be fetched."""

    def mailbox(self) -> Mailbox | None:
        """None when the account has no mailbox to read."""
        ...
