"""Contacts in the store: edited, and what they allow. Functions of a connection, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, update

from gateway import identity as rules
from gateway.ids import new_id
from gateway.store import linking
from gateway.store.dialect import insert_ignore
from gateway.store.linking import Linked
from gateway.store.merging import PeopleError as PeopleError
from gateway.store.merging import alone, load
from gateway.store.schema import attributes, contact_values, contacts, identities
from gateway.store.tickets import to_json
from gateway.tickets import Actor

VALUES = ("email", "phone")  # attributes that may have several values


def edit_contact(
    connection: Connection,
    contact_id: str,
    changes: dict[str, Any],
    actor: Actor,
    now: int,
    *,
    matching: Sequence[str] = (),
    region: str = "",
) -> Linked:
    """Change a contact: name, language, organization, tags, vip, attributes. What is not named stays.

    An attribute set to None is removed. `email` and `phone` take a value or a list, are normalised, and cannot be
    changed where a platform attested them. What is set of a matching attribute matches at once; what came of that is
    returned. Raises `PeopleError`.
    """
    if changes.get("attributes"):
        alone(connection)
    row = load(connection, contact_id)
    if row["merged_into"]:
        raise PeopleError("already_merged", "id", f"this contact was merged into {row['merged_into']}")
    values: dict[str, Any] = {
        name: changes[name] for name in ("name", "language", "organization", "vip") if name in changes
    }
    if "tags" in changes:
        values["tags"] = to_json(list(dict.fromkeys(changes["tags"])))
    given = dict(changes.get("attributes") or {})
    several = {name: given.pop(name) for name in VALUES if name in given}
    new: list[tuple[str, str]] = []
    if given:
        values["attributes"] = to_json(_custom(connection, msgspec.json.decode(row["attributes"]), given))
    if values:
        connection.execute(update(contacts).where(contacts.c.id == contact_id).values(**values))
    for name, value in several.items():
        new += _set_values(connection, contact_id, name, value, now, region)
    for name, value in given.items():
        new += _mirror(connection, contact_id, name, value, now)
    return _match(connection, contact_id, new, matching, actor, now)


def _custom(connection: Connection, current: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The custom attributes after a change, each held against its definition."""
    statement = select(attributes).where(attributes.c.name.in_(given))
    definitions = {row["name"]: row for row in connection.execute(statement).mappings()}
    for name, value in given.items():
        field, definition = f"attributes.{name}", definitions.get(name)
        if definition is None:
            raise PeopleError("unknown_attribute", field, f"there is no attribute {name!r}")
        if definition["kind"] == "platform":
            raise PeopleError("read_only_attribute", field, "a platform attribute cannot be edited")
        if value is None:
            continue
        if not isinstance(value, str):
            raise PeopleError("wrong_type", field, "must be a text")
        choices = msgspec.json.decode(definition["choices"])
        if definition["type"] == "choice" and value not in choices:
            raise PeopleError("unknown_choice", field, f"must be one of {', '.join(choices)}")
    return {name: value for name, value in (current | given).items() if value is not None}


def _set_values(
    connection: Connection, contact_id: str, attribute: str, given: Any, now: int, region: str
) -> list[tuple[str, str]]:
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
    return [(attribute, value) for value in added]


def _mirror(
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


def _match(
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
    row = connection.execute(
        select(identities.c.state, identities.c.optouts).where(identities.c.id == identity_id)
    ).first()
    if row is None:
        return False
    before: list[str] = msgspec.json.decode(row.optouts)
    new_state, after = rules.consent(row.state, before, state, scope)
    if (new_state, after) == (row.state, before):
        return False
    connection.execute(
        update(identities).where(identities.c.id == identity_id).values(state=new_state, optouts=to_json(after))
    )
    return True
