"""Which conversation and which ticket an event belongs to. Works on the snapshot alone."""

from __future__ import annotations

from typing import Any

from gateway.intake.context import Context
from gateway.intake.records import Conversation, Identity, Ticket
from gateway.tickets import SYSTEM, VIA_CLOSED, Actor, Entry, Filing, channel_tags, file_message, subject_of
from gateway.vip import promote
from normalizers._mime_text import own_form
from normalizers.model import InboundMessage, Thread

PARTICIPANTS_MAX = 48


def conversation_for(
    ctx: Context, identity: Identity, channel: str, account: str, thread: Thread, now: int, own_id: str = ""
) -> Conversation:
    """The conversation of an event, made if need be. `own_id`: see `mail_thread`."""
    if thread.kind == "mail":
        return mail_thread(ctx, account, thread, own_id) or _open(ctx, identity, channel, account, "mail", "", now)
    key = {
        "private": identity.id,
        "group": f"group:{thread.key}",
        "session": f"session:{thread.key}",
        "public": f"{identity.id}:{thread.key}",
    }[thread.kind]
    found = ctx.snapshot.conversations.get((account, channel, key))
    return found or _open(ctx, identity, channel, account, thread.kind, key, now)


def mail_thread(ctx: Context, account: str, thread: Thread, own_id: str = "") -> Conversation | None:
    """The conversation a mail answers: by the ticket its reply token seals, else by the ids it refers to.

    `own_id`: its own Message-ID. When an answer to it was filed before it, that has named it already.
    """
    for token in thread.tokens:
        number = ctx.rules.tokens.ticket_number(token)
        ticket = ctx.snapshot.tickets_by_number.get(number) if number is not None else None
        if ticket is not None:
            return ctx.snapshot.conversations_by_id.get(ticket.conversation_id)
    for reference in thread.references:
        message_id = ctx.rules.tokens.own_message(reference) or ctx.snapshot.refs.get((account, reference))
        known = ctx.snapshot.messages.get(message_id) if message_id else None
        if known is not None:
            return ctx.snapshot.conversations_by_id.get(known.conversation_id)
    named_by = ctx.snapshot.messages.get(ctx.snapshot.refs.get((account, own_id), "")) if own_id else None
    if named_by is not None and named_by.external_id != own_id:
        return ctx.snapshot.conversations_by_id.get(named_by.conversation_id)
    return None


def _open(ctx: Context, identity: Identity, channel: str, account: str, kind: str, key: str, now: int) -> Conversation:
    conversation_id = ctx.new_id()
    made = Conversation(
        conversation_id, identity.id, account, channel, kind, key or conversation_id, "", [], now, new=True
    )
    ctx.snapshot.conversations[account, channel, made.key] = made
    ctx.snapshot.conversations_by_id[made.id] = made
    ctx.changes.conversations.append(made)
    return made


def may_write(conversation: Conversation, identity: Identity | None, address: str = "") -> bool:
    """Whether the sender belongs to the thread. Only threads that others can find their way into (mail) ask.

    `address` stands for a sender whom nobody knows yet.
    """
    if conversation.kind != "mail" or not conversation.participants:
        return True
    if identity is not None and identity.id == conversation.identity_id:
        return True
    return (identity.external_id if identity is not None else address).casefold() in conversation.participants


def admit(
    ctx: Context, conversation: Conversation, identity: Identity, event: InboundMessage, *, released: bool
) -> None:
    """The writer, those who got a copy, and where the writer wants his answers may write in this thread from now on,
    and get what is answered; our own addresses never count. A forged participant brings nobody into a thread there is.
    """
    if conversation.kind != "mail":
        return
    proven = released or all(address.evidence != "claimed" for address in event.sender.addresses)
    if conversation.participants and not proven:
        return
    known = set(conversation.participants)
    others = (*event.answer_to, *event.recipients)  # answers go to Reply-To: who reads them there may write back
    for value in (identity.external_id, *(address.value for address in others)):
        folded = value.casefold()
        if folded not in known and not own_form(folded, ctx.rules.own_addresses) and len(known) < PARTICIPANTS_MAX:
            known.add(folded)
            conversation.participants.append(folded)
            conversation.dirty = True


def ticket_for(
    ctx: Context, event: InboundMessage, conversation: Conversation, identity: Identity, actor: Actor, *, quiet: bool
) -> tuple[Ticket, Filing]:
    """The ticket a message goes to, brought into the state it has then. `quiet`: the message moves nothing."""
    now = ctx.now
    newest = ctx.snapshot.tickets.get(conversation.id)
    if newest is not None and quiet:
        return newest, Filing("append", "shown, but moves nothing")
    status, since = (newest.status, newest.solved_at or newest.updated_at) if newest else (None, None)
    filing = file_message(status, since, now, ctx.rules.tickets, event.channel, conversation.account)
    if newest is None or filing.action in ("create", "follow_up"):
        return _create(ctx, event, conversation, identity, newest, filing, actor), filing
    if filing.action == "reopen":
        newest.entries.append(
            Entry("ticket.status_changed", actor, {"from": newest.status, "to": "open", "why": filing.reason})
        )
        newest.status, newest.solved_at = "open", None
    elif ctx.rules.tickets.rules:
        newest.entries.append(Entry("ticket.kept_status", SYSTEM, {"status": newest.status, "why": filing.reason}))
    if newest.conversation_state != "replied":
        newest.conversation_state = "replied"
    newest.updated_via, newest.updated_at, newest.dirty = event.channel, now, True
    return newest, filing


def _create(
    ctx: Context, event: InboundMessage, conversation: Conversation, identity: Identity, before: Ticket | None,
    filing: Filing, actor: Actor,
) -> Ticket:  # fmt: skip
    follows = before if filing.action == "follow_up" else None
    subject = event.subject or (follows.subject if follows else "") or subject_of(event.text, event.kind)
    via = VIA_CLOSED if follows else event.channel
    ticket = new_ticket(ctx, conversation, identity, event.channel, subject, via, own_address=event.own_address)
    ticket.follow_up_of = follows.id if follows else None
    ticket.entries.append(Entry("ticket.created", actor, {"via": via, "why": filing.reason}))
    prefer_vip(ctx, ticket, identity)
    if follows:
        ticket.entries.append(Entry("ticket.follows", SYSTEM, {"ticket_id": follows.id, "number": follows.number}))
        follows.entries.append(Entry("ticket.followed", SYSTEM, {"ticket_id": ticket.id}))
    return ticket


def new_ticket(
    ctx: Context, conversation: Conversation, identity: Identity, channel: str, subject: str, via: str,
    *, status: str = "new", own_address: str = "",
) -> Ticket:  # fmt: skip
    """A ticket on a conversation, which becomes its newest. It gets the channel's tags and all that is known of it."""
    declared = ctx.rules.channel(conversation.account, channel)
    ticket = Ticket(
        id=ctx.new_id(), number=0, conversation_id=conversation.id, contact_id=identity.contact_id,
        identity_id=identity.id, channel=channel, account=conversation.account, subject=subject, status=status,
        priority="normal", via=via, updated_via=via,
        tags=channel_tags(channel, bool(declared and declared.private and declared.messaging)),
        channel_info=_channel_info(conversation, identity, channel, declared.title if declared else "", own_address),
        follow_up_of=None, conversation_state="started", sequence=0, created_at=ctx.now, updated_at=ctx.now,
        solved_at=None, closed_at=None, new=True,
    )  # fmt: skip
    if conversation.kind == "mail" and not conversation.subject:
        conversation.subject, conversation.dirty = subject, True
    ctx.snapshot.tickets[conversation.id] = ticket
    ctx.changes.tickets.append(ticket)
    return ticket


def prefer_vip(ctx: Context, ticket: Ticket, identity: Identity) -> None:
    """A new ticket of a VIP is raised and routed; its log says why."""
    if ctx.snapshot.vip is None or identity.contact_id not in ctx.snapshot.vips:
        return
    found = promote(ctx.snapshot.vip, ticket.priority, ticket.group_name, "the person is a VIP")
    ticket.priority = found.priority or ticket.priority
    ticket.group_name = found.group or ticket.group_name
    ticket.entries += found.entries


def _channel_info(
    conversation: Conversation, identity: Identity, channel: str, title: str, own_address: str
) -> dict[str, Any]:
    """Everything known about the account and channel used (S6); what is empty is left out."""
    known = {
        "channel": channel,
        "channel_title": title,
        "account": conversation.account,
        "own_address": own_address,
        "thread": conversation.key if conversation.kind in ("public", "group", "session") else "",
        "address": identity.external_id,
        "handle": identity.handle,
        "name": identity.name,
        "profile": identity.profile,
    }
    return {name: value for name, value in known.items() if value}
