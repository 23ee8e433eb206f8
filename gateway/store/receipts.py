"""Receipts in the database: found by the platform's id or ours, recorded each, applied as `outbox.receipts` allows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, bindparam, exists, insert, or_, select, update

from adapters import Channel, ErrorRule, rule_of
from gateway.ids import micros, moment, new_id
from gateway.store import catalogue, states, suppressions
from gateway.store.detours import Detours, TakeOver, stay
from gateway.store.many import insert_ignore
from gateway.store.outcomes import dead_letter
from gateway.store.payloads import readable
from gateway.store.people import set_consent
from gateway.store.rest import hold_back_rest
from gateway.store.schema import (
    addresses,
    attempts,
    conversations,
    dead_letters,
    message_refs,
    messages,
    outbox,
    receipts,
)
from gateway.store.suppressions import Failed
from gateway.store.tickets import to_json
from gateway.tickets import Entry
from normalizers.model import Address, DeliveryUpdate, OutboundMessage
from outbox.crashpoints import reach
from outbox.detours import Refusal, by_platform
from outbox.facts import folded
from outbox.outcomes import optout_scope
from outbox.ports import Failure, recipients_of
from outbox.receipts import advance
from outbox.schedule import SCHEDULES

_COLUMNS = (
    outbox.c.id, outbox.c.message_id, outbox.c.conversation_id, outbox.c.account, outbox.c.channel, outbox.c.state,
    outbox.c.attempts, outbox.c.fence,
    outbox.c.external_id, outbox.c.sent_at, outbox.c.error, outbox.c.queued_at, outbox.c.not_before, outbox.c.settled,
)  # fmt: skip
_WATERMARK_MAX = 500  # messages one watermark may move


class ReceiptResult(msgspec.Struct):
    """`applied`: messages a receipt moved. `missing`: receipts for messages nobody knows yet. `live`: events to tell
    of once this is durable: type, data, account. `aliases`: whom messages reached on another channel than their own."""

    applied: list[str] = msgspec.field(default_factory=list)
    missing: list[DeliveryUpdate] = msgspec.field(default_factory=list)
    live: list[tuple[str, dict[str, Any], str]] = msgspec.field(default_factory=list)
    aliases: list[tuple[str, Address]] = msgspec.field(default_factory=list)


class _Part:
    """A part as this batch has it so far."""

    __slots__ = ("before", "error", "external_id", "not_before", "row", "sent_at", "state")

    def __init__(self, row: Row[Any]) -> None:
        self.row = row
        self.before = self.state = row.state
        self.error, self.external_id, self.sent_at = row.error, row.external_id, row.sent_at
        self.not_before: int | None = row.not_before

    @property
    def values(self) -> dict[str, Any]:
        return {
            "b_id": self.row.id, "b_state": self.state, "b_error": self.error, "b_external_id": self.external_id,
            "b_sent_at": self.sent_at, "b_not_before": self.not_before,
        }  # fmt: skip


_SET = (
    update(outbox)
    .where(outbox.c.id == bindparam("b_id"))
    .values(
        state=bindparam("b_state"), error=bindparam("b_error"), external_id=bindparam("b_external_id"),
        sent_at=bindparam("b_sent_at"), not_before=bindparam("b_not_before"), unknown_at=None,
    )
)  # fmt: skip


def apply(
    connection: Connection, account: str, channel: Channel, updates: Sequence[DeliveryUpdate], now: int,
    take_over: TakeOver = stay,
) -> ReceiptResult:  # fmt: skip
    """Apply receipts of one account and channel in their order, inside the caller's transaction.

    What the platform refuses only now goes another way where `take_over` finds one, and has not failed then.
    """
    batch = _Batch(connection, account, channel, now)
    named = [update for update in updates if update.watermark is None]
    batch.load(named)
    result = ReceiptResult()
    for receipt in updates:
        parts = batch.find(receipt)
        if not parts and receipt.watermark is None:
            result.missing.append(receipt)
        for part in parts:
            batch.receive(part, receipt)
    result.applied, result.live = batch.write(take_over)
    result.aliases = batch.aliases
    reach("receipts.written")
    return result


class _Batch:
    def __init__(self, connection: Connection, account: str, channel: Channel, now: int) -> None:
        self._connection, self._account, self._channel, self._now = connection, account, channel, now
        self._parts: dict[str, _Part] = {}
        self._by_ref: dict[str, list[str]] = {}
        self._receipts: list[dict[str, Any]] = []
        self._refs: list[dict[str, Any]] = []
        self._letters: list[dict[str, Any]] = []
        self._refused: dict[str, Refusal] = {}  # message id -> why
        self._optouts: dict[str, str] = {}  # message id -> scope
        self._templates: list[dict[str, Any]] = []
        self.aliases: list[tuple[str, Address]] = []
        self._failed: list[Failed] = []
        self._strays: dict[str, list[tuple[str, DeliveryUpdate]]] = {}

    # --- finding ---

    def load(self, updates: Sequence[DeliveryUpdate]) -> None:
        """All parts the receipts name, by the platform's id or by ours."""
        targets = {update.target for update in updates if update.target}
        ours = {update.ours for update in updates if update.ours}
        messages_of: dict[str, list[str]] = {}
        if targets:
            statement = select(message_refs).where(
                message_refs.c.account == self._account, message_refs.c.ref.in_(targets)
            )
            for row in self._connection.execute(statement):
                if row.outbox_id:
                    self._by_ref[row.ref] = [row.outbox_id]
                else:
                    messages_of.setdefault(row.message_id, []).append(row.ref)
        wanted = {part for parts in self._by_ref.values() for part in parts} | ours
        if not wanted and not messages_of:
            return
        statement = select(*_COLUMNS).where(
            outbox.c.account == self._account,
            or_(outbox.c.id.in_(wanted), outbox.c.message_id.in_(ours | set(messages_of))),
        )
        for row in self._connection.execute(statement.with_for_update()):
            self._parts[row.id] = _Part(row)
            if row.id in ours:
                self._by_ref[row.id] = [row.id]
            for ref in (row.message_id, *messages_of.get(row.message_id, ())):
                if ref in ours or ref in targets:
                    self._by_ref.setdefault(ref, []).append(row.id)

    def find(self, receipt: DeliveryUpdate) -> list[_Part]:
        """The parts a receipt is about, in their order."""
        if receipt.watermark is not None:
            return self._before(receipt)
        ids = self._by_ref.get(receipt.ours) or self._by_ref.get(receipt.target) or []
        found = [self._parts[part] for part in sorted(set(ids)) if part in self._parts]
        return self._up_to(found[-1]) if receipt.up_to and found else found

    def _before(self, receipt: DeliveryUpdate) -> list[_Part]:
        """All of ours to this person up to a moment."""
        if receipt.recipient is None or receipt.watermark is None:
            return []
        theirs = (
            select(conversations.c.id)
            .join(addresses, addresses.c.identity_id == conversations.c.identity_id)
            .where(
                addresses.c.account == self._account,
                addresses.c.kind == receipt.recipient.kind,
                addresses.c.value == receipt.recipient.value,
                conversations.c.channel == self._channel.name,
            )
        )
        begun = exists().where(  # our clock after the answer may be later than the platform's at the taking
            attempts.c.outbox_id == outbox.c.id,
            attempts.c.outcome == "sent",
            attempts.c.started_at <= micros(receipt.watermark),
        )
        return self._lesser(and_(messages.c.conversation_id.in_(theirs), outbox.c.sent_at.is_not(None), begun))

    def _up_to(self, last: _Part) -> list[_Part]:
        """A part and all before it in its conversation that have not come as far."""
        earlier = self._lesser(and_(messages.c.conversation_id == last.row.conversation_id, outbox.c.id < last.row.id))
        return [*earlier, last]

    def _lesser(self, condition: Any) -> list[_Part]:
        statement = (
            select(*_COLUMNS)
            .join_from(outbox, messages, messages.c.id == outbox.c.message_id)
            .where(
                condition, outbox.c.account == self._account, messages.c.direction == "outbound",
                outbox.c.state.in_(("sent", "delivered")),
            )
            .order_by(outbox.c.id.desc())
            .limit(_WATERMARK_MAX)
        )  # fmt: skip
        rows = self._connection.execute(statement).all()
        return [self._parts.setdefault(row.id, _Part(row)) for row in reversed(rows)]

    # --- applying ---

    def receive(self, part: _Part, receipt: DeliveryUpdate) -> None:
        """Record a receipt, and let it move the part as far as the table allows."""
        row = part.row
        error = receipt.error
        if receipt.recipient is not None and receipt.channel != row.channel and receipt.watermark is None:
            self.aliases.append((row.message_id, receipt.recipient))  # a private reply to something public
        stray = receipt.status == "failed" and self._is_copy(row.id, receipt)
        after = None
        if not stray:
            after = advance(
                part.state,
                receipt.status,
                tried=row.fence > 0,
                delivered_after_failed=self._channel.delivered_after_failed,
                taken_back=row.settled,
            )
        self._receipts.append(
            {
                "id": new_id(), "message_id": row.message_id, "outbox_id": row.id, "status": receipt.status,
                "recipient": receipt.recipient.value if receipt.recipient else "",
                "error": to_json(error) if error else None, "applied": after is not None, "at": micros(receipt.at),
                "received_at": self._now,
            }
        )  # fmt: skip
        if receipt.status == "failed":
            self._count_failure(row, receipt)
        if stray:
            self._strays.setdefault(row.message_id, []).append((row.id, receipt))
        if receipt.target and receipt.watermark is None and not receipt.up_to and receipt.ours and not part.external_id:
            part.external_id = receipt.target
            self._refs.append(
                {"account": self._account, "ref": receipt.target, "message_id": row.message_id, "outbox_id": row.id}
            )
        if after is None:
            return
        if after == "failed":
            self._fail(part, receipt)
            return
        part.state, part.error, part.not_before = after, None, None
        part.sent_at = part.sent_at or micros(receipt.at)

    def _count_failure(self, row: Row[Any], receipt: DeliveryUpdate) -> None:
        """Count a failure against its address, if the message really went there: anybody can write a report."""
        rule = rule_of(self._channel.errors, receipt.error.code) if receipt.error is not None else None
        if rule is None or rule.suppress is None or receipt.error is None:
            return
        sent = self._sent(row.id)
        everybody = recipients_of(sent) if sent is not None else ()
        named = folded(receipt.recipient.value) if receipt.recipient is not None else ""
        address = next((one for one in everybody if folded(one) == named), "")
        if not named and len(everybody) == 1:
            address = everybody[0]
        if address:
            words = f"{receipt.error.code} {receipt.error.detail}".strip()
            self._failed.append(Failed(self._channel.name, address, rule.suppress, row.message_id, words))

    def _is_copy(self, outbox_id: str, receipt: DeliveryUpdate) -> bool:
        """Whether a failure is about somebody who only got a copy (mail): the message itself has arrived."""
        if receipt.recipient is None:
            return False
        sent = self._sent(outbox_id)
        mail = sent.mail if sent is not None else None
        return mail is not None and receipt.recipient.value.casefold() in {copy.casefold() for copy in mail.cc}

    def _sent(self, outbox_id: str) -> OutboundMessage | None:
        payload = self._connection.execute(select(outbox.c.payload).where(outbox.c.id == outbox_id)).scalar()
        return readable(payload)

    def _fail(self, part: _Part, receipt: DeliveryUpdate) -> None:
        """A failure that was reported later. Sent again only where the platform says that this is safe."""
        row, error = part.row, receipt.error
        rule = (rule_of(self._channel.errors, error.code) if error else None) or _UNNAMED
        words = (error.detail or error.title or rule.meaning) if error else rule.meaning
        failure = Failure(error.code if error else "", rule.error_class, words)
        part.error = to_json(failure)
        if rule.error_class == "opted-out":
            self._optouts[row.message_id] = optout_scope(self._channel, failure.code)
        if rule.template and (sent := self._sent(row.id)) is not None and sent.template is not None:
            self._templates.append(catalogue.told(self._account, sent.template, rule.template, self._now))
        if rule.resend_safe and (again := self._again(part, rule)) is not None:
            part.state, part.not_before = "queued", again
            return
        part.state = "failed"
        if part.before == "sent":  # else a person has sent it again, or its try is not over yet
            self._refused[row.message_id] = by_platform(failure)
        self._letters.append(
            dead_letter(row.id, row.message_id, row.account, self._channel.name, failure, row.attempts, self._now)
        )

    def _again(self, part: _Part, rule: ErrorRule) -> int | None:
        schedule, row = SCHEDULES[self._channel.retry], part.row
        now = moment(self._now) + (rule.wait or timedelta(0))
        at = schedule.next(row.attempts, moment(row.queued_at), now, 0.5, automatic=False)
        return None if at is None else micros(at)

    # --- writing ---

    def write(self, take_over: TakeOver) -> tuple[list[str], list[tuple[str, dict[str, Any], str]]]:
        """Write it all; the messages moved and the live events."""
        if self._receipts:
            self._connection.execute(insert(receipts), self._receipts)
        insert_ignore(self._connection, message_refs, self._refs)
        moved = [part for part in self._parts.values() if part.values != _Part(part.row).values]
        if moved:
            self._connection.execute(_SET, [part.values for part in moved])
        self._consent()
        suppressions.failed(self._connection, self._failed, self._now)
        catalogue.learn(self._connection, self._templates)
        # by what the receipts told of people
        detours = take_over(self._connection, self._refused) if self._refused else Detours()
        if letters := [letter for letter in self._letters if letter["message_id"] not in detours.gone]:
            self._connection.execute(insert(dead_letters), letters)
            hold_back_rest(self._connection, [letter["ref"] for letter in letters], self._now)
        ids = [part.row.message_id for part in moved if part.row.message_id not in detours.gone]
        changed = states.refresh(self._connection, ids, self._now, more=detours.details)
        freed = [part.row.conversation_id for part in moved if part.before not in ("sent", "delivered", "read")]
        states.promote(self._connection, freed, self._now)
        self._log_strays()
        applied = [part.row.message_id for part in moved if part.state != part.before]
        live = [change.live for change in changed] + [(one.type, one.data, one.account) for one in detours.live]
        return list(dict.fromkeys(applied)), live

    def _consent(self) -> None:
        if not self._optouts:
            return
        statement = select(messages.c.id, messages.c.identity_id).where(messages.c.id.in_(list(self._optouts)))
        for row in self._connection.execute(statement).all():
            set_consent(self._connection, row.identity_id, "opted_out", self._optouts[row.id], self._now)

    def _log_strays(self) -> None:
        if not self._strays:
            return
        statement = select(messages.c.id, messages.c.ticket_id).where(messages.c.id.in_(list(self._strays)))
        entries: dict[str, list[Entry]] = {}
        for row in self._connection.execute(statement):
            recipients = {
                receipt.recipient.value: receipt.error.detail or receipt.error.code if receipt.error else ""
                for _, receipt in self._strays[row.id]
                if receipt.recipient is not None
            }
            line = Entry("reply.recipient_failed", states.PLATFORM, {"message_id": row.id, "recipients": recipients})
            entries.setdefault(row.ticket_id, []).append(line)
        states.log_many(self._connection, entries, self._now)


_UNNAMED = ErrorRule("permanent", "the platform reported a failure")
