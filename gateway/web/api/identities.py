"""Who is who: conflicts to decide, the journal of a contact's merges, and what another matching rule would do."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, RowMapping

from gateway import identities
from gateway.bounds import LISTED
from gateway.bus import LiveEvent
from gateway.ids import rfc3339
from gateway.store import conflicts, merging, people_views, vip
from gateway.vip import vip_policy
from gateway.web import asks, cursors, show, types
from gateway.web.api.contacts import own_contact, people_problems
from gateway.web.problems import Problem
from gateway.web.routes import PAGED, Call, Param, Reply, Route

STATES = ("open", "merged", "kept_apart")


def shown(row: RowMapping) -> types.Conflict:
    """A conflict as the API shows it. One whose contacts became one by another way counts as merged."""
    same = row["contact_id"] == row["other_contact_id"]
    return types.Conflict(
        id=row["id"],
        state=row["decision"] or ("merged" if same else "open"),
        contact_ids=sorted({row["contact_id"], row["other_contact_id"]}),
        identity_ids=[row["identity_id"], row["other_identity_id"]],
        attribute=row["attribute"],
        value=row["value"],
        reason=row["reason"],
        at=show.moment(row["at"]),
        decided_by=row["decided_by"],
        decided_at=rfc3339(row["decided_at"]),
    )


async def list_conflicts(call: Call) -> Reply:
    """Contacts that match and contradict each other, the newest first."""
    before = cursors.read_id(call.query.get("cursor"))
    state = call.query.get("state", "open")

    def job(connection: Connection) -> types.Page[types.Conflict]:
        rows = conflicts.page(connection, state, call.limit + 1, before)
        items = [shown(row) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


def _one(connection: Connection, call: Call) -> types.Conflict:
    with people_problems():
        return shown(conflicts.load(connection, call.id))


async def get_conflict(call: Call) -> Reply:
    """One conflict."""
    return Reply(await call.read(lambda connection: _one(connection, call)))


async def merge_conflict(call: Call) -> Reply:
    """Decide that the two are one person."""
    request: asks.ConflictMerge = call.body

    def job(connection: Connection) -> tuple[types.Conflict, str, str]:
        merging.alone(connection)
        with people_problems():
            winner, loser = conflicts.merge(connection, call.id, request.into, call.key.actor, request.reason, call.now)
        vip.merged(connection, winner, vip_policy(call.core.settings), call.now)
        return _one(connection, call), winner, loser

    conflict, winner, loser = await call.core.database.bulk(job)
    call.core.bus.publish([LiveEvent("contact.merged", {"contact_id": winner, "merged_id": loser})])
    _decided(call, conflict)
    return Reply(conflict)


async def keep_apart(call: Call) -> Reply:
    """Decide that the two are two persons: nothing links them by itself again."""

    def job(connection: Connection) -> types.Conflict:
        merging.alone(connection)
        with people_problems():
            conflicts.keep_apart(connection, call.id, call.key.actor, call.now)
        return _one(connection, call)

    conflict = await call.core.database.bulk(job)
    _decided(call, conflict)
    return Reply(conflict)


def _decided(call: Call, conflict: types.Conflict) -> None:
    data = {"conflict_id": conflict.id, "state": conflict.state, "contact_ids": conflict.contact_ids}
    call.core.bus.publish([LiveEvent("contact.conflict", data)])


# --- the journal ---


async def list_merges(call: Call) -> Reply:
    """What was merged into this contact, what it was merged into, and what was taken out again; the newest first."""
    before = cursors.read_id(call.query.get("cursor"))

    def job(connection: Connection) -> types.Page[types.MergeEntry]:
        contact_id = own_contact(connection, call, call.id)["id"]
        rows = people_views.merge_page(connection, contact_id, call.limit + 1, before)
        items = [_entry(row) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].id) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


def _entry(row: RowMapping) -> types.MergeEntry:
    return types.MergeEntry(
        id=row["id"],
        kind=row["kind"],
        contact_id=row["winner"],
        other_contact_id=row["loser"] or None,
        identities=msgspec.json.decode(row["identities"]),
        attribute=row["attribute"],
        value=row["value"],
        evidence=row["evidence"],
        reason=row["reason"],
        by=row["actor"],
        at=show.moment(row["at"]),
        before=msgspec.json.decode(row["loser_before"]),
        gained=msgspec.json.decode(row["gained"]),
        undone_at=rfc3339(row["undone_at"]),
        undone_by=row["undone_by"],
    )


# --- another rule ---


async def _rule(call: Call, given: Sequence[str] | None, field: str) -> tuple[str, ...]:
    names = call.core.settings.gateway.matching_attribute if given is None else given
    try:
        return await identities.check(call.core, names)
    except identities.UnknownAttribute as error:
        raise Problem("unknown_attribute", str(error), field=field) from None


async def preview(call: Call) -> Reply:
    """What would be merged if these were the matching attributes; without any, what the configured rule has left to
    do. Nothing is changed."""
    names = await _rule(call, call.query.get("attribute"), "attribute")
    limit = int(call.query.get("limit", identities.LISTED))
    return Reply(await identities.preview(call.core, names, limit))


async def apply(call: Call) -> Reply:
    """Merge what the configured rule merges among the contacts that were there before it. Each merge can be undone."""
    names = await _rule(call, None, "")
    return Reply(await identities.apply(call.core, names, call.key.actor))


_TAG = "Contacts"
_PATH = "/api/v1/conflicts"
_DECIDING = ("conflict_decided", "invalid_value", "already_merged", "conflict")
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", _PATH, list_conflicts, "Contacts that match and contradict each other", _TAG, unlimited=True,
        params=(Param("state", "open unless another is asked for", choices=STATES), *PAGED),
        answers={200: types.Page[types.Conflict]},
    ),
    Route(
        "GET", f"{_PATH}/{{id}}", get_conflict, "One conflict", _TAG, unlimited=True, answers={200: types.Conflict}
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/merge", merge_conflict, "Decide: one person", _TAG, scope="agent", unlimited=True,
        body=asks.ConflictMerge, answers={200: types.Conflict}, errors=_DECIDING,
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/keep_apart", keep_apart, "Decide: two persons", _TAG, scope="agent", unlimited=True,
        answers={200: types.Conflict}, errors=_DECIDING,
    ),
    Route(
        "GET", "/api/v1/contacts/{id}/merges", list_merges, "What was merged, why, and what was undone", _TAG,
        params=PAGED, answers={200: types.Page[types.MergeEntry]},
    ),
    Route(
        "GET", "/api/v1/identities/preview", preview, "What a matching rule would merge", _TAG, unlimited=True,
        params=(
            Param("attribute", "the matching attributes in order, separated by commas", many=True),
            Param("limit", "how many merges and conflicts to list", "int", int(LISTED.low), int(LISTED.high)),
        ),
        answers={200: identities.Preview}, errors=("unknown_attribute",),
    ),
    Route(
        "POST", "/api/v1/identities/apply", apply, "Merge by the configured rule what was there before it", _TAG,
        scope="admin", unlimited=True, answers={200: identities.Applied}, errors=("unknown_attribute",),
    ),
)  # fmt: skip
