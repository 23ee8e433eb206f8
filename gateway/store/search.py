"""Finding people and tickets by what an agent types: a phone number in any form, a handle, a name, a text.

Portable `LIKE`s over what is stored. `visible` restricts to accounts; None: all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import phonenumbers
from sqlalchemy import ColumnElement, Select, and_, literal, or_, select

from gateway.store.schema import addresses, contact_values, contacts, identities, messages, tickets

Visible = Collection[str] | None
_PHONE = re.compile(r"[+(]?[0-9][0-9 ()./\-\u00a0]{4,30}")
DIGITS_MIN = 5  # fewer are no phone number one could look for


def contains(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Whether the column has the text in it, whatever its case.

    The embedded store folds ASCII only, so other scripts are also looked for in lower, upper and title case.
    """
    forms = [text] if text.isascii() else dict.fromkeys((text, text.lower(), text.upper(), text.title()))
    return or_(*(column.icontains(form, autoescape=True) for form in forms))


def phone_forms(text: str, region: str = "") -> list[str]:
    """Pieces of E.164 numbers that `text` may stand for: "(0151) 23 45 678", "0049 151 2345678", "151-2345678"."""
    if not _PHONE.fullmatch(text.strip()):
        return []
    digits = re.sub(r"[^0-9]", "", text)
    found = [digits[2:] if digits.startswith("00") else digits.lstrip("0")]
    try:
        parsed = phonenumbers.parse(text, region or None)
        found.insert(0, f"{parsed.country_code}{parsed.national_number}")
    except phonenumbers.NumberParseException:
        pass
    return [form for form in dict.fromkeys(found) if len(form) >= DIGITS_MIN]


def seen(column: ColumnElement[str], visible: Visible) -> ColumnElement[bool]:
    """Whether the account in `column` is visible."""
    return literal(True) if visible is None else column.in_(visible)


def _identities(condition: ColumnElement[bool], visible: Visible) -> Select[Any]:
    return select(identities.c.contact_id).where(condition, seen(identities.c.account, visible))


def _values(condition: ColumnElement[bool], visible: Visible) -> Select[Any]:
    statement = select(contact_values.c.contact_id).where(condition)
    if visible is None:
        return statement
    own = select(identities.c.id).where(identities.c.account.in_(visible))
    return statement.where(or_(contact_values.c.identity_id == "", contact_values.c.identity_id.in_(own)))


def people_matching(text: str, visible: Visible, region: str = "") -> list[Select[Any]]:
    """Statements that select contact ids: any of them may have what was looked for."""
    found = [
        select(contacts.c.id).where(
            or_(*(contains(contacts.c[name], text) for name in ("name", "organization", "attributes")))
        ),
        _identities(
            or_(*(contains(identities.c[name], text) for name in ("name", "handle", "external_id", "profile"))), visible
        ),
        _values(contains(contact_values.c.value, text), visible),
    ]
    if text.startswith("@") and len(text) > 1:
        found.append(_identities(contains(identities.c.handle, text[1:]), visible))
    for form in phone_forms(text, region):
        found.append(
            _values(and_(contact_values.c.attribute == "phone", contact_values.c.value.contains(form)), visible)
        )
        known = select(addresses.c.identity_id).where(addresses.c.kind == "phone", addresses.c.value.contains(form))
        found.append(_identities(identities.c.id.in_(known), visible))
    return found


def any_of(column: ColumnElement[str], statements: Iterable[Select[Any]]) -> ColumnElement[bool]:
    """Whether the column is among what any of the statements selects."""
    return or_(*(column.in_(statement) for statement in statements))


def tickets_matching(text: str, visible: Visible, region: str = "") -> ColumnElement[bool]:
    """A ticket by its number, its subject, its texts, its channel info, or its person."""
    found = [
        contains(tickets.c.subject, text),
        contains(tickets.c.channel_info, text),
        tickets.c.id.in_(select(messages.c.ticket_id).where(_message_has(text))),
        any_of(tickets.c.contact_id, people_matching(text, visible, region)),
    ]
    number = text.lstrip("#")
    if number.isascii() and number.isdigit() and len(number) < 19:
        found.append(tickets.c.number == int(number))
    return or_(*found)


def contacts_matching(text: str, visible: Visible, region: str = "") -> ColumnElement[bool]:
    """A contact by what is known of the person, or by what was written."""
    wrote = select(messages.c.contact_id).where(_message_has(text), seen(messages.c.account, visible))
    return any_of(contacts.c.id, [*people_matching(text, visible, region), wrote])


def _message_has(text: str) -> ColumnElement[bool]:
    return or_(contains(messages.c.text, text), contains(messages.c.subject, text))


def attribute_equals(name: str, value: str, visible: Visible, region: str = "") -> ColumnElement[bool]:
    """A contact by one attribute, custom or of a platform. Phones are compared in any form, mail addresses folded."""
    if name == "vip":
        return contacts.c.vip.is_(value.lower() in ("true", "1", "yes"))
    forms = phone_forms(value, region) if name == "phone" else []
    wanted = [f"+{form}" for form in forms] + ([value.lower()] if name == "email" else [value])
    matches: list[ColumnElement[bool]] = [contact_values.c.value.in_(wanted)]
    if forms and not value.strip().startswith(("+", "00")):  # without a country: the number's end
        matches.append(contact_values.c.value.endswith(forms[-1]))
    found = [_values(and_(contact_values.c.attribute == name, or_(*matches)), visible)]
    if name == "handle":
        found.append(_identities(identities.c.handle == value.removeprefix("@"), visible))
    for piece in _json_pieces(name, value):
        found.append(select(contacts.c.id).where(contacts.c.attributes.contains(piece, autoescape=True)))
        found.append(_identities(identities.c.profile.contains(piece, autoescape=True), visible))
    return any_of(contacts.c.id, found)


def _json_pieces(name: str, value: str) -> list[str]:
    """How `name` with this value looks within the JSON text of an object."""
    key = msgspec.json.encode(name).decode()
    quoted = msgspec.json.encode(value).decode()
    pieces = [f"{key}:{quoted}"]
    if re.fullmatch(r"true|false|-?[0-9]+(\.[0-9]+)?", value):
        pieces += [f"{key}:{value},", f"{key}:{value}}}"]
    return pieces
