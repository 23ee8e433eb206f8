"""What is queued, and whose turn it is: the accounts, and of each the heads of its conversations.

Flat in the number of queued rows: due heads come from an index by account, and a row that waits for another of its
conversation leaves that index (`not_before` NULL) until it is its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, exists, func, literal_column, select, update

from gateway.ids import micros, moment
from gateway.store import dialect, states
from gateway.store.schema import account_states, outbox
from outbox.ports import Waiting

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
AT_LEAST = 32  # heads looked at, however few may go: those whose channel is full make room for others
_stepped = select(func.min(outbox.c.account).label("account")).where(states.is_due()).cte("stepped", recursive=True)
_stepped = _stepped.union_all(
    select(
        select(func.min(outbox.c.account)).where(states.is_due(), outbox.c.account > _stepped.c.account)
        .scalar_subquery()
    ).where(_stepped.c.account.is_not(None))
)  # fmt: skip
_bulk_of = exists(
    select(literal_column("1"))
    .where(states.is_due(), outbox.c.account == _stepped.c.account, outbox.c.priority == literal_column(str(_BULK)))
)  # fmt: skip
_pause_of = and_(
    account_states.c.account == _stepped.c.account,
    account_states.c.scope == "",
    account_states.c.paused_until > bindparam("b_now"),
)
_QUEUES = (
    select(
        _stepped.c.account, account_states.c.paused_until, account_states.c.error_class, _bulk_of.label("bulk"),
    )
    .join_from(_stepped, account_states, _pause_of, isouter=True)
    .where(_stepped.c.account.is_not(None))
    .order_by(_stepped.c.account)
)  # fmt: skip
_paused = select(account_states).where(account_states.c.scope == "", account_states.c.paused_until > bindparam("b_now"))


class Queue(NamedTuple):
    """An account that something is queued for: whether it is paused, and whether bulk is among it."""

    account: str
    pause: Waiting | None
    bulk: bool


def waiting(connection: Connection, now: datetime) -> list[Queue]:
    """The accounts that something is queued for: a few steps of indexes for each, however much is queued."""
    return [
        Queue(
            row.account,
            None if row.paused_until is None else Waiting(row.account, moment(row.paused_until), row.error_class),
            bool(row.bulk),
        )
        for row in connection.execute(_QUEUES, {"b_now": micros(now)}).all()
    ]


def of_account(
    connection: Connection, account: str, room: int, limit: int, now: int, turn: int | None
) -> list[Row[Any]]:
    """Up to `limit` due heads of each priority in the order in which `room` of them may go: replies before bulk, save
    for bulk's share, which goes by the `turn`; None: there is no bulk."""
    replies = _by_priority(connection, account, _REPLIES, limit, now)
    if turn is None:
        return replies
    bulk = _by_priority(connection, account, _BULK, limit, now)
    share = room // _BULK_SHARE or int(turn % _BULK_SHARE == 0)
    before = max(room - share, 0)
    return replies[:before] + bulk[:share] + replies[before:] + bulk[share:]


def _by_priority(connection: Connection, account: str, priority: int, limit: int, now: int) -> list[Row[Any]]:
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


def account_pauses(connection: Connection, now: datetime) -> list[Waiting]:
    """The accounts that wait as a whole, whether something is queued for them or not."""
    rows = connection.execute(_paused, {"b_now": micros(now)}).all()
    return [Waiting(row.account, moment(row.paused_until), row.error_class) for row in rows]
