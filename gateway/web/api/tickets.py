"""Tickets: lists, one ticket, its thread, its event log, changes and replies."""

from __future__ import annotations

from typing import get_args

from sqlalchemy import Connection

from gateway import automatic, replies, typing_signal
from gateway.bus import LiveEvent
from gateway.store import tickets as store
from gateway.store import views
from gateway.store.users import check_assignment
from gateway.tickets import NoSuchTicket, Patch, TicketClosed
from gateway.web import cursors, show, types
from gateway.web.api.loading import messages_of, visible_ticket
from gateway.web.api.users import user_problems
from gateway.web.problems import Problem
from gateway.web.routes import PAGED, Call, Param, Reply, Route

STATUSES = get_args(types.Status)
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


def shown_tickets(connection: Connection, rows: views.Rows) -> list[types.Ticket]:
    """Ticket rows as the API shows them."""
    follow_ups = store.followers(connection, [row["id"] for row in rows])
    return [show.ticket(row, follow_ups.get(row["id"], ())) for row in rows]


def _one(connection: Connection, call: Call) -> types.Ticket:
    row = visible_ticket(connection, call)
    return show.ticket(row, store.followers(connection, [row["id"]]).get(row["id"], ()))


async def get_ticket(call: Call) -> Reply:
    """One ticket."""
    return Reply(await call.read(lambda connection: _one(connection, call)))


async def patch_ticket(call: Call) -> Reply:
    """Change a ticket; every change is an event on it."""
    patch: Patch = call.body

    def job(connection: Connection) -> tuple[types.Ticket, bool, list[LiveEvent]]:
        before = visible_ticket(connection, call)
        with user_problems():
            check_assignment(connection, patch.assignee or None, patch.group or None)
        try:
            after = store.change(connection, call.id, patch, call.key.actor, call.now, via="api")
        except TicketClosed:
            raise Problem("ticket_closed", "a closed ticket takes no change but its followers") from None
        except NoSuchTicket:
            raise Problem("not_found", "there is no such ticket") from None
        told = automatic.told_of(connection, call.core, replies.file, before)
        return _one(connection, call), before["sequence"] != after["sequence"], told

    ticket, changed, told = await call.write(job)
    if told:
        call.core.bus.publish(told)
        call.core.bus.wake("outbox")
    if changed:
        data = {
            "ticket_id": ticket.id,
            "number": ticket.number,
            "status": ticket.status,
            "contact_id": ticket.contact_id,
        }
        call.core.bus.publish([LiveEvent("ticket.updated", data, ticket.account)])
    return Reply(ticket)


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
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", _PATH, list_tickets, "List tickets, the newest first", _TAG,
        params=(*FILTERS, *PAGED), answers={200: types.Page[types.Ticket]},
    ),
    Route("GET", f"{_PATH}/{{id}}", get_ticket, "One ticket", _TAG, answers={200: types.Ticket}),
    Route(
        "PATCH", f"{_PATH}/{{id}}", patch_ticket, "Change a ticket", _TAG, scope="agent",
        body=Patch, answers={200: types.Ticket}, errors=("ticket_closed", "unknown_user", "unknown_group"),
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
