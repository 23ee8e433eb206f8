"""The tickets of a view: its conditions as SQL, a page in its order, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, exists, func, literal, or_, select

from gateway.conditions import CUSTOM, ME, MINE, NONE, PRIORITIES, Test, Tests, since
from gateway.store.dialect import by_row
from gateway.store.schema import contacts, ticket_field_values, ticket_tags, tickets
from gateway.store.search import Visible, Words, is_rare, seen
from gateway.store.views import tickets_with_names
from gateway.tickets import STATUSES

COUNT_MAX = 1_000  # exact up to here
_COLUMN = {"group": tickets.c.group_name}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, and at what moment: "me", "mine" and "the last 7 days" mean something only then."""

    user: str  # the user's id, or what stands for one
    groups: tuple[str, ...]
    visible: Visible
    messaging: frozenset[str]  # channels that are private messaging ones
    now: int
    region: str = ""


def where(connection: Connection, tests: Tests, viewer: Viewer) -> list[ColumnElement[bool]]:
    """The conditions as SQL; tickets of hidden accounts are never among them."""
    found = [seen(tickets.c.account, viewer.visible)]
    found += [_condition(connection, test, viewer) for test in tests.all]
    if tests.any:
        found.append(or_(*(_condition(connection, test, viewer) for test in tests.any)))
    return found


def _condition(connection: Connection, test: Test, viewer: Viewer) -> ColumnElement[bool]:
    if test.field.startswith(CUSTOM):
        return _custom(connection, test)
    values = list(test.values)
    match test.kind:
        case "tags":
            tagged = select(ticket_tags.c.ticket_id).where(ticket_tags.c.tag.in_(values))
            having = _among(connection, ticket_tags.c.ticket_id, tagged)
            return having if test.operator == "has" else ~having
        case "moment":
            return _moment(tickets.c[test.field], test.operator, values[0], viewer.now)
        case "words":
            return Words(values[0], viewer.visible, viewer.region).ticket_condition(connection)
        case "flag" if test.field == "vip":
            vip = func.coalesce(contacts.c.vip, literal(False))
            return vip.is_(values[0])
        case "flag":
            among = tickets.c.channel.in_(sorted(viewer.messaging))
            return among if values[0] else ~among
        case "line" if test.operator == "contains":
            return tickets.c.subject.icontains(values[0], autoescape=True)
        case "ranked" if test.operator in ("at_least", "at_most"):
            place = PRIORITIES.index(values[0])
            return tickets.c.priority.in_(
                PRIORITIES[place:] if test.operator == "at_least" else PRIORITIES[: place + 1]
            )
        case "user":
            values = [{ME: viewer.user, NONE: ""}.get(value, value) for value in values]
            if not viewer.user and ME in test.values:  # nobody in particular has no tickets
                values = [value for value, asked in zip(values, test.values, strict=True) if asked != ME]
        case "group":
            values = [
                name
                for value in values
                for name in (viewer.groups if value == MINE else ("",) if value == NONE else (value,))
            ]
        case "choice" if test.field == "status" and (len(values) > 1 or test.operator == "is_not"):
            plain = _equals(tickets.c.status, test.operator, values)
            if not is_rare(connection, select(tickets.c.status).where(plain)):
                return _equals(by_row(connection, tickets.c.status), test.operator, values)
            return plain
        case _:
            pass
    return _equals(_COLUMN.get(test.field, tickets.c.get(test.field)), test.operator, values)


def _equals(column: Any, operator: str, values: Sequence[Any]) -> ColumnElement[bool]:
    yes: ColumnElement[bool] = (
        literal(False) if not values else column == values[0] if len(values) == 1 else column.in_(values)
    )
    return yes if operator in ("is", "in") else ~yes


def _moment(column: Any, operator: str, value: Any, now: int) -> ColumnElement[bool]:
    found: ColumnElement[bool]
    match operator:
        case "before":
            found = column < value
        case "after":
            found = column > value
        case "within_days":
            found = column >= since(value, now)
        case _:
            found = column < since(value, now)
    return found


def _among(connection: Connection, owner: Any, statement: Select[Any]) -> ColumnElement[bool]:
    """Whether the ticket is among those a statement finds by the column `owner`: a short list is made first, a long one
    is asked ticket by ticket."""
    if is_rare(connection, statement):
        return tickets.c.id.in_(statement)
    return exists(statement.where(owner == tickets.c.id))


def _custom(connection: Connection, test: Test) -> ColumnElement[bool]:
    """A custom field. One that is not set is not this or that, and a box that was never ticked is not ticked."""
    name, value = test.field.removeprefix(CUSTOM), test.values[0]
    row = ticket_field_values.c
    having = select(row.ticket_id).where(row.name == name)
    if test.operator == "is_set":
        found = _among(connection, row.ticket_id, having)
        return found if value else ~found
    if test.kind == "checkbox":
        found = _among(connection, row.ticket_id, having.where(row.value == "true"))
        return found if value else ~found
    if test.kind in ("number", "date"):
        number = row.number
        fits = {
            "is": number == value, "is_not": number == value, "at_least": number >= value, "at_most": number <= value,
            "before": number < value, "after": number > value,
        }[test.operator]  # fmt: skip
        found = _among(connection, row.ticket_id, having.where(fits))
        return ~found if test.operator == "is_not" else found
    found = _among(connection, row.ticket_id, having.where(row.value.in_([text[:255] for text in test.values])))
    return found if test.operator in ("is", "in") else ~found


# --- pages ---


_SORTS: dict[str, ColumnElement[int]] = {
    "created_at": tickets.c.number,  # numbers are given in the order tickets are made
    "updated_at": tickets.c.updated_at,
    "solved_at": func.coalesce(tickets.c.solved_at, 0),
}
_RANKS: dict[str, tuple[ColumnElement[str], tuple[str, ...]]] = {
    "status": (tickets.c.status, STATUSES),
    "priority": (tickets.c.priority, PRIORITIES),
}


def page(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], sort: str, descending: bool, limit: int,
    after: tuple[int, str] | None,
) -> list[tuple[int, RowMapping]]:  # fmt: skip
    """Tickets in the view's order, each with its place in it; `after` is (place, id) of the last one before. Those in
    the same place stand by their ids."""
    if sort not in _RANKS:
        return _sorted(connection, conditions, _SORTS[sort], descending, limit, after)
    column, order = _RANKS[sort]
    found: list[tuple[int, RowMapping]] = []
    for rank in sorted(range(len(order)), reverse=descending):  # rank by rank: nothing has to be sorted
        if after is not None and (rank > after[0] if descending else rank < after[0]):
            continue
        behind = after[1] if after is not None and rank == after[0] else None
        statement = tickets_with_names().where(*conditions, column == order[rank])
        statement = statement.order_by(tickets.c.id.desc() if descending else tickets.c.id)
        if behind is not None:
            statement = statement.where(tickets.c.id < behind if descending else tickets.c.id > behind)
        found += [(rank, row) for row in connection.execute(statement.limit(limit - len(found))).mappings()]
        if len(found) >= limit:
            break
    return found


def _sorted(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], place: ColumnElement[int], descending: bool,
    limit: int, after: tuple[int, str] | None,
) -> list[tuple[int, RowMapping]]:  # fmt: skip
    statement = tickets_with_names().add_columns(place.label("place")).where(*conditions)
    if descending:
        statement = statement.order_by(place.desc(), tickets.c.id.desc())
    else:
        statement = statement.order_by(place, tickets.c.id)
    if after is not None:
        moment, own = literal(after[0]), tickets.c.id
        beyond, same = (place < moment, own < after[1]) if descending else (place > moment, own > after[1])
        statement = statement.where(
            place <= moment if descending else place >= moment, or_(beyond, and_(place == moment, same))
        )
    return [(row["place"], row) for row in connection.execute(statement.limit(limit)).mappings()]


def count(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> int:
    """How many tickets there are, `COUNT_MAX` + 1 for more than `COUNT_MAX`: nobody waits for what nobody reads."""
    source = tickets.outerjoin(contacts, contacts.c.id == tickets.c.contact_id)
    some = select(literal(1).label("one")).select_from(source).where(*conditions).limit(COUNT_MAX + 1).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())
