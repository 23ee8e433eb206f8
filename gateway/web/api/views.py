"""Views: kept questions for tickets, those built in among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, Connection, RowMapping

from gateway.conditions import ConditionError, Conditions, Vocabulary, built_in, check
from gateway.store import saved_views as store
from gateway.store import view_query as query
from gateway.web import asks, cursors, show, types
from gateway.web.api.loading import shown_tickets
from gateway.web.problems import Problem
from gateway.web.routes import PAGED, Call, Param, Reply, Route

SHARE = "views.manage"
"""The permission to share a view, and to change other people's shared ones."""

_BUILT_IN = built_in()


def _owner(call: Call) -> str:
    return call.key.user_id or call.key.id


class _Desk:
    """What is the same for all views of one call: who looks, and what conditions may name."""

    def __init__(self, connection: Connection, call: Call) -> None:
        bound = list(call.core.accounts)
        channels = {name: channel for account in bound for name, channel in account.channels.items()}
        seen = [account.id for account in bound if call.key.sees(account.id)]
        self.connection, self.call, self.owner = connection, call, _owner(call)
        self.known: Vocabulary = store.vocabulary(connection, seen, sorted(channels))
        self.groups = store.groups_of_user(connection, call.key.user_id) if call.key.user_id else ()
        self.viewer = query.Viewer(
            call.key.user_id, self.groups, call.key.accounts,
            frozenset(name for name, channel in channels.items() if channel.private and channel.messaging),
            call.now, call.core.settings.gateway.region,
        )  # fmt: skip

    def where(self, conditions: Conditions) -> list[ColumnElement[bool]]:
        """The conditions as SQL. Raises `Problem` with the path of what is wrong."""
        try:
            return query.where(self.connection, check(conditions, self.known), self.viewer)
        except ConditionError as error:
            raise Problem("invalid_condition", error.problem, field=error.path) from None

    def view(self, view_id: str) -> types.View:
        """One view. Raises `Problem`."""
        if view_id in _BUILT_IN:
            return _built_in(view_id, list(_BUILT_IN).index(view_id))
        row = store.load(self.connection, view_id, self.owner, self.groups, self.call.key.accounts)
        if row is None:
            raise Problem("not_found", "there is no such view")
        return self.shown(row)

    def views(self) -> list[types.View]:
        """All views of the caller, those built in first."""
        rows = store.listing(self.connection, self.owner, self.groups, self.call.key.accounts)
        own = [self.shown(row) for row in rows]
        return [*(_built_in(name, place) for place, name in enumerate(_BUILT_IN)), *own]

    def shown(self, row: RowMapping) -> types.View:
        return types.View(
            id=row["id"], title=row["title"], conditions=msgspec.json.decode(row["conditions"], type=Conditions),
            sort=types.SortView(by=row["sort_by"], descending=row["descending"]),
            columns=msgspec.json.decode(row["columns"]), sharing=row["sharing"], group=row["group_name"] or None,
            owner=row["owner"], owner_name=row["owner_name"], position=row["position"], active=row["active"],
            built_in=False, mine=row["owner"] == self.owner or self.call.key.may(SHARE),
            created_at=show.moment(row["created_at"]), updated_at=show.moment(row["updated_at"]),
        )  # fmt: skip

    def page(
        self, where: Sequence[ColumnElement[bool]], sort: types.SortView | asks.Sort, limit: int, cursor: str | None
    ) -> types.Page[types.Ticket]:
        """Tickets in the order asked for."""
        after = cursors.read(cursor, (int, str))
        found = query.page(self.connection, where, sort.by, sort.descending, limit + 1, after and (after[0], after[1]))
        items = shown_tickets(self.connection, [row for _, row in found[:limit]])
        last = cursors.make(found[limit - 1][0], found[limit - 1][1]["id"]) if len(found) > limit else None
        return types.Page(items=items, next=last)


def _built_in(view_id: str, position: int) -> types.View:
    title, conditions = _BUILT_IN[view_id]
    return types.View(
        id=view_id, title=title, conditions=conditions, sort=types.SortView(), columns=list(asks.STANDARD_COLUMNS),
        sharing="everyone", group=None, owner="", owner_name="", position=position, active=True, built_in=True,
        mine=False, created_at=None, updated_at=None,
    )  # fmt: skip


def view_page(
    connection: Connection, call: Call, view_id: str, limit: int, cursor: str | None, field: str = ""
) -> types.Page[types.Ticket]:
    """A page of a view. Raises `Problem`."""
    desk = _Desk(connection, call)
    try:
        view = desk.view(view_id)
    except Problem as problem:
        raise Problem(problem.code, problem.detail, field=field) from None
    return desk.page(desk.where(view.conditions), view.sort, limit, cursor)


async def list_views(call: Call) -> Reply:
    """The views of the caller: built in, his own, and those shared with him, in their order."""
    active = call.query.get("active")
    found = await call.read(lambda connection: _Desk(connection, call).views())
    items = [view for view in found if active is None or view.active == active]
    return Reply(types.Items[types.View](items=items))


async def get_view(call: Call) -> Reply:
    """One view."""
    return Reply(await call.read(lambda connection: _Desk(connection, call).view(call.id)))


async def list_view_tickets(call: Call) -> Reply:
    """The tickets of a view, in its order."""
    cursor = call.query.get("cursor")
    return Reply(await call.read(lambda connection: view_page(connection, call, call.id, call.limit, cursor)))


async def count_views(call: Call) -> Reply:
    """How many tickets views have: those named, else all active ones. More than a thousand are not counted out."""
    wanted: list[str] = call.query.get("ids", [])

    def job(connection: Connection) -> list[types.ViewCount]:
        desk = _Desk(connection, call)
        views = desk.views()
        if wanted:
            by_id = {view.id: view for view in views}
            if missing := [name for name in wanted if name not in by_id]:
                raise Problem("not_found", f"there is no view {missing[0]!r}", field="ids")
            views = [by_id[name] for name in dict.fromkeys(wanted)]
        counts = []
        for view in views:
            if not wanted and not view.active:
                continue
            try:
                where = desk.where(view.conditions)
            except Problem:  # what it names is gone: it has no tickets, and says why when it is opened
                counts.append(types.ViewCount(id=view.id, count=0, exact=True))
                continue
            counts.append(types.ViewCount(id=view.id, **_counted(connection, where)))
        return counts

    return Reply(types.ViewCounts(items=await call.read(job)))


def _counted(connection: Connection, where: Sequence[ColumnElement[bool]]) -> dict[str, Any]:
    count = query.count(connection, where)
    return {"count": min(count, query.COUNT_MAX), "exact": count <= query.COUNT_MAX}


async def preview_view(call: Call) -> Reply:
    """The first tickets of a view that is not kept, and how many there are."""
    ask: asks.PreviewRequest = call.body

    def job(connection: Connection) -> types.ViewPreview:
        desk = _Desk(connection, call)
        where = desk.where(ask.conditions)
        found = desk.page(where, ask.sort, ask.limit, None)
        return types.ViewPreview(items=found.items, **_counted(connection, where))

    return Reply(await call.read(job))


def _sharing(call: Call, desk: _Desk, sharing: str, group: str | None) -> None:
    """Raise `Problem` for sharing that the caller may not do, or with nobody."""
    if sharing == "personal":
        if group:
            raise Problem("invalid_value", "a personal view has no group", field="group")
        return
    if not call.key.may(SHARE):
        raise Problem("forbidden", f"sharing needs the permission {SHARE!r}", field="sharing")
    if sharing == "group" and (not group or (desk.known.groups and group not in desk.known.groups)):
        raise Problem("unknown_group", "it must be shared with a group there is", field="group")
    if sharing == "everyone" and group:
        raise Problem("invalid_value", "it is shared with everyone", field="group")


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    """What was asked for as columns of the store."""
    found = dict(values)
    if "conditions" in found:
        found["conditions"] = msgspec.json.encode(found["conditions"]).decode()
    if "columns" in found:
        found["columns"] = msgspec.json.encode(list(dict.fromkeys(found["columns"]))).decode()
    if (sort := found.pop("sort", None)) is not None:
        found |= {"sort_by": sort.by, "descending": sort.descending}
    if "group" in found:
        found["group_name"] = found.pop("group") or ""
    return found


async def create_view(call: Call) -> Reply:
    """Keep a view."""
    ask: asks.ViewRequest = call.body

    def job(connection: Connection) -> types.View:
        desk = _Desk(connection, call)
        desk.where(ask.conditions)
        _sharing(call, desk, ask.sharing, ask.group)
        values = _columns({name: getattr(ask, name) for name in ask.__struct_fields__})
        values |= {
            "owner_name": call.key.name, "accounts": msgspec.json.encode(sorted(call.key.accounts or ())).decode(),
        }  # fmt: skip
        view_id = store.create(connection, desk.owner, values, call.now)
        if view_id is None:
            raise Problem("view_limit", f"at most {store.VIEWS_MAX}")
        return desk.view(view_id)

    return Reply(await call.write(job), 201)


def _changeable(desk: _Desk, view_id: str) -> types.View:
    view = desk.view(view_id)
    if view.built_in:
        raise Problem("built_in_view")
    if not view.mine:
        raise Problem("forbidden", f"it is somebody else's; this needs the permission {SHARE!r}")
    return view


async def patch_view(call: Call) -> Reply:
    """Change a view of one's own, or a shared one with the permission to."""
    ask: asks.ViewPatch = call.body
    changes = {name: value for name in ask.__struct_fields__ if (value := getattr(ask, name)) is not UNSET}

    def job(connection: Connection) -> types.View:
        desk = _Desk(connection, call)
        view = _changeable(desk, call.id)
        if "conditions" in changes:
            desk.where(changes["conditions"])
        if "sharing" in changes and changes["sharing"] != "group":
            changes.setdefault("group", None)
        sharing = changes.get("sharing", view.sharing)
        if {"sharing", "group"} & changes.keys():
            _sharing(call, desk, sharing, changes.get("group", view.group))
        store.change(connection, call.id, _columns(changes), call.now)
        return desk.view(call.id)

    return Reply(await call.write(job))


async def delete_view(call: Call) -> Reply:
    """Remove a view."""

    def job(connection: Connection) -> None:
        _changeable(_Desk(connection, call), call.id)
        store.remove(connection, call.id)

    await call.write(job)
    return Reply(status=204)


_TAG = "Views"
_PATH = "/api/v1/views"
_SAVING = ("invalid_condition", "invalid_value", "unknown_group")
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", _PATH, list_views, "Views, in their order", _TAG,
        params=(Param("active", "whether they are switched on", "bool"),), answers={200: types.Items[types.View]},
    ),
    Route(
        "POST", _PATH, create_view, "Keep a view", _TAG, scope="agent", body=asks.ViewRequest,
        answers={201: types.View}, errors=(*_SAVING, "view_limit"),
    ),
    Route(
        "GET", f"{_PATH}/counts", count_views, "How many tickets views have", _TAG,
        params=(Param("ids", "views, separated by commas; all active ones otherwise", many=True),),
        answers={200: types.ViewCounts}, errors=("not_found",),
    ),
    Route(
        "POST", f"{_PATH}/preview", preview_view, "Look at a view before it is kept", _TAG, body=asks.PreviewRequest,
        answers={200: types.ViewPreview}, errors=("invalid_condition",),
    ),
    Route("GET", f"{_PATH}/{{id}}", get_view, "One view", _TAG, answers={200: types.View}),
    Route(
        "PATCH", f"{_PATH}/{{id}}", patch_view, "Change a view", _TAG, scope="agent", body=asks.ViewPatch,
        answers={200: types.View}, errors=(*_SAVING, "built_in_view"),
    ),
    Route(
        "DELETE", f"{_PATH}/{{id}}", delete_view, "Remove a view", _TAG, scope="agent", answers={204: None},
        errors=("built_in_view",),
    ),
    Route(
        "GET", f"{_PATH}/{{id}}/tickets", list_view_tickets, "The tickets of a view, in its order", _TAG,
        params=PAGED, answers={200: types.Page[types.Ticket]}, errors=("invalid_condition",),
    ),
)  # fmt: skip
