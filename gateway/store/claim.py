"""The claim: heads of conversations judged and taken, with the intent to send them durable before the first byte.

Flat in the number of queued rows: due heads come from an index by account, and a row that waits for another of its
conversation leaves that index (`not_before` NULL) until it is its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, case, func, literal_column, null, select, update

from gateway.bus import LiveEvent
from gateway.ids import micros, moment, new_id
from gateway.store import dialect, outcomes, pacing, states, unreadable
from gateway.store.detours import Detours, TakeOver
from gateway.store.facts import FactSource, Subject, about, subject_of
from gateway.store.many import among_bound, inserting, run_many, run_together
from gateway.store.payloads import UNREADABLE
from gateway.store.rights import use_tokens
from gateway.store.schema import account_states, attempts, messages, outbox
from gateway.store.unreadable import Unreadable
from normalizers.model import OutboundMessage
from outbox.crashpoints import reach
from outbox.detours import by_rules
from outbox.ports import Candidate, Decide, Go, Later, Ledger, Parcel, Room, Stay, Stop, Waiting

_decode = msgspec.json.Decoder(OutboundMessage).decode
_encode = msgspec.json.Encoder().encode

_due = (
    select(
        outbox.c.id, outbox.c.message_id, outbox.c.conversation_id, outbox.c.channel, outbox.c.payload,
        outbox.c.attempts, outbox.c.fence, outbox.c.queued_at, outbox.c.state, outbox.c.key,
        outbox.c.priority, states.held_back.label("held_back"),
    )
    .where(
        states.is_due(),
        outbox.c.account == bindparam("b_account"),
        outbox.c.priority == bindparam("b_priority"),
        outbox.c.not_before <= bindparam("b_now"),
    )
    .order_by(outbox.c.not_before, outbox.c.id)
    .limit(bindparam("b_limit"))
)  # fmt: skip
_REPLIES, _BULK = 0, 1
_BULK_SHARE = 10  # one slot in so many is bulk's while both wait: it yields, and does not starve
_AT_LEAST = 32  # heads looked at, however few may go: those whose channel is full make room for others
_stepped = select(func.min(outbox.c.account).label("account")).where(states.is_due()).cte("stepped", recursive=True)
_stepped = _stepped.union_all(
    select(
        select(func.min(outbox.c.account)).where(states.is_due(), outbox.c.account > _stepped.c.account)
        .scalar_subquery()
    ).where(_stepped.c.account.is_not(None))
)  # fmt: skip
_ACCOUNTS = select(_stepped.c.account).where(_stepped.c.account.is_not(None))
_take = (
    update(outbox)
    .where(outbox.c.id == bindparam("b_id"))
    .values(
        state=literal_column("'sending'"), attempts=outbox.c.attempts + literal_column("1"),
        fence=outbox.c.fence + literal_column("1"), owner=bindparam("b_owner"), lease_until=bindparam("b_lease"),
        unknown_at=null(), asked_at=null(),
    )
)  # fmt: skip


_paused = select(account_states).where(account_states.c.scope == "", account_states.c.paused_until > bindparam("b_now"))
_show = (
    update(messages)
    .where(among_bound(messages.c.id, "b_ids"), messages.c.status.in_(("queued", "held")))
    .values(status="sending")
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
    paused = {pause.account: pause for pause in account_pauses(connection, now)}
    accounts = waiting_accounts(connection)
    pacing.load_slots(connection, ledger, accounts, now)
    heads: list[Row[Any]] = []
    owners: list[str] = []
    left: dict[str, int] = {}
    for account in accounts:
        if (limit := room(account, paused.get(account))) > 0:
            least = _AT_LEAST if len(ledger.all_of(account)) > 1 else 1
            found = _heads(connection, account, limit, max(limit, least), micros(now), turn)
            heads += found
            owners += [account] * len(found)
            left[account] = limit
    claimed = Claimed()
    if not heads:
        return claimed
    candidates, damaged = _candidates(connection, source, heads, owners, now)
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
        pacing.save(connection, ledger, now)
        as_queued = {candidate.parcel.id: candidate.parcel.message for candidate in candidates}
        _keep_form(connection, [parcel for parcel in claimed.going if parcel.message is not as_queued[parcel.id]])
        claimed.changed += _commit_sending(connection, claimed.going, owner, now)
    claimed.more = bool(later or damaged)
    reach("claim.written")
    return claimed


def _candidates(
    connection: Connection, source: FactSource, heads: Sequence[Row[Any]], owners: Sequence[str], now: datetime
) -> tuple[list[Candidate], list[Unreadable]]:
    known = about(connection, [row.message_id for row in heads])
    tried = _tries(connection, [row.id for row in heads if row.attempts or row.fence])
    parcels: list[Parcel] = []
    subjects: list[Subject] = []
    damaged: list[Unreadable] = []
    for row, account in zip(heads, owners, strict=True):
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


def waiting_accounts(connection: Connection) -> list[str]:
    """The accounts that something is queued for: one step of the index for each, however much is queued."""
    return list(connection.execute(_ACCOUNTS).scalars().all())


def _heads(connection: Connection, account: str, room: int, limit: int, now: int, turn: int) -> list[Row[Any]]:
    """Up to `limit` due heads of each priority in the order in which `room` of them may go: replies before bulk, save
    for bulk's share."""
    replies = _heads_of(connection, account, _REPLIES, limit, now)
    bulk = _heads_of(connection, account, _BULK, limit, now)
    share = room // _BULK_SHARE or int(turn % _BULK_SHARE == 0)
    before = max(room - share, 0)
    return replies[:before] + bulk[:share] + replies[before:] + bulk[share:]


def _heads_of(connection: Connection, account: str, priority: int, limit: int, now: int) -> list[Row[Any]]:
    """Up to `limit` of one priority; due rows that are no heads are put aside until it is their turn."""
    statement = dialect.for_claim(connection, _due)
    found: dict[str, Row[Any]] = {}
    while True:
        asked = limit + len(found)
        rows = connection.execute(
            statement,
            {"b_account": account, "b_priority": priority, "b_now": now, "b_limit": asked,
             "unknown_since": now - states.HOLDS},
        ).all()  # fmt: skip
        back = _put_aside(connection, [row for row in rows if row.held_back], now)
        found.update((row.id, row) for row in rows if not row.held_back)
        if not back or len(rows) < asked or len(found) >= limit:
            return list(found.values())[:limit]


def _put_aside(connection: Connection, rows: Sequence[Row[Any]], now: int) -> int:
    """Rows that are no heads leave the index until it is their turn; how many did.

    Only behind a head that is locked here: one whose outcome another writer records at this moment may have looked for
    its follower already, and would not find it again. Such a follower stays as it is, and the next claim looks at it;
    so does one that has become the head itself since it was read.
    """
    if not rows:
        return 0
    asked = {"b_ids": list({row.conversation_id for row in rows}), "unknown_since": now - states.HOLDS}
    locked: dict[str, list[Row[Any]]] = {}
    for head in connection.execute(dialect.for_claim(connection, states.HEADS), asked).all():
        locked.setdefault(head.conversation_id, []).append(head)
    back = [
        row.id for row in rows if any(states.goes_before(head, row) for head in locked.get(row.conversation_id, ()))
    ]
    if back:
        connection.execute(update(outbox).where(outbox.c.id.in_(back)).values(not_before=None))
    return len(back)


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


def _commit_sending(connection: Connection, going: Sequence[Parcel], owner: str, now: datetime) -> list[states.Changed]:
    """The intent, before the first byte: state, attempt number, fence, lease, and a row for the attempt."""
    taken = [
        {"b_id": parcel.id, "b_owner": owner, "b_lease": micros(parcel.lease_until or now)} for parcel in going
    ]  # fmt: skip
    tries = [
        {"id": parcel.attempt_id, "outbox_id": parcel.id, "message_id": parcel.message_id,
         "number": parcel.attempt, "started_at": micros(now)}
        for parcel in going
    ]  # fmt: skip
    run_together(connection, (("take",), lambda: _take, taken), inserting(attempts, tries))
    rows = connection.execute(_show, {"b_ids": list({parcel.message_id for parcel in going})}).all()
    return [states.Changed(row.id, row.ticket_id, row.account, "queued", "sending") for row in rows]


def account_pauses(connection: Connection, now: datetime) -> list[Waiting]:
    rows = connection.execute(_paused, {"b_now": micros(now)}).all()
    return [Waiting(row.account, moment(row.paused_until), row.error_class) for row in rows]
