"""Automatic messages to customers: a ticket was created, updated, solved. Three switches per account, all off at first.

They are messages like any other: written in the transaction that changes the ticket, so that there is one for each
event whatever crashes or comes twice; judged by all rules; sent by the outbox; shown in the thread, a bot as author.
What RFC 3834 asks of a machine that writes by itself is decided here and in the rules, for every channel alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from gateway.automatic.manners import objection, status_event
from gateway.automatic.texts import say, switched_on
from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.drafts import Words
from gateway.ids import micros
from gateway.posting import Stopped, stopped
from gateway.requests import Denied, Submitted
from gateway.store import dialect
from gateway.store import tickets as ticket_store
from gateway.store.places import Record
from gateway.store.schema import identities, messages
from gateway.tickets import Actor, Status
from outbox.judge import Judgment
from outbox.verdict import Decision

__all__ = ["Notice", "Told", "notices", "notify", "told_of"]

log = logging.getLogger(__name__)

_HOUR, _DAY = 3_600_000_000, 86_400_000_000  # microseconds
ACKNOWLEDGEMENTS_PER_HOUR = 3  # to one person: two machines that thank each other make a new ticket each time
File = Callable[
    [Connection, Core, Record, Words, Status | None, Actor, Actor], tuple[Submitted | Denied, list[LiveEvent]]
]
"""`gateway.replies.file`: judge and write one message in the caller's transaction."""


class Notice(msgspec.Struct, frozen=True):
    """An event of a ticket that its customer may be told of. `by_customer`: the customer's own message is the event."""

    event: str
    ticket_id: str
    by_customer: bool = True


class Told(msgspec.Struct):
    """What to tell of automatic messages once they are durable: live events, and what was refused or is held."""

    events: list[LiveEvent] = []
    stopped: list[Stopped] = []


def notices(told: Iterable[tuple[str, str]]) -> list[Notice]:
    """What intake found to tell customers: (event, ticket id)."""
    return [Notice(event, ticket_id) for event, ticket_id in told]


def told_of(connection: Connection, core: Core, file: File, before: Record, *, told: bool = False) -> Told:
    """Tell the customer of what became of a ticket since `before` was read, if its account wants that."""
    account = core.accounts.get(before["account"])
    if account is None or not switched_on(account.settings.automatic):
        return Told()
    after = ticket_store.load(connection, before["id"])
    if after is None or not (event := status_event(before["status"], after["status"], told=told)):
        return Told()
    return notify(connection, core, file, [Notice(event, before["id"], by_customer=False)])


def notify(connection: Connection, core: Core, file: File, notices: Sequence[Notice]) -> Told:
    """Write the messages for these events.

    One that cannot be written is logged and left out: the ticket's change stands without it.
    """
    told = Told()
    for notice in notices:
        try:
            with connection.begin_nested():
                found = _write(connection, core, file, notice)
                told = Told(told.events + found.events, told.stopped + found.stopped)
        except Exception as error:
            if dialect.unavailable(error):
                raise
            log.exception("automatic.failed", extra={"ticket_id": notice.ticket_id, "notice": notice.event})
    return told


def _write(connection: Connection, core: Core, file: File, notice: Notice) -> Told:
    ticket = ticket_store.load(connection, notice.ticket_id)
    account = core.accounts.get(ticket["account"]) if ticket is not None else None
    if ticket is None or account is None or account.settings.automatic is None:
        return Told()
    channel = account.channels.get(ticket["channel"])
    if notice.event not in switched_on(account.settings.automatic) or channel is None or not channel.private:
        return Told()  # nothing automatic is said in public
    if not _mannerly(connection, ticket, notice, micros(core.clock())):
        return Told()
    person = connection.execute(select(identities).where(identities.c.id == ticket["identity_id"])).mappings().one()
    options = account.settings.options
    name = getattr(options, "name", "") or ""
    fields = {
        "ticket": {"number": str(ticket["number"]), "subject": ticket["subject"], "status": ticket["status"]},
        "contact": {"name": person["name"], "language": person["language"]},
        "account": {"name": name, "address": getattr(options, "address", "") or ""},
    }
    said = say(account.settings.automatic, notice.event, fields, person["language"])
    words = Words(text=said.text, subject=said.subject, purpose="transactional", automatic=notice.event)
    author = Actor("bot", "", name or account.id)
    answer, events = file(connection, core, ticket, words, None, author, author)
    decision: Decision = "deny" if isinstance(answer, Denied) else "defer" if answer.status == "held" else "allow"
    return Told(events, list(stopped(ticket, Judgment(decision, answer.verdicts, ()))))


def _mannerly(connection: Connection, ticket: Record, notice: Notice, now: int) -> bool:
    """Whether a machine may write now: not to machines, and not again and again."""
    last = _last_inbound(connection, ticket["conversation_id"])
    if last is not None and objection(last.automatic, msgspec.json.decode(last.flags)):
        return False
    if not notice.by_customer:
        return True
    if notice.event == "updated":  # once a day is enough to tell that what is written arrives
        return not _automatic_since(connection, now - _DAY, messages.c.conversation_id == ticket["conversation_id"])
    theirs = (messages.c.contact_id == ticket["contact_id"], messages.c.identity_id == ticket["identity_id"])
    return _automatic_since(connection, now - _HOUR, *theirs) < ACKNOWLEDGEMENTS_PER_HOUR


def _last_inbound(connection: Connection, conversation_id: str) -> Any:
    statement = (
        select(messages.c.automatic, messages.c.flags)
        .where(messages.c.conversation_id == conversation_id, messages.c.direction == "inbound")
        .order_by(messages.c.id.desc())
        .limit(1)
    )
    return connection.execute(statement).first()


def _automatic_since(connection: Connection, since: int, *conditions: Any) -> int:
    statement = select(func.count()).where(
        *conditions, messages.c.direction == "outbound", messages.c.automatic != "", messages.c.created_at > since
    )
    return connection.execute(statement).scalar_one()
