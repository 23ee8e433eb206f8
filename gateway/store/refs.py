"""The ids platforms gave to our messages, and the receipts that came before them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, text, update

from adapters import Sent
from gateway.store.many import Work, among_bound, ignoring, run_together
from gateway.store.schema import events, message_refs
from outbox.ports import Parcel

_AWAKEN = (
    update(events)
    .where(
        events.c.account == bindparam("b_account"),
        text("events.state = 'parked'"),  # word for word the condition of its index
        among_bound(events.c.waits_for, "b_refs"),
    )
    .values(state="new", not_before=None)
)


class Named(msgspec.Struct):
    """Rows of `message_refs`, and by account all that a receipt may name these parts by."""

    rows: list[dict[str, Any]]
    waited_for: dict[str, list[str]]


def given_by(sent: Iterable[tuple[Parcel, Sent]]) -> Named:
    """The ids in the platform's answers; a receipt may name a part by our own, too."""
    named = Named([], {})
    for parcel, answer in sent:
        waited_for = named.waited_for.setdefault(parcel.account, [])
        for ref in (answer.external_id, *answer.aliases):
            if ref:
                named.rows.append(
                    {"account": parcel.account, "ref": ref, "message_id": parcel.message_id, "outbox_id": parcel.id}
                )
                waited_for.append(ref)
        waited_for += (parcel.id, parcel.message_id)
    return named


def keeping(connection: Connection, named: Named) -> Work:
    """The rows to insert: the first to come keeps the reference."""
    return ignoring(connection, message_refs, named.rows)


def awaken(connection: Connection, named: Named) -> bool:
    """Wake receipts that came before what they name; whether there was one. After the ids are kept."""
    woken = 0
    for account, waited_for in named.waited_for.items():
        woken += connection.execute(_AWAKEN, {"b_account": account, "b_refs": waited_for}).rowcount
    return woken > 0


def keep(connection: Connection, sent: Iterable[tuple[Parcel, Sent]]) -> bool:
    """Remember the ids, and wake receipts that came before them; whether there was one."""
    named = given_by(sent)
    run_together(connection, keeping(connection, named))
    return awaken(connection, named)
