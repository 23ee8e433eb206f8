"""Outcomes of sends in the database: recorded in groups, a few statements for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, exists, insert, literal, literal_column, null, select, update

from adapters import ErrorClass, Sent
from gateway.bus import LiveEvent
from gateway.ids import micros, new_id, rfc3339
from gateway.store import catalogue, outcome_news, pauses, refs, states
from gateway.store.detours import Detours, TakeOver, stay
from gateway.store.many import among_bound, insert_ignore, run_many, run_together
from gateway.store.people import set_consent
from gateway.store.rest import hold_back_rest
from gateway.store.schema import (
    addresses,
    attempts,
    dead_letters,
    messages,
    outbox,
)
from gateway.store.tickets import to_json
from gateway.store.window_counts import Counts, count
from gateway.tickets import SYSTEM
from normalizers.model import Address
from outbox.detours import Refusal, by_platform
from outbox.ports import Failure, Outcome, Parcel, Pause, Stop, is_private_reply
from outbox.rules import CLASS_OF_RULE
from outbox.verdict import Verdict

_FINISHED = ("sent", "failed")  # an unknown one holds its followers for a while


class Recorded(msgspec.Struct):
    """What followed from a batch: messages in another state, dead letters made, parked events woken; `detours`: what to
    tell of refused messages that went another way."""

    changed: list[states.Changed] = msgspec.field(default_factory=list)
    dead: list[dict[str, Any]] = msgspec.field(default_factory=list)
    pauses: list[tuple[str, str, Pause]] = msgspec.field(default_factory=list)  # those that began
    awakened: bool = False
    aliases: list[tuple[str, Address]] = msgspec.field(default_factory=list)  # private replies, whom they reached
    detours: list[LiveEvent] = msgspec.field(default_factory=list)


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


def record(
    connection: Connection, batch: Sequence[Outcome], now: int, counts: Counts, take_over: TakeOver = stay
) -> Recorded:
    """Record outcomes. A row another sender has claimed since is left alone; what proves a send is kept.

    What the platform refuses goes another way where `take_over` finds one, and has not failed then.
    """
    rows = _rows(connection, [outcome.parcel.id for outcome in batch])
    tries = [_attempt(outcome) for outcome in batch if outcome.parcel.attempt_id]
    updates: dict[str, dict[str, Any]] = {}
    effective: list[Outcome] = []
    for outcome in batch:
        row = rows.get(outcome.parcel.id)
        if row is not None and (values := _next(row, outcome)) is not None:
            updates[row.id] = values
            effective.append(outcome)
    named = refs.given_by([(outcome.parcel, outcome.sent) for outcome in effective if outcome.sent is not None])
    run_together(
        connection, (("finish",), lambda: _FINISH, tries), (("outcome",), lambda: _SET, list(updates.values())),
        refs.keeping(connection, named),
    )  # fmt: skip
    in_window = [o.parcel for o in effective if o.word in ("sent", "unknown") and counts(o.parcel)]
    count(connection, [rows[parcel.id].identity_id for parcel in in_window])
    recorded = _follow_up(connection, effective, rows, updates, now, take_over)
    recorded.awakened = refs.awaken(connection, named)
    recorded.pauses = pauses.of_outcomes(connection, [outcome for outcome in batch if outcome.pause is not None], now)
    return recorded


_other = outbox.alias("other")
_ROWS = (
    select(
        outbox.c.id, outbox.c.state, outbox.c.fence, outbox.c.attempts, outbox.c.external_id, outbox.c.sent_at,
        outbox.c.error, outbox.c.settled, messages.c.identity_id, *(c.label(f"message_{c.name}") for c in states.SHOWN),
        exists(select(literal(1)).where(_other.c.message_id == outbox.c.message_id, _other.c.id != outbox.c.id))
        .label("parted"),
    )
    .join_from(outbox, messages, messages.c.id == outbox.c.message_id)
    .where(among_bound(outbox.c.id, "b_ids"))
    .with_for_update(of=(outbox, messages))  # says nothing where one connection writes
)  # fmt: skip


def _rows(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    return {row.id: row for row in connection.execute(_ROWS, {"b_ids": list(ids)}).all()}


def _next(row: Any, outcome: Outcome) -> dict[str, Any] | None:
    """The row's new values, or None when the outcome comes too late to change it."""
    at = micros(outcome.at)
    mine = row.state == "sending" and row.fence == outcome.parcel.fence
    if not mine and outcome.word != "sent":
        return None
    state: str = outcome.state
    if not mine and row.state == "sending":
        return None  # a newer try is under way, under the same key
    faster = not mine and row.state not in ("queued", "held", "unknown")
    if faster:
        state = row.state  # a receipt was; only the id is news
    external_id = outcome.sent.external_id if outcome.sent is not None else ""
    return {
        "b_id": row.id,
        "b_state": state,
        "b_attempts": row.attempts if outcome.counted or not mine else max(row.attempts - 1, 0),
        "b_not_before": None if outcome.not_before is None else micros(outcome.not_before),
        "b_error": row.error if faster else None if outcome.error is None else to_json(outcome.error),
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


def _follow_up(
    connection: Connection, effective: Sequence[Outcome], rows: Mapping[str, Any],
    updates: Mapping[str, dict[str, Any]], now: int, take_over: TakeOver,
) -> Recorded:  # fmt: skip
    """All that follows from outcomes that changed their row; `rows` as they were, `updates` as they are."""
    if not effective:
        return Recorded()
    _people(connection, effective, rows, now)
    _templates(connection, effective, now)
    failed = [(o.parcel, o.error or Failure("", "unknown"), o.parcel.attempt) for o in effective if o.state == "failed"]
    refused = {parcel.message_id: by_platform(failure) for parcel, failure, _ in failed}
    refused |= _reported(effective, updates)
    detours = take_over(connection, refused) if refused else Detours()  # by what the outcomes told of people
    dead = _bury(connection, [one for one in failed if one[0].message_id not in detours.gone], now)
    left = [row for row_id in updates if (row := rows[row_id]).message_id not in detours.gone]
    whole = [(_shown(row), (_part(updates[row.id]),)) for row in left if not row.parted]
    changed = states.follow(connection, whole, now, more=detours.details)
    changed += states.refresh(connection, [row.message_id for row in left if row.parted], now, more=detours.details)
    changed += outcome_news.tell(connection, effective, now)
    states.promote(connection, [o.parcel.conversation_id for o in effective if o.state in _FINISHED], now)
    reached = [
        (outcome.parcel.message_id, address)
        for outcome in effective
        if outcome.sent is not None and is_private_reply(outcome.parcel.message)
        for address in outcome.sent.addresses
    ]
    return Recorded(changed, dead, aliases=reached, detours=detours.live)


def _reported(effective: Sequence[Outcome], updates: Mapping[str, dict[str, Any]]) -> dict[str, Refusal]:
    """What the platform took, and reported as failed before its answer was recorded: only now the try is known."""
    found: dict[str, Refusal] = {}
    for outcome in effective:
        values = updates[outcome.parcel.id]
        if outcome.word == "sent" and values["b_state"] == "failed" and values["b_error"]:
            failure = msgspec.json.decode(values["b_error"], type=Failure)
            found[outcome.parcel.message_id] = by_platform(failure)
    return found


def _shown(row: Any) -> states.Shown:
    return states.Shown(
        row.message_id, row.message_ticket_id, row.message_account, row.message_status, row.message_external_id,
        row.message_error, row.message_sent_at,
    )  # fmt: skip


def _part(values: dict[str, Any]) -> states.Part:
    return states.Part(values["b_state"], values["b_error"], values["b_external_id"], values["b_sent_at"])


def _people(connection: Connection, effective: Sequence[Outcome], rows: Mapping[str, Any], now: int) -> None:
    """What a send tells of the person: addresses learned, an opt-out."""
    learned: list[dict[str, Any]] = []
    for outcome in effective:
        identity: str = rows[outcome.parcel.id].identity_id
        if outcome.opted_out:
            set_consent(connection, identity, "opted_out", outcome.opted_out, now)
        if outcome.sent is not None and outcome.sent.addresses:
            learned += _learned(outcome, identity, now)
    insert_ignore(connection, addresses, learned)


def _learned(outcome: Outcome, identity: str, now: int) -> list[dict[str, Any]]:
    """Addresses the platform told of that the message was not sent to."""
    parcel = outcome.parcel
    if outcome.sent is None or is_private_reply(parcel.message):  # that tells of the person on another surface
        return []
    return [
        {
            "id": new_id(), "identity_id": identity, "channel": address.channel, "account": parcel.account,
            "kind": address.kind, "value": address.value, "scope": address.scope, "evidence": address.evidence,
            "attested_at": now,
        }
        for address in outcome.sent.addresses
        if all((address.kind, address.value) != (known.kind, known.value) for known in parcel.message.to)
    ]  # fmt: skip


def _templates(connection: Connection, effective: Sequence[Outcome], now: int) -> None:
    """What refusals tell of the templates that were sent, so that the next is refused here."""
    told = [
        catalogue.told(outcome.parcel.account, outcome.parcel.message.template, outcome.template, now)
        for outcome in effective
        if outcome.template and outcome.parcel.message.template is not None
    ]
    catalogue.learn(connection, told)


def _bury(
    connection: Connection, letters: Sequence[tuple[Parcel, Failure, int]], now: int
) -> list[dict[str, Any]]:  # fmt: skip
    rows = [
        dead_letter(parcel.id, parcel.message_id, parcel.account, parcel.channel, failure, tries, now)
        for parcel, failure, tries in letters
    ]
    if rows:
        connection.execute(insert(dead_letters), rows)
        hold_back_rest(connection, [row["ref"] for row in rows], now)
    return rows


def dead_letter(
    outbox_id: str, message_id: str, account: str, channel: str, failure: Failure, tries: int, now: int
) -> dict[str, Any]:
    """The dead letter of a part that failed for good."""
    return {
        "id": new_id(), "direction": "outbound", "kind": "message", "ref": outbox_id, "account": account,
        "channel": channel, "message_id": message_id, "error_class": failure.error_class, "code": failure.code,
        "detail": failure.detail, "attempts": tries, "created_at": now,
    }  # fmt: skip


# --- without a send ---------------------------------------------------------------------------------------------------

_LATE_FROM = (
    update(outbox)
    .where(outbox.c.message_id == bindparam("b_message"), outbox.c.fence < literal_column("1"))  # else late already
    .values(queued_at=bindparam("b_due"))
)


def held_by(verdict: Verdict, error_class: ErrorClass | None = None) -> Failure:
    """What a message that a rule holds until later shows as its error."""
    return Failure(verdict.rule, error_class or CLASS_OF_RULE.get(verdict.rule, "throttle"), verdict.reason)


def refused_by(verdict: Verdict, error_class: ErrorClass | None = None) -> Failure:
    """What a message that a rule refuses at the last moment shows as its error."""
    return Failure(verdict.rule, error_class or CLASS_OF_RULE.get(verdict.rule, "policy"), verdict.reason)


def stop(
    connection: Connection, stopped: Sequence[tuple[Parcel, Stop]], now: int, details: Mapping[str, dict[str, Any]]
) -> tuple[list[states.Changed], list[dict[str, Any]]]:
    """Messages the rules hold back or refuse at the last moment: what changed, and the dead letters made.

    `details` are more for the log lines of some.
    """
    if not stopped:
        return [], []
    rows = _rows(connection, [parcel.id for parcel, _ in stopped])
    updates: list[dict[str, Any]] = []
    letters: list[tuple[Parcel, Failure, int]] = []
    late_from: dict[str, dict[str, Any]] = {}
    more: dict[str, dict[str, Any]] = {}
    for parcel, word in stopped:
        verdict = word.judgment.decisive
        row = rows[parcel.id]
        held = word.until is not None
        failure = held_by(verdict, word.error_class) if held else refused_by(verdict, word.error_class)
        if held and (due := word.judgment.due) is not None:
            late_from[parcel.message_id] = {"b_message": parcel.message_id, "b_due": micros(due)}
        if not held:
            letters.append((parcel, failure, parcel.attempt))
        more[parcel.message_id] = {"rule": verdict.rule, "reason": verdict.reason, "remedy": verdict.remedy}
        more[parcel.message_id] |= details.get(parcel.message_id, {})
        if word.until is not None:
            more[parcel.message_id]["until"] = rfc3339(micros(word.until))
        updates.append(
            {"b_id": parcel.id, "b_state": "held" if held else "failed", "b_attempts": row.attempts,
             "b_not_before": micros(word.until) if word.until is not None else None,
             "b_error": to_json(failure), "b_external_id": row.external_id, "b_sent_at": row.sent_at,
             "b_unknown_at": None}
        )  # fmt: skip
    run_many(connection, ("outcome",), lambda: _SET, updates)
    if late_from:
        run_many(connection, ("late from",), lambda: _LATE_FROM, list(late_from.values()))
    dead = _bury(connection, letters, now)
    changed = states.refresh(connection, [parcel.message_id for parcel, _ in stopped], now, SYSTEM, more)
    states.promote(connection, [p.conversation_id for p, word in stopped if word.until is None], now)
    return changed, dead


def settle(connection: Connection, parcel: Parcel, sent: Sent | None, now: int, counts: Counts) -> Recorded:
    """The truth about an unknown part. Proven unsent, it goes again, unless one behind it has left already: then it has
    failed, and a person may send it again."""
    row = _rows(connection, [parcel.id]).get(parcel.id)
    if (
        row is None or row.state != "unknown" or (row.settled and sent is None)
    ):  # a person left it: it does not go again
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
        update(outbox)
        .where(outbox.c.id == parcel.id)
        .values(**values, unknown_at=None, asked_at=None, lease_until=None)
    )
    awakened = refs.keep(connection, [(parcel, sent)]) if sent is not None else False
    dead = _bury(connection, [(parcel, failure, parcel.attempt)], now) if failure is not None else []
    if sent is None and counts(parcel):
        count(connection, [row.identity_id], -1)
    changed = states.refresh(connection, [parcel.message_id], now)
    states.promote(connection, [parcel.conversation_id], now)
    return Recorded(changed, dead, awakened=awakened)


def _overtaken(connection: Connection, parcel: Parcel) -> bool:
    """Whether one that should have left after it has left, or may have: a reply overtakes bulk at any time."""
    own = select(outbox.c.priority).where(outbox.c.id == parcel.id).scalar_subquery()
    later = select(_other.c.id).where(
        _other.c.conversation_id == parcel.conversation_id,
        _other.c.id > parcel.id,
        _other.c.priority >= own,
        _other.c.state.in_(("sending", "unknown", "sent", "delivered", "read")),
    )
    return connection.execute(later.limit(1)).first() is not None
