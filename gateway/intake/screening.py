"""What is put aside before anything is made of it: junk leaves no contact. The causes are judged in `suspension.py`."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from gateway.intake import filing, people, suspension
from gateway.intake.context import Context
from gateway.intake.messages import external_id
from gateway.intake.records import EventRow, Identity
from normalizers.model import InboundMessage

_MICROSECOND = timedelta(microseconds=1)


def put_aside(ctx: Context, row: EventRow, event: InboundMessage) -> tuple[str, str] | None:
    """Put the message aside, or drop what is provably our own coming back; None when it is to be filed."""
    screen = ctx.rules.screen(row.account, event.channel)
    mail = event.thread.kind == "mail"
    if event.automatic == "own_loop" and not row.released and ("loop" not in screen.suspends or _ours(ctx, event)):
        return "ignored", "our own mail came back"
    if screen.is_open and not mail:
        return None
    thread = filing.mail_thread(ctx, row.account, event.thread, external_id(event)) if mail else None
    sender = people.lookup(ctx, event.sender.addresses, event.channel, row.account)
    address = event.sender.addresses[0].value if event.sender.addresses else ""
    admitted = thread is None or filing.may_write(thread, sender, address)
    threaded = not mail or thread is not None
    begun = _begun(ctx, sender) if screen.tickets_per_hour else 0
    found = suspension.causes(event, screen, threaded=threaded, admitted=admitted, begun=begun, waived=row.released)
    if not found:
        nobody = mail and thread is None and "null_sender" in event.flags and not row.released
        return ("ignored", "a bounce of no mail of ours") if nobody else None
    ticket = ctx.snapshot.tickets.get(thread.id) if thread is not None else None
    ctx.changes.suspended.append(
        {
            "id": row.id,
            "delivery_id": row.delivery_id,
            "account": row.account,
            "channel": event.channel,
            "cause": found[0],
            "causes": msgspec.json.encode(found).decode(),
            "sender": address,
            "name": event.sender.name,
            "subject": event.subject,
            "own_address": event.own_address,
            "ticket_id": ticket.id if ticket is not None else None,
            "received_at": row.received_at,
            "created_at": ctx.now,
            "expires_at": ctx.now + ctx.rules.suspended_for // _MICROSECOND,
            "state": "open",
            "settled_at": None,
            "settled_by": "",
        }
    )
    ctx.tell("message.suspended", {"suspended_id": row.id, "cause": found[0]}, row.account)
    return "suspended", found[0]


def _begun(ctx: Context, sender: Identity | None) -> int:
    """Tickets the sender has begun within the hour, those of this batch included."""
    if sender is None:
        return 0
    return ctx.snapshot.begun.get(sender.id, 0) + sum(made.identity_id == sender.id for made in ctx.changes.tickets)


def _ours(ctx: Context, event: InboundMessage) -> bool:
    """Whether the mail carries what only we can have made."""
    token = event.context.metadata.get("loop_token", "") if event.context is not None else ""
    return token == ctx.rules.tokens.loop_token() or ctx.rules.tokens.own_message(external_id(event)) is not None
