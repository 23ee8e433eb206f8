"""Values of contacts in the store, and what contacts allow. Functions of a connection, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, update

from gateway import identity as rules
from gateway.ids import new_id
from gateway.store import linking
from gateway.store.linking import Linked
from gateway.store.many import insert_ignore
from gateway.store.people_errors import PeopleError as PeopleError  # for whoever knows it by this module
from gateway.store.schema import contact_values, identities
from gateway.store.tickets import to_json
from gateway.tickets import Actor

VALUES = ("email", "phone")  # attributes that may have several values


def set_values(
    connection: Connection, contact_id: str, attribute: str, given: Any, now: int, region: str
) -> tuple[list[tuple[str, str]], bool]:
    """Set the phone numbers or mail addresses of a contact: what may match now, and whether anything changed."""
    field = f"attributes.{attribute}"
    wanted = [] if given is None else given if isinstance(given, list) else [given]
    normal: list[str] = []
    for value in wanted:
        clean = rules.normalise(attribute, value, region) if isinstance(value, str) else ""
        if not clean:
            raise PeopleError("invalid_value", field, f"not a valid {attribute}")
        normal.append(clean)
    rows = connection.execute(
        select(contact_values).where(
            contact_values.c.contact_id == contact_id, contact_values.c.attribute == attribute
        )
    ).mappings().all()  # fmt: skip
    attested = {row["value"] for row in rows if row["evidence"] == "attested"}
    if attested - set(normal):
        raise PeopleError("attested_value", field, "a value the platform attested cannot be changed")
    of_attribute = (contact_values.c.contact_id == contact_id, contact_values.c.attribute == attribute)
    claimed = contact_values.c.evidence == "claimed"
    connection.execute(delete(contact_values).where(*of_attribute, claimed))  # what is set replaces what was typed
    added = [value for value in dict.fromkeys(normal) if value not in attested]
    _replace(connection, contact_id, attribute, added, now)
    before = {row["value"] for row in rows if row["identity_id"] == "" or row["evidence"] == "claimed"}
    return [(attribute, value) for value in added], before != set(added)


def mirror(
    connection: Connection, contact_id: str, attribute: str, given: str | None, now: int
) -> list[tuple[str, str]]:
    """A custom attribute as a value that can be compared with others': the attribute itself keeps what was typed."""
    value = rules.normalise(attribute, given) if given else ""
    _replace(connection, contact_id, attribute, [value] if value else [], now)
    return [(attribute, value)] if value else []


def _replace(connection: Connection, contact_id: str, attribute: str, values: Sequence[str], now: int) -> None:
    """These are the contact's values of the attribute, beside those its identities brought."""
    connection.execute(
        delete(contact_values).where(
            contact_values.c.contact_id == contact_id,
            contact_values.c.attribute == attribute,
            contact_values.c.identity_id == "",
            contact_values.c.value.not_in(values),
        )
    )
    insert_ignore(
        connection,
        contact_values,
        [
            {"id": new_id(), "contact_id": contact_id, "identity_id": "", "attribute": attribute, "value": value,
             "evidence": "authenticated", "at": now}
            for value in values
        ],
    )  # fmt: skip


def match(
    connection: Connection, contact_id: str, new: Sequence[tuple[str, str]], matching: Sequence[str], actor: Actor,
    now: int,
) -> Linked:  # fmt: skip
    """Link the contacts that have the same values, in the order of the matching attributes."""
    done = Linked()
    who = actor.name or actor.id
    for attribute in matching:
        for value in (value for name, value in new if name == attribute):
            found = linking.holders(connection, attribute, value)
            reason = f"the same {attribute}, set by {who}"
            linked = linking.link(connection, found, attribute, value, reason, who, now)
            done.merges += linked.merges
            done.conflicts += linked.conflicts
    return done


# --- consent ---


def set_consent(connection: Connection, identity_id: str, state: str, scope: str, now: int) -> bool:
    """Record what an identity allows (opted_in, opted_out, blocked, unblocked); True when that changed something."""
    known = (identities.c.state, identities.c.optouts, identities.c.heard)
    row = connection.execute(select(*known).where(identities.c.id == identity_id)).first()
    if row is None:
        return False
    before: list[str] = msgspec.json.decode(row.optouts)
    new_state, after = rules.consent(row.state, before, state, scope)
    heard = msgspec.json.decode(row.heard) | {rules.matter_of(state, scope): now}
    connection.execute(
        update(identities)
        .where(identities.c.id == identity_id)
        .values(state=new_state, optouts=to_json(after), heard=to_json(heard))
    )
    return (new_state, after) != (row.state, before)
