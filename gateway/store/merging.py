"""Contacts made one, and taken apart again. Functions of a connection, in the caller's transaction.

An identity that has been merged knows its home, the contact it was first of. Merges leave homes alone; whoever is taken
out goes home, or gets a contact of its own where home is what it is taken out of. So the order of merges and
undoings does not matter to where a message stands: with its identity, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from sqlalchemy import Connection, RowMapping, and_, delete, insert, or_, select, update

from gateway import carrying
from gateway.carrying import HandSet, Portrait
from gateway.ids import new_id
from gateway.store import search_index
from gateway.store.dialect import PEOPLE, exclusive
from gateway.store.many import insert_ignore
from gateway.store.people_errors import PeopleError as PeopleError  # for whoever knows it by this module
from gateway.store.schema import conflicts, contact_values, contacts, identities, merges, messages, tickets
from gateway.store.tickets import to_json
from gateway.tickets import Actor

_portrait = msgspec.json.Decoder(Portrait)
_IS_MERGE = and_(merges.c.kind == "merge", merges.c.undone_at.is_(None))


class MergeLike(Protocol):
    """A merge to carry out (`gateway.intake.records.Merge`). `moved`: identities linked without a loser."""

    winner: str
    loser: str
    identity_id: str
    attribute: str
    value: str
    evidence: str
    reason: str
    moved: tuple[str, ...]


class Merge(msgspec.Struct):
    """A merge that no event of a customer asked for."""

    winner: str
    loser: str
    identity_id: str = ""
    attribute: str = ""
    value: str = ""
    evidence: str = "authenticated"
    reason: str = ""
    moved: tuple[str, ...] = ()


def load(connection: Connection, contact_id: str, field: str = "id") -> RowMapping:
    """A living contact's row. Raises `PeopleError` "not_found"."""
    row = connection.execute(select(contacts).where(contacts.c.id == contact_id)).mappings().first()
    if row is None or row["deleted_at"] is not None:
        raise PeopleError("not_found", field, "there is no such contact")
    return row


def alone(connection: Connection) -> None:
    """Nobody else changes who is whose until the transaction ends: what is read from here on stays true."""
    exclusive(connection, PEOPLE)


# --- merge ---


def record_merge(connection: Connection, merge: MergeLike, now: int, actor: str = "system") -> None:
    """Carry a merge out and write it into the journal. Without a loser only the journal entry is made."""
    moved = list(merge.moved) or [merge.identity_id]
    before = gained = Portrait()
    if merge.loser:
        before, winner = portrait(connection, merge.loser), portrait(connection, merge.winner)
        after, gained = carrying.carry(winner, before)
        moved = list(
            connection.execute(select(identities.c.id).where(identities.c.contact_id == merge.loser)).scalars()
        )
        _move(connection, merge.loser, merge.winner)
        _paint(connection, merge.winner, winner, after)
        seen = select(contacts.c.last_seen_at).where(contacts.c.id == merge.loser).scalar_subquery()
        connection.execute(
            update(contacts)
            .where(contacts.c.id == merge.winner, contacts.c.last_seen_at < seen)
            .values(last_seen_at=seen)
        )
        connection.execute(
            update(contacts)
            .where((contacts.c.id == merge.loser) | (contacts.c.merged_into == merge.loser))
            .values(merged_into=merge.winner)
        )
        _settle_conflicts(connection, merge.winner, moved, now, actor)
    connection.execute(
        insert(merges).values(
            id=new_id(), winner=merge.winner, loser=merge.loser, attribute=merge.attribute, value=merge.value,
            evidence=merge.evidence, reason=merge.reason, actor=actor, identities=to_json(moved),
            loser_before=_json(before), gained=_json(gained), at=now,
        )
    )  # fmt: skip
    if merge.loser:
        search_index.reindex_contacts(connection, (merge.winner, merge.loser))


def merge(connection: Connection, contact_id: str, into: str, actor: Actor, reason: str, now: int) -> None:
    """Merge a contact into another, by hand. Raises `PeopleError`: not_found, merge_into_itself, already_merged."""
    loser, winner = load(connection, contact_id), load(connection, into, "into")
    if contact_id == into:
        raise PeopleError("merge_into_itself", "into", "a contact cannot be merged into itself")
    for row, name in ((loser, "id"), (winner, "into")):
        if row["merged_into"]:
            raise PeopleError("already_merged", name, f"this contact was merged into {row['merged_into']}")
    record_merge(connection, Merge(into, contact_id, reason=reason or "by hand"), now, actor.name or actor.id)
    # a person's decision to merge ends an earlier decision to keep apart
    connection.execute(update(identities).where(identities.c.contact_id == into).values(pinned=False))


def _settle_conflicts(connection: Connection, winner: str, moved: Sequence[str], now: int, actor: str) -> None:
    """What was in question between the two, or kept apart, is decided by their becoming one."""
    one, other = conflicts.c.identity_id, conflicts.c.other_identity_id
    here = select(identities.c.id).where(identities.c.contact_id == winner)
    connection.execute(
        update(conflicts)
        .where(
            conflicts.c.decision != "merged",
            or_(and_(one.in_(moved), other.in_(here)), and_(other.in_(moved), one.in_(here))),
        )
        .values(decision="merged", decided_by=actor, decided_at=now)
    )


def name_if_nameless(connection: Connection, contact_id: str, name: str) -> None:
    """A contact nobody has named takes the name a newly linked identity brings."""
    if name:
        connection.execute(update(contacts).where(contacts.c.id == contact_id, contacts.c.name == "").values(name=name))


def _move(connection: Connection, loser: str, winner: str) -> None:
    """Identities, with the values they brought, tickets and messages of one contact go to another."""
    homeless = identities.c.contact_id == loser, identities.c.home_id.is_(None)
    connection.execute(update(identities).where(*homeless).values(home_id=loser))
    for table in (identities, tickets, messages):
        connection.execute(update(table).where(table.c.contact_id == loser).values(contact_id=winner))
    brought = contact_values.c.contact_id == loser, contact_values.c.identity_id != ""
    connection.execute(update(contact_values).where(*brought).values(contact_id=winner))
    connection.execute(delete(contact_values).where(contact_values.c.contact_id == loser))


# --- undo ---


def unmerge(connection: Connection, contact_id: str, identity_id: str, actor: Actor, now: int) -> str:
    """Take an identity out of a contact, with its tickets, messages and values; the contact it has then.

    It goes home: that contact lives again if it was merged away, with what it had of its own. It is not linked again
    by itself. Raises `PeopleError`: not_found, last_identity.
    """
    load(connection, contact_id)
    mine = identities.c.id == identity_id, identities.c.contact_id == contact_id
    row = connection.execute(select(identities).where(*mine)).mappings().first()
    if row is None:
        raise PeopleError("not_found", "identity", "the contact has no such identity")
    others = select(identities.c.id).where(identities.c.contact_id == contact_id, identities.c.id != identity_id)
    if connection.execute(others.limit(1)).first() is None:
        raise PeopleError("last_identity", "identity", "it is the contact's only identity")
    who = actor.name or actor.id
    target = _home(connection, row, who, now) or _fresh(connection, row, now)
    connection.execute(
        update(identities).where(identities.c.id == identity_id).values(contact_id=target, home_id=target, pinned=True)
    )
    for table in (tickets, messages, contact_values):
        connection.execute(update(table).where(table.c.identity_id == identity_id).values(contact_id=target))
    connection.execute(
        insert(merges).values(
            id=new_id(), kind="unmerge", winner=contact_id, loser=target, evidence="authenticated",
            reason="taken out by hand", actor=who, identities=to_json([identity_id]), at=now,
        )
    )  # fmt: skip
    search_index.reindex_contacts(connection, (contact_id, target))
    return target


def _home(connection: Connection, identity: RowMapping, actor: str, now: int) -> str | None:
    """The contact an identity was first of, alive again; None when there is none to go to."""
    home = identity["home_id"]
    if not home or home == identity["contact_id"]:
        return None
    row = connection.execute(select(contacts).where(contacts.c.id == home)).mappings().first()
    if row is None or row["deleted_at"] is not None:
        return None
    if row["merged_into"]:
        _revive(connection, home, max(row["last_seen_at"], identity["last_inbound_at"] or 0), actor, now)
    return str(home)


def _revive(connection: Connection, contact_id: str, seen_at: int, actor: str, now: int) -> None:
    """Undo what made the contact part of another: it has again what it had, the other loses what came by it."""
    entry = _standing(connection, merges.c.loser == contact_id)[0]
    connection.execute(
        update(contacts).where(contacts.c.id == contact_id).values(merged_into=None, last_seen_at=seen_at)
    )
    _set_values(connection, contact_id, _portrait.decode(entry["loser_before"]).values)
    connection.execute(update(merges).where(merges.c.id == entry["id"]).values(undone_at=now, undone_by=actor))
    going = _portrait.decode(entry["gained"])
    while going:
        holder = entry["winner"]
        left, going = _give_back(connection, holder, going)
        above = _standing(connection, merges.c.loser == holder)
        if not going or not above:
            return
        entry = above[0]
        passed_on = _portrait.decode(entry["gained"])
        going = carrying.common(passed_on, going)
        connection.execute(
            update(merges)
            .where(merges.c.id == entry["id"])
            .values(loser_before=_json(left), gained=_json(carrying.without(passed_on, going)))
        )


def _give_back(connection: Connection, holder: str, going: Portrait) -> tuple[Portrait, Portrait]:
    """Take from a contact what it had by another: the contact then, and what it really lost. Others it took in may
    bring the same."""
    entries = _standing(connection, merges.c.winner == holder, merges.c.loser != "")
    others = [_portrait.decode(entry["loser_before"]) for entry in entries]
    had = portrait(connection, holder, merged=True)
    left, lost, instead = carrying.give_back(had, going, others)
    _paint(connection, holder, had, left)
    for entry, more in zip(entries, instead, strict=True):
        if more:
            gained = carrying.added(_portrait.decode(entry["gained"]), more)
            connection.execute(update(merges).where(merges.c.id == entry["id"]).values(gained=_json(gained)))
    return left, lost


def _standing(connection: Connection, *conditions: object) -> list[RowMapping]:
    """Journal entries of merges that are not undone, in order."""
    statement = select(merges).where(_IS_MERGE, *conditions).order_by(merges.c.id)  # type: ignore[arg-type]
    return list(connection.execute(statement).mappings())


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


# --- what is a contact's own ---


def portrait(connection: Connection, contact_id: str, *, merged: bool = False) -> Portrait:
    """What a contact has of its own, as it stands in its row. `merged`: of one merged away, values as it had them."""
    row = connection.execute(select(contacts).where(contacts.c.id == contact_id)).mappings().one()
    found = Portrait(
        row["name"], row["language"], row["organization"], bool(row["vip"]), msgspec.json.decode(row["tags"]),
        msgspec.json.decode(row["attributes"]), origins=msgspec.json.decode(row["attribute_origins"]),
    )  # fmt: skip
    if merged and row["merged_into"]:
        entry = _standing(connection, merges.c.loser == contact_id)
        found.values = _portrait.decode(entry[0]["loser_before"]).values if entry else []
        return found
    columns = contact_values.c.attribute, contact_values.c.value, contact_values.c.evidence, contact_values.c.at
    statement = (
        select(*columns)
        .where(contact_values.c.contact_id == contact_id, contact_values.c.identity_id == "")
        .order_by(contact_values.c.at, contact_values.c.id)
    )
    found.values = [HandSet(*value) for value in connection.execute(statement)]
    return found


def _paint(connection: Connection, contact_id: str, before: Portrait, after: Portrait) -> None:
    """Write a portrait into a contact's row, and into the values set by hand unless they lie in the journal."""
    if after == before:
        return
    statement = update(contacts).where(contacts.c.id == contact_id)
    connection.execute(
        statement.values(
            name=after.name, language=after.language, organization=after.organization, vip=after.vip,
            tags=to_json(after.tags), attributes=to_json(after.attributes),
            attribute_origins=to_json(after.origins),
        )
    )  # fmt: skip
    merged = connection.execute(select(contacts.c.merged_into).where(contacts.c.id == contact_id)).scalar()
    if not merged and after.values != before.values:
        _set_values(connection, contact_id, after.values)


def _set_values(connection: Connection, contact_id: str, values: Sequence[HandSet]) -> None:
    connection.execute(
        delete(contact_values).where(contact_values.c.contact_id == contact_id, contact_values.c.identity_id == "")
    )
    insert_ignore(
        connection,
        contact_values,
        [
            {"id": new_id(), "contact_id": contact_id, "identity_id": "", "attribute": value.attribute,
             "value": value.value, "evidence": value.evidence, "at": value.at}
            for value in values
        ],
    )  # fmt: skip


def _json(found: Portrait) -> str:
    return msgspec.json.encode(found).decode()
