"""Events made by hand, and a memory that batches are filed on one after another, without any store."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters import Channel, Limits, Pace
from adapters._whatsapp_facts import CHANNEL as WHATSAPP
from adapters.api import CHANNEL as API
from adapters.email import CHANNEL as EMAIL
from adapters.sms import CHANNEL as SMS
from config.secret import Secret
from gateway.ids import micros
from gateway.intake.context import Rules
from gateway.intake.decide import decide
from gateway.intake.records import Changes, EventRow, Identity, Snapshot, Ticket
from gateway.tokens import Tokens
from normalizers.model import Address, Context, Event, InboundMessage, Person, Thread

T0 = datetime(2026, 5, 12, 10, 0, tzinfo=UTC)
TOKENS = Tokens((Secret("a key of the tests only"),))
SQUARE = Channel("square", "Public square", Limits(280, "of the tests"), Pace(10, "of the tests"), private=False)
CHANNELS: Mapping[str, tuple[Channel, ...]] = {  # by account
    "wa": (WHATSAPP,),
    "wa-2": (WHATSAPP,),
    "sms": (SMS,),
    "mail": (EMAIL,),
    "mail-2": (EMAIL,),
    "api": (API,),
    "square": (SQUARE,),
    "square-2": (SQUARE,),
}


def channel(account: str, name: str) -> Channel | None:
    """What the account declares of a channel."""
    return next((declared for declared in CHANNELS.get(account, ()) if declared.name == name), None)


def rules(*matching: str, **more: Any) -> Rules:
    """The rules, with these matching attributes."""
    return Rules(channel, TOKENS, matching, **more)


# --- people and what they do ---


def phone(number: str, evidence: str = "attested") -> Address:
    """A phone number, which means the same person everywhere."""
    return Address("", "phone", number, "everywhere", evidence)  # type: ignore[arg-type]


def bsuid(value: str) -> Address:
    """WhatsApp's user id: of one account."""
    return Address("whatsapp", "bsuid", value)


def user(value: str) -> Address:
    """A user id of the public square: of the whole platform."""
    return Address("square", "user_id", value, "platform")


def mailbox(value: str, evidence: str = "attested") -> Address:
    """A mail address."""
    return Address("email", "email", value, "everywhere", evidence)  # type: ignore[arg-type]


def person(*addresses: Address, **more: Any) -> Person:
    return Person(addresses, **more)


def wrote(id: str, who: Person | Address, text: str = "Hello", on: str = "whatsapp", **more: Any) -> InboundMessage:
    """A customer's message."""
    sender = who if isinstance(who, Person) else Person((who,))
    more.setdefault("at", T0)
    return InboundMessage(id=id, channel=on, sender=sender, text=text, **more)


def mailed(
    id: str, who: Person | Address, text: str = "Hello", *, tokens: Sequence[str] = (), references: Sequence[str] = (),
    copies: Sequence[Address] = (), **more: Any,
) -> InboundMessage:  # fmt: skip
    """A customer's mail with the Message-ID `id`."""
    thread = Thread(kind="mail", tokens=tuple(tokens), references=tuple(references))
    context = Context(metadata={"message_id": id})
    return wrote(f"<{id}> hash", who, text, "email", thread=thread, context=context, recipients=tuple(copies), **more)


@dataclass(slots=True)
class Memory:
    """A snapshot that remembers: what one batch makes, the next one finds."""

    rules: Rules = field(default_factory=rules)
    account: str = "wa"
    now: datetime = T0
    snapshot: Snapshot = field(default_factory=Snapshot)
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    messages: list[dict[str, Any]] = field(default_factory=list)

    def file(self, *events: Event, account: str = "") -> Changes:
        """File a batch, as the worker does."""
        rows = [
            EventRow(self._id("event"), self._id("delivery"), account or self.account, micros(self.now), 0, event)
            for event in events
        ]
        changes = decide(rows, self.snapshot, self.rules, micros(self.now), lambda: self._id("row"))
        self._keep(changes)
        self.outcomes = [changes.outcomes[row.id] for row in rows]
        return changes

    outcomes: list[tuple[str, str]] = field(default_factory=list)

    def later(self, **by: float) -> None:
        """Let time pass."""
        self.now += timedelta(**by)

    # --- what is there now ---

    @property
    def tickets(self) -> list[Ticket]:
        """The newest ticket of every conversation, by age."""
        return sorted(self.snapshot.tickets.values(), key=lambda ticket: ticket.id)

    @property
    def ticket(self) -> Ticket:
        """The only ticket there is."""
        (found,) = self.tickets
        return found

    def identity(self, value: str, account: str = "") -> Identity:
        """The identity known by an address."""
        (found,) = {
            row.identity_id
            for row in self.snapshot.addresses.values()
            if row.value == value and row.account == (account or self.account)
        }
        return self.snapshot.identities[found]

    def contact(self, value: str, account: str = "") -> str:
        """The contact behind an address."""
        return self.identity(value, account).contact_id

    # --- inside ---

    def _id(self, kind: str) -> str:
        return f"{kind}-{next(self.ids):04d}"

    def _keep(self, changes: Changes) -> None:
        """What saving and loading again would leave in the snapshot."""
        for number, ticket in enumerate(changes.tickets, 1 + len(self.snapshot.tickets_by_number)):
            ticket.number = number
            self.snapshot.tickets_by_number[number] = ticket
        for ticket in self.snapshot.tickets_by_number.values():
            ticket.number, ticket.new, ticket.dirty = ticket.number, False, False
        for records in (self.snapshot.identities, self.snapshot.contacts, self.snapshot.conversations_by_id):
            for record in records.values():
                record.new = record.dirty = False
        self.messages += changes.messages
