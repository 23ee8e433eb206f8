"""Filing a batch of events, purely: (events, snapshot) to changes. No database, no clock, no chance of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never

import msgspec

from gateway.automatic.manners import objection
from gateway.ids import micros
from gateway.intake import echoes, filing, forwards, people, standing
from gateway.intake.context import Context, Rules, moment_of
from gateway.intake.messages import answered_at, attachment_rows, echo_row, external_id, inbound_row, known_of
from gateway.intake.records import Changes, EventRow, Identity, Known, Snapshot, Ticket
from gateway.intake.screening import put_aside
from gateway.intake.standing import open_window
from gateway.tickets import Actor, Entry, subject_of
from normalizers.model import (
    AccountEvent,
    CallEvent,
    ConsentChange,
    DeliveryUpdate,
    Echo,
    Engagement,
    Event,
    IdentityChange,
    Ignored,
    InboundMessage,
    MessageDeleted,
    MessageEdited,
    Person,
    Reaction,
    ThreadControl,
    Unreadable,
)

REFERENCES_KEPT = 20  # of a mail, so that siblings find each other
PLATFORM = Actor("platform")


def decide(rows: Sequence[EventRow], snapshot: Snapshot, rules: Rules, now: int, new_id: Callable[[], str]) -> Changes:
    """File every event of the batch, in order. The outcome of each stands in `Changes.outcomes`.

    Outcomes: done; ignored (seen, own echo, of no use); suspended (a person decides); parked (it names a message nobody
    knows yet); dead.
    """
    ctx = Context(snapshot, rules, now, new_id)
    for row in rows:
        event = row.event
        if snapshot.erased and rules.tokens.keyed_hash(f"{row.account}:{event.id}") in snapshot.erased:
            ctx.changes.outcomes[row.id] = ("ignored", "erased")
            ctx.changes.erased.append(row)
            continue
        ctx.changes.outcomes[row.id] = _file(ctx, row, event)
    return ctx.changes


def _file(ctx: Context, row: EventRow, event: Event) -> tuple[str, str]:
    match event:
        case InboundMessage():
            return _message(ctx, row, event)
        case DeliveryUpdate():
            if event.learned:
                people.learn(ctx, event.learned, event.channel, row.account, ctx.now)
            ctx.changes.receipts.append(row)
            return "done", ""
        case Echo():
            return _echo(ctx, row, event)
        case MessageEdited():
            return _edited(ctx, row, event)
        case MessageDeleted():
            return _deleted(ctx, row, event)
        case Reaction():
            return _reaction(ctx, row, event)
        case ConsentChange():
            return standing.consent_change(ctx, row, event)
        case IdentityChange():
            return _identity_change(ctx, row, event)
        case Engagement():
            return standing.engagement(ctx, row, event)
        case AccountEvent():
            return _account_event(ctx, row, event)
        case CallEvent():
            return standing.call(ctx, row, event)
        case ThreadControl():
            return standing.control(ctx, row, event)
        case Ignored():
            return "ignored", event.reason
        case Unreadable():
            return "dead", f"{event.path}: {event.problem}"
        case _:
            assert_never(event)


def _message(ctx: Context, row: EventRow, event: InboundMessage) -> tuple[str, str]:
    account, channel = row.account, ctx.rules.channel(row.account, event.channel)
    twin = _twin(ctx, row, event)
    if twin is not None:
        return "ignored", f"the same mail came in at another address of ours: message {twin}"
    held = put_aside(ctx, row, event)
    if held is not None:
        return held
    event, forwarder = forwards.unwrapped(ctx, row, event)
    from_nobody = "null_sender" in event.flags  # bounces, and absence notes (RFC 3834)
    at = moment_of(row)
    if event.thread.kind == "mail":  # dated by its sender's own clock
        at = max(at, min(answered_at(ctx, account, event), row.received_at))
    identity = people.resolve(ctx, event.sender, event.channel, account, at)
    own_id = external_id(event)
    conversation = filing.conversation_for(ctx, identity, event.channel, account, event.thread, ctx.now, own_id)
    if event.kind == "system" and conversation.id not in ctx.snapshot.tickets:
        return "ignored", "a system note makes no ticket by itself"
    admitted = filing.may_write(conversation, identity) or "unknown_sender" in row.released
    flags = list(event.flags) if admitted else [*event.flags, "unknown_sender"]
    flags += ["released"] if row.released else []
    quiet = not admitted or event.kind == "system"
    if not row.released:  # a person has read it and wants it to count
        quiet = quiet or from_nobody or event.automatic == "ooo"
    actor = Actor("customer", identity.contact_id, identity.name or identity.handle)
    ticket, where = filing.ticket_for(ctx, event, conversation, identity, actor, quiet=quiet)
    if admitted:
        filing.admit(ctx, conversation, identity, event, released=bool(row.released))
    if channel is not None:
        flags += standing.keywords(channel, identity, event, at)
    open_window(identity, at, opens=event.opens_window, private=channel is None or channel.private)
    if channel is None or channel.private:
        _answers_private_reply(ctx, identity, ticket)
    visibility = "note" if quiet else "public" if channel is not None and not channel.private else "private"
    message = inbound_row(ctx, row, event, identity, conversation, ticket, at, visibility, flags)
    ctx.changes.messages.append(message)
    ctx.changes.attachments += attachment_rows(ctx.new_id, message["id"], event.attachments)
    if event.lookup:
        ctx.changes.lookups.append(
            {"message_id": message["id"], "event_id": row.id, "account": account, "not_before": ctx.now,
             "created_at": ctx.now}
        )  # fmt: skip
    _refer(ctx, row, event, message)
    ctx.snapshot.messages[message["id"]] = known_of(message)
    ticket.entries.append(Entry("message.received", actor, {"message_id": message["id"], "kind": event.kind}))
    if forwarder is not None:
        ticket.entries.append(forwards.told(forwarder, message["id"]))
    ticket.dirty = True
    if flags and not admitted:
        ticket.entries.append(Entry("message.flagged", PLATFORM, {"message_id": message["id"], "flags": flags}))
    ctx.tell(
        "ticket.created" if where.action in ("create", "follow_up") else "ticket.updated",
        {"ticket_id": ticket.id},
        account,
    )
    event_name = "created" if where.action in ("create", "follow_up") else "updated"
    if not quiet and event_name in ctx.rules.automatic(account) and not objection(event.automatic, flags):
        ctx.changes.notices.append((event_name, ticket.id))
    ctx.tell("message.received", {"ticket_id": ticket.id, "message_id": message["id"]}, account)
    return "done", ""


def _twin(ctx: Context, row: EventRow, event: InboundMessage) -> str | None:
    """The message this mail became when it reached another of our addresses first."""
    return ctx.snapshot.refs.get(("", event.id)) if event.thread.kind == "mail" else None


def _refer(ctx: Context, row: EventRow, event: InboundMessage, message: dict[str, Any]) -> None:
    """Every id by which somebody may name this message later."""
    names = [(row.account, message["external_id"])]
    if event.thread.kind == "mail":
        names.append(("", event.id))
        names += [(row.account, reference) for reference in event.thread.references[:REFERENCES_KEPT]]
    for account, ref in names:
        if ref and (account, ref) not in ctx.snapshot.refs:
            ctx.snapshot.refs[account, ref] = message["id"]
            ctx.changes.refs.append({"account": account, "ref": ref, "message_id": message["id"], "outbox_id": None})


def _answers_private_reply(ctx: Context, identity: Identity, ticket: Ticket) -> None:
    """The first word of a person who got a private answer to something public: the two tickets name each other."""
    if identity.private_reply_ticket is None:
        return
    ctx.changes.linked.append((identity, ticket, identity.private_reply_ticket))
    identity.private_reply_ticket = None


def _target(ctx: Context, account: str, ref: str) -> Known | None:
    message_id = ctx.snapshot.refs.get((account, ref))
    return ctx.snapshot.messages.get(message_id) if message_id else None


def _parked(target: str) -> tuple[str, str]:
    return "parked", target


def _edited(ctx: Context, row: EventRow, event: MessageEdited) -> tuple[str, str]:
    known = _target(ctx, row.account, event.target)
    if known is None:
        return _parked(event.target)
    if known.deleted:
        ctx.changes.erased.append(row)  # its words are none to keep either
        return "ignored", "an edit of what was taken back"
    columns = {"text": event.text, "html": event.html, "edited_at": moment_of(row)}
    ctx.changes.edits.append((known.id, columns))
    if event.new_id:
        ctx.changes.refs.append(
            {"account": row.account, "ref": event.new_id, "message_id": known.id, "outbox_id": None}
        )
    ctx.tell("message.updated", {"ticket_id": known.ticket_id, "message_id": known.id}, row.account)
    return "done", ""


def _deleted(ctx: Context, row: EventRow, event: MessageDeleted) -> tuple[str, str]:
    known = _target(ctx, row.account, event.target)
    if known is None:
        return _parked(event.target)
    known.deleted = True
    ctx.changes.deletions.append((known, moment_of(row)))
    ctx.tell("message.updated", {"ticket_id": known.ticket_id, "message_id": known.id}, row.account)
    return "done", ""


def _reaction(ctx: Context, row: EventRow, event: Reaction) -> tuple[str, str]:
    known = _target(ctx, row.account, event.target)
    if known is None:
        return _parked(event.target)
    at = moment_of(row)
    identity = people.resolve(ctx, event.sender, event.channel, row.account, at)
    declared = ctx.rules.channel(row.account, event.channel)
    if declared and declared.window and "reaction" in declared.window.opened_by:
        open_window(identity, at, opens=True, private=declared.private)
    before = [reaction for reaction in known.reactions if reaction.get("identity_id") == identity.id]
    if any(reaction.get("at", 0) > at for reaction in before):
        return "ignored", "a later reaction came first"
    others = [reaction for reaction in known.reactions if reaction not in before]
    mine = {"emoji": event.emoji, "identity_id": identity.id, "contact_id": identity.contact_id, "at": at}
    known.reactions = [*others, mine] if event.emoji else others
    ctx.changes.reactions[known.id] = known.reactions
    ctx.tell("message.updated", {"ticket_id": known.ticket_id, "message_id": known.id}, row.account)
    return "done", ""


def _identity_change(ctx: Context, row: EventRow, event: IdentityChange) -> tuple[str, str]:
    known = people.lookup(ctx, (*event.old, *event.new), event.channel, row.account)
    if known is None:
        return "ignored", "nobody known by the old address"
    people.resolve(ctx, Person((*event.old, *event.new), event.name), event.channel, row.account, moment_of(row))
    ctx.tell("contact.updated", {"contact_id": known.contact_id}, row.account)
    return "done", ""


def _echo(ctx: Context, row: EventRow, event: Echo) -> tuple[str, str]:
    """What the business sent outside the gateway stands in the thread too; our own messages coming back do not."""
    if event.ours or _target(ctx, row.account, event.id) is not None:
        return "ignored", "our own message"
    if (proof := echoes.proof(ctx, row, event)) is not None:
        ctx.changes.receipts.append(proof)
        return "done", "our own message, by its text and time"
    if event.action != "sent":
        known = _target(ctx, row.account, event.target)
        if known is None:
            return _parked(event.target)
        if event.action == "deleted":
            ctx.changes.deletions.append((known, moment_of(row)))
        elif event.action == "edited":
            ctx.changes.edits.append((known.id, {"text": event.text, "edited_at": moment_of(row)}))
        return "done", event.action
    if event.recipient is None:
        return "ignored", "names nobody"
    at = moment_of(row)
    identity = people.resolve(ctx, event.recipient, event.channel, row.account, at)
    conversation = filing.conversation_for(ctx, identity, event.channel, row.account, event.thread, ctx.now)
    ticket = ctx.snapshot.tickets.get(conversation.id)
    actor = Actor("agent", "", event.app or "outside the gateway")
    if ticket is None:
        subject = event.subject or subject_of(event.text, event.kind)
        ticket = filing.new_ticket(ctx, conversation, identity, event.channel, subject, event.channel, status="pending")
        ticket.entries.append(Entry("ticket.created", actor, {"via": event.channel, "why": "the business wrote first"}))
        filing.prefer_vip(ctx, ticket, identity)
    message = echo_row(ctx, row, event, identity, conversation, ticket, at)
    ctx.changes.messages.append(message)
    ctx.changes.attachments += attachment_rows(ctx.new_id, message["id"], event.attachments)
    ctx.snapshot.refs[row.account, event.id] = message["id"]
    ctx.snapshot.messages[message["id"]] = known_of(message)
    ctx.changes.refs.append({"account": row.account, "ref": event.id, "message_id": message["id"], "outbox_id": None})
    ticket.entries.append(Entry("message.echoed", actor, {"message_id": message["id"]}))
    ticket.dirty = True
    ctx.tell("message.updated", {"ticket_id": ticket.id, "message_id": message["id"]}, row.account)
    return "done", ""


def _account_event(ctx: Context, row: EventRow, event: AccountEvent) -> tuple[str, str]:
    if event.template is not None:
        told = event.template
        ctx.changes.templates.append(
            {"account": row.account, "name": told.name, "language": told.language, "status": told.status,
             "category": told.category, "parameters": told.parameters, "at": micros(event.at)}
        )  # fmt: skip
    data = {"account": row.account, "kind": event.kind, "alarming": event.alarming}
    ctx.tell("account.event", data | {"values": msgspec.to_builtins(event.values)}, row.account)
    return "done", event.kind
