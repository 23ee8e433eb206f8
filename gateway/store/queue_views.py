"""What the API and the command line show of the outbox, of dead letters, and of what accounts wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, text, update

from gateway.store.schema import account_states, dead_letters, deliveries, messages, outbox
from gateway.store.search import Visible, seen
from gateway.store.views import Rows

OPEN_STATES = ("queued", "held", "sending", "unknown")

# In the words of the partial indexes: with bound values the embedded store would not use them.
_DELIVERIES_OPEN = text("deliveries.state IN ('received', 'retry')")
_OUTBOX_OPEN = text("outbox.state IN ('queued', 'held', 'sending', 'unknown') AND NOT outbox.settled")
_OUTBOX_DUE = text("outbox.state IN ('queued', 'held')")


def outbox_page(
    connection: Connection,
    states: Sequence[str],
    account: str,
    channel: str,
    visible: Visible,
    limit: int,
    before: str | None,
) -> Rows:
    """Parts in the outbox, the newest first, each with its ticket."""
    statement = (
        select(outbox, messages.c.ticket_id)
        .join_from(outbox, messages, messages.c.id == outbox.c.message_id, isouter=True)
        .where(seen(outbox.c.account, visible))
        .order_by(outbox.c.id.desc())
        .limit(limit)
    )
    if states:
        statement = statement.where(outbox.c.state.in_(states))
    if account:
        statement = statement.where(outbox.c.account == account)
    if channel:
        statement = statement.where(outbox.c.channel == channel)
    if before is not None:
        statement = statement.where(outbox.c.id < before)
    return connection.execute(statement).mappings().all()


def _open_letters() -> tuple[Any, ...]:
    return dead_letters.c.replayed_at.is_(None), dead_letters.c.dropped_at.is_(None)


def dead_page(
    connection: Connection, direction: str, account: str, visible: Visible, limit: int, before: str | None
) -> Rows:
    """Dead letters that are neither replayed nor dropped, the newest first."""
    statement = select(dead_letters).where(*_open_letters(), seen(dead_letters.c.account, visible))
    if direction:
        statement = statement.where(dead_letters.c.direction == direction)
    if account:
        statement = statement.where(dead_letters.c.account == account)
    if before is not None:
        statement = statement.where(dead_letters.c.id < before)
    return connection.execute(statement.order_by(dead_letters.c.id.desc()).limit(limit)).mappings().all()


def dead_letter(connection: Connection, letter_id: str, visible: Visible) -> RowMapping | None:
    """One dead letter, handled or not, or None."""
    statement = select(dead_letters).where(dead_letters.c.id == letter_id, seen(dead_letters.c.account, visible))
    return connection.execute(statement).mappings().first()


def drop_letter(connection: Connection, letter_id: str, now: int) -> bool:
    """Put a dead letter aside for good; False when it was handled before."""
    return settle_letter(connection, letter_id, "dropped_at", now)


def settle_letter(connection: Connection, letter_id: str, column: str, now: int) -> bool:
    """Write the moment down at which an open letter was handled; False when it was handled before."""
    statement = update(dead_letters).where(dead_letters.c.id == letter_id, *_open_letters()).values({column: now})
    return connection.execute(statement).rowcount > 0


def pauses(connection: Connection, now: int) -> dict[str, list[RowMapping]]:
    """What each account waits for right now."""
    found: dict[str, list[RowMapping]] = {}
    for row in connection.execute(select(account_states).where(account_states.c.paused_until > now)).mappings():
        found.setdefault(row["account"], []).append(row)
    return found


def depths(connection: Connection) -> dict[str, int | None]:
    """Queue figures for metrics: open parts by state, open dead letters, and the moments of the oldest work."""
    found: dict[str, int | None] = dict.fromkeys(OPEN_STATES, 0)
    by_state = select(outbox.c.state, func.count()).where(_OUTBOX_OPEN).group_by(outbox.c.state)
    found |= {state: int(count) for state, count in connection.execute(by_state)}
    letters = select(func.count()).select_from(dead_letters).where(*_open_letters())
    found["dead"] = int(connection.execute(letters).scalar_one())
    first = select(deliveries.c.received_at).where(_DELIVERIES_OPEN).order_by(deliveries.c.id).limit(1)
    found["oldest_inbound"] = connection.execute(first).scalar()
    found["oldest_outbound"] = connection.execute(select(func.min(outbox.c.queued_at)).where(_OUTBOX_DUE)).scalar()
    return found
