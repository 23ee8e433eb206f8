"""Tickets: lists, one ticket, its thread, its event log, changes and replies."""

from __future__ import annotations

from typing import get_args

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, RowMapping

from gateway import automatic, replies, typing_signal
from gateway.bus import LiveEvent
from gateway.store import ticket_fields, views
from gateway.store import tickets as store
from gateway.store.users import check_assignment
from gateway.ticket_fields import check
from gateway.tickets import NoSuchTicket, Patch, TicketClosed
from gateway.web import asks, cursors, show, types
from gateway.web.api.loading import messages_of, shown_tickets, visible_ticket
from gateway.web.api.ticket_fields import field_problems
from gateway.web.api.users import user_problems
from gateway.web.api.views import view_page
from gateway.web.problems import Problem
from gateway.web.routes import PAGED, Call, Param, Reply, Route

STATUSES = get_args(types.Status)
BULK_MAX = 100  # tickets changed by one call
FILTERS = (
    Param("status", "one or more statuses, separated by commas", choices=STATUSES, many=True),
    Param("channel", "one or more channels, separated by commas", many=True),
    Param("account", "the account's id"),
    Param("contact", "the contact's id"),
    Param("assignee", 'the assignee; "none": unassigned'),
    Param("tag", "a tag it has"),
    Param("vip", "whether its contact is a VIP", "bool"),
    Param("q", "words of the ticket, its person and its messages; #12: a number; a phone number in any form"),
)


async def list_tickets(call: Call) -> Reply:
    """Tickets that pass every filter given. `next` leads to older ones."""
    query = call.query
    assignee = query.get("assignee", "")
    wanted = views.TicketFilter(
        statuses=tuple(query.get("status", ())),
        channels=tuple(query.get("channel", ())),
        account=query.get("account", ""),
        contact=query.get("contact", ""),
        assignee=assignee,
        unassigned=assignee == "none",
        tag=query.get("tag", ""),
        text=query.get("q", "").strip(),
        vip=query.get("vip"),
        region=call.core.settings.gateway.region,
    )
    cursor, rows_of = query.get("cursor"), _by_words if wanted.text else _newest_first

    def job(connection: Connection) -> types.Page[types.Ticket]:
        rows, place = rows_of(connection, wanted, call, cursor)
        shown = rows[: call.limit]
        next_ = cursors.make(shown[-1][place]) if len(rows) > call.limit else None
        return types.Page(items=shown_tickets(connection, shown), next=next_)

    return Reply(await call.read(job))


def _newest_first(
    connection: Connection, wanted: views.TicketFilter, call: Call, cursor: str | None
) -> tuple[views.Rows, str]:
    before = cursors.read_id(cursor)
    return views.ticket_page(connection, wanted, call.key.accounts, call.limit + 1, before), "id"


def _by_words(
    connection: Connection, wanted: views.TicketFilter, call: Call, cursor: str | None
) -> tuple[views.Rows, str]:
    before = cursors.read(cursor, (int,))
    found = views.tickets_found(connection, wanted, call.key.accounts, call.limit + 1, before[0] if before else None)
    return found, "number"


def _one(connection: Connection, call: Call) -> types.Ticket:
    row = visible_ticket(connection, call)
    return show.ticket(row, store.followers(connection, [row["id"]]).get(row["id"], ()))


async def get_ticket(call: Call) -> Reply:
    """One ticket."""
    return _tagged(await call.read(lambda connection: _one(connection, call)))


async def patch_ticket(call: Call) -> Reply:
    """Change a ticket; every change is an event on it. With `If-Match`, or `safe_update` and the `updated_at` one has
    seen, only if nobody changed it in between."""
    ask: asks.TicketPatch = call.body
    patch = Patch(**{name: getattr(ask, name) for name in Patch.__struct_fields__})

    def job(connection: Connection) -> tuple[types.Ticket, bool, automatic.Told]:
        before = visible_ticket(connection, call)
        _as_seen(call, ask, before)
        after = _change(connection, call, before, patch)
        told = automatic.told_of(connection, call.core, replies.file, before)
        return _one(connection, call), before["sequence"] != after["sequence"], told

    ticket, changed, told = await call.write(job)
    call.core.metrics.count_refusals(told.stopped)
    if told.events:
        call.core.bus.publish(told.events)
        call.core.bus.wake("outbox")
    if changed:
        call.core.bus.publish([_updated(ticket)])
    return _tagged(ticket)


def _tagged(ticket: types.Ticket) -> Reply:
    return Reply(ticket, headers={"ETag": f'"{ticket.sequence}"'})


def _updated(ticket: types.Ticket) -> LiveEvent:
    data = {
        "ticket_id": ticket.id, "number": ticket.number, "status": ticket.status, "contact_id": ticket.contact_id,
        "assignee": ticket.assignee,
    }  # fmt: skip
    return LiveEvent("ticket.updated", data, ticket.account)


def _as_seen(call: Call, ask: asks.TicketPatch, row: RowMapping) -> None:
    """Raise `Problem` when the ticket is not what the caller has seen."""
    wanted = call.request.headers.get("If-Match", "*").strip()
    if wanted != "*" and f'"{row["sequence"]}"' not in (tag.strip() for tag in wanted.split(",")):
        raise Problem("precondition_failed", f"the ticket is at {row['sequence']} now", field="If-Match")
    if not ask.safe_update:
        return
    if ask.updated_at is UNSET:
        raise Problem("invalid_body", "safe_update needs the updated_at that was seen", field="updated_at")
    if ask.updated_at != show.moment(row["updated_at"]):
        raise Problem("edit_conflict", f"it was changed at {show.moment(row['updated_at'])}", field="updated_at")


def _change(connection: Connection, call: Call, row: RowMapping, patch: Patch) -> RowMapping:
    """Change a ticket the caller sees. Raises `Problem`."""
    with user_problems():
        check_assignment(connection, patch.assignee or None, patch.group or None)
    try:
        with field_problems():
            check(ticket_fields.all_fields(connection), msgspec.json.decode(row["fields"]), patch)
        return store.change(connection, row["id"], patch, call.key.actor, call.now, via="api")
    except TicketClosed:
        raise Problem("ticket_closed", "a closed ticket takes no change but its followers") from None
    except NoSuchTicket:
        raise Problem("not_found", "there is no such ticket") from None


async def change_many(call: Call) -> Reply:
    """Change up to a hundred tickets, each for itself: what one refuses does not stop the others."""
    ask: asks.BulkRequest = call.body
    if (ask.ids is UNSET) == (ask.view is UNSET):
        raise Problem("invalid_body", 'exactly one of "ids" and "view" must be given', field="ids")
    if ask.cursor is not UNSET and ask.view is UNSET:
        raise Problem("invalid_body", "only a view goes on at a cursor", field="cursor")

    def wanted(connection: Connection) -> tuple[list[str], str | None]:
        if ask.ids is not UNSET:
            return list(dict.fromkeys(ask.ids)), None
        cursor = None if ask.cursor is UNSET else ask.cursor
        page = view_page(connection, call, str(ask.view), BULK_MAX, cursor, field="view")
        return [ticket.id for ticket in page.items], page.next

    def job(connection: Connection) -> tuple[list[types.BulkOutcome], list[LiveEvent], list[automatic.Told]]:
        outcomes: list[types.BulkOutcome] = []
        live: list[LiveEvent] = []
        told: list[automatic.Told] = []
        for ticket_id in ids:
            savepoint = connection.begin_nested()
            try:
                row = views.ticket(connection, ticket_id, call.key.accounts)
                if row is None:
                    raise Problem("not_found", "there is no such ticket")
                after = _change(connection, call, row, ask.changes)
                by_itself = automatic.told_of(connection, call.core, replies.file, row)
                savepoint.commit()
            except Problem as problem:
                savepoint.rollback()
                refused = types.BulkOutcome(
                    id=ticket_id, outcome="refused", code=problem.code, field=problem.field, detail=problem.detail
                )
                outcomes.append(refused)
                continue
            told.append(by_itself)
            changed = row["sequence"] != after["sequence"]
            outcomes.append(types.BulkOutcome(id=ticket_id, outcome="changed" if changed else "unchanged"))
            if changed:
                data = {"ticket_id": ticket_id, "number": row["number"], "status": after["status"],
                        "contact_id": row["contact_id"], "assignee": after["assignee"] or None}  # fmt: skip
                live.append(LiveEvent("ticket.updated", data, row["account"]))
        return outcomes, live, told

    ids, next_ = await call.read(wanted)
    items, live, told = await call.core.database.bulk(job)
    events = [event for one in told for event in one.events]
    for one in told:
        call.core.metrics.count_refusals(one.stopped)
    call.core.bus.publish([*events, *live])
    if events:
        call.core.bus.wake("outbox")
    return Reply(types.BulkReport(items=items, next=next_))


async def list_messages(call: Call) -> Reply:
    """The thread, the oldest first."""
    after = cursors.read(call.query.get("cursor"), (int, str))

    def job(connection: Connection) -> types.Page[types.Message]:
        visible_ticket(connection, call)
        rows = views.thread(connection, call.id, call.limit + 1, after and (after[0], after[1]))
        shown = rows[: call.limit]
        items = messages_of(connection, shown)
        more = len(rows) > call.limit
        return types.Page(items=items, next=cursors.make(shown[-1]["shown_at"], shown[-1]["id"]) if more else None)

    return Reply(await call.read(job))


async def list_events(call: Call) -> Reply:
    """The event log, in order."""
    after = cursors.read(call.query.get("cursor"), (int,))

    def job(connection: Connection) -> types.Page[types.TicketEvent]:
        visible_ticket(connection, call)
        rows = views.ticket_log(connection, call.id, call.limit + 1, after[0] if after else 0)
        items = [show.ticket_event(row) for row in rows[: call.limit]]
        return types.Page(items=items, next=cursors.make(items[-1].sequence) if len(rows) > call.limit else None)

    return Reply(await call.read(job))


async def post_typing(call: Call) -> Reply:
    """Show the customer that an answer is being written, where the platform can. It ends by itself."""
    await call.read(lambda connection: visible_ticket(connection, call))
    return Reply(types.Typing(shown=await typing_signal.show(call.core, call.id)))


_TAG = "Tickets"
_PATH = "/api/v1/tickets"
_VALUES = ("unknown_user", "unknown_group", "unknown_field", "required_field", "wrong_type", "unknown_choice")
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", _PATH, list_tickets, "List tickets, the newest first", _TAG,
        params=(*FILTERS, *PAGED), answers={200: types.Page[types.Ticket]},
    ),
    Route("GET", f"{_PATH}/{{id}}", get_ticket, "One ticket", _TAG, answers={200: types.Ticket}),
    Route(
        "PATCH", f"{_PATH}/{{id}}", patch_ticket, "Change a ticket", _TAG, scope="agent",
        body=asks.TicketPatch, answers={200: types.Ticket}, headers=("If-Match",),
        errors=("ticket_closed", "edit_conflict", "precondition_failed", *_VALUES),
    ),
    Route(
        "POST", f"{_PATH}/bulk", change_many, "Change many tickets, each for itself", _TAG, scope="agent",
        body=asks.BulkRequest, answers={200: types.BulkReport},
        errors=("not_found", "invalid_cursor", "invalid_condition"),
    ),
    Route(
        "GET", f"{_PATH}/{{id}}/messages", list_messages, "The thread, the oldest message first", _TAG,
        params=PAGED, answers={200: types.Page[types.Message]},
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/typing", post_typing, "Show that an answer is being written", _TAG, scope="agent",
        answers={200: types.Typing},
    ),
    Route(
        "GET", f"{_PATH}/{{id}}/events", list_events, "The event log", _TAG,
        params=PAGED, answers={200: types.Page[types.TicketEvent]},
    ),
)  # fmt: skip
