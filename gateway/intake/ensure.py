"""The identity behind an address somebody wants to write to, made if nobody knows it yet."""

from __future__ import annotations

from sqlalchemy import Connection

from gateway.ids import new_id
from gateway.intake.context import Context, Rules
from gateway.intake.load import load_people
from gateway.intake.people import resolve
from gateway.intake.save_people import save_people
from gateway.store import merging, search_index
from normalizers.model import Person


def ensure_identity(connection: Connection, rules: Rules, channel: str, account: str, person: Person, now: int) -> str:
    """The id of the person's identity on an account, found or made, and linked by the same rules as a customer's."""
    snapshot = load_people(connection, person.addresses, channel, account, rules)
    if not all((address.channel or channel, account, address.kind, address.value) in snapshot.addresses
               for address in person.addresses):  # fmt: skip
        merging.alone(connection)
        snapshot = load_people(connection, person.addresses, channel, account, rules)
    ctx = Context(snapshot, rules, now, new_id)
    identity = resolve(ctx, person, channel, account, now)
    for merge in ctx.changes.merges:
        merging.record_merge(connection, merge, now)
    search_index.reindex_contacts(connection, save_people(connection, snapshot, ctx.changes, now))
    return identity.id
