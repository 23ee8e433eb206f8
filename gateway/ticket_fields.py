"""What a custom field of a ticket takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gateway.conditions import day_number
from gateway.tickets import Patch

FieldType = Literal["text", "number", "date", "checkbox", "choice"]
TEXT_MAX = 2_000  # characters


class FieldError(ValueError):
    """A value a field does not take: a stable `code`, the `field` ("fields.colour"), and a sentence."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.code, self.field, self.detail = code, field, detail


class Field(msgspec.Struct, frozen=True):
    """A custom field. `required`: cannot be emptied, and must be filled when a person solves the ticket."""

    name: str
    title: str
    type: FieldType
    choices: tuple[str, ...] = ()
    required: bool = False
    position: int = 0


def check(fields: Mapping[str, Field], current: Mapping[str, Any], patch: Patch) -> None:
    """Hold a change of a ticket against the fields there are. As long as there are none, anything goes.

    `current` is what the ticket has in its fields. Raises `FieldError`.
    """
    if not fields:
        return
    given = {} if patch.fields is msgspec.UNSET else patch.fields
    for name, value in given.items():
        field = fields.get(name)
        if field is None:
            raise FieldError("unknown_field", f"fields.{name}", f"there is no ticket field {name!r}")
        if value is None:
            if field.required and name in current:
                raise FieldError("required_field", f"fields.{name}", f"{field.title} cannot be emptied")
            continue
        _check_value(field, value)
    if patch.status == "solved":
        for name, field in fields.items():
            if field.required and (current | given).get(name) in (None, ""):  # type: ignore[operator]
                raise FieldError("required_field", f"fields.{name}", f"{field.title} must be filled before solving")


def _check_value(field: Field, value: Any) -> None:
    where = f"fields.{field.name}"
    match field.type:
        case "text":
            if not isinstance(value, str) or len(value) > TEXT_MAX:
                raise FieldError("wrong_type", where, f"must be a text of at most {TEXT_MAX} characters")
        case "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FieldError("wrong_type", where, "must be a number")
        case "checkbox":
            if not isinstance(value, bool):
                raise FieldError("wrong_type", where, "must be true or false")
        case "choice":
            if value not in field.choices:
                raise FieldError("unknown_choice", where, f"must be one of {', '.join(field.choices)}")
        case "date":
            try:
                day_number(value)
            except ValueError:
                raise FieldError("wrong_type", where, "must be a date as in 2026-11-29") from None
