"""The outbox and the dead letters."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import get_args

from sqlalchemy import Connection, RowMapping

from gateway import deadletters, replies
from gateway.store import queue_views as views
from gateway.web import cursors, show, types
from gateway.web.api.messages import refused, request_problems
from gateway.web.problems import Problem
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
        items = [show.outbox_entry(row) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def list_dead(call: Call) -> Reply:
    """Dead letters that nobody has handled yet, the newest first."""
    query = call.query
    before = cursors.read_id(query.get("cursor"))
    direction, account = query.get("direction", ""), query.get("account", "")

    def job(connection: Connection) -> types.Page[types.DeadLetter]:
        rows = views.dead_page(connection, direction, account, call.key.accounts, call.limit + 1, before)
        items = [show.dead_letter(row) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def _letter(call: Call) -> RowMapping:
    row = await call.read(lambda connection: views.dead_letter(connection, call.id, call.key.accounts))
    if row is None:
        raise Problem("not_found", "there is no such dead letter")
    return row


async def replay_dead(call: Call) -> Reply:
    """Try again what could not be handled: outbound messages pass the rules again. Doing it twice changes nothing."""
    row = await _letter(call)
    if row["dropped_at"] is not None:
        raise Problem("wrong_state", "it was dropped")
    if row["direction"] == "outbound":
        with request_problems():
            answer = await replies.replay_dead(call.core, call.id, call.key.actor)
        if isinstance(answer, replies.Denied):
            raise refused(answer)
    elif row["replayed_at"] is None:
        await _settled(deadletters.replay(call.core, call.id, call.key.actor))
    return Reply(show.dead_letter(row), 202)


async def drop_dead(call: Call) -> Reply:
    """Put a dead letter aside for good."""
    await _letter(call)
    await _settled(deadletters.drop(call.core, call.id))
    return Reply(status=204)


async def _settled(work: Awaitable[None]) -> None:
    try:
        await work
    except deadletters.DeadLetterError as error:
        raise Problem("wrong_state", str(error)) from None


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
        "GET", "/api/v1/dead", list_dead, "Dead letters", _TAG,
        params=(
            Param("direction", "which way they went", choices=("inbound", "outbound")),
            Param("account", "the account's id"),
            *PAGED,
        ),
        answers={200: types.Page[types.DeadLetter]},
    ),
    Route(
        "POST", "/api/v1/dead/{id}/replay", replay_dead, "Try again", _TAG, scope="admin",
        answers={202: types.DeadLetter}, errors=("wrong_state", "outbox_denied"),
    ),
    Route(
        "POST", "/api/v1/dead/{id}/drop", drop_dead, "Put aside for good", _TAG, scope="admin",
        answers={204: None}, errors=("wrong_state",),
    ),
)  # fmt: skip
