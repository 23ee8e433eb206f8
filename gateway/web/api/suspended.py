"""What was put aside before it became part of a ticket: read, released, dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, RowMapping

from gateway.ids import rfc3339
from gateway.intake.suspension import CAUSES
from gateway.intake.worker import TOPIC
from gateway.store import suspended as store
from gateway.web import cursors, show, types
from gateway.web.problems import Problem
from gateway.web.routes import PAGED, Call, Param, Reply, Route

Decide = Callable[[Connection, Sequence[str], str, int], list[str]]


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """Several at once."""

    ids: Annotated[list[types.Id], Meta(min_length=1, max_length=200)]


def shown(row: RowMapping) -> types.Suspended:
    """A message put aside."""
    return types.Suspended(**_suspended(row))


def with_words(row: RowMapping) -> types.SuspendedMessage:
    """A message put aside, with its words; those of one dropped long ago are gone."""
    words = msgspec.json.decode(row["payload"])
    files = [
        types.SuspendedFile(
            filename=file.get("filename", ""), media_type=file.get("media_type", ""), size=file.get("size")
        )
        for file in words.get("attachments", ())
    ]
    told = {name: words.get(name, "") for name in ("text", "html")}
    full = words.get("full_text") or told["text"]
    return types.SuspendedMessage(
        **_suspended(row), **told, full_text=full, flags=words.get("flags", []), attachments=files
    )


def _suspended(row: RowMapping) -> dict[str, Any]:
    names = ("id", "account", "channel", "cause", "sender", "name", "subject", "own_address", "state", "settled_by")
    return {name: row[name] for name in names} | {
        "causes": msgspec.json.decode(row["causes"]),
        "ticket_id": row["ticket_id"] or None,
        "received_at": show.moment(row["received_at"]),
        "expires_at": show.moment(row["expires_at"]),
        "settled_at": rfc3339(row["settled_at"]),
    }


async def list_suspended(call: Call) -> Reply:
    """What waits for a decision, the newest first."""
    query = call.query
    before = cursors.read_id(query.get("cursor"))
    account, cause, sender = query.get("account", ""), query.get("cause", ""), query.get("sender", "").lower()

    def job(connection: Connection) -> types.Page[types.Suspended]:
        rows = store.page(connection, account, cause, sender, call.key.accounts, call.limit + 1, before)
        items = [shown(row) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def read_suspended(call: Call) -> Reply:
    """One of them, with its words."""
    row = await call.read(lambda connection: store.one(connection, call.id, call.key.accounts))
    if row is None:
        raise Problem("not_found", "there is no such suspended message")
    return Reply(with_words(row))


async def release(call: Call) -> Reply:
    """File it as if it had just come in. Doing it twice is a conflict."""
    return await _one(call, store.release)


async def drop(call: Call) -> Reply:
    """Put it away for good."""
    return await _one(call, store.drop)


async def release_many(call: Call) -> Reply:
    """File several. Those already decided are passed over, and named."""
    return await _many(call, store.release)


async def drop_many(call: Call) -> Reply:
    """Put several away for good."""
    return await _many(call, store.drop)


async def _one(call: Call, decide: Decide) -> Reply:
    row = await call.read(lambda connection: store.one(connection, call.id, call.key.accounts))
    if row is None:
        raise Problem("not_found", "there is no such suspended message")
    if not await _decide(call, [call.id], decide):
        raise Problem("wrong_state", "it was decided before")
    return Reply(status=204)


async def _many(call: Call, decide: Decide) -> Reply:
    ids = list(dict.fromkeys(call.body.ids))
    found = await call.read(lambda connection: store.waiting(connection, ids, call.key.accounts))
    done = set(await _decide(call, list(found), decide))
    return Reply(types.Decided(done=[i for i in ids if i in done], skipped=[i for i in ids if i not in done]))


async def _decide(call: Call, ids: Sequence[str], decide: Decide) -> list[str]:
    done = await call.write(lambda connection: decide(connection, ids, call.key.name, call.now))
    call.core.bus.wake(TOPIC)
    return done


_TAG = "Suspended"
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/api/v1/suspended", list_suspended, "Messages put aside", _TAG,
        params=(
            Param("account", "the account's id"),
            Param("cause", "the cause", choices=tuple(CAUSES)),
            Param("sender", "the sender's address"),
            *PAGED,
        ),
        answers={200: types.Page[types.Suspended]},
    ),
    Route(
        "GET", "/api/v1/suspended/{id}", read_suspended, "One message put aside, with its words", _TAG,
        answers={200: types.SuspendedMessage},
    ),
    Route(
        "POST", "/api/v1/suspended/release", release_many, "File several", _TAG, scope="agent", body=Chosen,
        answers={200: types.Decided},
    ),
    Route(
        "POST", "/api/v1/suspended/drop", drop_many, "Put several away for good", _TAG, scope="agent", body=Chosen,
        answers={200: types.Decided},
    ),
    Route(
        "POST", "/api/v1/suspended/{id}/release", release, "File it after all", _TAG, scope="agent",
        answers={204: None}, errors=("wrong_state",),
    ),
    Route(
        "POST", "/api/v1/suspended/{id}/drop", drop, "Put it away for good", _TAG, scope="agent",
        answers={204: None}, errors=("wrong_state",),
    ),
)  # fmt: skip
