"""The suppression list: addresses nothing is sent to. It concerns every account, so only keys that see all have it."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping

from gateway import suppressions
from gateway.ids import rfc3339
from gateway.store import suppressions as store
from gateway.web import asks, cursors, show, types
from gateway.web.api.messages import request_problems
from gateway.web.problems import Problem
from gateway.web.routes import PAGED, Call, Param, Reply, Route


def _shown(row: RowMapping) -> types.Suppression:
    return types.Suppression(
        id=row["id"], channel=row["channel"], address=row["address"], scope=row["scope"], reason=row["reason"],
        detail=row["detail"], message_id=row["message_id"] or None, created_by=row["created_by"],
        created_at=show.moment(row["created_at"]), expires_at=rfc3339(row["expires_at"]),
    )  # fmt: skip


async def list_suppressions(call: Call) -> Reply:
    """Who is left alone now, the newest entry first."""
    before, query = cursors.read_id(call.query.get("cursor")), call.query

    def job(connection: Connection) -> types.Page[types.Suppression]:
        rows = store.page(
            connection, call.now, channel=query.get("channel", ""), address=query.get("address", ""),
            scope=query.get("scope", ""), limit=call.limit + 1, before=before,
        )  # fmt: skip
        items = [_shown(row) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def add_suppression(call: Call) -> Reply:
    """Leave an address alone: nothing of this scope is sent to it any more."""
    ask: asks.SuppressionRequest = call.body

    def job(connection: Connection) -> types.Suppression:
        row = suppressions.add(
            connection, call.core, channel=ask.channel, address=ask.address, scope=ask.scope, detail=ask.reason,
            expires_at=ask.expires_at, created_by=call.key.name,
        )  # fmt: skip
        return _shown(row)

    with request_problems():
        return Reply(await call.write(job), 201)


async def drop_suppression(call: Call) -> Reply:
    """Take an address off the list."""
    if not await call.write(lambda connection: store.drop(connection, [call.id])):
        raise Problem("not_found", "there is no such entry")
    return Reply(status=204)


_TAG = "Suppressions"
_PATH = "/api/v1/suppressions"
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", _PATH, list_suppressions, "Addresses nothing is sent to", _TAG, unlimited=True,
        params=(
            Param("channel", "the channel's name"),
            Param("address", "the address"),
            Param("scope", "what the entry covers", choices=suppressions.SCOPES),
            *PAGED,
        ),
        answers={200: types.Page[types.Suppression]},
    ),
    Route(
        "POST", _PATH, add_suppression, "Leave an address alone", _TAG, scope="agent", unlimited=True,
        body=asks.SuppressionRequest, answers={201: types.Suppression}, errors=("unknown_channel",),
    ),
    Route(
        "DELETE", f"{_PATH}/{{id}}", drop_suppression, "Take an address off the list", _TAG, scope="agent",
        unlimited=True, answers={204: None},
    ),
)  # fmt: skip
