"""What a row says of a person, and what of it differs from what is known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway import identity as rules
from gateway.transfer.cells import cell_of, plain, values_of
from gateway.transfer.columns import PREFIX, SEVERAL, WRITABLE, Column
from gateway.transfer.reading import RowProblem
from gateway.web import asks, types
from gateway.web.problems import Problem
from gateway.web.routes import invalid

IGNORED = ("created_at", "last_seen_at")  # ours alone to tell; a file that came from here has them
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
_OBJECT = {"id", *WRITABLE, *IGNORED, "attributes"}


class Said(msgspec.Struct, frozen=True):
    """A row understood: the contact's id where it gives one, fields, and attributes. What is not there stays as it is.

    Several values are lists; None empties an attribute.
    """

    id: str = ""
    fields: Mapping[str, Any] = {}
    attributes: Mapping[str, Any] = {}


def of_cells(cells: Mapping[str, str], columns: Sequence[Column]) -> Said:
    """A row of a CSV file. An empty cell says nothing. Raises `RowProblem`."""
    id_ = ""
    fields: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for column in columns:
        cell = cells[column.header]
        text = plain(cell)
        if text == "" or column.field in IGNORED:
            continue
        if column.field == "id":
            id_ = text
        elif column.field == "vip":
            fields["vip"] = _truth(text)
        elif column.field == "tags" or column.attribute in SEVERAL:
            try:
                values = values_of(cell)
            except (ValueError, RecursionError):
                raise RowProblem("invalid_value", column.header, "begins with [ and is no JSON list of texts") from None
            (fields if column.field else attributes)[column.field or column.attribute] = values
        elif column.field:
            fields[column.field] = text
        else:
            attributes[column.attribute] = text
    return _held(Said(id_, fields, attributes))


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise RowProblem("wrong_type", "vip", "must be true or false")
    return word in _TRUE


def of_object(tree: Mapping[str, Any]) -> Said:
    """A line of a JSON lines file. Raises `RowProblem`."""
    for name in tree:
        if name not in _OBJECT:
            raise RowProblem("unknown_attribute", name[:100], "no field of this name; attributes stand in `attributes`")
    id_ = tree.get("id", "")
    if not isinstance(id_, str):
        raise RowProblem("wrong_type", "id", "must be a text")
    attributes = tree.get("attributes", {})
    if not isinstance(attributes, dict):
        raise RowProblem("wrong_type", "attributes", "must be an object")
    fields = {name: value for name, value in tree.items() if name in WRITABLE}
    several = {
        name: [value] if name in SEVERAL and isinstance(value, str) else value for name, value in attributes.items()
    }
    return _held(Said(id_, fields, several))


def _held(said: Said) -> Said:
    """The row held against the sizes and types of the API. Raises `RowProblem`."""
    try:
        msgspec.convert(dict(said.fields), asks.ContactPatch)
    except msgspec.ValidationError as error:
        problem: Problem = invalid(error, asks.ContactPatch)
        raise RowProblem("invalid_value", problem.field, problem.detail) from None
    for name in SEVERAL:
        values = said.attributes.get(name)
        if values is not None and not (isinstance(values, list) and all(isinstance(one, str) for one in values)):
            raise RowProblem("wrong_type", name, "must be a text or a list of texts")
    return said


def differences(
    said: Said, known: types.Contact | None, catalogue: Mapping[str, Mapping[str, Any]], region: str
) -> dict[str, Any]:
    """The changes that make the contact what the row says, as the API takes them. Raises `RowProblem`."""
    changes: dict[str, Any] = {}
    for name, value in said.fields.items():
        if known is None or value != getattr(known, name):
            changes[name] = value
    attributes: dict[str, Any] = {}
    for name, value in said.attributes.items():
        current = known.attributes.get(name) if known is not None else None
        entry = catalogue.get(name)
        if name in SEVERAL:
            if (wanted := _several(name, value, known, region)) is not None:
                attributes[name] = wanted
        elif entry is not None and entry["kind"] == "platform":
            if not _same(value, current):
                raise RowProblem("read_only_attribute", name, "a platform attribute cannot be edited")
        elif value != current:
            attributes[name] = value
    if attributes:
        changes["attributes"] = attributes
    return changes


def _same(value: Any, current: Any) -> bool:
    """Whether a value out of a file is what we had written into it."""
    return bool(value == current) or (isinstance(value, str) and value == plain(cell_of(current)))


def _several(name: str, value: Any, known: types.Contact | None, region: str) -> list[str] | None:
    """Phone numbers or mail addresses as they are to be set by hand; None: they are what they were.

    A claim stays a claim in a row that changes nothing; in one that does, it is set like the others.
    """
    wanted = [rules.normalise(name, one, region) or one for one in value or []]
    current = {entry.value for entry in known.values if entry.name == name} if known is not None else set()
    return None if set(wanted) == current else list(dict.fromkeys(wanted))


def match_keys(said: Said, names: Sequence[str], region: str) -> list[tuple[str, str]]:
    """(attribute, value) by which a row without an id finds its contact."""
    found: list[tuple[str, str]] = []
    for name in names:
        value = said.attributes.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and (clean := rules.normalise(name, one, region)):
                found.append((name, clean))
    return found


def field_of(name: str) -> str:
    """A field as the store names it, as the file does."""
    return name.removeprefix("attributes.").removeprefix(PREFIX)
