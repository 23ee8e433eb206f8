"""Replies: judged, then ticket entry and outbox rows in one transaction. What is refused is an event on the ticket.

The same code answers "would it pass?" (`dry_run`) and sends it, and the dispatcher asks the same rules once more before
the message leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn

import msgspec
from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from adapters import Channel
from gateway import automatic as automatic_messages
from gateway import proactive as first_messages
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.drafts import Draft, Words, draft, place_of
from gateway.ids import micros, moment
from gateway.requests import (
    AttachmentRequest,
    AuthorRequest,
    Denied,
    Judged,
    MessageRequest,
    ReplyRequest,
    RequestError,
    Submitted,
    TemplateRequest,
    WindowState,
    not_found,
)
from gateway.settling import cancel, leave, replay_dead, retry
from gateway.store import tickets as ticket_store
from gateway.store.enqueue import add_message, add_parts, answered, fingerprint, message_row, remember
from gateway.store.facts import FactSource, Subject
from gateway.tickets import Actor, Entry, Patch, TicketClosed
from normalizers.model import Purpose, Visibility
from outbox.facts import NOWHERE, Facts
from outbox.judge import Judgment, judge
from outbox.ports import recipient_of, recipients_of
from outbox.rules import load_rules
from outbox.rules.content import empty
from outbox.verdict import Verdict

__all__ = [
    "AttachmentRequest", "AuthorRequest", "Denied", "Judged", "MessageRequest", "ReplyRequest", "RequestError",
    "Submitted", "TemplateRequest", "WindowState", "cancel", "dry_run", "dry_run_proactive", "leave", "proactive",
    "replay_dead", "retry", "submit", "window",
]  # fmt: skip


async def submit(
    core: Core,
    ticket_id: str,
    request: ReplyRequest,
    actor: Actor,
    api_key_id: str = "",
    idempotency_key: str = "",
    *,
    automatic: str = "",
) -> Submitted | Denied:
    """Queue a reply, or write a note. `automatic` names what made it when no person did (generated, ooo).

    The same key with the same request gives the same answer. Raises `RequestError`: not_found, idempotency_conflict,
    ticket_closed, unknown_upload, invalid.
    """
    print_ = fingerprint("reply", ticket_id, request)

    def job(connection: Connection) -> tuple[Submitted | Denied, list[LiveEvent]]:
        now = micros(core.clock())
        if (known := answered(connection, api_key_id, idempotency_key, print_)) is not None:
            return known, []
        ticket = _ticket(connection, ticket_id)
        words = _words(core, ticket, request, actor, automatic)
        answer, events = file(connection, core, ticket, words, request.status, _author(request.author, actor), actor)
        events += automatic_messages.told_of(connection, core, file, ticket, told=words.visibility != "note")
        remember(connection, api_key_id, idempotency_key, print_, answer, now)
        return answer, events

    return await _carry_out(core, job)


async def dry_run(core: Core, ticket_id: str, request: ReplyRequest, actor: Actor) -> Judged:
    """What the rules would say now. Writes nothing. Raises `RequestError` as `submit` does."""

    def job(connection: Connection) -> Judged:
        ticket = _ticket(connection, ticket_id)
        _, judgment = _judged(connection, core, ticket, _words(core, ticket, request, actor, ""))
        return Judged(judgment.decision, judgment.verdicts)

    return await core.database.read(job)


async def proactive(
    core: Core, request: MessageRequest, actor: Actor, api_key_id: str = "", idempotency_key: str = ""
) -> Submitted | Denied:
    """Write to somebody first: on the conversation's open ticket, else on a new one (status pending, via "api").

    A refusal leaves no ticket behind. Raises `RequestError`: unknown_channel, unknown_account, unknown_contact,
    no_address, invalid, idempotency_conflict.
    """
    print_ = fingerprint("message", request)

    def job(connection: Connection) -> tuple[Submitted | Denied, list[LiveEvent]]:
        now = micros(core.clock())
        if (known := answered(connection, api_key_id, idempotency_key, print_)) is not None:
            return known, []
        opened = first_messages.open_ticket(connection, core, request, actor, now)
        words = _first_words(opened, request, actor)
        author = _author(request.author, actor)
        answer, events = file(connection, core, opened.ticket, words, request.status, author, actor)
        if isinstance(answer, Denied) and opened.new:
            raise _Undone(Judgment("deny", answer.verdicts, ()))
        if opened.new:
            data = {"ticket_id": opened.ticket["id"], "number": opened.ticket["number"]}
            events.insert(0, LiveEvent("ticket.created", data, opened.ticket["account"]))
        remember(connection, api_key_id, idempotency_key, print_, answer, now)
        return answer, events

    try:
        return await _carry_out(core, job)
    except _Undone as undone:
        denied = Denied(undone.judgment.verdicts)
        _count(core, denied)
        return denied


async def dry_run_proactive(core: Core, request: MessageRequest, actor: Actor) -> Judged:
    """What the rules would say of a first message now. Leaves nothing behind."""

    def job(connection: Connection) -> NoReturn:
        opened = first_messages.open_ticket(connection, core, request, actor, micros(core.clock()))
        _, judgment = _judged(connection, core, opened.ticket, _first_words(opened, request, actor))
        raise _Undone(judgment)

    try:
        await core.database.write(job)
    except _Undone as undone:
        return Judged(undone.judgment.decision, undone.judgment.verdicts)


class _Undone(Exception):
    """Carries a judgment out of a job whose writes are to be undone."""

    def __init__(self, judgment: Judgment) -> None:
        super().__init__("undone")
        self.judgment = judgment


def window(channel: Channel, identity: RowMapping, now: datetime) -> WindowState:
    """How long one may write freely to an identity (a row with `opened_at` and `window_used`)."""
    rule = channel.window
    if rule is None:
        return WindowState(True)
    if identity["opened_at"] is None:
        return WindowState(False, remaining=0 if rule.max_messages is not None else None)
    opened_at = moment(identity["opened_at"])
    until = opened_at + rule.duration
    longest = max(rule.tags.values(), default=None)
    remaining = None if rule.max_messages is None else max(rule.max_messages - identity["window_used"], 0)
    is_open = now < until and remaining != 0
    return WindowState(is_open, until, remaining, None if longest is None else opened_at + longest)


# --- one transaction --------------------------------------------------------------------------------------------------


async def _carry_out(
    core: Core, job: Callable[[Connection], tuple[Submitted | Denied, list[LiveEvent]]]
) -> Submitted | Denied:
    try:
        answer, events = await core.database.write(job)
    except IntegrityError:  # the same Idempotency-Key at the same moment: the other one has written its answer
        answer, events = await core.database.write(job)
    core.bus.publish(events)
    if events and isinstance(answer, Submitted):
        core.bus.wake("outbox")
    if events:
        _count(core, answer)
    return answer


def _count(core: Core, answer: Submitted | Denied) -> None:
    if isinstance(answer, Denied) and answer.verdicts:
        core.metrics.refusals.labels("", answer.verdicts[0].rule).inc()


def _ticket(connection: Connection, ticket_id: str) -> RowMapping:
    ticket = ticket_store.load(connection, ticket_id)
    if ticket is None:
        raise not_found("ticket")
    return ticket


def _words(core: Core, ticket: RowMapping, request: ReplyRequest, actor: Actor, automatic: str) -> Words:
    channel = core.accounts.channel(ticket["account"], ticket["channel"])
    own: Visibility = "private" if channel is None or channel.private else "public"
    purpose: Purpose = "reply"
    return Words(
        text=request.text, html=request.html, attachments=request.attachments, template=request.template,
        visibility=request.visibility or own, purpose=purpose, author_name=_author(request.author, actor).name,
        automatic=automatic, overrides=_overrides(request.override, _author(request.author, actor)),
    )  # fmt: skip


def _first_words(opened: first_messages.Opened, request: MessageRequest, actor: Actor) -> Words:
    return Words(
        text=request.text, html=request.html, attachments=request.attachments, template=request.template,
        visibility="private" if opened.channel.private else "public", purpose=request.purpose,
        author_name=_author(request.author, actor).name, first=opened.new,
        overrides=_overrides(request.override, _author(request.author, actor)),
    )  # fmt: skip


def _overrides(wanted: Sequence[str], author: Actor) -> tuple[str, ...]:
    """The rules to be passed over. Raises `RequestError`: only a person may decide that."""
    if wanted and author.type != "agent":
        raise RequestError(422, "invalid", "only an agent may pass over a rule: name one as the author", "override")
    return tuple(dict.fromkeys(wanted))


def _author(request: AuthorRequest | None, actor: Actor) -> Actor:
    return actor if request is None else Actor(request.type, request.id, request.name)


def _judged(connection: Connection, core: Core, ticket: RowMapping, words: Words) -> tuple[Draft, Judgment]:
    channel = core.accounts.channel(ticket["account"], ticket["channel"])
    place = place_of(connection, ticket, channel)
    made = draft(connection, core, place, channel, words)
    if words.visibility == "note":
        return made, judge(made.message, Facts(now=core.clock(), channel=channel or NOWHERE), (empty,))
    return made, judge_draft(connection, core, made, words.automatic)


def judge_draft(connection: Connection, core: Core, made: Draft, automatic: str = "") -> Judgment:
    """The rules' word on a message that is not queued yet."""
    place, message = made.place, made.message
    subject = Subject(
        account=message.account, channel=message.channel, conversation_id=place.conversation["id"],
        recipient=recipient_of(message), recipients=recipients_of(message), template=message.template,
        ticket_status=place.ticket["status"],
        ticket_account=place.ticket["account"], identity_state=place.identity["state"],
        optouts=place.identity["optouts"], opened_at=place.identity["opened_at"],
        window_used=place.identity["window_used"], automatic=bool(automatic),
    )  # fmt: skip
    facts = FactSource(core.accounts).gather(connection, [subject], core.clock())[0]
    return judge(message, facts, load_rules())


def file(
    connection: Connection,
    core: Core,
    ticket: RowMapping,
    words: Words,
    status: str | None,
    author: Actor,
    actor: Actor,
) -> tuple[Submitted | Denied, list[LiveEvent]]:
    """Judge and write one message: its rows, the ticket's new status, its event log; and what to tell of it."""
    now = micros(core.clock())
    made, judgment = _judged(connection, core, ticket, words)
    note = words.visibility == "note"
    if judgment.decision == "deny":
        ticket_store.log(connection, ticket["id"], [refusal(author, judgment.verdicts)], now)
        return Denied(judgment.verdicts, ticket["id"]), [_live("ticket.updated", ticket)]
    state = "sent" if note else "held" if judgment.decision == "defer" else "queued"
    row = message_row(made, author, state, words.automatic, now)
    if note:
        row |= {"kind": "text", "html": made.message.html, "external_id": ""}
    add_message(connection, row, made.files)
    details: dict[str, Any] = {"message_id": row["id"]}
    if not note:
        details["parts"] = len(add_parts(connection, core, made, judgment, now, bulk=words.purpose == "marketing"))
        if judgment.verdicts:
            details["verdicts"] = msgspec.to_builtins(judgment.verdicts)
        if words.overrides:
            details["overridden"] = list(words.overrides)
    ticket_store.log(connection, ticket["id"], [Entry("note.added" if note else "reply.queued", author, details)], now)
    wanted = status or ("open" if author.type == "agent" and not note and ticket["status"] == "new" else None)
    if wanted is not None:
        try:
            ticket_store.change(connection, ticket["id"], Patch(status=wanted), actor, now)  # type: ignore[arg-type]
        except TicketClosed:
            raise RequestError(409, "ticket_closed", "a closed ticket takes no further change", "status") from None
    answer = Submitted(row["id"], ticket["id"], state, judgment.verdicts)
    return answer, [_live("message.created", ticket, row["id"], state), _live("ticket.updated", ticket)]


def refusal(author: Actor, verdicts: Sequence[Verdict]) -> Entry:
    """The line in a ticket's log that tells of a refused reply: the rule, the reason, the way out."""
    strongest = verdicts[0]
    data = {"rule": strongest.rule, "reason": strongest.reason, "remedy": strongest.remedy,
            "verdicts": msgspec.to_builtins(verdicts)}  # fmt: skip
    return Entry("reply.refused", author, data)


def _live(kind: str, ticket: RowMapping, message_id: str = "", status: str = "") -> LiveEvent:
    data: dict[str, Any] = {"ticket_id": ticket["id"]}
    if message_id:
        data |= {"message_id": message_id, "status": status}
    return LiveEvent(kind, data, ticket["account"])
