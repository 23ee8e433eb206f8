"""One message judged and written, inside the caller's transaction: the same for replies, first messages and detours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection

from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.drafts import Draft, Words, draft
from gateway.ids import micros
from gateway.requests import RequestError, Submitted, not_found
from gateway.store import search_index, ticket_fields
from gateway.store import tickets as ticket_store
from gateway.store.enqueue import file_rows, held_error, message_row, part_rows
from gateway.store.facts import FactSource, subject_of_draft
from gateway.store.many import insert_together
from gateway.store.places import Place, Record, place_of
from gateway.store.schema import attachments, message_refs, messages, outbox, search_entries, ticket_events
from gateway.ticket_fields import FieldError, check
from gateway.tickets import Actor, Entry, Patch, Status, TicketClosed
from outbox.facts import NOWHERE, Facts
from outbox.judge import Judgment, judge
from outbox.rules import load_rules
from outbox.rules.content import empty
from outbox.verdict import Verdict


def judged(connection: Connection, core: Core, ticket: Record, words: Words) -> tuple[Draft, Judgment]:
    """The message on a ticket, and what the rules say of it. Raises `RequestError`."""
    place = place_of(connection, ticket["id"], core.accounts)
    if place is None:
        raise not_found("ticket")
    return judged_at(connection, core, place, words)


def judged_at(connection: Connection, core: Core, place: Place, words: Words) -> tuple[Draft, Judgment]:
    """The same at a place that need not exist yet."""
    channel = core.accounts.channel(place.ticket["account"], place.ticket["channel"])
    made = draft(connection, core, place, channel, words)
    if words.visibility == "note":
        return made, judge(made.message, Facts(now=core.clock(), channel=channel or NOWHERE), (empty,))
    judgment = judge_draft(connection, core, made, words.automatic)
    if made.message.template is not None and judgment.parts:  # in the language it leaves in
        shown = msgspec.structs.replace(made.message, template=judgment.parts[0].template)
        made = msgspec.structs.replace(made, message=shown)
    return made, judgment


def judge_draft(connection: Connection, core: Core, made: Draft, automatic: str = "") -> Judgment:
    """The rules' word on a message that is not queued yet."""
    subject = subject_of_draft(made, automatic)
    facts = FactSource(core.accounts).gather(connection, [subject], core.clock())[0]
    return judge(made.message, facts, load_rules())


def write(
    connection: Connection, core: Core, ticket: Record, made: Draft, judgment: Judgment, words: Words, author: Actor, *,
    more: Mapping[str, Any] | None = None, fallback: str | None = None, status: Status | None = None,
    actor: Actor | None = None,
) -> tuple[Submitted, list[LiveEvent]]:  # fmt: skip
    """Write a message the rules let pass: its rows and its line in the ticket's log, to which `more` is added.

    `status`: what the ticket has from then on, by `actor`. Raises `RequestError`, as `set_status` does.
    """
    now = micros(core.clock())
    note = words.visibility == "note"
    state = "sent" if note else "held" if judgment.decision == "defer" else "queued"
    row = message_row(made, author, state, words.automatic, now) | {"fallback": fallback}
    if state == "held":
        row["error"] = held_error(judgment)
    if note:
        row |= {"kind": "text", "html": made.message.html, "external_id": ""}
    details: dict[str, Any] = {"message_id": row["id"]}
    if not note:
        details["parts"] = len(judgment.parts)
        if judgment.verdicts:
            details["verdicts"] = msgspec.to_builtins(judgment.verdicts)
        if words.overrides:
            details["overridden"] = list(words.overrides)
    entry = Entry("note.added" if note else "reply.queued", author, details | dict(more or {}))
    lines = _lines(connection, ticket, entry, status, actor or author, now)
    bulk = words.purpose == "marketing"
    parts, refs = ([], []) if note else part_rows(core, made, judgment, now, bulk=bulk)
    rows = {ticket_events: lines, messages: [row], attachments: file_rows(made.files), outbox: parts}
    entries = search_index.message_entries([row], {ticket["id"]: (ticket["number"], lines[0]["sequence"])})
    if insert_together(connection, rows, {message_refs: refs, search_entries: entries}) < len(entries):
        search_index.place_left(connection, entries)
    answer = Submitted(row["id"], ticket["id"], state, judgment.verdicts)
    return answer, [live("message.created", ticket, row["id"], state)]


def _lines(
    connection: Connection, ticket: Record, entry: Entry, status: Status | None, actor: Actor, now: int
) -> list[dict[str, Any]]:
    """A message's line in its ticket's log, and what else it brings there."""
    if status is None:
        found = ticket_store.lines(connection, ticket["id"], [entry], now)
    else:
        with _refusals():
            _check(connection, ticket, status)
            found = ticket_store.lines_and_status(connection, ticket, [entry], status, actor, now)
    if not found:
        raise not_found("ticket")
    return found


def wanted_status(ticket: Record, status: Status | None, author: Actor, *, note: bool) -> Status | None:
    """The status asked for; without one an agent's reply opens a new ticket. None: it stays."""
    return status or ("open" if author.type == "agent" and not note and ticket["status"] == "new" else None)


def set_status(
    connection: Connection, ticket: Record, status: Status | None, author: Actor, actor: Actor, now: int, *, note: bool
) -> None:
    """Give the ticket the status it is to have (`wanted_status`). Raises `RequestError` on a closed one."""
    wanted = wanted_status(ticket, status, author, note=note)
    if wanted is not None:
        with _refusals():
            _check(connection, ticket, wanted)
            ticket_store.change(connection, ticket["id"], Patch(status=wanted), actor, now)


def check_status(connection: Connection, ticket: Record, status: Status | None) -> None:
    """Raise `RequestError` where `set_status` would, and change nothing."""
    if status is not None:
        with _refusals():
            if ticket["status"] == "closed":
                raise TicketClosed(ticket["id"])
            _check(connection, ticket, status)


def _check(connection: Connection, ticket: Record, status: Status) -> None:
    if status == "solved":  # nothing else asks for fields
        check(ticket_fields.all_fields(connection), msgspec.json.decode(ticket["fields"]), Patch(status=status))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except FieldError as error:
        raise RequestError(422, error.code, error.detail, error.field) from None
    except TicketClosed:
        raise RequestError(409, "ticket_closed", "a closed ticket takes no further change", "status") from None


def refusal(author: Actor, verdicts: Sequence[Verdict], tried: Sequence[Any] = ()) -> Entry:
    """The line in a ticket's log that tells of a refused reply: the rule, the reason, the way out, what was tried."""
    strongest = verdicts[0]
    data = {"rule": strongest.rule, "reason": strongest.reason, "remedy": strongest.remedy,
            "verdicts": msgspec.to_builtins(verdicts)}  # fmt: skip
    return Entry("reply.refused", author, data | ({"tried": msgspec.to_builtins(tried)} if tried else {}))


Stopped = tuple[str, str]
"""A message that was refused or is held, as it is counted: its channel and the rule's name."""


def stopped(ticket: Record, judgment: Judgment) -> tuple[Stopped, ...]:
    """By which rule a message was refused or is held, if it was."""
    if judgment.decision not in ("deny", "defer"):
        return ()
    return ((ticket["channel"], judgment.decisive.rule),)


def live(kind: str, ticket: Record, message_id: str = "", status: str = "") -> LiveEvent:
    """A live event of a ticket, or of a message on it."""
    data: dict[str, Any] = {"ticket_id": ticket["id"]}
    if message_id:
        data |= {"message_id": message_id, "status": status}
    return LiveEvent(kind, data, ticket["account"])
