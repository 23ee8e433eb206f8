"""A customer's mail that one of us forwards is the customer's: its author is the ticket's person, not who forwarded it.

What a forward says of its author is nothing but words, so it counts only from a user of ours whose mail is proven to
be his (an aligned result of a trusted `authserv_id`): anybody else could begin tickets in others' names. The author
stays a claim, which merges with nobody. Into a thread there is, the forwarder writes himself.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, select

from gateway import identity as values_of
from gateway.intake import filing
from gateway.intake.context import Context
from gateway.intake.messages import external_id
from gateway.intake.records import EventRow
from gateway.store.many import among
from gateway.store.schema import users
from gateway.tickets import Actor, Entry
from normalizers._bounces import answers_nobody
from normalizers._mime_text import own_form
from normalizers._quotes import bare_subject, forwarded_text
from normalizers.model import Event, InboundMessage, Person

FLAG = "forwarded_by_user"


def author_of(event: Event) -> Person | None:
    """Who wrote the mail, as a forward of proven origin says; None for whatever is none."""
    if not isinstance(event, InboundMessage) or event.thread.kind != "mail" or event.context is None:
        return None
    if event.automatic or "unchecked" in event.flags or not _forwarder(event):
        return None
    return event.context.forwarded_from


def _forwarder(event: InboundMessage) -> str:
    """The address of who forwards, as users' addresses are compared; "" where it is not proven."""
    senders = event.sender.addresses
    return values_of.email(senders[0].value) if len(senders) == 1 and senders[0].evidence == "attested" else ""


def load(connection: Connection, rows: Sequence[EventRow]) -> dict[str, Actor]:
    """The users among those who forward, by address."""
    forwards = (row.event for row in rows if isinstance(row.event, InboundMessage) and author_of(row.event))
    names = {_forwarder(event) for event in forwards}
    if not names:
        return {}
    statement = select(users.c.email, users.c.id, users.c.name).where(
        among(connection, users.c.email, names), users.c.deactivated_at.is_(None)
    )
    return {email: Actor("agent", user_id, name) for email, user_id, name in connection.execute(statement)}


def unwrapped(ctx: Context, row: EventRow, event: InboundMessage) -> tuple[InboundMessage, Actor | None]:
    """The mail as its author's, and who of us forwarded it; as it is, and None, where it begins no ticket so."""
    author, forwarder = author_of(event), ctx.snapshot.forwarders.get(_forwarder(event))
    if author is None or forwarder is None or event.context is None:
        return event, None
    address = author.addresses[0].value
    if address == event.sender.addresses[0].value or own_form(address, ctx.rules.own_addresses):
        return event, None
    if answers_nobody(address) or filing.mail_thread(ctx, row.account, event.thread, external_id(event)) is not None:
        return event, None
    whole = event.full_text or event.text
    told = {**event.context.metadata, "reply_to": "", "to": [], "cc": []}  # those the forwarder wrote to
    words = told.pop("forwarded_text", "") or forwarded_text(whole)
    return (
        msgspec.structs.replace(
            event,
            sender=author,
            subject=bare_subject(event.subject),
            text=words or whole,
            full_text=whole if words else "",
            html="" if words else event.html,  # what the forwarder wrote above is ours, not the customer's
            context=msgspec.structs.replace(event.context, metadata=told),
            recipients=(),
            answer_to=(),
            flags=(*event.flags, FLAG),
        ),
        forwarder,
    )


def told(forwarder: Actor, message_id: str) -> Entry:
    """The line of the ticket's log that says who brought the mail."""
    return Entry("message.forwarded", forwarder, {"message_id": message_id})
