"""The state of messages as their parts have it, who waits for whom, and the event log of what changed.

All of it in a few statements for many messages, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    Connection,
    TextClause,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)

from gateway.bus import LiveEvent
from gateway.store.many import Work, among_bound, inserting, run_many, run_together
from gateway.store.schema import dead_letters, messages, outbox, ticket_events, tickets
from gateway.store.tickets import event_row, to_json
from gateway.tickets import Actor, Entry
from outbox.ports import Failure
from outbox.receipts import combined
from outbox.schedule import ASK_AFTER, UNKNOWN_HOLDS

PLATFORM = Actor("platform")
_ASK_US = int(ASK_AFTER.total_seconds() * 1_000_000)
HOLDS = int(UNKNOWN_HOLDS.total_seconds() * 1_000_000)  # microseconds
_LEFT = ("sent", "delivered", "read")
_ENTRY_OF = {
    "sent": "reply.sent",
    "failed": "reply.failed",
    "unknown": "reply.unknown",
    "held": "reply.held",
    "cancelled": "reply.cancelled",
}


class Changed(msgspec.Struct, frozen=True):
    """A message whose state is another now."""

    message_id: str
    ticket_id: str
    account: str
    before: str
    status: str

    @property
    def live(self) -> tuple[str, dict[str, Any], str]:
        """The live event that tells of it: type, data, account."""
        data = {"ticket_id": self.ticket_id, "message_id": self.message_id, "status": self.status}
        return "message.updated", data, self.account


def is_open(alias: str = "outbox") -> TextClause:
    """Word for word the condition of `ix_outbox_open`: only then is that index used."""
    return text(f"{alias}.state IN ('queued', 'held', 'sending', 'unknown') AND NOT {alias}.settled")


def is_unknown() -> TextClause:
    """Word for word the condition of `ix_outbox_unknown`."""
    return text("outbox.state = 'unknown' AND NOT outbox.settled")


def is_due(alias: str = "outbox") -> TextClause:
    """Word for word the condition of `ix_outbox_due`."""
    return text(f"{alias}.state IN ('queued', 'held')")


_SET_MESSAGE = (
    update(messages)
    .where(messages.c.id == bindparam("b_id"))
    .values(
        status=bindparam("b_status"), error=bindparam("b_error"), external_id=bindparam("b_external_id"),
        sent_at=bindparam("b_sent_at"),
    )
)  # fmt: skip


class Shown(NamedTuple):
    """A message as its ticket shows it."""

    id: str
    ticket_id: str
    account: str
    status: str
    external_id: str
    error: str | None
    sent_at: int | None


SHOWN = tuple(messages.c[name] for name in Shown._fields)
_MESSAGES = select(*SHOWN).where(among_bound(messages.c.id, "b_ids"))
_LOCKED = _MESSAGES.with_for_update(key_share=True)  # says nothing where one connection writes
_PARTS = (
    select(outbox.c.message_id, outbox.c.state, outbox.c.error, outbox.c.external_id, outbox.c.sent_at)
    .where(among_bound(outbox.c.message_id, "b_ids"))
    .order_by(outbox.c.message_id, outbox.c.part, outbox.c.id)
)


class Part(NamedTuple):
    """What a part's row tells of its message."""

    state: str
    error: str | None
    external_id: str
    sent_at: int | None


def refresh(
    connection: Connection, message_ids: Iterable[str], now: int, actor: Actor = PLATFORM,
    more: Mapping[str, dict[str, Any]] | None = None,
) -> list[Changed]:  # fmt: skip
    """Bring messages into the state their parts have, and write what an agent cares about into the tickets' logs.

    `more` adds details to the log line of a message.
    """
    ids = list(dict.fromkeys(message_ids))
    if not ids:
        return []
    rows = connection.execute(_LOCKED, {"b_ids": ids}).all()
    parts: dict[str, list[Any]] = {}
    for part in connection.execute(_PARTS, {"b_ids": ids}).all():
        parts.setdefault(part.message_id, []).append(part)
    return follow(connection, [(row, parts[row.id]) for row in rows if row.id in parts], now, actor, more)


def follow(
    connection: Connection, known: Iterable[tuple[Any, Sequence[Any]]], now: int, actor: Actor = PLATFORM,
    more: Mapping[str, dict[str, Any]] | None = None,
) -> list[Changed]:  # fmt: skip
    """As `refresh`, for messages that are known as they stand and locked (`Shown`), with all their parts (`Part`)."""
    changed: list[Changed] = []
    updates: list[dict[str, Any]] = []
    entries: dict[str, list[Entry]] = {}
    for row, own in known:
        status = own[0].state if len(own) == 1 else combined(part.state for part in own)
        error = next((part.error for part in own if part.state == status and part.error), None)
        if error is None and len(own) > 1:
            error = _cut_short(own)
        external_id = next((part.external_id for part in own if part.external_id), "") or row.external_id
        sent_at = min((part.sent_at for part in own if part.sent_at is not None), default=None)
        if (status, error, external_id, sent_at) == (row.status, row.error, row.external_id, row.sent_at):
            continue
        updates.append(
            {"b_id": row.id, "b_status": status, "b_error": error, "b_external_id": external_id, "b_sent_at": sent_at}
        )
        if status != row.status or error != row.error:
            changed.append(Changed(row.id, row.ticket_id, row.account, row.status, status))
        if status != row.status and (kind := _entry_of(row.status, status)):
            entries.setdefault(row.ticket_id, []).append(
                Entry(kind, actor, _details(row.id, external_id, error) | (more or {}).get(row.id, {}))
            )
    log_many(connection, entries, now, (("refresh",), lambda: _SET_MESSAGE, updates))
    return changed


def _cut_short(own: Sequence[Any]) -> str | None:
    """What is shown of a message of which some parts were cancelled, and others have left."""
    gone = [number for number, part in enumerate(own, 1) if part.state == "cancelled"]
    if not gone or len(gone) == len(own) or any(part.state not in _LEFT for part in own if part.state != "cancelled"):
        return None
    return to_json(Failure("cancelled", "permanent", f"{len(gone)} of {len(own)} parts were cancelled"))


def _entry_of(before: str, status: str) -> str:
    if status == "sent" and before in ("delivered", "read"):
        return ""
    if status in ("delivered", "read") and before in ("queued", "held", "sending", "unknown"):
        return _ENTRY_OF["sent"]
    return _ENTRY_OF.get(status, "")


def _details(message_id: str, external_id: str, error: str | None) -> dict[str, Any]:
    details: dict[str, Any] = {"message_id": message_id}
    if external_id:
        details["external_id"] = external_id
    if error:
        details["error"] = msgspec.json.decode(error)
    return details


_RAISE = (
    update(tickets)
    .where(tickets.c.id == bindparam("b_id"))
    .values(sequence=bindparam("b_sequence"), updated_at=bindparam("b_now"))
)
_COUNT = update(tickets).where(tickets.c.id == bindparam("b_id")).values(sequence=bindparam("b_sequence"))
_SEQUENCES = (
    select(tickets.c.id, tickets.c.sequence)
    .where(among_bound(tickets.c.id, "b_ids"))
    .order_by(tickets.c.id)
    .with_for_update()  # says nothing where one connection writes
)
_AS_MEANT = _ENTRY_OF["sent"]


def log_many(connection: Connection, entries: Mapping[str, Sequence[Entry]], now: int, *works: Work) -> None:
    """Append lines to the event logs of many tickets; `works` on other tables are run in one go with it.

    A ticket counts as updated by them, unless they only tell that replies left as they were meant to: an agent who is
    writing there has nothing new to look at.
    """
    if not entries:
        run_together(connection, *works)
        return
    raised: list[dict[str, Any]] = []
    counted: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for ticket, sequence in connection.execute(_SEQUENCES, {"b_ids": list(entries)}).all():
        lines = entries[ticket]
        rows += [event_row(ticket, sequence + number, entry, now) for number, entry in enumerate(lines, 1)]
        last = {"b_id": ticket, "b_sequence": sequence + len(lines)}
        if all(entry.kind == _AS_MEANT for entry in lines):
            counted.append(last)
        else:
            raised.append(last | {"b_now": now})
    if counted and raised:  # one table is written once in one go
        run_many(connection, ("count",), lambda: _COUNT, counted)
        counted = []
    run_together(
        connection, *works, (("count",), lambda: _COUNT, counted), (("raise",), lambda: _RAISE, raised),
        inserting(ticket_events, rows),
    )  # fmt: skip


_heads = (
    select(func.min(outbox.c.id))
    .where(
        among_bound(outbox.c.conversation_id, "b_ids"),
        is_open(),
        is_due(),
        outbox.c.not_before.is_(None),
    )
    .group_by(outbox.c.conversation_id, outbox.c.priority)
)
_PROMOTE = update(outbox).where(outbox.c.id.in_(_heads)).values(not_before=bindparam("b_now"))


def promote(connection: Connection, conversation_ids: Iterable[str], now: int) -> int:
    """The next waiting part of each conversation becomes due, and where replies wait before bulk the next of both; how
    many there were."""
    ids = list(dict.fromkeys(conversation_ids))
    return connection.execute(_PROMOTE, {"b_ids": ids, "b_now": now}).rowcount if ids else 0


_other = outbox.alias("other")
_stands_before = and_(
    is_open("other"),
    or_(_other.c.state != "unknown", _other.c.unknown_at > bindparam("unknown_since")),
)
_in_flight = text("other.state IN ('sending', 'unknown')")
held_back = exists(
    select(literal(1))
    .where(
        _other.c.conversation_id == outbox.c.conversation_id,
        _other.c.id != outbox.c.id,
        _stands_before,
        or_(
            _in_flight,
            _other.c.priority < outbox.c.priority,
            and_(_other.c.priority == outbox.c.priority, _other.c.id < outbox.c.id),
        ),
    )
    .correlate(outbox)
)
"""Whether a message must wait for another of its conversation: for one in flight, whichever it is, and for what goes
before it: replies before bulk, of each what was written first. One unknown since `unknown_since` holds nobody."""

_standing = case((_in_flight, -1), else_=_other.c.priority)
_first_open = (
    select(func.min(_other.c.id))
    .where(_other.c.conversation_id.in_(bindparam("b_ids", expanding=True)), _stands_before)
    .group_by(_other.c.conversation_id, _standing)
)
HEADS = select(
    outbox.c.conversation_id, outbox.c.id, outbox.c.message_id, outbox.c.state, outbox.c.priority, outbox.c.not_before,
    outbox.c.unknown_at,
).where(outbox.c.id.in_(_first_open), is_open())  # fmt: skip
"""Of the conversations of `b_ids` what is in flight, and the first of each priority that waits."""


def in_flight(row: Any) -> bool:
    """Whether a part is with the platform, or may be."""
    return row.state in ("sending", "unknown")


def goes_before(head: Any, row: Any) -> bool:
    """Whether a row of `HEADS` must leave before another of its conversation may (rows with `id` and `priority`)."""
    if head.id == row.id:
        return False
    return in_flight(head) or (head.priority, head.id) < (row.priority, row.id)


_FREE_FOR = 60_000_000  # microseconds after it let go in which an unknown head's followers are looked for


def freed(connection: Connection, now: int) -> list[str]:
    """The conversations whose unknown head has just held its followers for long enough."""
    statement = select(outbox.c.conversation_id).where(
        is_unknown(), outbox.c.unknown_at <= now - HOLDS, outbox.c.unknown_at > now - HOLDS - _FREE_FOR
    )
    return list(connection.execute(statement.limit(500)).scalars())


def forgotten(connection: Connection, now: int, limit: int = 500) -> list[str]:
    """Parts that wait for nobody any more, though nobody let them go. Reads all that waits for its turn."""
    statement = select(outbox.c.id).where(is_due(), outbox.c.not_before.is_(None), ~held_back).limit(limit)
    return list(connection.execute(statement, {"unknown_since": now - HOLDS}).scalars())


def let_go(connection: Connection, ids: Iterable[str], now: int) -> int:
    """Parts found by `forgotten` become due, as far as they still wait."""
    statement = update(outbox).where(among_bound(outbox.c.id, "b_ids"), is_due(), outbox.c.not_before.is_(None))
    found = list(ids)
    return connection.execute(statement.values(not_before=now), {"b_ids": found}).rowcount if found else 0


def undecided(connection: Connection, now: int) -> list[str]:
    """Unknown parts nobody could settle in time, and of which no person has been told."""
    statement = select(outbox.c.id).where(
        is_unknown(), outbox.c.unknown_at <= now - _ASK_US, outbox.c.asked_at.is_(None)
    )
    return list(connection.execute(statement.limit(500)).scalars())


def ask(connection: Connection, outbox_ids: Sequence[str], now: int) -> list[LiveEvent]:
    """Tell people that these unknown parts wait for a decision: a line on each ticket; the live events of it."""
    if not outbox_ids:
        return []
    rows = connection.execute(
        update(outbox)
        .where(outbox.c.id.in_(list(outbox_ids)), is_unknown(), outbox.c.asked_at.is_(None))
        .values(asked_at=now)
        .returning(outbox.c.message_id)
    )
    ids = list(dict.fromkeys(rows.scalars()))
    entries: dict[str, list[Entry]] = {}
    told: list[LiveEvent] = []
    for row in connection.execute(_MESSAGES, {"b_ids": ids}):
        data = {"message_id": row.id, "remedy": "send it again, or leave it"}
        entries.setdefault(row.ticket_id, []).append(Entry("reply.undecided", PLATFORM, data))
        told.append(LiveEvent("message.undecided", {"ticket_id": row.ticket_id, **data}, row.account))
    log_many(connection, entries, now)
    return told


def letters_answered(connection: Connection, outbox_ids: Iterable[str], now: int) -> None:
    """The dead letters of these parts are open no longer: they were replayed."""
    ids = list(outbox_ids)
    if ids:
        connection.execute(
            update(dead_letters)
            .where(
                dead_letters.c.ref.in_(ids), dead_letters.c.replayed_at.is_(None), dead_letters.c.dropped_at.is_(None)
            )
            .values(replayed_at=now)
        )
