"""Events as message rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.intake.context import Context
from gateway.intake.records import Conversation, EventRow, Identity, Known, Ticket
from normalizers.model import Attachment, Content, Echo, InboundMessage
from normalizers.model import Context as MessageContext

_encode = msgspec.json.Encoder().encode
_EMPTY = MessageContext()


def as_json(value: Content | MessageContext | None) -> str | None:
    """Content or context as the store keeps it; None for what says nothing."""
    return None if value is None or value == _EMPTY else _encode(value).decode()


def external_id(event: InboundMessage) -> str:
    """The platform's own id of a message: a mail's Message-ID, elsewhere the event's id."""
    if event.context is not None and event.thread.kind == "mail":
        return str(event.context.metadata.get("message_id") or event.id)
    return event.id


def _row(
    ctx: Context, row: EventRow, event: InboundMessage | Echo, identity: Identity, conversation: Conversation,
    ticket: Ticket, at: int,
) -> dict[str, Any]:  # fmt: skip
    """The columns that both directions share. All rows have the same columns, so that they go in one statement."""
    context = event.context
    answered = ctx.snapshot.refs.get((row.account, context.reply_to)) if context and context.reply_to else None
    return {
        "id": ctx.new_id(),
        "ticket_id": ticket.id,
        "conversation_id": conversation.id,
        "contact_id": identity.contact_id,
        "identity_id": identity.id,
        "channel": event.channel,
        "account": row.account,
        "external_id": event.id,
        "kind": event.kind,
        "subject": event.subject,
        "text": event.text,
        "html": event.html,
        "full_text": "",
        "content": as_json(event.content),
        "context": as_json(context),
        "in_reply_to": answered,
        "purpose": "",
        "automatic": "",
        "flags": "[]",
        "error": None,
        "sent_at": at,
        "received_at": row.received_at,
        "created_at": ctx.now,
        "delivery_id": row.delivery_id,
        "raw_path": event.path,
        "reply_token": "",
    }


def inbound_row(
    ctx: Context, row: EventRow, event: InboundMessage, identity: Identity, conversation: Conversation,
    ticket: Ticket, at: int, visibility: str, flags: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """A customer's message."""
    message = _row(ctx, row, event, identity, conversation, ticket, at)
    name = identity.name or identity.handle or identity.external_id
    if message["in_reply_to"] is None and event.thread.kind == "mail":
        message["in_reply_to"] = _answered_mail(ctx, row.account, event)
    message |= {
        "direction": "inbound",
        "visibility": visibility,
        "external_id": external_id(event),
        "full_text": event.full_text,
        "author": _encode({"type": "customer", "id": identity.contact_id, "name": name}).decode(),
        "automatic": event.automatic,
        "flags": _encode(flags).decode() if flags else "[]",
        "reply_token": event.context.reply_token if event.context is not None else "",
        "status": "received",
    }
    return message


def answered_at(ctx: Context, account: str, event: InboundMessage) -> int:
    """When the newest message of ours that a mail names was written: it cannot be older, whatever its sender's clock
    says. 0 where it names none."""
    found = 0
    for reference in event.thread.references:
        known = ctx.snapshot.messages.get(_named(ctx, account, reference) or "")
        if known is not None and known.direction == "outbound":
            found = max(found, known.created_at)
    return found


def _named(ctx: Context, account: str, reference: str) -> str | None:
    return ctx.rules.tokens.own_message(reference) or ctx.snapshot.refs.get((account, reference))


def _answered_mail(ctx: Context, account: str, event: InboundMessage) -> str | None:
    for reference in event.thread.references:
        message_id = _named(ctx, account, reference)
        if message_id in ctx.snapshot.messages:
            return message_id
    return None


def echo_row(
    ctx: Context, row: EventRow, event: Echo, identity: Identity, conversation: Conversation, ticket: Ticket, at: int
) -> dict[str, Any]:
    """A message the business sent outside the gateway."""
    message = _row(ctx, row, event, identity, conversation, ticket, at)
    message |= {
        "direction": "outbound",
        "visibility": "public" if conversation.kind == "public" else "private",
        "author": _encode({"type": "agent", "id": "", "name": event.app or "outside the gateway"}).decode(),
        "flags": '["echo"]',
        "status": "sent",
    }
    return message


def attachment_rows(
    new_id: Callable[[], str], message_id: str, attachments: Sequence[Attachment]
) -> list[dict[str, Any]]:
    """The files of a message, to be fetched; what must not be stored stays a link."""
    return [
        {
            "id": new_id(),
            "message_id": message_id,
            "position": position,
            "kind": attachment.kind,
            "media_type": attachment.media_type,
            "filename": attachment.filename,
            "size": attachment.size,
            "sha256": attachment.sha256,
            "state": "linked" if attachment.no_store else "pending",
            "ref": attachment.ref,
            "url": attachment.url,
            "content_id": attachment.content_id,
        }
        for position, attachment in enumerate(attachments)
    ]


def known_of(message: dict[str, Any]) -> Known:
    """What later events of the batch must know of a message."""
    return Known(
        message["id"], message["ticket_id"], message["conversation_id"], message["identity_id"], message["direction"],
        [], message["delivery_id"], message["raw_path"], message["external_id"],
        message["created_at"],
    )  # fmt: skip
