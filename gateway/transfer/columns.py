"""Which columns a file of contacts has. Pure.

A column is a field of the contact by its name, or an attribute by its own; `attribute.NAME` always means an attribute,
for those a channel calls like a field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.store.attributes import FIELDS

WRITABLE = ("name", "language", "organization", "tags", "vip")
FIELD_NAMES = tuple(name for name in FIELDS if name != "identities")
PREFIX = "attribute."
SEVERAL = ("email", "phone")  # attributes that may have several values


class Column(msgspec.Struct, frozen=True):
    """A column: as it is headed, and the field or attribute it holds."""

    header: str
    field: str = ""
    attribute: str = ""


class ColumnError(Exception):
    """A column that cannot be: which, and why."""

    def __init__(self, column: str, code: str, reason: str) -> None:
        super().__init__(f"{column}: {reason}")
        self.column, self.code, self.reason = column, code, reason


def column_of(header: str, catalogue: Mapping[str, Any]) -> Column:
    """What a header means. Raises `ColumnError`."""
    if header in FIELD_NAMES and header != "vip":
        return Column(header, field=header)
    name = header.removeprefix(PREFIX)
    if name == "vip":
        return Column(header, field="vip")
    if name not in catalogue:
        raise ColumnError(header, "unknown_attribute", f"there is no field or attribute {name!r}")
    return Column(header, attribute=name)


def columns_of(names: Sequence[str], catalogue: Mapping[str, Mapping[str, Any]]) -> list[Column]:
    """The columns asked for, in that order; none: all fields, and the attributes shown that are not a platform's.

    Raises `ColumnError` for one that is unknown or stands twice.
    """
    if not names:
        shown = [n for n, entry in catalogue.items() if entry["visible"] and entry["kind"] == "custom" and n != "vip"]
        names = [*FIELD_NAMES, *shown]
    found: list[Column] = []
    for name in names:
        column = column_of(name, catalogue)
        if any((known.field, known.attribute) == (column.field, column.attribute) for known in found):
            raise ColumnError(name, "invalid_value", "the column stands twice")
        found.append(column)
    return found
