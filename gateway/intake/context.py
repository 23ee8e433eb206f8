"""What the decisions of one batch are made with: the snapshot, the changes, the rules, and where ids come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from adapters import Channel
from gateway.ids import micros
from gateway.intake.records import Changes, EventRow, Identity, Snapshot
from gateway.intake.suspension import OPEN, Screen
from gateway.linking import Facts, Pair, renamed
from gateway.tickets import Policy
from gateway.vip import VipPolicy

AHEAD_MAX = timedelta(minutes=1) // timedelta(microseconds=1)  # a platform's clock may run ahead by this much


def moment_of(row: EventRow) -> int:
    """When it happened, by the platform's word, but never later than it came."""
    return min(micros(row.event.at), row.received_at + AHEAD_MAX)


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

    def facts(self, contact: str) -> Facts:
        """What could contradict that the contact is somebody's."""
        return self.snapshot.facts.setdefault(contact, Facts())

    def conflict(self, identity: Identity, other: str, attribute: str, value: str, why: str) -> None:
        """Two contacts match but contradict each other: a person must decide, once."""
        pair, anchor = Pair((identity.contact_id, other)), self.facts(other).anchor
        if not anchor or pair in self.snapshot.apart or pair in self.snapshot.disputed:
            return
        self.snapshot.disputed.add(pair)
        first, second = sorted((identity.id, anchor))
        row = {
            "id": self.new_id(), "identity_id": first, "other_identity_id": second, "attribute": attribute,
            "value": value, "reason": why, "at": self.now,
        }  # fmt: skip
        self.changes.conflicts.append(row)
        data = {"conflict_id": row["id"], "attribute": attribute, "reason": why}
        self.tell("contact.conflict", data | {"contact_ids": sorted(pair)}, identity.account)

    def tell(self, kind: str, data: dict[str, Any], account: str) -> None:
        """A live event, published once the batch is durable."""
        self.changes.live.append((kind, data, account))

    def is_stored(self, contact: str) -> bool:
        """Whether a contact was there before this batch."""
        known = self.snapshot.contacts.get(contact)
        return known is None or not known.new

    def rename_contact(self, gone: str, winner: str) -> None:
        """All that this batch knows of one contact now belongs to another."""
        snapshot, changes = self.snapshot, self.changes
        if gone in snapshot.vips:
            snapshot.vips.add(winner)
        for identity in snapshot.identities.values():
            if identity.contact_id == gone:
                identity.contact_id, identity.dirty = winner, True
        for merge in changes.merges:
            if merge.winner == gone and not self.is_stored(gone):
                merge.winner = winner
        for value in changes.values:
            if value.contact_id == gone:
                value.contact_id = winner
        for ticket in snapshot.tickets.values():
            if ticket.contact_id == gone:
                ticket.contact_id, ticket.dirty = winner, True
        for row in changes.messages:
            if row["contact_id"] == gone:
                row["contact_id"] = winner
        for entries in (*snapshot.values.values(), *snapshot.platform.values()):
            if any(contact == gone for contact, _ in entries):
                entries[:] = dict.fromkeys((winner if who == gone else who, evidence) for who, evidence in entries)
        mine, theirs = self.facts(winner), snapshot.facts.pop(gone, Facts())
        mine.keys |= theirs.keys
        mine.anchor = min(filter(None, (mine.anchor, theirs.anchor)), default="")
        mine.pinned = mine.pinned or theirs.pinned
        snapshot.apart, snapshot.disputed = (
            renamed(pairs, {gone: winner}) for pairs in (snapshot.apart, snapshot.disputed)
        )
