"""Contact attributes: the standard ones, and custom ones without limit (A1)."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from gateway.store import people_views as views
from gateway.web import asks, show, types
from gateway.web.problems import Problem
from gateway.web.routes import Call, Reply, Route


def _shown(entry: dict[str, object]) -> types.Attribute:
    return show.attribute(entry, views.STANDARD_NAMES)


def _unlimited(call: Call) -> None:
    """Attributes belong to no account: a key limited to some must not change them for all."""
    if call.key.accounts is not None:
        raise Problem("forbidden", "a key limited to accounts cannot change attributes")


def _check_choices(entry: dict[str, object]) -> None:
    choices = entry["choices"]
    assert isinstance(choices, list)
    if entry["type"] == "choice" and len(set(choices)) < 2:
        raise Problem("invalid_body", "a choice needs two or more choices", field="choices")
    if len(set(choices)) != len(choices):
        raise Problem("invalid_body", "a choice stands twice", field="choices")
    if entry["type"] == "text" and choices:
        raise Problem("invalid_body", "a text attribute has no choices", field="choices")


async def list_attributes(call: Call) -> Reply:
    """All attributes, by position."""
    found = await call.read(views.attribute_list)
    return Reply(types.Items[types.Attribute](items=[_shown(entry) for entry in found]))


async def create_attribute(call: Call) -> Reply:
    """A new custom attribute."""
    _unlimited(call)
    request: asks.AttributeRequest = call.body

    def job(connection: Connection) -> types.Attribute:
        known = views.attribute_list(connection)
        if any(entry["name"] == request.name for entry in known):
            raise Problem("attribute_exists", field="name")
        entry = {
            "name": request.name,
            "title": request.title or request.name,
            "kind": request.kind,
            "type": request.type,
            "choices": request.choices,
            "position": len(known) if request.position is None else request.position,
            "visible": request.visible,
            "unique_value": request.unique,
        }
        _check_choices(entry)
        views.store_attribute(connection, entry)
        return _shown(entry)

    return Reply(await call.write(job), 201)


async def patch_attribute(call: Call) -> Reply:
    """Change an attribute. A standard one keeps its type, a platform one all but its title, place and visibility."""
    _unlimited(call)
    name = call.request.match_info["name"]
    changes = {
        "unique_value" if field == "unique" else field: value
        for field in call.body.__struct_fields__
        if (value := getattr(call.body, field)) is not msgspec.UNSET
    }

    def job(connection: Connection) -> types.Attribute:
        entry = views.attribute(connection, name)
        if entry is None:
            raise Problem("not_found", "there is no such attribute")
        fixed = {"type", "choices", "unique_value"} & changes.keys()
        if fixed and (name in views.STANDARD_NAMES or entry["kind"] == "platform"):
            raise Problem("standard_attribute", f"{min(fixed)} cannot be changed")
        changed = entry | changes
        if changed["type"] == "text" and "choices" not in changes:
            changed["choices"] = []
        _check_choices(changed)
        views.store_attribute(connection, changed)
        return _shown(changed)

    return Reply(await call.write(job))


async def delete_attribute(call: Call) -> Reply:
    """Remove a custom attribute."""
    _unlimited(call)
    name = call.request.match_info["name"]

    def job(connection: Connection) -> None:
        entry = views.attribute(connection, name)
        if entry is None:
            raise Problem("not_found", "there is no such attribute")
        if name in views.STANDARD_NAMES or entry["kind"] == "platform":
            raise Problem("standard_attribute", "it cannot be removed; it can be hidden")
        views.remove_attribute(connection, name)

    await call.write(job)
    return Reply(status=204)


_TAG = "Attributes"
_PATH = "/api/v1/attributes"
ROUTES: tuple[Route, ...] = (
    Route("GET", _PATH, list_attributes, "All contact attributes", _TAG, answers={200: types.Items[types.Attribute]}),
    Route(
        "POST", _PATH, create_attribute, "Make a custom attribute", _TAG, scope="admin",
        body=asks.AttributeRequest, answers={201: types.Attribute}, errors=("attribute_exists",),
    ),
    Route(
        "PATCH", f"{_PATH}/{{name}}", patch_attribute, "Change an attribute", _TAG, scope="admin",
        body=asks.AttributePatch, answers={200: types.Attribute}, errors=("standard_attribute",),
    ),
    Route(
        "DELETE", f"{_PATH}/{{name}}", delete_attribute, "Remove a custom attribute", _TAG, scope="admin",
        answers={204: None}, errors=("standard_attribute",),
    ),
)  # fmt: skip
