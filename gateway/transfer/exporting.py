"""Contacts as a stream of bytes, whatever their number: a page is read, written, and forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

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
    """All contacts that pass the filter, the oldest first.

    Each page is a short read of its own: a contact changed meanwhile appears as it was when its page was read.
    """
    head = (BOM if bom else "") + line_of(guarded(column.header) for column in columns)
    if form == "csv":
        yield head.encode()
    write, after = csv_line if form == "csv" else json_line, ""
    while True:
        last = after

        def page(connection: Connection, last: str = last) -> list[types.Contact]:
            rows = views.contacts_after(connection, wanted, visible, PAGE, last)
            return contacts_of(connection, rows, visible, core.settings.crm)

        found = await core.database.read(page)
        if found:
            yield "".join(write(contact, columns) for contact in found).encode("utf-8", "replace")
        if len(found) < PAGE:
            return
        after = found[-1].id
