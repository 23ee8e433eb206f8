"""Outcomes of sends in the database: recorded in groups, a few statements for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, insert, null, select, text, update

from adapters import Sent
from gateway.ids import micros, new_id
from gateway.store import outcome_news, states
from gateway.store.dialect import insert_ignore, run_many, upsert
from gateway.store.people import set_consent
from gateway.store.schema import (
    account_states,
    addresses,
    attempts,
    dead_letters,
    events,
    identities,
    message_refs,
    messages,
    outbox,
)
from gateway.store.tickets import to_json
from gateway.tickets import SYSTEM
from outbox.ports import Failure, Outcome, Parcel, Pause, Stop, recipient_of
from outbox.rules import CLASS_OF_RULE

_FINISHED = ("sent", "failed")  # an unknown one holds its followers for a while


class Recorded(msgspec.Struct):
    """What followed from a batch: messages in another state, dead letters made, parked events woken."""

    changed: list[states.Changed] = msgspec.field(default_factory=list)
    dead: int = 0
    awakened: bool = False


_SET = (
    update(outbox)
    .where(outbox.c.id == bindparam("b_id"))
    .values(
        state=bindparam("b_state"), attempts=bindparam("b_attempts"), not_before=bindparam("b_not_before"),
        error=bindparam("b_error"), external_id=bindparam("b_external_id"), sent_at=bindparam("b_sent_at"),
        unknown_at=bindparam("b_unknown_at"), lease_until=null(),  # no value of a row
    )
)  # fmt: skip
_FINISH = (
    update(attempts)
    .where(attempts.c.id == bindparam("b_id"))
    .values(
        finished_at=bindparam("b_at"), outcome=bindparam("b_outcome"), error_class=bindparam("b_class"),
        code=bindparam("b_code"), detail=bindparam("b_detail"), request_id=bindparam("b_request_id"),
    )
)  # fmt: skip


def record(connection: Connection, batch: Sequence[Outcome], now: int) -> Recorded:
    """Record outcomes. A row another sender has claimed since is left alone; what proves a send is kept."""
    rows = _rows(connection, [outcome.parcel.id for outcome in batch])
    if tries := [_attempt(outcome) for outcome in batch if outcome.parcel.attempt_id]:
        run_many(connection, ("finish",), lambda: _FINISH, tries)
    updates: list[dict[str, Any]] = []
    effective: list[Outcome] = []
    for outcome in batch:
        row = rows.get(outcome.parcel.id)
        if row is not None and (values := _next(row, outcome)) is not None:
            updates.append(values)
            effective.append(outcome)
    if updates:
        run_many(connection, ("outcome",), lambda: _SET, updates)
    recorded = _follow_up(connection, effective, now)
    _pause(connection, [outcome for outcome in batch if outcome.pause is not None], now)
    return recorded


_ROWS = (
    select(
        outbox.c.id, outbox.c.state, outbox.c.fence, outbox.c.attempts, outbox.c.external_id, outbox.c.sent_at,
        outbox.c.error,
    )
    .where(outbox.c.id.in_(bindparam("b_ids", expanding=True)))
    .with_for_update()  # says nothing where one connection writes
)  # fmt: skip


def _rows(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    return {row.id: row for row in connection.execute(_ROWS, {"b_ids": list(ids)})}


def _next(row: Any, outcome: Outcome) -> dict[str, Any] | None:
    """The row's new values, or None when the outcome comes too late to change it."""
    at = micros(outcome.at)
    mine = row.state == "sending" and row.fence == outcome.parcel.fence
    if not mine and outcome.word != "sent":
        return None
    state: str = outcome.state
    if not mine and row.state == "sending":
        return None  # a newer try is under way, under the same key
    if not mine and row.state not in ("queued", "held", "unknown"):
        state = row.state  # a receipt was faster; only the id is news
    external_id = outcome.sent.external_id if outcome.sent is not None else ""
    return {
        "b_id": row.id,
        "b_state": state,
        "b_attempts": row.attempts if outcome.counted or not mine else max(row.attempts - 1, 0),
        "b_not_before": None if outcome.not_before is None else micros(outcome.not_before),
        "b_error": None if outcome.error is None else to_json(outcome.error),
        "b_external_id": row.external_id or external_id,
        "b_sent_at": row.sent_at or (at if outcome.state == "sent" else None),
        "b_unknown_at": at if state == "unknown" else None,
    }


def _attempt(outcome: Outcome) -> dict[str, Any]:
    error, refused = outcome.error, dict(outcome.sent.refused) if outcome.sent else {}
    note = outcome.sent.note if outcome.sent else ""
    return {
        "b_id": outcome.parcel.attempt_id,
        "b_at": micros(outcome.at),
        "b_outcome": outcome.word,
        "b_class": error.error_class if error else "",
        "b_code": error.code if error else "",
        "b_detail": error.detail if error else "; ".join(f"{who}: {why}" for who, why in refused.items()) or note,
        "b_request_id": outcome.request_id,
    }


def _follow_up(connection: Connection, effective: Sequence[Outcome], now: int) -> Recorded:
    """All that follows from outcomes that changed their row."""
    if not effective:
        return Recorded()
    sent = [(outcome.parcel, outcome.sent) for outcome in effective if outcome.sent is not None]
    awakened = know_by(connection, sent)
    failed = [outcome for outcome in effective if outcome.state == "failed"]
    _bury(connection, [(o.parcel, o.error or Failure("", "unknown"), o.parcel.attempt) for o in failed], now)
    changed = states.refresh(connection, [outcome.parcel.message_id for outcome in effective], now)
    _people(connection, effective, now)
    changed += outcome_news.tell(connection, effective, now)
    states.promote(connection, [o.parcel.conversation_id for o in effective if o.state in _FINISHED], now)
    return Recorded(changed, len(failed), awakened)


_AWAKEN = (
    update(events)
    .where(
        events.c.account == bindparam("b_account"),
        text("events.state = 'parked'"),  # word for word the condition of its index
        events.c.waits_for.in_(bindparam("b_refs", expanding=True)),
    )
    .values(state="new", not_before=None)
)


def know_by(connection: Connection, sent: Sequence[tuple[Parcel, Sent]]) -> bool:
    """Remember the ids the platform gave, and wake receipts that came before them; whether there was one."""
    refs: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    for parcel, answer in sent:
        for ref in (answer.external_id, *answer.aliases):
            if ref:
                rows.append(
                    {"account": parcel.account, "ref": ref, "message_id": parcel.message_id, "outbox_id": parcel.id}
                )
                refs.setdefault(parcel.account, []).append(ref)
        refs.setdefault(parcel.account, []).extend((parcel.id, parcel.message_id))
    insert_ignore(connection, message_refs, rows)
    woken = 0
    for account, waited_for in refs.items():
        woken += connection.execute(_AWAKEN, {"b_account": account, "b_refs": waited_for}).rowcount
    return woken > 0


_IDENTITIES = select(messages.c.id, messages.c.identity_id).where(messages.c.id.in_(bindparam("b_ids", expanding=True)))


def _people(connection: Connection, effective: Sequence[Outcome], now: int) -> None:
    """What a send tells of the person: addresses learned, an opt-out, one more message in the window."""
    ids = list({outcome.parcel.message_id for outcome in effective})
    telling = [o for o in effective if o.opted_out or o.state in ("sent", "unknown") or (o.sent and o.sent.addresses)]
    if not telling:
        return
    identity_of = {row.id: row.identity_id for row in connection.execute(_IDENTITIES, {"b_ids": ids})}
    used: dict[str, int] = {}
    for outcome in telling:
        identity = identity_of.get(outcome.parcel.message_id)
        if identity is None:
            continue
        if outcome.state in ("sent", "unknown") and outcome.parcel.message.template is None:
            used[identity] = used.get(identity, 0) + 1
        if outcome.opted_out:
            set_consent(connection, identity, "opted_out", outcome.opted_out, now)
    if used:
        counts = [{"b_id": identity, "b_count": count} for identity, count in sorted(used.items())]
        run_many(connection, ("window used",), lambda: _USED, counts)
    insert_ignore(connection, addresses, _learned(telling, identity_of, now))


_USED = (
    update(identities)
    .where(identities.c.id == bindparam("b_id"))
    .values(window_used=identities.c.window_used + bindparam("b_count"))
)


def _learned(telling: Sequence[Outcome], identity_of: dict[str, str], now: int) -> list[dict[str, Any]]:
    """Addresses the platform told of that the message was not sent to."""
    return [
        {
            "id": new_id(), "identity_id": identity_of[outcome.parcel.message_id], "channel": address.channel,
            "account": outcome.parcel.account, "kind": address.kind, "value": address.value, "scope": address.scope,
            "evidence": address.evidence, "attested_at": now,
        }
        for outcome in telling
        if outcome.sent is not None and outcome.parcel.message_id in identity_of
        for address in outcome.sent.addresses
        if all((address.kind, address.value) != (known.kind, known.value) for known in outcome.parcel.message.to)
    ]  # fmt: skip


def _bury(connection: Connection, letters: Sequence[tuple[Parcel, Failure, int]], now: int) -> None:
    if not letters:
        return
    connection.execute(
        insert(dead_letters),
        [dead_letter(parcel.id, parcel.message_id, parcel.account, failure, tries, now)
         for parcel, failure, tries in letters],
    )  # fmt: skip


def dead_letter(
    outbox_id: str, message_id: str, account: str, failure: Failure, tries: int, now: int
) -> dict[str, Any]:
    """The dead letter of a part that failed for good."""
    return {
        "id": new_id(), "direction": "outbound", "kind": "message", "ref": outbox_id, "account": account,
        "message_id": message_id, "error_class": failure.error_class, "code": failure.code, "detail": failure.detail,
        "attempts": tries, "created_at": now,
    }  # fmt: skip


def _pause(connection: Connection, outcomes: Sequence[Outcome], now: int) -> None:
    found: list[tuple[str, str, Pause]] = []
    for outcome in outcomes:
        pause, parcel = outcome.pause, outcome.parcel
        assert pause is not None
        scope = {
            "account": "",
            "channel": f"channel:{parcel.channel}",
            "recipient": f"to:{recipient_of(parcel.message)}"[:160],
        }[pause.scope]
        found.append((parcel.account, scope, pause))
    pause_accounts(connection, found, now)


def pause_accounts(connection: Connection, pauses: Sequence[tuple[str, str, Pause]], now: int) -> None:
    """Who must wait: (account, scope, pause). Of several for one the longest counts; a dead token outlasts a rate."""
    longest: dict[tuple[str, str], Pause] = {}
    for account, scope, pause in pauses:
        known = longest.get((account, scope))
        if known is None or (pause.error_class == "auth", pause.until) > (known.error_class == "auth", known.until):
            longest[account, scope] = pause
    rows = [
        {"account": account, "scope": scope, "paused_until": micros(pause.until), "error_class": pause.error_class,
         "reason": pause.reason[:500], "at": now}
        for (account, scope), pause in sorted(longest.items())
    ]  # fmt: skip
    upsert(connection, account_states, rows, ["account", "scope"], ["paused_until", "error_class", "reason", "at"])


# --- without a send ---------------------------------------------------------------------------------------------------


def stop(connection: Connection, stopped: Sequence[tuple[Parcel, Stop]], now: int) -> list[states.Changed]:
    """Messages the rules hold back or refuse at the last moment."""
    rows = _rows(connection, [parcel.id for parcel, _ in stopped])
    updates: list[dict[str, Any]] = []
    letters: list[tuple[Parcel, Failure, int]] = []
    more: dict[str, dict[str, Any]] = {}
    for parcel, word in stopped:
        verdict = word.judgment.verdicts[0]
        row = rows[parcel.id]
        failure = Failure(verdict.rule, CLASS_OF_RULE.get(verdict.rule, "policy"), verdict.reason)  # type: ignore[arg-type]
        held = word.until is not None
        if not held:
            letters.append((parcel, failure, parcel.attempt))
        more[parcel.message_id] = {"rule": verdict.rule, "reason": verdict.reason, "remedy": verdict.remedy}
        updates.append(
            {"b_id": parcel.id, "b_state": "held" if held else "failed", "b_attempts": row.attempts,
             "b_not_before": micros(word.until) if word.until is not None else None,
             "b_error": row.error if held and row.error else to_json(failure) if not held else None,
             "b_external_id": row.external_id, "b_sent_at": row.sent_at, "b_unknown_at": None}
        )  # fmt: skip
    run_many(connection, ("outcome",), lambda: _SET, updates)
    _bury(connection, letters, now)
    changed = states.refresh(connection, [parcel.message_id for parcel, _ in stopped], now, SYSTEM, more)
    states.promote(connection, [p.conversation_id for p, word in stopped if word.until is None], now)
    return changed


def settle(connection: Connection, parcel: Parcel, sent: Sent | None, now: int) -> Recorded:
    """The truth about an unknown part. Proven unsent, it goes again, unless one behind it has left already: then it has
    failed, and a person may send it again."""
    row = _rows(connection, [parcel.id]).get(parcel.id)
    if row is None or row.state != "unknown":
        return Recorded()
    if sent is not None:
        values = {"state": "sent", "external_id": row.external_id or sent.external_id, "sent_at": now, "error": None}
        failure = None
    elif _overtaken(connection, parcel):
        failure = Failure("not-sent", "retry", "the platform never got it, and later messages have left")
        values = {"state": "failed", "error": to_json(failure)}
    else:
        failure = None
        values = {"state": "queued", "not_before": now}
    connection.execute(
        update(outbox).where(outbox.c.id == parcel.id).values(**values, unknown_at=None, lease_until=None)
    )
    awakened = know_by(connection, [(parcel, sent)]) if sent is not None else False
    if failure is not None:
        _bury(connection, [(parcel, failure, parcel.attempt)], now)
    changed = states.refresh(connection, [parcel.message_id], now)
    states.promote(connection, [parcel.conversation_id], now)
    return Recorded(changed, int(failure is not None), awakened)


def _overtaken(connection: Connection, parcel: Parcel) -> bool:
    later = select(outbox.c.id).where(
        outbox.c.conversation_id == parcel.conversation_id,
        outbox.c.id > parcel.id,
        outbox.c.state.in_(("sending", "unknown", "sent", "delivered", "read")),
    )
    return connection.execute(later.limit(1)).first() is not None
