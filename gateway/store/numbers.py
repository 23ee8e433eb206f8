"""Numbers in a row: of tickets, and of contacts in the search."""

from __future__ import annotations

from sqlalchemy import Connection, update

from gateway.store.many import upsert
from gateway.store.schema import counters


def reserve(connection: Connection, name: str, count: int) -> int:
    """Reserve `count` numbers in a row of the counter; the first of them."""
    statement = (
        update(counters)
        .where(counters.c.name == name)
        .values(value=counters.c.value + count)
        .returning(counters.c.value)
    )
    value = connection.execute(statement).scalar()
    if value is None:
        upsert(connection, counters, [{"name": name, "value": 0}], ["name"], ["name"])
        value = connection.execute(statement).scalar_one()
    return int(value) - count + 1
