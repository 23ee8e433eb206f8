"""What the API and the command line show of the outbox, of dead letters, and of what accounts wait for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, RowMapping, func, select, text

from gateway.store import dead
from gateway.store.schema import account_states, dead_letters, deliveries, messages, outbox
from gateway.store.search import Visible, seen
from gateway.store.states import is_unknown
from gateway.store.views import Rows

OPEN_STATES = ("queued", "held", "sending", "unknown")

# In the words of the partial indexes: with bound values the embedded store would not use them.
_DELIVERIES_OPEN = text("deliveries.state IN ('received', 'retry')")
_OUTBOX_OPEN = text("outbox.state IN ('queued', 'held', 'sending', 'unknown') AND NOT outbox.settled")


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


def pauses(connection: Connection, now: int) -> dict[str, list[RowMapping]]:
    """What each account waits for right now."""
    found: dict[str, list[RowMapping]] = {}
    for row in connection.execute(select(account_states).where(account_states.c.paused_until > now)).mappings():
        found.setdefault(row["account"], []).append(row)
    return found


class Depth(msgspec.Struct):
    """Open parts of one account by state, and since when the oldest waiting one could have left."""

    states: dict[str, int] = msgspec.field(default_factory=dict)
    oldest: int | None = None


def depths(connection: Connection, now: int, visible: Visible = None) -> dict[str, Depth]:
    """The outbox by account. What a rule holds until later waits for nobody before then: it is queued from then on."""
    found: dict[str, Depth] = {}
    by_state = (
        select(outbox.c.account, outbox.c.state, func.count(), func.min(outbox.c.queued_at))
        .where(_OUTBOX_OPEN, seen(outbox.c.account, visible))
        .group_by(outbox.c.account, outbox.c.state)
    )
    for account, state, count, oldest in connection.execute(by_state):
        depth = found.setdefault(account, Depth())
        depth.states[state] = int(count)
        if state in ("queued", "held") and oldest <= now:
            depth.oldest = oldest if depth.oldest is None else min(depth.oldest, oldest)
    return found


def undecided(connection: Connection, visible: Visible = None) -> int:
    """Unknown parts a person is to decide on."""
    wanted = is_unknown(), outbox.c.asked_at.is_not(None), seen(outbox.c.account, visible)
    return int(connection.execute(select(func.count()).select_from(outbox).where(*wanted)).scalar_one())


def open_letters(connection: Connection, visible: Visible = None) -> int:
    """Dead letters nobody has handled."""
    wanted = dead.OPEN, seen(dead_letters.c.account, visible)
    return int(connection.execute(select(func.count()).select_from(dead_letters).where(*wanted)).scalar_one())


def oldest_delivery(connection: Connection) -> int | None:
    """When the oldest delivery came that is not filed yet."""
    first = select(deliveries.c.received_at).where(_DELIVERIES_OPEN).order_by(deliveries.c.id).limit(1)
    found: int | None = connection.execute(first).scalar()
    return found
