"""What the decisions of one batch are made with: the snapshot, the changes, the rules, and where ids come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from adapters import Channel
from gateway.intake.records import Changes, Identity, Snapshot
from gateway.intake.suspension import OPEN, Screen
from gateway.tickets import Policy
from gateway.vip import VipPolicy


class TokenReader(Protocol):
    """Reads what only we can have made (`gateway.tokens.Tokens`)."""

    def ticket_number(self, token: str) -> int | None: ...

    def own_message(self, mail_id: str) -> str | None: ...

    def loop_token(self) -> str: ...

    def keyed_hash(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """The operator's choices and the channels' declarations."""

    channel: Callable[[str, str], Channel | None]  # (account, channel)
    tokens: TokenReader
    matching: tuple[str, ...] = ()
    tickets: Policy = field(default_factory=Policy)
    vip: VipPolicy = field(default_factory=VipPolicy)
    region: Callable[[str], str] = lambda account: ""
    own_addresses: frozenset[str] = frozenset()
    screen: Callable[[str, str], Screen] = lambda account, channel: OPEN
    suspended_for: timedelta = timedelta(days=14)
    automatic: Callable[[str], frozenset[str]] = lambda account: frozenset()  # events an account tells customers of


@dataclass(slots=True)
class Context:
    """One batch being decided. `now` is in microseconds, `new_id` makes time-ordered ids."""

    snapshot: Snapshot
    rules: Rules
    now: int
    new_id: Callable[[], str]
    changes: Changes = field(default_factory=Changes)

    @property
    def matching(self) -> tuple[str, ...]:
        return self.rules.matching

    def region(self, account: str) -> str:
        return self.rules.region(account)

    def attribute_of(self, account: str, channel: str, kind: str) -> str:
        """The attribute an address of this kind fills ("phone", "email"), or ""."""
        declared = self.rules.channel(account, channel)
        return declared.attribute_of.get(kind, "") if declared else ""

    def conflict(self, identity: Identity, contact: str, attribute: str, value: str) -> None:
        """Two contacts match but contradict each other: a person must decide."""
        self.changes.conflicts.append(
            {"identity_id": identity.id, "contact_id": identity.contact_id, "other_contact_id": contact,
             "attribute": attribute, "value": value}
        )  # fmt: skip

    def tell(self, kind: str, data: dict[str, Any], account: str) -> None:
        """A live event, published once the batch is durable."""
        self.changes.live.append((kind, data, account))

    def rename_contact(self, gone: str, winner: str) -> None:
        """All that this batch knows of one contact now belongs to another."""
        snapshot, changes = self.snapshot, self.changes
        if gone in snapshot.vips:
            snapshot.vips.add(winner)
        for identity in snapshot.identities.values():
            if identity.contact_id == gone:
                identity.contact_id, identity.dirty = winner, True
        for value in changes.values:
            if value.contact_id == gone:
                value.contact_id = winner
        for ticket in snapshot.tickets.values():
            if ticket.contact_id == gone:
                ticket.contact_id, ticket.dirty = winner, True
        for row in changes.messages:
            if row["contact_id"] == gone:
                row["contact_id"] = winner
        for entries in snapshot.values.values():
            entries[:] = list(
                {winner if contact == gone else contact: evidence for contact, evidence in entries}.items()
            )
        for contacts in snapshot.platform.values():
            contacts[:] = list(dict.fromkeys(winner if contact == gone else contact for contact in contacts))
        snapshot.keys_of.setdefault(winner, set()).update(snapshot.keys_of.pop(gone, set()))
