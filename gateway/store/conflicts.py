"""Conflicts: contacts that match and contradict each other, listed and decided. In the caller's transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, select, update

from gateway.store import merging
from gateway.store.linking import KEPT_APART
from gateway.store.merging import PeopleError
from gateway.store.schema import conflicts, identities
from gateway.tickets import Actor

_one, _other = identities.alias("one"), identities.alias("other")


def _asked(*columns: Any) -> Select[Any]:
    """Conflicts with the contacts their identities are of now."""
    return (
        select(*columns)
        .join(_one, _one.c.id == conflicts.c.identity_id)
        .join(_other, _other.c.id == conflicts.c.other_identity_id)
    )


_SHOWN = (conflicts, _one.c.contact_id.label("contact_id"), _other.c.contact_id.label("other_contact_id"))
_OPEN = (conflicts.c.decision == "", _one.c.contact_id != _other.c.contact_id)


def page(connection: Connection, state: str, limit: int, before: str | None) -> list[RowMapping]:
    """Conflicts in a state (open, merged, kept_apart; "" any), the newest first."""
    statement = _asked(*_SHOWN).order_by(conflicts.c.id.desc()).limit(limit)
    if state:
        statement = statement.where(*(_OPEN if state == "open" else (conflicts.c.decision == state,)))
    if before is not None:
        statement = statement.where(conflicts.c.id < before)
    return list(connection.execute(statement).mappings())


def count_open(connection: Connection) -> int:
    """How many wait for a decision."""
    return int(connection.execute(_asked(func.count()).where(*_OPEN)).scalar_one())


def load(connection: Connection, conflict_id: str) -> RowMapping:
    """One conflict with the contacts it is about now. Raises `PeopleError` "not_found"."""
    row = connection.execute(_asked(*_SHOWN).where(conflicts.c.id == conflict_id)).mappings().first()
    if row is None:
        raise PeopleError("not_found", "id", "there is no such conflict")
    return row


def merge(connection: Connection, conflict_id: str, into: str, actor: Actor, reason: str, now: int) -> tuple[str, str]:
    """Decide that the two are one person: (the contact that stays, the one that went into it).

    `into` says which stays, "" the older. Raises `PeopleError`: not_found, conflict_decided, invalid_value.
    """
    row = _undecided(connection, conflict_id)
    both = sorted((row["contact_id"], row["other_contact_id"]))
    winner = into or both[0]
    if winner not in both:
        raise PeopleError("invalid_value", "into", "must be one of the two contacts of the conflict")
    loser = next(contact for contact in both if contact != winner)
    merging.merge(connection, loser, winner, actor, reason or f"a conflict about {row['attribute']} decided", now)
    _decide(connection, conflict_id, "merged", actor, now)
    return winner, loser


def keep_apart(connection: Connection, conflict_id: str, actor: Actor, now: int) -> None:
    """Decide that the two are two: they are not linked by themselves again. Raises `PeopleError`: not_found,
    conflict_decided."""
    _undecided(connection, conflict_id)
    _decide(connection, conflict_id, KEPT_APART, actor, now)


def _undecided(connection: Connection, conflict_id: str) -> RowMapping:
    row = load(connection, conflict_id)
    if row["decision"]:
        raise PeopleError("conflict_decided", "id", f"{row['decided_by'] or 'somebody'} has decided: {row['decision']}")
    if row["contact_id"] == row["other_contact_id"]:
        raise PeopleError("conflict_decided", "id", "the two are one contact already")
    return row


def _decide(connection: Connection, conflict_id: str, decision: str, actor: Actor, now: int) -> None:
    connection.execute(
        update(conflicts)
        .where(conflicts.c.id == conflict_id)
        .values(decision=decision, decided_by=actor.name or actor.id, decided_at=now)
    )
