"""Contacts in the store: merged, taken apart again, edited. Functions of a connection, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from gateway import identity as rules
from gateway.ids import new_id
from gateway.store import search_index
from gateway.store.dialect import insert_ignore
from gateway.store.schema import (
    addresses,
    attributes,
    contact_values,
    contacts,
    identities,
    merges,
    messages,
    tickets,
)
from gateway.store.tickets import to_json
from gateway.tickets import Actor

VALUES = ("email", "phone")  # attributes that live in contact_values and may have several values


class PeopleError(Exception):
    """A change of a contact that cannot be made: a stable `code`, the `field` it concerns, and a sentence."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.field, self.detail = code, field, detail


class MergeLike(Protocol):
    """A merge to carry out (`gateway.intake.records.Merge`)."""

    winner: str
    loser: str
    identity_id: str
    attribute: str
    value: str
    evidence: str
    reason: str


def load(connection: Connection, contact_id: str) -> RowMapping:
    """A living contact's row. Raises `PeopleError` "not_found"."""
    row = connection.execute(select(contacts).where(contacts.c.id == contact_id)).mappings().first()
    if row is None or row["deleted_at"] is not None:
        raise PeopleError("not_found", "id", "there is no such contact")
    return row


# --- merge and undo ---


def record_merge(connection: Connection, merge: MergeLike, now: int, actor: str = "system") -> None:
    """Carry a merge out and write it into the journal. Without a loser only the journal entry is made."""
    moved = [merge.identity_id]
    before: dict[str, Any] = {}
    if merge.loser:
        loser = connection.execute(select(contacts).where(contacts.c.id == merge.loser)).mappings().one()
        before = {name: loser[name] for name in ("name", "language", "organization", "tags", "vip", "attributes")}
        moved = list(
            connection.execute(select(identities.c.id).where(identities.c.contact_id == merge.loser)).scalars()
        )
        _move(connection, merge.loser, merge.winner)
        _fill(connection, merge.winner, loser)
        connection.execute(
            update(contacts)
            .where((contacts.c.id == merge.loser) | (contacts.c.merged_into == merge.loser))
            .values(merged_into=merge.winner)
        )
    connection.execute(
        insert(merges).values(
            id=new_id(), winner=merge.winner, loser=merge.loser, attribute=merge.attribute, value=merge.value,
            evidence=merge.evidence, reason=merge.reason, actor=actor, identities=to_json(moved),
            loser_before=to_json(before), at=now,
        )
    )  # fmt: skip
    if merge.loser:
        search_index.reindex_contacts(connection, (merge.winner, merge.loser))


def name_if_nameless(connection: Connection, contact_id: str, name: str) -> None:
    """A contact nobody has named takes the name a newly linked identity brings."""
    if name:
        connection.execute(update(contacts).where(contacts.c.id == contact_id, contacts.c.name == "").values(name=name))


def _move(connection: Connection, loser: str, winner: str) -> None:
    """Identities, values, tickets and messages of one contact go to another."""
    for table in (identities, tickets, messages):
        connection.execute(update(table).where(table.c.contact_id == loser).values(contact_id=winner))
    rows = connection.execute(select(contact_values).where(contact_values.c.contact_id == loser)).mappings().all()
    connection.execute(delete(contact_values).where(contact_values.c.contact_id == loser))
    insert_ignore(connection, contact_values, [dict(row) | {"contact_id": winner} for row in rows])


def _fill(connection: Connection, winner_id: str, loser: RowMapping) -> None:
    """What the winner lacks it takes from the loser; where both have something, the winner's stays."""
    winner = connection.execute(select(contacts).where(contacts.c.id == winner_id)).mappings().one()
    tags = list(dict.fromkeys([*msgspec.json.decode(winner["tags"]), *msgspec.json.decode(loser["tags"])]))
    mine, theirs = msgspec.json.decode(winner["attributes"]), msgspec.json.decode(loser["attributes"])
    connection.execute(
        update(contacts)
        .where(contacts.c.id == winner_id)
        .values(
            name=winner["name"] or loser["name"],
            language=winner["language"] or loser["language"],
            organization=winner["organization"] or loser["organization"],
            vip=winner["vip"] or loser["vip"],
            tags=to_json(tags),
            attributes=to_json(theirs | mine),
            last_seen_at=max(winner["last_seen_at"], loser["last_seen_at"]),
        )
    )


class _ByHand(msgspec.Struct):
    winner: str
    loser: str
    identity_id: str = ""
    attribute: str = ""
    value: str = ""
    evidence: str = "authenticated"
    reason: str = ""


def merge(connection: Connection, contact_id: str, into: str, actor: Actor, reason: str, now: int) -> None:
    """Merge a contact into another, by hand. Raises `PeopleError`: not_found, merge_into_itself, already_merged."""
    loser, winner = load(connection, contact_id), load(connection, into)
    if contact_id == into:
        raise PeopleError("merge_into_itself", "into", "a contact cannot be merged into itself")
    for row, name in ((loser, "id"), (winner, "into")):
        if row["merged_into"]:
            raise PeopleError("already_merged", name, f"this contact was merged into {row['merged_into']}")
    record_merge(connection, _ByHand(into, contact_id, reason=reason or "by hand"), now, actor.name or actor.id)
    _unpin(connection, into)


def _unpin(connection: Connection, contact_id: str) -> None:
    """A person's decision to merge ends an earlier decision to keep apart."""
    connection.execute(update(identities).where(identities.c.contact_id == contact_id).values(pinned=False))


def unmerge(connection: Connection, contact_id: str, identity_id: str, actor: Actor, now: int) -> str:
    """Take an identity out of a contact, with its tickets, messages and values; the contact it has then.

    The contact it came from lives again if it was merged away; otherwise it gets a new one. It is not linked again by
    itself. Raises `PeopleError`: not_found, last_identity.
    """
    load(connection, contact_id)
    row = (
        connection.execute(
            select(identities).where(identities.c.id == identity_id, identities.c.contact_id == contact_id)
        )
        .mappings()
        .first()
    )
    if row is None:
        raise PeopleError("not_found", "identity", "the contact has no such identity")
    others = select(identities.c.id).where(identities.c.contact_id == contact_id, identities.c.id != identity_id)
    if connection.execute(others.limit(1)).first() is None:
        raise PeopleError("last_identity", "identity", "it is the contact's only identity")
    target = _origin(connection, contact_id, identity_id, now) or _fresh(connection, row, now)
    connection.execute(update(identities).where(identities.c.id == identity_id).values(contact_id=target, pinned=True))
    for table in (tickets, messages, contact_values):
        connection.execute(update(table).where(table.c.identity_id == identity_id).values(contact_id=target))
    search_index.reindex_contacts(connection, (contact_id, target))
    return target


def _origin(connection: Connection, contact_id: str, identity_id: str, now: int) -> str | None:
    """The contact the identity was merged away from, brought back to life; None when there is none."""
    journal = connection.execute(
        select(merges).where(merges.c.loser != "", merges.c.undone_at.is_(None)).where(
            merges.c.identities.contains(identity_id, autoescape=True)
        ).order_by(merges.c.id)
    ).mappings().all()  # fmt: skip
    for entry in journal:
        loser = connection.execute(select(contacts).where(contacts.c.id == entry["loser"])).mappings().one()
        if loser["deleted_at"] is None and loser["merged_into"]:
            connection.execute(
                update(contacts).where(contacts.c.id == entry["loser"]).values(merged_into=None, last_seen_at=now)
            )
            connection.execute(update(merges).where(merges.c.id == entry["id"]).values(undone_at=now))
            return str(entry["loser"])
    return None


def _fresh(connection: Connection, identity: RowMapping, now: int) -> str:
    contact_id = new_id()
    connection.execute(
        insert(contacts).values(
            id=contact_id,
            name=identity["name"] or identity["handle"],
            language=identity["language"],
            created_at=now,
            last_seen_at=identity["last_inbound_at"] or now,
        )
    )
    return contact_id


# --- edit ---


def edit_contact(
    connection: Connection,
    contact_id: str,
    changes: dict[str, Any],
    actor: Actor,
    now: int,
    *,
    matching: Sequence[str] = (),
    region: str = "",
) -> None:
    """Change a contact: name, language, organization, tags, vip, attributes. What is not named stays.

    An attribute set to None is removed. `email` and `phone` take a value or a list, are normalised, and cannot be
    changed where a platform attested them; set so they match at once. Raises `PeopleError`.
    """
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
    if given:
        values["attributes"] = to_json(_custom(connection, msgspec.json.decode(row["attributes"]), given))
    if values:
        connection.execute(update(contacts).where(contacts.c.id == contact_id).values(**values))
    for name, value in several.items():
        _set_values(connection, contact_id, name, value, actor, now, matching, region)
    search_index.reindex_contacts(connection, [contact_id])


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
    connection: Connection, contact_id: str, attribute: str, given: Any, actor: Actor, now: int,
    matching: Sequence[str], region: str,
) -> None:  # fmt: skip
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
    connection.execute(
        delete(contact_values).where(
            contact_values.c.contact_id == contact_id,
            contact_values.c.attribute == attribute,
            contact_values.c.identity_id == "",
        )
    )
    added = [value for value in dict.fromkeys(normal) if value not in attested]
    insert_ignore(
        connection,
        contact_values,
        [
            {"id": new_id(), "contact_id": contact_id, "identity_id": "", "attribute": attribute, "value": value,
             "evidence": "authenticated", "at": now}
            for value in added
        ],
    )  # fmt: skip
    if attribute in matching:
        for value in added:
            _match(connection, contact_id, attribute, value, actor, now)


def _match(connection: Connection, contact_id: str, attribute: str, value: str, actor: Actor, now: int) -> None:
    """Link the contacts that have the same value, unless their unique ids contradict each other."""
    found = select(contact_values.c.contact_id).where(
        contact_values.c.attribute == attribute,
        contact_values.c.value == value,
        contact_values.c.contact_id != contact_id,
        contact_values.c.evidence.in_(rules.LINKING),
    )
    for other in sorted(set(connection.execute(found).scalars())):
        if _contradict(connection, contact_id, other) or _pinned(connection, (contact_id, other)):
            continue
        winner, loser = sorted((contact_id, other))
        record_merge(
            connection,
            _ByHand(winner, loser, "", attribute, value, "authenticated", f"the same {attribute}, set by {actor.name}"),
            now,
            actor.name or actor.id,
        )
        contact_id = winner


def _pinned(connection: Connection, contact_ids: Sequence[str]) -> bool:
    statement = select(identities.c.id).where(identities.c.contact_id.in_(contact_ids), identities.c.pinned)
    return connection.execute(statement.limit(1)).first() is not None


def _contradict(connection: Connection, one: str, other: str) -> bool:
    """Whether two contacts have different platform ids of one kind on one account."""
    statement = (
        select(identities.c.contact_id, addresses.c.channel, addresses.c.account, addresses.c.kind, addresses.c.value)
        .join(identities, identities.c.id == addresses.c.identity_id)
        .where(
            identities.c.contact_id.in_((one, other)),
            addresses.c.evidence == "attested",
            addresses.c.kind.not_in(VALUES),
        )
    )
    ids: dict[tuple[str, str, str], dict[str, set[str]]] = {}
    for contact, channel, account, kind, value in connection.execute(statement):
        ids.setdefault((channel, account, kind), {}).setdefault(contact, set()).add(value)
    return any(len(sides) == 2 and not sides[one] & sides[other] for sides in ids.values())


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
