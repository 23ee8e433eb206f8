"""The outbox in the database: `outbox.ports.Store` over one schema for every store.

Claiming is flat in the number of queued rows: due heads come from an index by account, and a row that waits for another
of its conversation leaves that index (`not_before` NULL) until it is its turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, bindparam, case, func, select, text, update

from adapters import Pace, Sent
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.ids import micros, moment, new_id
from gateway.store import dialect, outcomes, states
from gateway.store.facts import FactSource, Subject, about
from gateway.store.schema import account_states, attempts, messages, outbox
from normalizers.model import OutboundMessage
from outbox.ports import Candidate, Decide, Go, Outcome, Parcel, Pause, Room, Stop, Waiting, recipient_of, recipients_of

log = logging.getLogger(__name__)
T = TypeVar("T")
_decode = msgspec.json.Decoder(OutboundMessage).decode

_due = (
    select(
        outbox.c.id, outbox.c.message_id, outbox.c.conversation_id, outbox.c.channel, outbox.c.payload,
        outbox.c.attempts, outbox.c.fence, outbox.c.queued_at, outbox.c.state, outbox.c.key,
        states.held_back.label("held_back"),
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
_PRIORITIES = (0, 1)
_next_account = select(func.min(outbox.c.account)).where(states.is_due(), outbox.c.account > bindparam("b_account"))
_take = (
    update(outbox)
    .where(outbox.c.id.in_(bindparam("b_ids", expanding=True)))
    .values(
        state="sending", attempts=outbox.c.attempts + 1, fence=outbox.c.fence + 1, owner=bindparam("b_owner"),
        lease_until=bindparam("b_lease"), unknown_at=None,
    )
)  # fmt: skip


_paused = select(account_states).where(account_states.c.scope == "", account_states.c.paused_until > bindparam("b_now"))
_show = (
    update(messages)
    .where(messages.c.id.in_(bindparam("b_ids", expanding=True)), messages.c.status.in_(("queued", "held")))
    .values(status="sending")
    .returning(messages.c.id, messages.c.ticket_id, messages.c.account)
)


class OutboxStore:
    """What the dispatcher asks for, and the live events that follow from it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._facts = FactSource(core.accounts)

    def pace(self, account: str, channel: str) -> Pace:
        """The pace of a channel, or the operator's `rate` over the whole account."""
        return pace_of(self._core, account, channel)

    async def claim(self, room: Room, decide: Decide, owner: str, now: datetime) -> Sequence[Parcel]:
        """See `outbox.ports.Store`."""
        parcels, changed, refused = await self._write(
            lambda connection: self._claim(connection, room, decide, owner, now)
        )
        for channel, rule in refused:
            self._core.metrics.refusals.labels(channel, rule).inc()
        self._tell(changed)
        return parcels

    async def record(self, batch: Sequence[Outcome], now: datetime) -> None:
        """See `outbox.ports.Store`."""
        recorded = await self._write(lambda connection: outcomes.record(connection, batch, micros(now)))
        if recorded.dead:
            self._core.metrics.dead_letters.labels("outbound").inc(recorded.dead)
            log.error("outbox.dead_letters", extra={"count": recorded.dead})
        self._tell(recorded.changed)
        if recorded.awakened:
            self._core.bus.wake("intake")

    async def expired(self, now: datetime, *, everything: bool) -> Sequence[Parcel]:
        """See `outbox.ports.Store`."""
        condition = text("outbox.state = 'sending'")
        statement = select(outbox).where(condition).order_by(outbox.c.lease_until).limit(500)
        if not everything:
            statement = statement.where(outbox.c.lease_until <= micros(now))
        return await self._core.database.read(lambda connection: parcels_of(connection, statement))

    async def unsettled(self, now: datetime) -> Sequence[Parcel]:
        """See `outbox.ports.Store`."""
        since = micros(now) - 3_600_000_000
        statement = select(outbox).where(states.is_open(), outbox.c.state == "unknown", outbox.c.unknown_at > since)
        return await self._core.database.read(lambda connection: parcels_of(connection, statement.limit(1000)))

    async def settle(self, parcel: Parcel, sent: Sent | None, now: datetime) -> None:
        """See `outbox.ports.Store`."""
        recorded = await self._write(lambda connection: outcomes.settle(connection, parcel, sent, micros(now)))
        self._tell(recorded.changed)
        if recorded.awakened:
            self._core.bus.wake("intake")

    async def sweep(self, now: datetime) -> int:
        """See `outbox.ports.Store`."""
        return await self._write(lambda connection: states.sweep(connection, micros(now)))

    async def pauses(self, now: datetime) -> Sequence[Waiting]:
        """See `outbox.ports.Store`."""
        return await self._core.database.read(lambda connection: _account_pauses(connection, now))

    async def paused(self, account: str, pause: Pause, now: datetime) -> None:
        """See `outbox.ports.Store`."""
        await self._write(lambda connection: outcomes.pause_accounts(connection, [(account, "", pause)], micros(now)))
        self._core.bus.publish([LiveEvent("account.paused", {"account": account, "reason": pause.reason}, account)])

    async def release(self, account: str, now: datetime) -> None:
        """See `outbox.ports.Store`."""

        def job(connection: Connection) -> None:
            connection.execute(
                update(account_states)
                .where(account_states.c.account == account, account_states.c.scope == "")
                .values(paused_until=micros(now))
            )
            connection.execute(
                update(outbox)
                .where(states.is_due(), outbox.c.account == account, outbox.c.state == "held")
                .values(not_before=micros(now))
            )

        await self._core.database.bulk(job)
        self._core.bus.publish([LiveEvent("account.resumed", {"account": account}, account)])

    async def wait(self, timeout_s: float) -> bool:
        """See `outbox.ports.Store`."""
        return await self._core.bus.wait("outbox", timeout_s)

    def wake(self) -> None:
        """See `outbox.ports.Store`."""
        self._core.bus.wake("outbox")

    async def _write(self, job: Callable[[Connection], T]) -> T:
        return await self._core.database.write(job)

    def _tell(self, changed: Iterable[states.Changed]) -> None:
        self._core.bus.publish(LiveEvent(*change.live) for change in changed)

    # --- claim, in the store's thread ---

    def _claim(
        self, connection: Connection, room: Room, decide: Decide, owner: str, now: datetime
    ) -> tuple[list[Parcel], list[states.Changed], list[tuple[str, str]]]:
        paused = {pause.account: pause for pause in _account_pauses(connection, now)}
        heads: list[Row[Any]] = []
        owners: list[str] = []
        for account in waiting_accounts(connection):
            if (limit := room(account, paused.get(account))) > 0:
                found = _heads(connection, account, limit, micros(now))
                heads += found
                owners += [account] * len(found)
        if not heads:
            return [], [], []
        candidates = self._candidates(connection, heads, owners, now)
        going: list[Parcel] = []
        stopped: list[tuple[Parcel, Stop]] = []
        for candidate in candidates:
            ruling = decide(candidate)
            if isinstance(ruling, Go):
                going.append(_claimed(candidate.parcel, ruling, now))
            elif isinstance(ruling, Stop):
                stopped.append((candidate.parcel, ruling))
        changed = outcomes.stop(connection, stopped, micros(now)) if stopped else []
        if going:
            changed += _commit_sending(connection, going, owner, now)
        refused = [(parcel.channel, stop.judgment.verdicts[0].rule) for parcel, stop in stopped]
        return going, changed, refused

    def _candidates(
        self, connection: Connection, heads: Sequence[Row[Any]], owners: Sequence[str], now: datetime
    ) -> list[Candidate]:
        known = about(connection, [row.message_id for row in heads])
        tried = _tries(connection, [row.id for row in heads if row.attempts or row.fence])
        parcels: list[Parcel] = []
        subjects: list[Subject] = []
        for row, account in zip(heads, owners, strict=True):
            message = _decode(row.payload)
            unknowns, first = tried.get(row.id, (0, None))
            details = known.get(row.message_id)
            parcels.append(
                Parcel(
                    id=row.id, message_id=row.message_id, conversation_id=row.conversation_id, account=account,
                    channel=row.channel, message=message, queued_at=moment(row.queued_at), attempt=row.attempts,
                    unknowns=unknowns, first_attempt_at=None if first is None else moment(first), fence=row.fence,
                    automatic=bool(details and details.automatic),
                )
            )  # fmt: skip
            base = Subject(
                account=account, channel=row.channel, conversation_id=row.conversation_id,
                recipient=recipient_of(message), recipients=recipients_of(message), template=message.template,
                queued=True,
            )  # fmt: skip
            if details is not None:
                base = msgspec.structs.replace(
                    base, ticket_status=details.ticket_status, ticket_account=details.ticket_account,
                    identity_state=details.identity_state, optouts=details.optouts, opened_at=details.opened_at,
                    window_used=details.window_used, automatic=bool(details.automatic),
                )  # fmt: skip
            subjects.append(base)
        facts = self._facts.gather(connection, subjects, now)
        return [Candidate(parcel, fact) for parcel, fact in zip(parcels, facts, strict=True)]


def pace_of(core: Core, account_id: str, channel: str) -> Pace:
    """The pace the outbox keeps on a channel of an account."""
    account = core.accounts.get(account_id)
    declared = account.channels.get(channel) if account is not None else None
    pace = declared.pace if declared is not None else Pace(1e9, "no such channel")
    if account is None or account.settings.rate is None:
        return pace
    return Pace(account.settings.rate, "[[accounts]] rate", "message", pace.pair_seconds, pace.pair_burst, pace.daily)


def waiting_accounts(connection: Connection) -> list[str]:
    """The accounts that something is queued for: one step of the index for each, however much is queued."""
    found: list[str] = []
    last = ""
    first = connection.execute(select(func.min(outbox.c.account)).where(states.is_due())).scalar()
    while first is not None:
        found.append(first)
        last = first
        first = connection.execute(_next_account, {"b_account": last}).scalar()
    return found


def _heads(connection: Connection, account: str, limit: int, now: int) -> list[Row[Any]]:
    """Up to `limit` due heads of conversations; due rows that are no heads are put aside until it is their turn."""
    found: list[Row[Any]] = []
    statement = dialect.for_claim(connection, _due)
    for priority in _PRIORITIES:
        while len(found) < limit:
            asked = limit - len(found)
            rows = connection.execute(
                statement,
                {"b_account": account, "b_priority": priority, "b_now": now, "b_limit": asked,
                 "unknown_since": now - states.HOLDS},
            ).all()  # fmt: skip
            back = [row.id for row in rows if row.held_back]
            if back:
                connection.execute(update(outbox).where(outbox.c.id.in_(back)).values(not_before=None))
            found += [row for row in rows if not row.held_back]
            if not back or len(rows) < asked:
                break
            if len(back) < len(rows):
                break  # heads among them are still due and would be found again
    return found


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


def parcels_of(connection: Connection, statement: Any) -> list[Parcel]:
    """Rows of the outbox as parcels that were claimed before."""
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
    for row in rows:
        unknowns, first = tried.get(row.id, (0, None))
        found.append(
            Parcel(
                id=row.id, message_id=row.message_id, conversation_id=row.conversation_id, account=row.account,
                channel=row.channel, message=_decode(row.payload), queued_at=moment(row.queued_at),
                attempt=row.attempts, attempt_id=latest.get(row.id, ""), unknowns=unknowns,
                first_attempt_at=None if first is None else moment(first), fence=row.fence,
                automatic=row.message_id in automatic,
            )
        )  # fmt: skip
    return found


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


def _commit_sending(connection: Connection, going: Sequence[Parcel], owner: str, now: datetime) -> list[states.Changed]:
    """The intent, before the first byte: state, attempt number, fence, lease, and a row for the attempt."""
    leases: dict[datetime, list[str]] = {}
    for parcel in going:
        leases.setdefault(parcel.lease_until or now, []).append(parcel.id)
    for until, ids in leases.items():
        connection.execute(_take, {"b_ids": ids, "b_owner": owner, "b_lease": micros(until)})
    dialect.insert_many(
        connection,
        attempts,
        [
            {"id": parcel.attempt_id, "outbox_id": parcel.id, "message_id": parcel.message_id,
             "number": parcel.attempt, "started_at": micros(now)}
            for parcel in going
        ],
    )  # fmt: skip
    rows = connection.execute(_show, {"b_ids": list({parcel.message_id for parcel in going})})
    return [states.Changed(row.id, row.ticket_id, row.account, "queued", "sending") for row in rows]


def _account_pauses(connection: Connection, now: datetime) -> list[Waiting]:
    rows = connection.execute(_paused, {"b_now": micros(now)})
    return [Waiting(row.account, moment(row.paused_until), row.error_class) for row in rows]
