"""Contacts as a stream of bytes, whatever their number: a page is read, written, and forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, RowMapping

from gateway.core import Core
from gateway.store import people_views as views
from gateway.store.search import Visible
from gateway.transfer.cells import cell_of, guarded, line_of
from gateway.transfer.columns import Column
from gateway.transfer.loading import contacts_of
from gateway.web import types

Format = Literal["csv", "jsonl"]
PAGE = 500  # contacts read at a time
BOM = "\ufeff"

_Place = str | int | None  # a contact's id, or its place among those found by words


def format_of(filename: str) -> Format:
    """The format a file's name tells."""
    return "jsonl" if filename.endswith((".jsonl", ".ndjson")) else "csv"


def value_of(contact: types.Contact, column: Column) -> Any:
    """What a contact has in a column; None: nothing."""
    return getattr(contact, column.field) if column.field else contact.attributes.get(column.attribute)


def csv_line(contact: types.Contact, columns: Sequence[Column]) -> str:
    """One contact as a line."""
    return line_of(cell_of(value_of(contact, column)) for column in columns)


def json_line(contact: types.Contact, columns: Sequence[Column]) -> str:
    """One contact as an object: fields by name, and attributes in an object of theirs."""
    found: dict[str, Any] = {column.field: value_of(contact, column) for column in columns if column.field}
    names = [column.attribute for column in columns if column.attribute]
    if names:
        found["attributes"] = {name: contact.attributes[name] for name in names if name in contact.attributes}
    return msgspec.json.encode(found).decode() + "\n"


async def contact_chunks(
    core: Core, wanted: views.ContactFilter, visible: Visible, columns: Sequence[Column], form: Format,
    *, bom: bool = False,
) -> AsyncIterator[bytes]:  # fmt: skip
    """All contacts that pass the filter, the oldest first; where words are wanted, in the order of the list.

    Each page is a short read of its own: a contact changed meanwhile appears as it was when its page was read.
    """
    head = (BOM if bom else "") + line_of(guarded(column.header) for column in columns)
    if form == "csv":
        yield head.encode()
    write = csv_line if form == "csv" else json_line
    after: _Place = None
    while True:

        def page(connection: Connection, after: _Place = after) -> tuple[list[types.Contact], _Place]:
            rows, last = _next(connection, wanted, visible, after)
            return contacts_of(connection, rows, visible, core.settings.crm), last

        found, after = await core.database.read(page)
        if found:
            yield "".join(write(contact, columns) for contact in found).encode("utf-8", "replace")
        if len(found) < PAGE:
            return


def _next(
    connection: Connection, wanted: views.ContactFilter, visible: Visible, after: _Place
) -> tuple[Sequence[RowMapping], _Place]:
    """The next page of rows, and where it ends."""
    if wanted.text:
        found = views.contacts_found(connection, wanted, visible, PAGE, after if isinstance(after, int) else None)
        return [row for _, row in found], found[-1][0] if found else None
    rows = views.contacts_after(connection, wanted, visible, PAGE, after if isinstance(after, str) else "")
    return rows, rows[-1]["id"] if rows else None
