"""Where the recipients of marketing are: what their contact or profile says, else their phone number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, select

from gateway.store.many import among_bound
from gateway.store.schema import contact_values, contacts, identities
from outbox import quiet
from outbox.facts import Facts
from outbox.quiet import Whereabouts
from outbox.rules.hours import quiet_hours
from outbox.rules.permission import sells
from outbox.rules.settings import QuietHoursSettings

if TYPE_CHECKING:
    from gateway.store.facts import Subject

_decode = msgspec.json.decode
_PEOPLE = (
    select(identities.c.id, identities.c.contact_id, identities.c.profile, contacts.c.attributes)
    .join(contacts, contacts.c.id == identities.c.contact_id)
    .where(among_bound(identities.c.id, "b_ids"))
)
_PHONES = (
    select(contact_values.c.contact_id, contact_values.c.value)
    .where(
        among_bound(contact_values.c.contact_id, "b_ids"),
        contact_values.c.attribute == "phone",
        contact_values.c.evidence != "claimed",
    )
    .order_by(contact_values.c.at)
)


def whereabouts(connection: Connection, subjects: Sequence[Subject], facts: list[Facts]) -> list[Facts]:
    """The facts, with the place of everybody to whom something is to be sold. Asks nothing when nothing is."""
    wanted = [
        index
        for index, (subject, known) in enumerate(zip(subjects, facts, strict=True))
        if sells(subject.message.purpose, known) and quiet_hours.spec.name not in known.policy.off
    ]
    if not wanted:
        return facts
    people = {row.id: row for row in connection.execute(_PEOPLE, {"b_ids": [subjects[i].identity_id for i in wanted]})}
    owners = list({row.contact_id for row in people.values()})
    phones: dict[str, str] = {row.contact_id: row.value for row in connection.execute(_PHONES, {"b_ids": owners})}
    found = list(facts)
    for index in wanted:
        row = people.get(subjects[index].identity_id)
        settings = facts[index].policy.of(QuietHoursSettings)
        told = [] if row is None else [_decode(row.attributes), _decode(row.profile)]
        phone = "" if row is None else phones.get(row.contact_id, "")
        place = _place(settings, told, subjects[index].recipient, phone)
        found[index] = msgspec.structs.replace(facts[index], where=place)
    return found


def _place(settings: QuietHoursSettings, told: Sequence[Any], recipient: str, phone: str) -> Whereabouts:
    """What is told, if it can be read, goes before what numbers let guess: the one written to, else another one of the
    contact."""
    direct = quiet.of_number(recipient)
    guess = direct if direct.zones else quiet.of_number(phone)
    zone = next((text for text in _said(told, settings.zone_attribute) if quiet.zone(text) is not None), "")
    region = next((code for text in _said(told, settings.region_attribute) if (code := quiet.region(text))), "")
    return Whereabouts((zone,) if zone else guess.zones, region or guess.region, direct.phone)


def _said(told: Sequence[Any], name: str) -> Iterator[str]:
    for source in told:
        value = source.get(name) if isinstance(source, Mapping) else None
        if isinstance(value, str) and value.strip():
            yield value.strip()
