"""Our own messages coming back without our id: known again by their text and time.

An echo may be faster than the answer to its send, and is all there is when that answer was lost. Where a platform hands
our id back nothing of this is needed; where it does not (`Channel.echoes_by_text`), the message would stand in the
thread twice, and the lost one stay unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection, select

from gateway.ids import micros
from gateway.intake.context import Context, Rules
from gateway.intake.records import EventRow, Identity, OnItsWay, Snapshot
from gateway.store.many import among
from gateway.store.payloads import readable
from gateway.store.schema import conversations, outbox
from normalizers.model import DeliveryUpdate, Echo

WITHIN = timedelta(minutes=10) // timedelta(microseconds=1)  # between a lost send and its echo; clocks may differ


def load(connection: Connection, rows: Sequence[EventRow], snapshot: Snapshot, rules: Rules) -> None:
    """What is on its way to the people whose echoes we cannot place: being sent, or sent with a lost answer."""
    people = {identity.id for row in rows for identity in _recipients(row, snapshot, rules)}
    if not people:
        return
    statement = (
        select(outbox.c.id, outbox.c.account, outbox.c.payload, outbox.c.unknown_at, conversations.c.identity_id)
        .join(conversations, conversations.c.id == outbox.c.conversation_id)
        .where(
            among(connection, conversations.c.identity_id, people),
            outbox.c.state.in_(("sending", "unknown")),
            outbox.c.settled.is_(False),
        )
        .order_by(outbox.c.id)
    )
    for row in connection.execute(statement):
        if (message := readable(row.payload)) is not None:
            part = OnItsWay(row.id, row.account, message.text.strip(), row.unknown_at)
            snapshot.on_their_way.setdefault(row.identity_id, []).append(part)


def proof(ctx: Context, row: EventRow, event: Echo) -> EventRow | None:
    """The receipt an echo is for the message it brings back; None when it is none of ours. Each is found once."""
    at, words = micros(event.at), event.text.strip()
    for identity in _recipients(row, ctx.snapshot, ctx.rules):
        parts = ctx.snapshot.on_their_way.get(identity.id, [])
        for part in parts:
            near = part.unknown_at is None or abs(at - part.unknown_at) <= WITHIN
            if words and part.account == row.account and part.words == words and near:
                parts.remove(part)
                update = DeliveryUpdate(
                    id=f"{event.id}:sent", at=event.at, routing_key=event.routing_key, channel=event.channel,
                    path=event.path, status="sent", target=event.id, ours=part.id,
                )  # fmt: skip
                return replace(row, event=update)
    return None


def _recipients(row: EventRow, snapshot: Snapshot, rules: Rules) -> Iterable[Identity]:
    """Whom an echo that names no message of ours went to, as far as we know them."""
    event = row.event
    if not isinstance(event, Echo) or event.action != "sent" or event.ours or event.recipient is None:
        return
    declared = rules.channel(row.account, event.channel)
    if declared is None or not declared.echoes_by_text or (row.account, event.id) in snapshot.refs:
        return
    for address in event.recipient.addresses:
        known = snapshot.addresses.get((address.channel or event.channel, row.account, address.kind, address.value))
        if known is not None and known.identity_id in snapshot.identities:
            yield snapshot.identities[known.identity_id]
