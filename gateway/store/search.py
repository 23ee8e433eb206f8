"""Finding people and tickets by what an agent types: words, a phone number in any form, a handle, a name, a text.

All words must stand in one entry of the search table: a ticket with its person, a message, an identity. Reads go from
the newest to the oldest and stop when there is enough, so that a common word costs no more than a rare one.
`visible` restricts to accounts; None: all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from gateway import words
from gateway.store.dialect import entries_with, too_long
from gateway.store.schema import contact_values, contacts, identities, messages, search_entries, tickets
from gateway.store.search_index import BITS, PEOPLE
from gateway.words import phone_forms

Visible = Collection[str] | None
PORTION, PORTION_MAX = 200, 5_000  # entries read at a time
LAST = 2**63 - 1
_SHIFT: ColumnElement[int] = literal_column(str(BITS))


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


def any_of(column: ColumnElement[str], statements: Iterable[Select[Any]]) -> ColumnElement[bool]:
    """Whether the column is among what any of the statements selects."""
    return or_(*(column.in_(statement) for statement in statements))


# --- by words ---


RARE = 2_000  # rows; what has more is asked for row by row


def is_rare(connection: Connection, statement: Select[Any]) -> bool:
    """Whether a statement finds so little that it is best done first."""
    some = statement.limit(RARE + 1).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one()) <= RARE


def _of_ticket(entry_id: ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    """Whether an entry is the ticket's, said so that either side may be looked up by the other."""
    number = tickets.c.number
    return (
        number == entry_id.op(">>")(_SHIFT),
        entry_id >= number.op("<<")(_SHIFT),
        entry_id < (number + 1).op("<<")(_SHIFT),
    )


class Words:
    """What was typed, ready to be looked for. `visible` restricts to accounts; None: all of them."""

    def __init__(self, text: str, visible: Visible, region: str = "") -> None:
        self._question, self._visible = words.question(text, region), visible

    def _entries(
        self, connection: Connection, first: int, before: int, *, whose: bool = False
    ) -> tuple[FromClause, ColumnElement[int], list[ColumnElement[bool]]]:
        """What to select entries from, their id in it, and the conditions: ids from `first` to below `before`. With
        `whose` the rest of the entry is there too."""
        assert self._question is not None
        groups = [[[(t.word, t.prefix) for t in terms] for terms in group] for group in self._question.groups]
        index, entry_id, matches = entries_with(connection, groups)
        conditions = [matches, entry_id >= first, entry_id < before]
        long = [
            or_(*(self._as_typed(connection, terms) for terms in group))
            for group in self._question.groups
            if any(t.prefix and too_long(connection, t.word) for terms in group for t in terms)
        ]
        phrases = [search_entries.c.words.contains(phrase, autoescape=True) for phrase in self._question.phrases]
        if whose or phrases or long or self._visible is not None:
            source = index.join(search_entries, search_entries.c.id == entry_id)
            hidden = [] if self._visible is None else [search_entries.c.account.in_(["", *self._visible])]
            return source, entry_id, [*conditions, *phrases, *long, *hidden]
        return index, entry_id, conditions

    def _as_typed(self, connection: Connection, terms: Sequence[words.Term]) -> ColumnElement[bool]:
        said = search_entries.c.words
        return and_(*(said.contains(f" {term.word}{'' if term.prefix else ' '}", autoescape=True) for term in terms))

    def ticket_condition(self, connection: Connection) -> ColumnElement[bool]:
        """Whether a ticket is found, as a condition beside others."""
        if self._question is None:
            return literal(False)
        source, entry_id, conditions = self._entries(connection, 0, PEOPLE)
        if is_rare(connection, select(entry_id).select_from(source).where(*conditions)):
            return tickets.c.number.in_(select(entry_id.op(">>")(_SHIFT)).select_from(source).where(*conditions))
        return exists(select(entry_id).select_from(source).where(*conditions, *_of_ticket(entry_id)))

    def numbers_of_few(
        self, connection: Connection, also: Sequence[ColumnElement[bool]], before: int | None
    ) -> list[int]:
        """The same as `ticket_numbers` where what is wanted `also` are few tickets: these are looked at one by one."""
        if self._question is None:
            return []
        source, entry_id, conditions = self._entries(connection, 0, PEOPLE)
        said = exists(select(entry_id).select_from(source).where(*conditions, *_of_ticket(entry_id)))
        joined = tickets.outerjoin(contacts, contacts.c.id == tickets.c.contact_id)
        statement = select(tickets.c.number).select_from(joined).where(*also, said).order_by(tickets.c.number.desc())
        if before is not None:
            statement = statement.where(tickets.c.number < before)
        return list(connection.execute(statement).scalars())

    def ticket_numbers(
        self, connection: Connection, also: Sequence[ColumnElement[bool]], before: int | None = None
    ) -> Iterator[int]:
        """Numbers of tickets below `before` that are found and fit what is wanted `also`, the newest first."""
        end, size = PEOPLE if before is None else min(before, PEOPLE >> BITS) << BITS, PORTION
        while self._question is not None and end > 0:
            source, entry_id, conditions = self._entries(connection, 0, end)
            joined = source.join(tickets, and_(*_of_ticket(entry_id))).outerjoin(
                contacts, contacts.c.id == tickets.c.contact_id
            )
            statement = select(tickets.c.number).select_from(joined).where(*conditions, *also)
            found = list(connection.execute(statement.order_by(entry_id.desc()).limit(size)).scalars())
            yield from dict.fromkeys(found)
            if len(found) < size:
                return
            end = found[-1] << BITS

    def contact_ids(self, connection: Connection, before: int | None = None) -> Iterator[list[tuple[int, str]]]:
        """(place, contact) of who is found, in growing portions behind `before`: first whom the words describe, then
        who wrote them; the newest first. Nobody comes twice."""
        end, size = LAST if before is None else before, PORTION // 4
        while self._question is not None and end > 0:
            people = end > PEOPLE
            first = PEOPLE if people else 0
            source, entry_id, conditions = self._entries(connection, first, end, whose=True)
            statement = select(entry_id, search_entries.c.ref).select_from(source).where(*conditions)
            if not people:
                author = messages.c.contact_id
                statement = (
                    select(entry_id, author)
                    .select_from(source.join(messages, messages.c.id == search_entries.c.ref))
                    .where(*conditions)
                )
            found = connection.execute(statement.order_by(entry_id.desc()).limit(size)).all()
            rows: dict[str, int] = {}
            for place, contact in found:
                rows.setdefault(contact, place)
            if not people:
                rows = self._not_before(connection, rows)
            else:  # all entries of one person lie side by side; those left of the last one's are his too
                rows = {contact: (place >> BITS) << BITS for contact, place in rows.items()}
            if rows:
                yield [(place, contact) for contact, place in rows.items()]
            if len(found) == size:
                last = found[-1][0]
                end, size = (last >> BITS) << BITS if people else last, min(size * 4, PORTION_MAX)
            elif people:
                end = PEOPLE
            else:
                return

    def _not_before(self, connection: Connection, rows: dict[str, int]) -> dict[str, int]:
        """Those whom no earlier place has shown: neither described by the words nor the author of a newer match."""
        if not rows:
            return rows
        shown: set[str] = set()
        source, entry_id, conditions = self._entries(connection, PEOPLE, LAST, whose=True)
        described = select(search_entries.c.ref).select_from(source).where(*conditions)
        shown |= set(connection.execute(described.where(search_entries.c.ref.in_(list(rows)))).scalars())
        source, entry_id, conditions = self._entries(connection, min(rows.values()), PEOPLE, whose=True)
        newest = (
            select(messages.c.contact_id, func.max(entry_id))
            .select_from(source.join(messages, messages.c.id == search_entries.c.ref))
            .where(*conditions, messages.c.contact_id.in_(list(rows)))
            .group_by(messages.c.contact_id)
        )
        for contact, place in connection.execute(newest):
            if place > rows[contact]:
                shown.add(contact)
        return {contact: place for contact, place in rows.items() if contact not in shown}


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
