"""Writing what a batch decided about identities and contacts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Text, Update, bindparam, case, literal_column, update

from gateway.intake.records import Changes, Identity, Snapshot
from gateway.store.attributes import learn_platform
from gateway.store.many import insert_ignore, insert_many, run_many, upsert
from gateway.store.schema import addresses, conflicts, contact_values, contacts, identities
from gateway.store.tickets import to_json


def run_update(connection: Connection, statement: Update, rows: Sequence[dict[str, Any]]) -> None:
    """One of the prepared updates, for many rows."""
    if rows:
        run_many(connection, ("update", str(id(statement))), lambda: statement, rows)


def columns_of(record: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


_CONTACT = ("id", "name", "language", "vip", "created_at", "last_seen_at")
_IDENTITY = (
    "id", "contact_id", "channel", "account", "external_id", "name", "handle", "language", "state", "opened_at",
    "window_used", "allowed_until", "last_inbound_at", "pinned", "created_at",
)  # fmt: skip
_ADDRESS = ("id", "identity_id", "channel", "account", "kind", "value", "scope", "evidence", "attested_at")
_VALUE = ("id", "contact_id", "identity_id", "attribute", "value", "evidence", "at")

_TOUCH_CONTACT = (
    update(contacts)
    .where(contacts.c.id == bindparam("key"))
    .values(
        last_seen_at=bindparam("seen"),
        name=case((contacts.c.name == literal_column("''"), bindparam("called", type_=Text)), else_=contacts.c.name),
    )
)
_UPDATE_IDENTITY = (
    update(identities)
    .where(identities.c.id == bindparam("key"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "contact_id", "name", "handle", "language", "profile", "state", "optouts", "heard", "opened_at",
                "allowed_until", "last_inbound_at",
            )
        }
        # sends count here too, at the same time: what they counted stays, unless the window was opened anew
        | {"window_used": case(
            (bindparam("opened", type_=Integer) == literal_column("1"), bindparam("new_window_used", type_=Integer)),
            else_=identities.c.window_used,
        )}
    )
)  # fmt: skip
_MOVE_ADDRESS = (
    update(addresses)
    .where(addresses.c.id == bindparam("key"))
    .values(identity_id=bindparam("owner"), evidence=bindparam("proof"), attested_at=bindparam("moment"))
)


def save_people(connection: Connection, snapshot: Snapshot, changes: Changes, now: int) -> set[str]:
    """Write what was decided about identities and contacts; the contacts that are found by other words now."""
    insert_many(connection, contacts, [columns_of(contact, *_CONTACT) for contact in changes.contacts])
    insert_many(connection, identities, [_identity_row(identity) for identity in changes.identities])
    insert_many(connection, addresses, [columns_of(address, *_ADDRESS) for address in changes.addresses])
    _save_values(connection, snapshot, changes)
    insert_ignore(connection, conflicts, changes.conflicts)
    moved = [
        {"key": row.id, "owner": row.identity_id, "proof": row.evidence, "moment": row.attested_at}
        for row in changes.moved_addresses
    ]
    run_update(connection, _MOVE_ADDRESS, moved)
    seen = [
        {"key": contact.id, "seen": contact.last_seen_at, "called": contact.name}
        for contact in snapshot.contacts.values()
        if contact.dirty and not contact.new
    ]
    run_update(connection, _TOUCH_CONTACT, seen)
    dirty = [identity for identity in snapshot.identities.values() if identity.dirty and not identity.new]
    learn_platform(connection, _told(changes.identities, dirty))
    run_update(
        connection,
        _UPDATE_IDENTITY,
        [
            {
                "key": identity.id,
                "new_contact_id": identity.contact_id,
                "new_name": identity.name,
                "new_handle": identity.handle,
                "new_language": identity.language,
                "new_profile": to_json(identity.profile),
                "new_state": identity.state,
                "new_optouts": to_json(identity.optouts),
                "new_heard": to_json(identity.heard),
                "new_opened_at": identity.opened_at,
                "new_window_used": identity.window_used,
                "opened": int(identity.opened),
                "new_allowed_until": identity.allowed_until,
                "new_last_inbound_at": identity.last_inbound_at,
            }
            for identity in dirty
        ],
    )
    owners = {identity.id for identity in changes.identities} | {
        row.identity_id for row in (*changes.addresses, *changes.moved_addresses)
    }
    found = {identity.contact_id for identity in snapshot.identities.values() if identity.told or identity.id in owners}
    return found | {value.contact_id for value in changes.values} | {merge.winner for merge in changes.merges}


def _save_values(connection: Connection, snapshot: Snapshot, changes: Changes) -> None:
    """A value that was claimed and is attested now counts as attested; never the other way round."""
    for identity_id, attribute, value in changes.doubted:
        connection.execute(
            update(contact_values)
            .where(
                contact_values.c.identity_id == identity_id,
                contact_values.c.attribute == attribute,
                contact_values.c.value == value,
            )
            .values(evidence="claimed")
        )
    better = [
        value for value in changes.values
        if value.evidence != "claimed" and not snapshot.identities[value.identity_id].new
    ]  # fmt: skip
    insert_ignore(connection, contact_values, [columns_of(value, *_VALUE) for value in changes.values])
    keys = ("attribute", "value", "contact_id", "identity_id")
    upsert(connection, contact_values, [columns_of(value, *_VALUE) for value in better], keys, ("evidence", "at"))


def _told(*groups: Iterable[Identity]) -> Iterable[tuple[str, str]]:
    """(name, channel) of the platform attributes these identities have."""
    for identity in (identity for group in groups for identity in group):
        yield from ((name, identity.channel) for name in identity.profile)
        if identity.handle:
            yield "handle", identity.channel


def _identity_row(identity: Identity) -> dict[str, Any]:
    return columns_of(identity, *_IDENTITY) | {
        "profile": to_json(identity.profile),
        "optouts": to_json(identity.optouts),
        "heard": to_json(identity.heard),
    }
