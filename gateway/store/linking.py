"""What is known of contacts that may be one person, and linking those that share a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, or_, select

from gateway.identity import LINKING, SEVERAL
from gateway.ids import new_id
from gateway.linking import Facts, Linker, Match, Pair
from gateway.store.many import among, insert_ignore
from gateway.store.merging import Merge, record_merge
from gateway.store.schema import addresses, attributes, conflicts, contact_values, identities

KEPT_APART = "kept_apart"


@dataclass(slots=True)
class Linked:
    """What linking did: (winner, loser) of each merge, and the rows of new conflicts."""

    merges: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[dict[str, object]] = field(default_factory=list)


def facts_of(connection: Connection, contact_ids: Iterable[str]) -> dict[str, Facts]:
    """What could contradict that these contacts are one person with somebody. Those without identities are left out."""
    ids = list(contact_ids)
    found: dict[str, Facts] = {}
    if not ids:
        return found
    own = select(identities.c.id, identities.c.contact_id, identities.c.pinned).where(
        among(connection, identities.c.contact_id, ids)
    )
    for identity_id, contact_id, pinned in connection.execute(own.order_by(identities.c.id)):
        facts = found.setdefault(contact_id, Facts(anchor=identity_id))
        facts.pinned = facts.pinned or bool(pinned)
    keys = (
        select(identities.c.contact_id, addresses.c.channel, addresses.c.account, addresses.c.kind, addresses.c.value)
        .join(identities, identities.c.id == addresses.c.identity_id)
        .where(
            among(connection, identities.c.contact_id, ids),
            addresses.c.evidence == "attested",
            addresses.c.kind.not_in(SEVERAL),
        )
    )
    for contact_id, *key in connection.execute(keys):
        found[contact_id].keys.add((key[0], key[1], key[2], key[3]))
    unique = connection.execute(select(attributes.c.name).where(attributes.c.unique_value)).scalars().all()
    if unique:
        values = select(contact_values.c.contact_id, contact_values.c.attribute, contact_values.c.value).where(
            among(connection, contact_values.c.contact_id, ids),
            contact_values.c.attribute.in_(unique),
            contact_values.c.evidence.in_(LINKING),
        )
        for contact_id, attribute, value in connection.execute(values):
            if contact_id in found:
                found[contact_id].keys.add(("", "", attribute, value))
    return found


def pairs_among(connection: Connection, contact_ids: Iterable[str]) -> tuple[set[Pair], set[Pair]]:
    """Of these contacts: who is kept apart from whom, and between whom a conflict is open."""
    apart: set[Pair] = set()
    disputed: set[Pair] = set()
    ids = list(contact_ids)
    if not ids or connection.execute(select(conflicts.c.id).limit(1)).first() is None:
        return apart, disputed
    one, other = identities.alias(), identities.alias()
    statement = (
        select(one.c.contact_id, other.c.contact_id, conflicts.c.decision)
        .join(one, one.c.id == conflicts.c.identity_id)
        .join(other, other.c.id == conflicts.c.other_identity_id)
        .where(
            conflicts.c.decision.in_(("", KEPT_APART)),
            or_(among(connection, one.c.contact_id, ids), among(connection, other.c.contact_id, ids)),
        )
    )
    for mine, theirs, decision in connection.execute(statement):
        (apart if decision else disputed).add(Pair((mine, theirs)))
    return apart, disputed


def holders(connection: Connection, attribute: str, value: str) -> list[str]:
    """The contacts that have a value, by more than their word."""
    statement = select(contact_values.c.contact_id).where(
        contact_values.c.attribute == attribute,
        contact_values.c.value == value,
        contact_values.c.evidence.in_(LINKING),
    )
    return sorted(set(connection.execute(statement).scalars()))


def link(
    connection: Connection, contact_ids: Sequence[str], attribute: str, value: str, reason: str, actor: str, now: int,
    *, evidence: str = "authenticated",
) -> Linked:  # fmt: skip
    """Make one contact of those that share a value, but for contradictions, which become conflicts."""
    done = Linked()
    if len(set(contact_ids)) < 2:
        return done
    facts = facts_of(connection, contact_ids)
    apart, disputed = pairs_among(connection, contact_ids)
    anchors = {contact: entry.anchor for contact, entry in facts.items()}
    for step in Linker(facts, apart, disputed).link(facts):
        if isinstance(step, Match):
            record_merge(connection, Merge(step.winner, step.loser, "", attribute, value, evidence, reason), now, actor)
            done.merges.append((step.winner, step.loser))
        else:
            done.conflicts.append(conflict_row(anchors[step.one], anchors[step.other], attribute, value, step.why, now))
    insert_ignore(connection, conflicts, done.conflicts)
    return done


def conflict_row(one: str, other: str, attribute: str, value: str, why: str, now: int) -> dict[str, object]:
    """An open conflict between the contacts of two identities."""
    first, second = sorted((one, other))
    return {
        "id": new_id(), "identity_id": first, "other_identity_id": second, "attribute": attribute, "value": value,
        "reason": why, "at": now,
    }  # fmt: skip
