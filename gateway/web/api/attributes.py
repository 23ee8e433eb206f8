"""Contact attributes: the standard ones, those channels fill, and custom ones without limit (A1)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection

from gateway.store import attributes as store
from gateway.web import asks, show, types
from gateway.web.problems import Problem
from gateway.web.routes import Call, Param, Reply, Route

log = logging.getLogger(__name__)


def _shown(entry: dict[str, Any]) -> types.Attribute:
    return show.attribute(entry, store.STANDARD_NAMES)


def _catalogue(connection: Connection, call: Call) -> dict[str, dict[str, Any]]:
    return store.catalogue(connection, call.core.settings.crm)


def _one(connection: Connection, call: Call) -> dict[str, Any]:
    entry = _catalogue(connection, call).get(call.request.match_info["name"])
    if entry is None:
        raise Problem("not_found", "there is no such attribute")
    return entry


def _unlimited(call: Call) -> None:
    """Attributes belong to no account: a key limited to some must not change them for all."""
    if call.key.accounts is not None:
        raise Problem("forbidden", "a key limited to accounts cannot change attributes")


def _check_choices(entry: dict[str, Any]) -> None:
    choices = entry["choices"]
    if entry["type"] == "choice" and len(set(choices)) < 2:
        raise Problem("invalid_body", "a choice needs two or more choices", field="choices")
    if len(set(choices)) != len(choices):
        raise Problem("invalid_body", "a choice stands twice", field="choices")
    if entry["type"] == "text" and choices:
        raise Problem("invalid_body", "a text attribute has no choices", field="choices")


async def list_attributes(call: Call) -> Reply:
    """All attributes, by position. Platform attributes appear as soon as a channel has told one of anybody."""
    found = await call.read(lambda connection: _catalogue(connection, call))
    return Reply(types.Items[types.Attribute](items=[_shown(entry) for entry in found.values()]))


async def create_attribute(call: Call) -> Reply:
    """A new custom attribute."""
    _unlimited(call)
    request: asks.AttributeRequest = call.body
    if request.name in store.FIELDS:
        raise Problem("attribute_exists", "every contact has a field of this name", field="name")

    def job(connection: Connection) -> types.Attribute:
        known = _catalogue(connection, call)
        if request.name in known:
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
        if request.unique:
            _unique(connection, call, request.name)
        store.store(connection, entry)
        return _shown(_catalogue(connection, call)[request.name])

    return Reply(await call.write(job), 201)


async def patch_attribute(call: Call) -> Reply:
    """Change an attribute. A standard one keeps its type, a platform one all but its title, place and visibility.

    While contacts have values that no longer fit, the change is refused and the answer tells how many: `values=keep`
    leaves them as they are until somebody changes them, `values=discard` takes them away.
    """
    _unlimited(call)
    changes = {
        "unique_value" if field == "unique" else field: value
        for field in call.body.__struct_fields__
        if (value := getattr(call.body, field)) is not msgspec.UNSET
    }

    def job(connection: Connection) -> types.Attribute:
        entry = _one(connection, call)
        name = entry["name"]
        fixed = {"type", "choices", "unique_value"} & changes.keys()
        if fixed and (name in store.STANDARD_NAMES or entry["kind"] == "platform"):
            raise Problem("standard_attribute", f"{min(fixed)} cannot be changed")
        changed = entry | changes
        if changed["type"] == "text" and "choices" not in changes:
            changed["choices"] = []
        _check_choices(changed)
        if changed["type"] == "choice":
            _narrow(connection, call, name, changed["choices"])
        if changed["unique_value"] and not entry["unique_value"]:
            _unique(connection, call, name)
        store.store(connection, changed)
        return _shown(_catalogue(connection, call)[name])

    return Reply(await call.write(job))


def _unique(connection: Connection, call: Call, name: str) -> None:
    """Make values findable by. Raises `Problem` where several contacts have the same one."""
    doubled = store.reindex(connection, name, call.now)
    if doubled:
        some = ", ".join(repr(value[:50]) for value in doubled[:3])
        raise Problem("values_not_unique", f"several contacts have the same value, such as {some}", field="unique")


def _narrow(connection: Connection, call: Call, name: str, choices: list[str]) -> None:
    """Values outside of the choices go or stay as the call says. Raises `Problem` where it does not say."""
    what = call.query.get("values", "")
    if what == "discard":
        _discard(connection, name, lambda value: value not in choices)
    elif not what:
        count = sum(1 for _, value in store.holders(connection, name) if value not in choices)
        if count:
            detail = f"contacts with a value that is no choice any more: {count}; say ?values=keep or ?values=discard"
            raise Problem("attribute_in_use", detail, field="choices")


def _discard(connection: Connection, name: str, which: Callable[[Any], bool]) -> None:
    gone = store.clear(connection, name, which)
    log.info("attributes.values_discarded", extra={"attribute": name, "contacts": gone})


async def order_attributes(call: Call) -> Reply:
    """Put the attributes in order: those named first, as named; the others after them, as they stood."""
    _unlimited(call)
    names: list[str] = call.body.names

    def job(connection: Connection) -> list[types.Attribute]:
        known = _catalogue(connection, call)
        for index, name in enumerate(names):
            if name not in known:
                raise Problem("unknown_attribute", f"there is no attribute {name!r}", field=f"names[{index}]")
            if name in names[:index]:
                raise Problem("invalid_body", "named twice", field=f"names[{index}]")
        for position, name in enumerate([*names, *(name for name in known if name not in names)]):
            store.store(connection, known[name] | {"position": position})
        return [_shown(entry) for entry in _catalogue(connection, call).values()]

    return Reply(types.Items[types.Attribute](items=await call.write(job)))


async def delete_attribute(call: Call) -> Reply:
    """Remove a custom attribute. What contacts had for it is kept out of sight, and comes back when an attribute of
    this name is made again; `values=discard` removes it for good."""
    _unlimited(call)

    def job(connection: Connection) -> None:
        entry = _one(connection, call)
        if entry["name"] in store.STANDARD_NAMES or entry["kind"] == "platform":
            raise Problem("standard_attribute", "it cannot be removed; it can be hidden")
        if entry["managed_by"]:
            raise Problem("standard_attribute", f"the configuration has the CRM {entry['managed_by']!r} fill it")
        if call.query.get("values") == "discard":
            _discard(connection, entry["name"], lambda value: True)
        store.remove(connection, entry["name"])

    await call.write(job)
    return Reply(status=204)


_TAG = "Attributes"
_PATH = "/api/v1/attributes"
_VALUES = (Param("values", "what becomes of values that no longer fit", choices=("keep", "discard")),)
ROUTES: tuple[Route, ...] = (
    Route("GET", _PATH, list_attributes, "All contact attributes", _TAG, answers={200: types.Items[types.Attribute]}),
    Route(
        "POST", _PATH, create_attribute, "Make a custom attribute", _TAG, scope="admin",
        body=asks.AttributeRequest, answers={201: types.Attribute}, errors=("attribute_exists", "values_not_unique"),
    ),
    Route(
        "PUT", _PATH, order_attributes, "Put the attributes in order", _TAG, scope="admin",
        body=asks.AttributeOrder, answers={200: types.Items[types.Attribute]}, errors=("unknown_attribute",),
    ),
    Route(
        "PATCH", f"{_PATH}/{{name}}", patch_attribute, "Change an attribute", _TAG, scope="admin", params=_VALUES,
        body=asks.AttributePatch, answers={200: types.Attribute},
        errors=("standard_attribute", "attribute_in_use", "values_not_unique"),
    ),
    Route(
        "DELETE", f"{_PATH}/{{name}}", delete_attribute, "Remove a custom attribute", _TAG, scope="admin",
        params=_VALUES, answers={204: None}, errors=("standard_attribute",),
    ),
)  # fmt: skip
