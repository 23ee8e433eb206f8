"""What a matching rule would make of the contacts there are, and doing it: a few hundred shared values at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, func, select

from gateway.bus import LiveEvent
from gateway.core import Core
from gateway.identity import LINKING
from gateway.ids import micros
from gateway.linking import Linker, Match
from gateway.store import linking, merging, vip
from gateway.store.schema import addresses, attributes, contact_values, identities
from gateway.tickets import Actor
from gateway.vip import vip_policy

GROUPS = 500  # shared values handled together
LISTED = 1000  # merges and conflicts that are listed unless more are asked for
PLATFORM = ""  # the rule that always holds: ids of a whole platform
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

Group = tuple[str, str, list[str]]
"""What is shared ("phone", or "x user_id"), its value, and the contacts that share it."""


class UnknownAttribute(ValueError):
    """No such attribute: the message names it."""


class Shared(msgspec.Struct, frozen=True):
    """A value of an attribute that several contacts have."""

    attribute: str
    value: str


class Becoming(msgspec.Struct):
    """A contact that others go into."""

    into: str
    contacts: list[str]
    because: list[Shared]


class Contradicting(msgspec.Struct):
    """Two contacts that match and contradict each other."""

    contact_id: str
    other_contact_id: str
    attribute: str
    value: str
    reason: str


class Preview(msgspec.Struct):
    """What a rule would do. The lists are cut at the limit asked for, the counts are not."""

    attributes: list[str]
    merges: int = 0  # contacts that would become part of another
    conflicts: int = 0  # that a person would be asked to decide
    contacts: list[Becoming] = []
    contradictions: list[Contradicting] = []


class Applied(msgspec.Struct):
    """What applying the rule did. After an interruption the same command goes on where it was."""

    attributes: list[str]
    merges: int = 0
    conflicts: int = 0


async def check(core: Core, names: Sequence[str]) -> tuple[str, ...]:
    """The attributes of a rule, each once. Raises `UnknownAttribute`."""
    wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    stored = await core.database.read(lambda connection: set(connection.execute(select(attributes.c.name)).scalars()))
    for name in wanted:
        if not _NAME.fullmatch(name) or name not in stored | {"email", "phone"}:
            raise UnknownAttribute(f"there is no attribute {name!r}")
    return wanted


async def preview(core: Core, names: Sequence[str], limit: int = LISTED) -> Preview:
    """What would be merged if `names` were the matching attributes. Nothing is changed; only what is shared is held
    in memory."""

    def job(connection: Connection) -> Preview:
        return _preview(connection, names, limit)

    return await core.database.read(job)


def _preview(connection: Connection, names: Sequence[str], limit: int) -> Preview:
    linker = Linker()
    anchored: dict[str, str] = {}
    because: dict[str, list[Shared]] = {}
    found = Preview(list(names))
    for part in _chunks(connection, names):
        fresh = {contact for _, _, contacts in part for contact in contacts} - set(anchored)
        facts = linking.facts_of(connection, fresh)
        linker.facts |= facts
        anchored |= {contact: entry.anchor for contact, entry in facts.items()}
        apart, disputed = linking.pairs_among(connection, fresh)
        linker.keep(apart, disputed)
        for attribute, value, contacts in part:
            for step in linker.link(contact for contact in contacts if contact in anchored):
                if isinstance(step, Match):
                    found.merges += 1
                    reasons = because.pop(step.loser, [])
                    because.setdefault(step.winner, []).extend([*reasons, Shared(attribute, value)])
                else:
                    found.conflicts += 1
                    if len(found.contradictions) < limit:
                        found.contradictions.append(Contradicting(step.one, step.other, attribute, value, step.why))
    for winner in sorted(because)[:limit]:
        members = sorted(linker.members(winner) - {winner})
        found.contacts.append(Becoming(winner, members, list(dict.fromkeys(because[winner]))))
    return found


async def apply(core: Core, names: Sequence[str], actor: Actor) -> Applied:
    """Merge what the rule merges among the contacts there are. Each few hundred values are a transaction of their own,
    every merge a journal entry that can be undone; started again, it goes on with what is left."""
    done = Applied(list(names))
    now = micros(core.clock())
    who, policy = actor.name or actor.id, vip_policy(core.settings)
    for attribute in (PLATFORM, *names):
        after: tuple[str, ...] | None = ()
        while after is not None:
            place = after

            def job(connection: Connection, attribute: str = attribute, place: tuple[str, ...] = place) -> Any:
                found = _apply(connection, attribute, place, who, now)
                for winner, _ in found[1]:
                    vip.merged(connection, winner, policy, now)
                return found

            after, merged, conflicts = await core.database.bulk(job)
            done.merges += len(merged)
            done.conflicts += conflicts
            core.metrics.conflicts.inc(conflicts)
            core.bus.publish(
                LiveEvent("contact.merged", {"contact_id": winner, "merged_id": loser, "attribute": attribute})
                for winner, loser in merged
            )
    return done


def _apply(
    connection: Connection, attribute: str, after: tuple[str, ...], who: str, now: int
) -> tuple[tuple[str, ...] | None, list[tuple[str, str]], int]:
    """Handle the next values: the place to go on at (None: the end), the merges, and how many conflicts."""
    merging.alone(connection)
    merged: list[tuple[str, str]] = []
    now_in: dict[str, str] = {}
    conflicts = 0
    place: tuple[str, ...] | None = None
    rows = _shared(connection, attribute, after, GROUPS)
    groups = list(_groups(rows, attribute))
    if len({tuple(row[:-1]) for row in rows}) == GROUPS:
        place = tuple(rows[-1][:-1])
    for name, value, contacts in groups:
        living = {_now(now_in, contact) for contact in contacts}
        linked = linking.link(
            connection, sorted(living), name, value, f"the same {name}, by the rule as it was applied", who, now,
            evidence="attested" if attribute == PLATFORM else "authenticated",
        )  # fmt: skip
        merged += linked.merges
        now_in |= {loser: winner for winner, loser in linked.merges}
        conflicts += len(linked.conflicts)
    return place, merged, conflicts


def _now(names: dict[str, str], contact: str) -> str:
    while contact in names:
        contact = names[contact]
    return contact


def _chunks(connection: Connection, names: Sequence[str]) -> Iterator[list[Group]]:
    for attribute in (PLATFORM, *names):
        after: tuple[str, ...] | None = ()
        while after is not None:
            rows = _shared(connection, attribute, after, GROUPS)
            if rows:
                yield list(_groups(rows, attribute))
            full = len({tuple(row[:-1]) for row in rows}) == GROUPS
            after = tuple(rows[-1][:-1]) if full else None


def _groups(rows: list[tuple[Any, ...]], attribute: str) -> Iterator[Group]:
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault(tuple(row[:-1]), []).append(row[-1])
    for (value, *place), contacts in found.items():
        yield attribute or " ".join(place), value, contacts


def _shared(connection: Connection, attribute: str, after: tuple[str, ...], limit: int) -> list[tuple[Any, ...]]:
    """The next values that several contacts share, each with every contact that has it: (value, ..., contact)."""
    if attribute == PLATFORM:
        keys = (addresses.c.value, addresses.c.channel, addresses.c.kind)
        source = (
            select(*keys, identities.c.contact_id.label("contact_id"))
            .join(identities, identities.c.id == addresses.c.identity_id)
            .where(addresses.c.scope == "platform", addresses.c.evidence == "attested")
            .subquery()
        )
        columns = [source.c.value, source.c.channel, source.c.kind]
    else:
        source = (
            select(contact_values.c.value, contact_values.c.contact_id)
            .where(contact_values.c.attribute == attribute, contact_values.c.evidence.in_(LINKING))
            .subquery()
        )
        columns = [source.c.value]
    contact = source.c.contact_id
    several = select(*columns).group_by(*columns).having(func.min(contact) != func.max(contact)).order_by(*columns)
    if after:
        several = several.where(_beyond(columns, after))
    some = several.limit(limit).subquery()
    joined = and_(*(source.c[column.name] == some.c[column.name] for column in columns))
    statement = select(*columns, contact).distinct().join(some, joined).order_by(*columns, contact)
    return [tuple(row) for row in connection.execute(statement)]


def _beyond(columns: Sequence[Any], after: tuple[str, ...]) -> Any:
    """Row values in order: (a, b) > (x, y) written out, as not every store compares rows by index."""
    head, *tail = columns
    if not tail:
        return head > after[0]
    return (head > after[0]) | and_(head == after[0], _beyond(tail, after[1:]))
