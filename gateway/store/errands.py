"""Errands in the store: wanted, claimed, done, put off, given up. Functions of a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, Update, and_, delete, exists, func, insert, or_, select, text, update

from gateway.ids import new_id
from gateway.store.dialect import for_claim
from gateway.store.many import insert_ignore
from gateway.store.schema import dead_letters, errands
from gateway.store.tickets import to_json

_OPEN = text("errands.state IN ('waiting', 'running')")  # word for word the condition of its index


class Errand(msgspec.Struct, frozen=True):
    """Work for another system. `id` stays the same over all tries and replays: the key a repeat is known by there."""

    id: str
    kind: str
    target: str
    subject: str
    payload: dict[str, Any]
    attempts: int
    created_at: int
    claim: str = ""


def wanted(
    kind: str, target: str, lane: str, key: str, payload: dict[str, Any], now: int,
    *, subject: str | None = None, expires_at: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The row of an errand. Of two with the same kind, target and key the first is kept."""
    return {
        "id": new_id(), "kind": kind, "target": target, "lane": lane, "key": key, "subject": subject,
        "payload": to_json(payload), "not_before": now, "expires_at": expires_at, "created_at": now,
    }  # fmt: skip


def want(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write errands down, in the transaction that wants them."""
    insert_ignore(connection, errands, rows)


def claim(connection: Connection, target: str, limit: int, now: int, lease_until: int) -> list[Errand]:
    """Take what is due for a target: the head of each lane, and what somebody took and never finished."""
    older = errands.alias("older")
    behind = exists().where(
        older.c.target == errands.c.target, older.c.lane == errands.c.lane, older.c.id < errands.c.id,
        or_(older.c.state == "waiting", older.c.state == "running"),
    )  # fmt: skip
    due = or_(
        and_(errands.c.state == "waiting", errands.c.not_before <= now),
        and_(errands.c.state == "running", errands.c.lease_until <= now),
    )
    statement = (
        select(errands).where(_OPEN, errands.c.target == target, due, ~behind).order_by(errands.c.id).limit(limit)
    )
    rows = connection.execute(for_claim(connection, statement)).mappings().all()
    token = new_id()
    ids = [row["id"] for row in rows]
    if ids:
        values = {"state": "running", "owner": token, "lease_until": lease_until}
        connection.execute(update(errands).where(errands.c.id.in_(ids)).values(**values))
    return [
        Errand(
            row["id"], row["kind"], row["target"], row["subject"] or "", msgspec.json.decode(row["payload"]),
            row["attempts"], row["created_at"], token,
        )
        for row in rows if row["expires_at"] is None or not _expire(connection, row, now)
    ]  # fmt: skip


def _expire(connection: Connection, row: RowMapping, now: int) -> bool:
    """Give up what nobody waits for any more; whether it was so."""
    if row["expires_at"] > now:
        return False
    detail = row["detail"] or "it was not done in time"
    _die(connection, row["id"], row["target"], row["attempts"], row["error_class"] or "retry", "expired", detail, now)
    return True


def _mine(errand: Errand) -> Update:
    return update(errands).where(
        errands.c.id == errand.id, errands.c.state == "running", errands.c.owner == errand.claim
    )


def done(connection: Connection, errand: Errand, now: int) -> None:
    """It was done; what it said is no longer needed."""
    values = {"state": "done", "finished_at": now, "lease_until": None, "error_class": "", "code": "", "detail": ""}
    connection.execute(_mine(errand).values(payload="{}", attempts=errand.attempts + 1, **values))


def later(
    connection: Connection, errand: Errand, not_before: int, error_class: str, code: str, detail: str, *, counted: bool
) -> None:
    """It failed in a way that may pass."""
    connection.execute(
        _mine(errand).values(
            state="waiting", not_before=not_before, lease_until=None, attempts=errand.attempts + counted,
            error_class=error_class, code=code, detail=detail[:500],
        )
    )  # fmt: skip


def give_up(connection: Connection, errand: Errand, error_class: str, code: str, detail: str, now: int) -> bool:
    """It will not be done; it becomes a dead letter. False when somebody else has it by now."""
    held = connection.execute(_mine(errand).values(attempts=errand.attempts + 1)).rowcount > 0
    if held:
        _die(connection, errand.id, errand.target, errand.attempts + 1, error_class, code, detail, now)
    return held


def _die(
    connection: Connection, errand_id: str, target: str, attempts: int, error_class: str, code: str, detail: str,
    now: int,
) -> None:  # fmt: skip
    values = {"error_class": error_class, "code": code, "detail": detail[:500]}
    connection.execute(
        update(errands)
        .where(errands.c.id == errand_id)
        .values(state="dead", finished_at=now, lease_until=None, **values)
    )
    letter = {"id": new_id(), "direction": "outbound", "kind": "errand", "ref": errand_id, "account": target,
              "message_id": None, "attempts": attempts, "created_at": now}  # fmt: skip
    connection.execute(insert(dead_letters), [letter | values])


def again(connection: Connection, errand_id: str, now: int) -> bool:
    """Hand a dead errand out again, with all its tries before it; False when it is not dead (any more)."""
    values = {"state": "waiting", "attempts": 0, "not_before": now, "expires_at": None, "finished_at": None}
    statement = update(errands).where(errands.c.id == errand_id, errands.c.state == "dead").values(**values)
    return connection.execute(statement).rowcount > 0


def forget(connection: Connection, before: int, limit: int = 1000) -> int:
    """Drop what was done before a moment; how many were dropped. What is dead stays with its letter."""
    old = select(errands.c.id).where(errands.c.finished_at < before, errands.c.state == "done").limit(limit)
    ids = list(connection.execute(old).scalars())
    if ids:
        connection.execute(delete(errands).where(errands.c.id.in_(ids)))
    return len(ids)


def waiting(connection: Connection) -> dict[str, tuple[int, int]]:
    """(how many, moment of the oldest) of what is open, by target."""
    statement = (
        select(errands.c.target, func.count(), func.min(errands.c.created_at)).where(_OPEN).group_by(errands.c.target)
    )
    return {target: (int(count), int(oldest)) for target, count, oldest in connection.execute(statement)}
