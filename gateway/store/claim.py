"""The claim: heads of conversations judged and taken, with the intent to send them durable before the first byte."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, case, func, literal_column, null, select, text, update

from gateway.bus import LiveEvent
from gateway.ids import micros, moment, new_id
from gateway.store import heads, outcomes, pacing, states, unreadable
from gateway.store.detours import Detours, TakeOver
from gateway.store.facts import FactSource, Subject, about, subject_of
from gateway.store.many import Work, among_bound, inserting, run_before, run_many
from gateway.store.payloads import UNREADABLE
from gateway.store.rights import use_tokens
from gateway.store.schema import attempts, messages, outbox
from gateway.store.unreadable import Unreadable
from normalizers.model import OutboundMessage
from outbox.crashpoints import reach
from outbox.detours import by_rules
from outbox.ports import Candidate, Decide, Go, Later, Ledger, Parcel, Room, Stay, Stop

_decode = msgspec.json.Decoder(OutboundMessage).decode
_encode = msgspec.json.Encoder().encode

_take = (
    update(outbox)
    .where(outbox.c.id == bindparam("b_id"))
    .values(
        state=literal_column("'sending'"), attempts=outbox.c.attempts + literal_column("1"),
        fence=outbox.c.fence + literal_column("1"), owner=bindparam("b_owner"), lease_until=bindparam("b_lease"),
        unknown_at=null(), asked_at=null(),
    )
)  # fmt: skip


_show = (
    update(messages)
    .where(among_bound(messages.c.id, "b_ids"), text("messages.status IN ('queued', 'held')"))
    .values(status=literal_column("'sending'"))
    .returning(messages.c.id, messages.c.ticket_id, messages.c.account)
)


_PUT_OFF = update(outbox).where(outbox.c.id == bindparam("b_id")).values(not_before=bindparam("b_at"))


class Claimed(msgspec.Struct):
    """What a claim brought: parcels to send, messages in another state, dead letters made, (channel, rule) of what was
    held or refused; `detours`: what to tell of those that went another way; `more`: rows were put off or given up,
    behind which others may stand."""

    going: list[Parcel] = msgspec.field(default_factory=list)
    changed: list[states.Changed] = msgspec.field(default_factory=list)
    dead: list[dict[str, Any]] = msgspec.field(default_factory=list)
    refused: list[tuple[str, str]] = msgspec.field(default_factory=list)
    detours: list[LiveEvent] = msgspec.field(default_factory=list)
    more: bool = False


def claim(
    connection: Connection, source: FactSource, room: Room, decide: Decide, ledger: Ledger, take_over: TakeOver,
    owner: str, now: datetime, turn: int,
) -> Claimed:  # fmt: skip
    """Judge and take heads of conversations. `turn` counts claims: bulk has its share by it.

    Claims on one account follow each other, whoever makes them: its pace is locked first (`pacing.load_slots`). So a
    reply that is written while bulk of its conversation is being taken does not leave beside it.
    """
    queues = heads.waiting(connection, now)
    pacing.load_slots(connection, ledger, [queue.account for queue in queues], now)
    rows: list[Row[Any]] = []
    owners: list[str] = []
    left: dict[str, int] = {}
    for account, pause, bulk in queues:
        if (limit := room(account, pause)) > 0:
            least = heads.AT_LEAST if len(ledger.all_of(account)) > 1 else 1
            found = heads.of_account(connection, account, limit, max(limit, least), micros(now), turn if bulk else None)
            rows += found
            owners += [account] * len(found)
            left[account] = limit
    claimed = Claimed()
    if not rows:
        return claimed
    candidates, damaged = _candidates(connection, source, rows, owners, now)
    pacing.load_pairs(connection, ledger, [candidate.parcel for candidate in candidates])
    stopped: list[tuple[Parcel, Stop]] = []
    later: list[dict[str, Any]] = []
    for candidate in candidates:
        parcel = candidate.parcel
        if left[parcel.account] <= 0:
            continue
        match decide(candidate):
            case Go() as go:
                left[parcel.account] -= 1
                claimed.going.append(_claimed(parcel, go, now))
            case Stop() as stop:
                stopped.append((parcel, stop))
            case Later(until):
                later.append({"b_id": parcel.id, "b_at": micros(until)})
            case Stay():
                pass
    if stopped:
        claimed.refused = [(parcel.channel, stop.judgment.decisive.rule) for parcel, stop in stopped]
        refused = {parcel.message_id: by_rules(stop.judgment) for parcel, stop in stopped if stop.until is None}
        detours = take_over(connection, refused) if refused else Detours()
        claimed.detours = detours.live
        stopped = [(parcel, stop) for parcel, stop in stopped if parcel.message_id not in detours.gone]
        claimed.changed, claimed.dead = outcomes.stop(connection, stopped, micros(now), detours.details)
    if damaged:
        changed, dead = unreadable.give_up(connection, damaged, micros(now))
        claimed.changed += changed
        claimed.dead += dead
    if later:
        run_many(connection, ("later",), lambda: _PUT_OFF, later)
    if claimed.going:
        as_queued = {candidate.parcel.id: candidate.parcel.message for candidate in candidates}
        _keep_form(connection, [parcel for parcel in claimed.going if parcel.message is not as_queued[parcel.id]])
        claimed.changed += _commit_sending(
            connection, claimed.going, owner, now, pacing.spending(connection, ledger, now)
        )
    claimed.more = bool(later or damaged)
    reach("claim.written")
    return claimed


def _candidates(
    connection: Connection, source: FactSource, rows: Sequence[Row[Any]], owners: Sequence[str], now: datetime
) -> tuple[list[Candidate], list[Unreadable]]:
    known = about(connection, [row.message_id for row in rows])
    tried = _tries(connection, [row.id for row in rows if row.attempts or row.fence])
    parcels: list[Parcel] = []
    subjects: list[Subject] = []
    damaged: list[Unreadable] = []
    for row, account in zip(rows, owners, strict=True):
        try:
            message = _decode(row.payload)
        except UNREADABLE as error:
            damaged.append(Unreadable(row, account, str(error)))
            continue
        unknowns, first = tried.get(row.id, (0, None))
        details = known.get(row.message_id)
        automatic = bool(details is not None and details.automatic)
        parcels.append(
            Parcel(
                id=row.id, message_id=row.message_id, conversation_id=row.conversation_id, account=account,
                channel=row.channel, message=message, queued_at=moment(row.queued_at), attempt=row.attempts,
                unknowns=unknowns, first_attempt_at=None if first is None else moment(first), fence=row.fence,
                automatic=automatic,
            )
        )  # fmt: skip
        subjects.append(subject_of(message, account, row.channel, row.conversation_id, details, queued=True))
    facts = source.gather(connection, subjects, now)
    return [Candidate(parcel, fact) for parcel, fact in zip(parcels, facts, strict=True)], damaged


def _tries(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[int, int | None]]:
    """By part that was tried before: tries whose outcome nobody learned, and when the first began."""
    if not ids:
        return {}
    unknown = func.sum(case((attempts.c.outcome == "unknown", 1), else_=0))
    statement = (
        select(attempts.c.outbox_id, unknown.label("unknowns"), func.min(attempts.c.started_at).label("first"))
        .where(attempts.c.outbox_id.in_(ids))
        .group_by(attempts.c.outbox_id)
    )
    return {row.outbox_id: (int(row.unknowns), row.first) for row in connection.execute(statement)}


def parcels_of(connection: Connection, statement: Any) -> tuple[list[Parcel], list[Unreadable]]:
    """Rows of the outbox as parcels that were claimed before, and those that cannot be read."""
    rows = connection.execute(statement).all()
    tried = _tries(connection, [row.id for row in rows])
    latest = _latest_attempts(connection, [row.id for row in rows])
    automatic = {
        row.id
        for row in connection.execute(
            select(messages.c.id).where(messages.c.id.in_([row.message_id for row in rows]), messages.c.automatic != "")
        )
    }
    found: list[Parcel] = []
    damaged: list[Unreadable] = []
    for row in rows:
        try:
            message = _decode(row.payload)
        except UNREADABLE as error:
            damaged.append(Unreadable(row, row.account, str(error)))
            continue
        unknowns, first = tried.get(row.id, (0, None))
        found.append(
            Parcel(
                id=row.id, message_id=row.message_id, conversation_id=row.conversation_id, account=row.account,
                channel=row.channel, message=message, queued_at=moment(row.queued_at),
                attempt=row.attempts, attempt_id=latest.get(row.id, ""), unknowns=unknowns,
                first_attempt_at=None if first is None else moment(first), fence=row.fence,
                automatic=row.message_id in automatic,
            )
        )  # fmt: skip
    return found, damaged


def _latest_attempts(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    statement = (
        select(attempts.c.outbox_id, func.max(attempts.c.id))
        .where(attempts.c.outbox_id.in_(ids), attempts.c.finished_at.is_(None))
        .group_by(attempts.c.outbox_id)
    )
    return {row[0]: row[1] for row in connection.execute(statement)} if ids else {}


def _claimed(parcel: Parcel, go: Go, now: datetime) -> Parcel:
    return msgspec.structs.replace(
        parcel,
        message=go.message, attempt=parcel.attempt + 1, fence=parcel.fence + 1, attempt_id=new_id(),
        lease_until=go.lease_until, first_attempt_at=parcel.first_attempt_at or now,
    )  # fmt: skip


_FORM = update(outbox).where(outbox.c.id == bindparam("b_id")).values(payload=bindparam("b_payload"))


def _keep_form(connection: Connection, changed: Sequence[Parcel]) -> None:
    """What leaves in another form than it was accepted in is kept in that form, with its intent: after a crash it must
    be known whether it went by a tag, or by a reply token, which is used from now on."""
    if changed:
        rows = [{"b_id": parcel.id, "b_payload": _encode(parcel.message).decode()} for parcel in changed]
        run_many(connection, ("form",), lambda: _FORM, rows)
        use_tokens(connection, [(parcel.conversation_id, parcel.message) for parcel in changed])


def _commit_sending(
    connection: Connection, going: Sequence[Parcel], owner: str, now: datetime, spending: Work
) -> list[states.Changed]:
    """The intent, before the first byte: state, attempt number, fence, lease, a row for the attempt, and what it takes
    of the pace."""
    taken = [
        {"b_id": parcel.id, "b_owner": owner, "b_lease": micros(parcel.lease_until or now)} for parcel in going
    ]  # fmt: skip
    tries = [
        {"id": parcel.attempt_id, "outbox_id": parcel.id, "message_id": parcel.message_id,
         "number": parcel.attempt, "started_at": micros(now)}
        for parcel in going
    ]  # fmt: skip
    works = (("take",), lambda: _take, taken), inserting(attempts, tries), spending
    shown = {"b_ids": list({parcel.message_id for parcel in going})}
    rows = run_before(connection, works, "show", _show, shown)
    return [states.Changed(row.id, row.ticket_id, row.account, "queued", "sending") for row in rows]
