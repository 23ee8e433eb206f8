"""The outbox: what leaves, what waits and why, and its figures."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from sqlalchemy import Connection

from gateway.store import queue_views as views
from gateway.web import cursors, show_queues, types
from gateway.web.api.loading import waits_of
from gateway.web.routes import PAGED, Call, Param, Reply, Route

STATES = tuple(state for state in get_args(types.MessageStatus) if state != "received")


async def list_outbox(call: Call) -> Reply:
    """Parts of messages in the outbox, the newest first."""
    query = call.query
    before = cursors.read_id(query.get("cursor"))
    states = tuple(query.get("state", ()))
    account, channel = query.get("account", ""), query.get("channel", "")

    def job(connection: Connection) -> types.Page[types.OutboxEntry]:
        rows = views.outbox_page(connection, states, account, channel, call.key.accounts, call.limit + 1, before)
        waits = waits_of(connection, call.core, rows[: call.limit])
        items = [show_queues.outbox_entry(row, waits.get(row["id"])) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def summary(call: Call) -> Reply:
    """The outbox in figures, over all accounts the key sees and for each."""
    visible = call.key.accounts

    def job(connection: Connection) -> types.OutboxSummary:
        depths = views.depths(connection, call.now, visible)
        total: Counter[str] = Counter()
        for depth in depths.values():
            total.update(depth.states)
        oldest = [depth.oldest for depth in depths.values() if depth.oldest is not None]
        return types.OutboxSummary(
            states={state: total[state] for state in views.OPEN_STATES},
            undecided=views.undecided(connection, visible),
            dead=views.open_letters(connection, visible),
            oldest_queued_s=_age(min(oldest, default=None), call.now),
            accounts=[
                types.AccountQueue(account=account, states=depth.states, oldest_queued_s=_age(depth.oldest, call.now))
                for account, depth in sorted(depths.items())
            ],
        )

    return Reply(await call.read(job))


def _age(since: int | None, now: int) -> float | None:
    return None if since is None else max(now - since, 0) / 1_000_000


_TAG = "Queues"
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/api/v1/outbox", list_outbox, "What leaves, and what left", _TAG,
        params=(
            Param("state", "one or more states, separated by commas", choices=STATES, many=True),
            Param("account", "the account's id"),
            Param("channel", "the channel's name"),
            *PAGED,
        ),
        answers={200: types.Page[types.OutboxEntry]},
    ),
    Route(
        "GET", "/api/v1/outbox/summary", summary, "The outbox in figures", _TAG, answers={200: types.OutboxSummary},
    ),
)  # fmt: skip
