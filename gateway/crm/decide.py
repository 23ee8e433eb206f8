"""What a CRM's answer changes of a contact, and what a contact is looked up by. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from config.people import FILLED_ONCE, CrmSettings
from gateway.crm.model import Key
from gateway.identity import LINKING
from gateway.store.attributes import check
from gateway.store.people_errors import PeopleError

_LONGEST = {"name": 500, "organization": 500, "language": 35}  # characters
VALUES_MAX = 20  # of one key
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no", ""})


class Person(msgspec.Struct, frozen=True):
    """A contact as far as CRMs are concerned.

    `values`: (attribute, value, evidence) of phone numbers and mail addresses. `profiles`: what channels told.
    """

    id: str
    fields: Mapping[str, Any]  # name, language, organization, vip
    attributes: Mapping[str, Any] = {}
    values: Sequence[tuple[str, str, str]] = ()
    profiles: Sequence[Mapping[str, Any]] = ()


class Refused(msgspec.Struct, frozen=True):
    """A value of the CRM's that the attribute does not take."""

    attribute: str
    reason: str


def keys_of(person: Person, crm: CrmSettings) -> list[Key]:
    """What the person can be looked up by, in the configured order.

    Addresses nobody has proven are left out unless `trust_claims` is set: who only claims to be somebody must not be
    shown that person's data.
    """
    found = []
    for name in crm.lookup:
        values = [
            value for attribute, value, evidence in person.values
            if attribute == name and (crm.trust_claims or evidence in LINKING)
        ]  # fmt: skip
        if (own := person.attributes.get(name)) is not None:
            values.append(str(own))
        told = (profile.get(name) for profile in person.profiles)
        values += [str(value) for value in told if isinstance(value, str | int) and not isinstance(value, bool)]
        distinct = [value for value in dict.fromkeys(values) if value]
        if distinct:
            found.append(Key(name, crm.their_key(name), tuple(distinct[:VALUES_MAX])))
    return found


def filled(
    person: Person, crm: CrmSettings, told: Mapping[str, Any], catalogue: Mapping[str, Mapping[str, Any]],
    unsent: Collection[str],
) -> tuple[dict[str, Any], list[Refused]]:  # fmt: skip
    """What changes of the contact, by our names, and what is refused with its reason.

    The CRM is right about what it manages, but for what an agent changed and it has not been told yet. Name, language
    and organisation are filled where they are empty. What the answer does not mention stays.
    """
    changes: dict[str, Any] = {}
    refused: list[Refused] = []
    for ours, theirs in crm.attributes.items():
        if theirs not in told or ours in unsent:
            continue
        try:
            value = _checked(person, crm, ours, told[theirs], catalogue)
        except PeopleError as error:
            refused.append(Refused(ours, error.detail))
            continue
        if ours in FILLED_ONCE:
            if value and not person.fields[ours]:
                changes[ours] = value
        elif ours == "vip":
            if value != person.fields["vip"]:
                changes[ours] = value
        elif value != person.attributes.get(ours):
            changes[ours] = value
    return changes, refused


def _checked(
    person: Person, crm: CrmSettings, ours: str, value: Any, catalogue: Mapping[str, Mapping[str, Any]]
) -> Any:
    """The value as the contact keeps it. Raises `PeopleError`."""
    text = _text(ours, value)
    if ours == "vip":
        word = (text or "").strip().lower()
        if word not in _TRUE | _FALSE:
            raise PeopleError("wrong_type", ours, "must be true or false")
        return word in _TRUE
    if ours in FILLED_ONCE:
        if text is not None and (len(text) > _LONGEST[ours] or "\0" in text):
            raise PeopleError("invalid_value", ours, f"longer than {_LONGEST[ours]} characters, or with NUL in it")
        return text
    return check(catalogue.get(ours), ours, text, writer=crm.id)


def _text(ours: str, value: Any) -> str | None:
    """Texts, numbers and booleans as text; null and the empty text: there is no value."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise PeopleError("wrong_type", ours, "must be a text, a number, true, false or null")
