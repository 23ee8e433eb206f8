"""What was put aside: listed, read, released, dropped. Its words stand in the event, which waits as `suspended`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, select, text, update

from gateway.store.many import among, upsert
from gateway.store.schema import events, suspended
from gateway.store.search import Visible, seen
from gateway.store.views import Rows

_OPEN = text("suspended.state = 'open'")  # word for word the condition of its index
_AGAIN = ("cause", "causes", "ticket_id", "created_at", "expires_at", "state", "settled_at", "settled_by")


def put_aside(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keep what a batch put aside. What was released and is held again for another cause is open again."""
    upsert(connection, suspended, rows, ["id"], _AGAIN)


def page(
    connection: Connection, account: str, cause: str, sender: str, visible: Visible, limit: int, before: str | None
) -> Rows:
    """What waits for a decision, the newest first."""
    statement = select(suspended).where(_OPEN, seen(suspended.c.account, visible))
    if account:
        statement = statement.where(suspended.c.account == account)
    if cause:
        statement = statement.where(suspended.c.cause == cause)
    if sender:
        statement = statement.where(suspended.c.sender == sender)
    if before is not None:
        statement = statement.where(suspended.c.id < before)
    return connection.execute(statement.order_by(suspended.c.id.desc()).limit(limit)).mappings().all()


def one(connection: Connection, suspended_id: str, visible: Visible) -> RowMapping | None:
    """One of them, decided or not, with its event; None when there is none."""
    statement = (
        select(suspended, events.c.payload)
        .join(events, events.c.id == suspended.c.id)
        .where(suspended.c.id == suspended_id, seen(suspended.c.account, visible))
    )
    return connection.execute(statement).mappings().first()


def waiting(connection: Connection, ids: Sequence[str], visible: Visible) -> dict[str, str]:
    """Those of `ids` that may be seen, with their state."""
    statement = select(suspended.c.id, suspended.c.state).where(
        among(connection, suspended.c.id, ids), seen(suspended.c.account, visible)
    )
    return {row.id: row.state for row in connection.execute(statement)}


def release(connection: Connection, ids: Sequence[str], by: str, now: int) -> list[str]:
    """Hand them to intake again, the causes they were held for waived; those that were still open."""
    rows = connection.execute(
        select(suspended.c.id, suspended.c.causes, events.c.released)
        .join(events, events.c.id == suspended.c.id)
        .where(_OPEN, among(connection, suspended.c.id, ids))
    ).all()
    for row in rows:
        waived = sorted({*row.released.split(","), *_decoded(row.causes)} - {""})
        connection.execute(
            update(events)
            .where(events.c.id == row.id)
            .values(state="retry", attempts=0, not_before=None, error="", released=",".join(waived))
        )
    _settle(connection, [row.id for row in rows], "released", by, now)
    return [row.id for row in rows]


def drop(connection: Connection, ids: Sequence[str], by: str, now: int) -> list[str]:
    """Put them away for good; those that were open. The event stays: the same mail is known when it comes again."""
    found = list(
        connection.execute(select(suspended.c.id).where(_OPEN, among(connection, suspended.c.id, ids))).scalars()
    )
    connection.execute(
        update(events)
        .where(among(connection, events.c.id, found))
        .values(state="ignored", error=f"suspended, then dropped by {by}"[:500])
    )
    _settle(connection, found, "dropped", by, now)
    return found


def _settle(connection: Connection, ids: Sequence[str], state: str, by: str, now: int) -> None:
    values = {"state": state, "settled_at": now, "settled_by": by}
    connection.execute(update(suspended).where(among(connection, suspended.c.id, ids)).values(values))


def open_ids(connection: Connection, limit: int, *, expired_at: int | None = None) -> list[str]:
    """The oldest that wait for a decision; only those whose time is over at `expired_at`."""
    statement = select(suspended.c.id).where(_OPEN).order_by(suspended.c.id).limit(limit)
    if expired_at is not None:
        statement = statement.where(suspended.c.expires_at < expired_at)
    return list(connection.execute(statement).scalars())


def forget_settled(connection: Connection, before: int) -> None:
    """Decisions of long ago go."""
    connection.execute(delete(suspended).where(suspended.c.state != "open", suspended.c.settled_at < before))


def _decoded(causes: str) -> list[str]:
    found: list[str] = msgspec.json.decode(causes)
    return found
