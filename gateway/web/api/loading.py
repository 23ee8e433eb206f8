"""Rows the handlers of several resources load, and what they are when the key may not see them: not there."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection, RowMapping

from gateway.core import Core
from gateway.ids import micros
from gateway.store import tickets, views, waiting
from gateway.store.outbox import pace_of
from gateway.store.search import Visible
from gateway.web import show, types
from gateway.web.problems import Problem
from gateway.web.routes import Call


def visible_ticket(connection: Connection, call: Call) -> RowMapping:
    """The ticket of the path. Raises `Problem` when the key may not see it or there is none."""
    row = views.ticket(connection, call.id, call.key.accounts)
    if row is None:
        raise Problem("not_found", "there is no such ticket")
    return row


def shown_tickets(connection: Connection, rows: views.Rows) -> list[types.Ticket]:
    """Ticket rows as the API shows them."""
    follow_ups = tickets.followers(connection, [row["id"] for row in rows])
    return [show.ticket(row, follow_ups.get(row["id"], ())) for row in rows]


def messages_of(connection: Connection, rows: views.Rows) -> list[types.Message]:
    """Message rows as the API shows them."""
    files = views.files_of(connection, [row["id"] for row in rows])
    waiting = [row["id"] for row in rows if row["status"] in show.WAITING and not row["error"]]
    last = views.last_attempts(connection, waiting)
    return [show.message(row, files.get(row["id"], ()), last.get(row["id"])) for row in rows]


def visible_message(connection: Connection, call: Call) -> RowMapping:
    """The message of the path. Raises `Problem` when the key may not see it or there is none."""
    row = views.message(connection, call.id, call.key.accounts)
    if row is None:
        raise Problem("not_found", "there is no such message")
    return row


def detail_of(connection: Connection, core: Core, message_id: str, visible: Visible) -> types.MessageDetail:
    """A message with its attempts, receipts and parts. Raises `Problem`."""
    row = views.message(connection, message_id, visible)
    if row is None:
        raise Problem("not_found", "there is no such message")
    files = views.files_of(connection, [message_id]).get(message_id, ())
    history = views.history(connection, message_id)
    waits = waits_of(connection, core, history.parts)
    first = next((waits[part["id"]] for part in history.parts if part["id"] in waits), None)
    return show.message_detail(row, files, history, first)


def waits_of(connection: Connection, core: Core, parts: views.Rows) -> dict[str, waiting.Wait]:
    """What parts in the outbox wait for, by id."""
    return waiting.reasons(connection, core.accounts, partial(pace_of, core), parts, micros(core.clock()))
