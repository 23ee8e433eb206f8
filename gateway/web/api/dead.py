"""Dead letters: listed, read, replayed and dropped, one by one or by a job."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import get_args

from sqlalchemy import RowMapping

from adapters import ErrorClass
from gateway import deadletters, replies
from gateway.bounds import AGE_S
from gateway.store import dead
from gateway.web import asks, cursors, show_queues, types
from gateway.web.api.messages import refused, request_problems
from gateway.web.problems import Problem
from gateway.web.routes import LIMIT, PAGED, Call, Param, Reply, Route

_SECOND = 1_000_000


def wanted(call: Call, given: asks.DeadFilter) -> dead.Filter:
    """The letters a request means, among those its key sees."""
    visible = call.key.accounts
    return dead.Filter(
        direction=given.direction or "",
        account=given.account,
        channel=given.channel,
        kind=given.kind or "",
        error_class=given.error_class or "",
        code=given.code,
        before=None if given.older_than is None else call.now - given.older_than * _SECOND,
        after=None if given.newer_than is None else call.now - given.newer_than * _SECOND,
        visible=None if visible is None else tuple(sorted(visible)),
    )


async def list_dead(call: Call) -> Reply:
    """Dead letters that nobody has handled yet, the newest first."""
    query = call.query
    before = cursors.read_id(query.get("cursor"))
    given = asks.DeadFilter(
        direction=query.get("direction"), account=query.get("account", ""), channel=query.get("channel", ""),
        kind=query.get("kind"), error_class=query.get("class"), code=query.get("code", ""),
        older_than=query.get("older_than"), newer_than=query.get("newer_than"),
    )  # fmt: skip
    rows = await call.read(lambda connection: dead.page(connection, wanted(call, given), call.limit + 1, before))
    items = [show_queues.dead_letter(row) for row in rows[: call.limit]]
    more = cursors.make(items[-1].id) if len(rows) > call.limit else None
    return Reply(types.Page[types.DeadLetter](items=items, next=more))


async def _letter(call: Call) -> RowMapping:
    row = await call.read(lambda connection: dead.letter(connection, call.id, call.key.accounts))
    if row is None:
        raise Problem("not_found", "there is no such dead letter")
    return row


async def get_dead(call: Call) -> Reply:
    """A dead letter with what was kept: the raw delivery of an inbound one, the tries of an outbound one."""
    row = await _letter(call)
    known = await call.read(lambda connection: dead.evidence(connection, row))
    return Reply(show_queues.dead_letter_detail(row, known))


async def replay_dead(call: Call) -> Reply:
    """Try again what could not be handled: outbound messages pass the rules again. Doing it twice changes nothing."""
    row = await _letter(call)
    if row["dropped_at"] is not None:
        raise Problem("wrong_state", "it was dropped")
    if row["direction"] == "outbound" and row["kind"] != "errand":
        with request_problems():
            answer = await replies.replay_dead(call.core, call.id, call.key.actor)
        if isinstance(answer, replies.Denied):
            raise refused(answer)
    elif row["replayed_at"] is None:
        await _settled(deadletters.replay(call.core, call.id, call.key.actor))
    return Reply(show_queues.dead_letter(await _letter(call)), 202)


async def drop_dead(call: Call) -> Reply:
    """Put a dead letter aside for good."""
    await _letter(call)
    await _settled(deadletters.drop(call.core, call.id, call.key.actor))
    return Reply(status=204)


async def _settled(work: Awaitable[None]) -> None:
    try:
        await work
    except deadletters.DeadLetterError as error:
        raise Problem("wrong_state", str(error)) from None


# --- many of them -----------------------------------------------------------------------------------------------------


async def start_job(call: Call) -> Reply:
    """Replay or drop every dead letter there is now that fits, so many a second. It goes on after a restart."""
    request: asks.DeadJobRequest = call.body
    made = await deadletters.start(
        call.core, request.action, wanted(call, request.filter), request.per_second, call.key.actor
    )
    return Reply(show_queues.dead_job(made), 202)


async def list_jobs(call: Call) -> Reply:
    """The newest jobs on dead letters."""
    rows = await call.read(lambda connection: dead.jobs(connection, call.limit))
    items = [show_queues.dead_job(row) for row in rows if _may_see(call, row)]
    return Reply(types.Items[types.DeadJob](items=items))


def _may_see(call: Call, row: RowMapping) -> bool:
    """A key for some accounts sees the jobs of its own accounts only."""
    if call.key.accounts is None:
        return True
    reach = deadletters.filter_of(row).visible
    return reach is not None and set(reach) <= set(call.key.accounts)


async def _job(call: Call) -> RowMapping:
    row = await call.read(lambda connection: dead.job(connection, call.id))
    if row is None or not _may_see(call, row):
        raise Problem("not_found", "there is no such job")
    return row


async def get_job(call: Call) -> Reply:
    """How far a job has come."""
    return Reply(show_queues.dead_job(await _job(call)))


async def cancel_job(call: Call) -> Reply:
    """End a job early; what it has done stays done."""
    await _job(call)
    if not await call.core.database.write(lambda connection: dead.cancel_job(connection, call.id, call.now)):
        raise Problem("wrong_state", "it has ended")
    return Reply(show_queues.dead_job(await _job(call)))


_TAG = "Queues"
_AGE = int(AGE_S.low), int(AGE_S.high)
_JOBS = "/api/v1/dead-jobs"
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/api/v1/dead", list_dead, "Dead letters", _TAG,
        params=(
            Param("direction", "which way they went", choices=("inbound", "outbound")),
            Param("account", "the account's id"),
            Param("channel", "the channel's name (outbound)"),
            Param("kind", "what died", choices=("delivery", "event", "message", "errand")),
            Param("class", "the error's class", choices=get_args(ErrorClass)),
            Param("code", "the error's code"),
            Param("older_than", "made longer ago than this, in seconds", "int", *_AGE),
            Param("newer_than", "made within this time, in seconds", "int", *_AGE),
            *PAGED,
        ),
        answers={200: types.Page[types.DeadLetter]},
    ),
    Route(
        "GET", "/api/v1/dead/{id}", get_dead, "One dead letter with all that is kept of it", _TAG, scope="admin",
        answers={200: types.DeadLetterDetail},
    ),
    Route(
        "POST", "/api/v1/dead/{id}/replay", replay_dead, "Try again", _TAG, scope="admin",
        answers={202: types.DeadLetter}, errors=("wrong_state", "not_retryable", "outbox_denied"),
    ),
    Route(
        "POST", "/api/v1/dead/{id}/drop", drop_dead, "Put aside for good", _TAG, scope="admin",
        answers={204: None}, errors=("wrong_state",),
    ),
    Route(
        "GET", _JOBS, list_jobs, "Jobs on dead letters", _TAG, params=(LIMIT,),
        answers={200: types.Items[types.DeadJob]},
    ),
    Route(
        "POST", _JOBS, start_job, "Replay or drop many", _TAG, scope="admin", body=asks.DeadJobRequest,
        answers={202: types.DeadJob},
    ),
    Route("GET", f"{_JOBS}/{{id}}", get_job, "How far a job has come", _TAG, answers={200: types.DeadJob}),
    Route(
        "POST", f"{_JOBS}/{{id}}/cancel", cancel_job, "End a job early", _TAG, scope="admin",
        answers={200: types.DeadJob}, errors=("wrong_state",),
    ),
)  # fmt: skip
