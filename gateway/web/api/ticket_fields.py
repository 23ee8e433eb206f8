"""Custom fields of tickets: what there is to be filled in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection

from gateway.store import ticket_fields as store
from gateway.ticket_fields import Field, FieldError
from gateway.web import asks, types
from gateway.web.problems import Problem
from gateway.web.routes import Call, Reply, Route


@contextmanager
def field_problems() -> Iterator[None]:
    """What a field does not take, as a problem."""
    try:
        yield
    except FieldError as error:
        raise Problem(error.code, error.detail, field=error.field) from None


def _shown(field: Field) -> types.TicketField:
    return types.TicketField(
        name=field.name, title=field.title, type=field.type, choices=list(field.choices), required=field.required,
        position=field.position,
    )  # fmt: skip


async def list_fields(call: Call) -> Reply:
    """The custom fields of tickets, in their order."""
    fields = await call.read(store.all_fields)
    return Reply(types.Items[types.TicketField](items=[_shown(field) for field in fields.values()]))


def _checked(field: Field) -> Field:
    choices = tuple(dict.fromkeys(field.choices))
    if (field.type == "choice") != bool(choices):
        raise Problem("invalid_value", "a choice needs choices, and nothing else has any", field="choices")
    return msgspec.structs.replace(field, choices=choices)


async def create_field(call: Call) -> Reply:
    """Make a custom field."""
    ask: asks.TicketFieldRequest = call.body
    field = _checked(Field(ask.name, ask.title or ask.name, ask.type, tuple(ask.choices), ask.required, ask.position))

    def job(connection: Connection) -> None:
        if field.name in store.all_fields(connection):
            raise Problem("ticket_field_exists", field="name")
        store.save(connection, field, new=True)

    await call.write(job)
    return Reply(_shown(field), 201)


async def patch_field(call: Call) -> Reply:
    """Change a custom field. What tickets have in it stays, choices that are gone too."""
    ask: asks.TicketFieldPatch = call.body
    changes = {name: value for name in ask.__struct_fields__ if (value := getattr(ask, name)) is not UNSET}
    if "choices" in changes:
        changes["choices"] = tuple(changes["choices"])

    def job(connection: Connection) -> Field:
        field = store.all_fields(connection).get(call.request.match_info["name"])
        if field is None:
            raise Problem("not_found", "there is no such ticket field")
        field = _checked(msgspec.structs.replace(field, **changes))
        store.save(connection, field, new=False)
        return field

    return Reply(_shown(await call.write(job)))


async def delete_field(call: Call) -> Reply:
    """Remove a custom field, and what tickets have in it."""
    name = call.request.match_info["name"]
    if not await call.core.database.bulk(lambda connection: store.remove(connection, name)):
        raise Problem("not_found", "there is no such ticket field")
    return Reply(status=204)


_TAG = "Ticket fields"
_PATH = "/api/v1/ticket-fields"
ROUTES: tuple[Route, ...] = (
    Route(
        "GET", _PATH, list_fields, "Custom fields of tickets", _TAG, answers={200: types.Items[types.TicketField]},
    ),
    Route(
        "POST", _PATH, create_field, "Make a custom field", _TAG, scope="admin", unlimited=True,
        body=asks.TicketFieldRequest, answers={201: types.TicketField}, errors=("ticket_field_exists", "invalid_value"),
    ),
    Route(
        "PATCH", f"{_PATH}/{{name}}", patch_field, "Change a custom field", _TAG, scope="admin", unlimited=True,
        body=asks.TicketFieldPatch, answers={200: types.TicketField}, errors=("invalid_value",),
    ),
    Route(
        "DELETE", f"{_PATH}/{{name}}", delete_field, "Remove a custom field", _TAG, scope="admin", unlimited=True,
        answers={204: None},
    ),
)  # fmt: skip
