"""What the outbox asks of a store: rows claimed with a fence, outcomes recorded, waiting things woken.

`gateway.store.outbox` implements it. Every call is one transaction; what it returns is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from adapters import Adapter, Channel, ErrorClass, Pace, Sent, Suppress
from normalizers.model import OutboundMessage
from outbox.facts import Facts
from outbox.judge import Judgment
from outbox.limiter import Slot, Spent

PauseKind = Literal["account", "channel", "recipient"]


class Failure(msgspec.Struct, frozen=True):
    """What is shown of an error: the platform's code and words, and our class."""

    code: str
    error_class: ErrorClass = msgspec.field(name="class")
    detail: str = ""


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a message, claimed: the row, and what the claim gave it.

    `attempt` counts the tries that used up patience, `unknowns` those whose outcome nobody learned.
    """

    id: str
    message_id: str
    conversation_id: str
    account: str
    channel: str
    message: OutboundMessage
    queued_at: datetime
    attempt: int = 0
    attempt_id: str = ""
    unknowns: int = 0
    first_attempt_at: datetime | None = None
    fence: int = 0
    lease_until: datetime | None = None
    automatic: bool = False


class Pause(msgspec.Struct, frozen=True):
    """Who must wait, until when, and why. One of class "auth" ends early when the credentials work again."""

    scope: PauseKind
    until: datetime
    error_class: ErrorClass
    reason: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one try, to be recorded. `state` is the row's next one, `word` the attempt's."""

    parcel: Parcel
    state: Literal["sent", "queued", "held", "failed", "unknown"]
    word: Literal["sent", "retry", "throttle", "failed", "unknown", "held"]
    at: datetime
    counted: bool = True
    not_before: datetime | None = None
    error: Failure | None = None
    request_id: str = ""
    sent: Sent | None = None
    pause: Pause | None = None
    opted_out: str = ""  # the scope of an opt-out the platform told of: all, marketing
    suppress: Suppress | None = None  # the address is to be left alone
    delayed: bool = False  # it has waited so long that agents should know
    left_alone: tuple[tuple[str, Suppress, str], ...] = ()  # of several recipients: address, rule, the platform's words
    template: str = ""  # the status of its template that the platform told of


class Candidate(msgspec.Struct, frozen=True):
    """A head of its conversation, with the facts to judge it by."""

    parcel: Parcel
    facts: Facts


class Go(msgspec.Struct, frozen=True):
    """Send this, within the lease."""

    message: OutboundMessage
    lease_until: datetime


class Stay(msgspec.Struct, frozen=True):
    """No slot: the row stays as it is."""


STAY = Stay()


class Later(msgspec.Struct, frozen=True):
    """A limit of its channel is used up: not before `until`."""

    until: datetime


class Stop(msgspec.Struct, frozen=True):
    """The rules hold it back (`until`) or refuse it. `error_class` says more of why than the rule's name does."""

    judgment: Judgment
    until: datetime | None = None
    error_class: ErrorClass | None = None


Ruling = Go | Stay | Later | Stop
Decide = Callable[[Candidate], Ruling]


class Waiting(msgspec.Struct, frozen=True):
    """A pause of a whole account that is in force."""

    account: str
    until: datetime
    error_class: str


Room = Callable[[str, Waiting | None], int]
"""How many heads of an account to take now, given its pause. Asked in the store's own thread."""


class Ledger(Protocol):
    """What was taken of the accounts' pace (`outbox.pacing.Pacing`), read and written by the claim that takes it."""

    shared: bool
    loaded: bool

    def all_of(self, account: str) -> Sequence[Slot]:
        """Everything messages of an account may take from."""
        ...

    def pair(self, parcel: Parcel) -> str:
        """The key of a parcel's account and recipient, or ""."""
        ...

    def load(self, slots: Iterable[Slot], pairs: Iterable[str], kept: Mapping[str, str]) -> None:
        """What the store knows of these: `kept` has what was taken by key."""
        ...

    def spent(self, now: datetime) -> Sequence[Spent]:
        """What was taken since the last call."""
        ...


class Bound(Protocol):
    """An account as the outbox sees it (`gateway.accounts.BoundAccount`)."""

    @property
    def id(self) -> str: ...

    @property
    def adapter(self) -> Adapter: ...

    @property
    def channels(self) -> Mapping[str, Channel]: ...


class Directory(Protocol):
    """All configured accounts."""

    def get(self, account_id: str) -> Bound | None: ...


class Store(Protocol):
    """The outbox in the database. Raises the store's own errors; the dispatcher waits and tries again."""

    async def claim(self, room: Room, decide: Decide, ledger: Ledger, owner: str, now: datetime) -> Sequence[Parcel]:
        """Judge and take heads of conversations, replies before bulk, the longest due first: those that go are
        committed as `sending`, and what they take of the pace with them, when this returns."""
        ...

    async def pauses(self, now: datetime) -> Sequence[Waiting]:
        """The accounts that wait as a whole."""
        ...

    async def record(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record outcomes in one transaction. Of one whose fence is stale only what it proves is kept."""
        ...

    async def expired(self, now: datetime, *, everything: bool) -> Sequence[Parcel]:
        """Rows found in `sending` after their lease; `everything`: whatever the lease says, as nobody else is alive."""
        ...

    async def unsettled(self, now: datetime) -> Sequence[Parcel]:
        """Unknown rows of the last hour that nobody has decided on."""
        ...

    async def settle(self, parcel: Parcel, sent: Sent | None, now: datetime) -> None:
        """The truth about an unknown row: the platform has it, or (None) surely has not."""
        ...

    async def sweep(self, now: datetime) -> int:
        """Let go on what waits for a head that has been unknown for long enough, and tell people of what waits for
        their decision; how many rows were let go."""
        ...

    async def search(self, now: datetime) -> int:
        """Look through all that waits for what waits for nobody any more, and let it go; how many rows there were."""
        ...

    async def paused(self, account: str, pause: Pause, now: datetime) -> None:
        """An account must wait, found out without a message."""
        ...

    async def broken(self, account: str, until: datetime | None, reason: str, now: datetime) -> None:
        """The breaker of an account has opened until then, or (None) closed: show it, and raise the alarm."""
        ...

    async def release(self, account: str, now: datetime) -> None:
        """The account works again: end its pause, and let what is held for it go."""
        ...

    async def wait(self, timeout_s: float) -> bool:
        """Until something was queued or `timeout_s` has passed."""
        ...

    def wake(self) -> None:
        """Somebody should look again."""
        ...


PaceOf = Callable[[str, str], Pace]
"""The pace of (account, channel), the operator's `rate` included."""

Observe = Callable[[str, str], None]
"""Counts (account, outcome)."""


def recipient_of(message: OutboundMessage) -> str:
    """What a pace or pause for one person goes by."""
    return message.to[0].value if message.to else message.thread.key


def is_private_reply(message: OutboundMessage) -> bool:
    """Whether it answers in private what was said in public."""
    return message.visibility == "private" and message.thread.kind == "public"


def recipients_of(message: OutboundMessage) -> tuple[str, ...]:
    """Everybody a message goes to, those who get a copy too."""
    copies = message.mail.cc if message.mail is not None else ()
    return (*(address.value for address in message.to), *copies)


def scopes_of(account: str, channel: str, recipients: Iterable[str]) -> list[str]:
    """The pause scopes that concern messages of a channel to these recipients."""
    return ["", f"channel:{channel}", *(f"to:{recipient}"[:160] for recipient in recipients)]
