"""One message judged and written, inside the caller's transaction: the same for replies, first messages and detours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping

from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.drafts import Draft, Place, Words, draft, place_of
from gateway.ids import micros
from gateway.requests import RequestError, Submitted
from gateway.store import search_index, ticket_fields
from gateway.store import tickets as ticket_store
from gateway.store.enqueue import add_message, add_parts, message_row
from gateway.store.facts import FactSource, subject_of_draft
from gateway.ticket_fields import FieldError, check
from gateway.tickets import Actor, Entry, Patch, TicketClosed
from outbox.facts import NOWHERE, Facts
from outbox.judge import Judgment, judge
from outbox.rules import load_rules
from outbox.rules.content import empty
from outbox.verdict import Verdict


def judged(connection: Connection, core: Core, ticket: RowMapping, words: Words) -> tuple[Draft, Judgment]:
    """The message on a ticket, and what the rules say of it. Raises `RequestError`."""
    channel = core.accounts.channel(ticket["account"], ticket["channel"])
    return judged_at(connection, core, place_of(connection, ticket, channel), words)


def judged_at(connection: Connection, core: Core, place: Place, words: Words) -> tuple[Draft, Judgment]:
    """The same at a place that need not exist yet."""
    channel = core.accounts.channel(place.ticket["account"], place.ticket["channel"])
    made = draft(connection, core, place, channel, words)
    if words.visibility == "note":
        return made, judge(made.message, Facts(now=core.clock(), channel=channel or NOWHERE), (empty,))
    return made, judge_draft(connection, core, made, words.automatic)


def judge_draft(connection: Connection, core: Core, made: Draft, automatic: str = "") -> Judgment:
    """The rules' word on a message that is not queued yet."""
    subject = subject_of_draft(made, automatic)
    facts = FactSource(core.accounts).gather(connection, [subject], core.clock())[0]
    return judge(made.message, facts, load_rules())


def write(
    connection: Connection, core: Core, ticket: RowMapping, made: Draft, judgment: Judgment, words: Words,
    author: Actor, *, more: Mapping[str, Any] | None = None, fallback: str | None = None,
) -> tuple[Submitted, list[LiveEvent]]:  # fmt: skip
    """Write a message the rules let pass: its rows and its line in the ticket's log, to which `more` is added."""
    now = micros(core.clock())
    note = words.visibility == "note"
    state = "sent" if note else "held" if judgment.decision == "defer" else "queued"
    row = message_row(made, author, state, words.automatic, now) | {"fallback": fallback}
    if note:
        row |= {"kind": "text", "html": made.message.html, "external_id": ""}
    add_message(connection, row, made.files)
    search_index.add_messages(connection, [row], {ticket["id"]: (ticket["number"], ticket["sequence"] + 1)})
    details: dict[str, Any] = {"message_id": row["id"]}
    if not note:
        details["parts"] = len(add_parts(connection, core, made, judgment, now, bulk=words.purpose == "marketing"))
        if judgment.verdicts:
            details["verdicts"] = msgspec.to_builtins(judgment.verdicts)
        if words.overrides:
            details["overridden"] = list(words.overrides)
    entry = Entry("note.added" if note else "reply.queued", author, details | dict(more or {}))
    ticket_store.log(connection, ticket["id"], [entry], now)
    answer = Submitted(row["id"], ticket["id"], state, judgment.verdicts)
    return answer, [live("message.created", ticket, row["id"], state)]


def set_status(
    connection: Connection, ticket: RowMapping, status: str | None, author: Actor, actor: Actor, now: int, *, note: bool
) -> None:
    """The status asked for; without one an agent's reply opens a new ticket. Raises `RequestError` on a closed one."""
    wanted = status or ("open" if author.type == "agent" and not note and ticket["status"] == "new" else None)
    if wanted is None:
        return
    patch = Patch(status=wanted)  # type: ignore[arg-type]
    try:
        check(ticket_fields.all_fields(connection), msgspec.json.decode(ticket["fields"]), patch)
    except FieldError as error:
        raise RequestError(422, error.code, error.detail, error.field) from None
    try:
        ticket_store.change(connection, ticket["id"], patch, actor, now)
    except TicketClosed:
        raise RequestError(409, "ticket_closed", "a closed ticket takes no further change", "status") from None


def refusal(author: Actor, verdicts: Sequence[Verdict], tried: Sequence[Any] = ()) -> Entry:
    """The line in a ticket's log that tells of a refused reply: the rule, the reason, the way out, what was tried."""
    strongest = verdicts[0]
    data = {"rule": strongest.rule, "reason": strongest.reason, "remedy": strongest.remedy,
            "verdicts": msgspec.to_builtins(verdicts)}  # fmt: skip
    return Entry("reply.refused", author, data | ({"tried": msgspec.to_builtins(tried)} if tried else {}))


def live(kind: str, ticket: RowMapping, message_id: str = "", status: str = "") -> LiveEvent:
    """A live event of a ticket, or of a message on it."""
    data: dict[str, Any] = {"ticket_id": ticket["id"]}
    if message_id:
        data |= {"message_id": message_id, "status": status}
    return LiveEvent(kind, data, ticket["account"])
