"""Templates of the Cloud API: the components of a send, and the platform's list of them. Pure.

Sources: Meta, WhatsApp Cloud API, Message templates; Messages reference; Business Management API, Message templates,
2026-05. (`parameter_name` of named places is unverified.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from adapters._template_places import ready_components, unfit, words_of
from normalizers._fields import items, mapping, text
from normalizers.model import Template, TemplateState

HEADER_MEDIA: Final = frozenset({"image", "video", "document"})
_HEADER: Final = HEADER_MEDIA | {"location", "product"}
_CARDS_MAX = 10
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def template_body(template: Template, language: str, header_file: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `template` of one send. Raises `ContentRefused`.

    A list of texts fills the body. An object fills components by name:

    {"header": {"image": {"link": ...}} or "text" or {"location": {...}},
     "body": ["Mara", "12"] or {"name": "Mara"},
     "buttons": [{"sub_type": "url", "text": "abc"}, {"sub_type": "quick_reply", "payload": "yes"},
                 {"sub_type": "copy_code", "code": "25OFF"}, {"sub_type": "otp", "code": "123456"},
                 {"sub_type": "flow", "token": "t", "data": {...}}, {"sub_type": "catalog", "thumbnail": "sku"}],
     "limited_time_offer": 1790000000000 (ms),
     "carousel": [{"header": ..., "body": ..., "buttons": ...}]}

    `components` is taken as it stands. `header_file` is a file that came with the message: the header, unless given.
    """
    given = template.parameters
    if isinstance(given, Mapping):
        components = ready_components(given["components"]) if "components" in given else _components(given)
    else:
        components = [_component("body", given)] if given else []
    if header_file is not None and not any(component.get("type") == "header" for component in components):
        components.insert(0, {"type": "header", "parameters": [{"type": next(iter(header_file)), **header_file}]})
    body = {"name": template.name, "language": {"policy": "deterministic", "code": language}}
    return body | ({"components": components} if components else {})


def _components(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    components: list[dict[str, Any]] = []
    for name, values in given.items():
        if name == "buttons":
            components += [_button(index, button) for index, button in enumerate(_listed(values))]
        elif name == "carousel":
            components.append(_carousel(_listed(values)))
        elif name == "limited_time_offer":
            components.append(_offer(values))
        elif name in ("header", "body"):
            if name == "header" and not isinstance(values, str | Mapping | list | tuple):
                raise unfit("a header is a text, or an object by its kind: image, video, document, location")
            components.append(_component(name, values))
        else:
            known = "header, body, buttons, carousel, limited_time_offer, components"
            raise unfit(f"no component named {name!r}; known are {known}")
    return components


def _component(kind: str, values: Any) -> dict[str, Any]:
    if isinstance(values, Mapping) and not ({"type", *_HEADER} & values.keys()):
        named = [_parameter(value) | {"parameter_name": name} for name, value in values.items()]  # name unverified
        return {"type": kind, "parameters": named}
    return {"type": kind, "parameters": [_parameter(value) for value in _listed(values)]}


def _parameter(value: Any) -> dict[str, Any]:
    """A text, a ready parameter with its `type` (currency, date_time, ...), or {"image": {"link": ...}}."""
    if not isinstance(value, Mapping):
        return {"type": "text", "text": words_of(value)}
    if "type" in value:
        return dict(value)
    kind = next((name for name in value if name in _HEADER), None)
    if kind is None:
        raise unfit("a parameter is a text, or an object with its type")
    return {"type": kind, kind: value[kind]}


def _carousel(cards: list[Any]) -> dict[str, Any]:
    if not all(isinstance(card, Mapping) for card in cards) or not 0 < len(cards) <= _CARDS_MAX:
        raise unfit(f"a carousel is 1 to {_CARDS_MAX} objects of components")
    made = [{"card_index": index, "components": _components(card)} for index, card in enumerate(cards)]
    return {"type": "carousel", "cards": made}


def _offer(value: Any) -> dict[str, Any]:
    """When the offer ends: Unix milliseconds."""
    if isinstance(value, Mapping):
        value = value.get("expiration_time_ms")
    if not isinstance(value, int) or isinstance(value, bool):
        raise unfit("limited_time_offer is the moment it ends, in Unix milliseconds")
    offer = {"type": "limited_time_offer", "limited_time_offer": {"expiration_time_ms": value}}
    return {"type": "limited_time_offer", "parameters": [offer]}


# --- buttons ----------------------------------------------------------------------------------------------------------


def _button(index: int, button: Any) -> dict[str, Any]:
    if isinstance(button, str):
        button = {"sub_type": "url", "text": button}
    if not isinstance(button, Mapping):
        raise unfit("a button is a text, or an object with its sub_type")
    kind = str(button.get("sub_type", "quick_reply" if "payload" in button else "url")).lower()
    parameters = button.get("parameters")
    if parameters is None:
        if (make := _BUTTONS.get(kind)) is None:
            raise unfit(f"no button {kind!r}; known are {', '.join(_BUTTONS)}, others with their parameters")
        parameters = [make(button)]
    return {
        "type": "button", "sub_type": "url" if kind == "otp" else kind, "index": str(button.get("index", index)),
        "parameters": parameters,
    }  # fmt: skip


def _of(name: str, *places: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A button with one text, found under the first of `places` that is given."""

    def make(button: Mapping[str, Any]) -> dict[str, Any]:
        value = next((button[place] for place in places if place in button), None)
        if value is None:
            raise unfit(f"a button needs {places[0]!r}")
        return {"type": name, name: str(value)}

    return make


def _flow(button: Mapping[str, Any]) -> dict[str, Any]:
    action = {"flow_token": str(button.get("token", "unused"))}
    more = {"flow_action_data": button["data"]} if "data" in button else {}
    return {"type": "action", "action": action | more}


def _catalog(button: Mapping[str, Any]) -> dict[str, Any]:
    action = {"thumbnail_product_retailer_id": str(button.get("thumbnail", ""))}
    more = {"sections": button["sections"]} if "sections" in button else {}
    return {"type": "action", "action": action | more}


_BUTTONS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "url": _of("text", "text", "payload"),
    "quick_reply": _of("payload", "payload", "text"),
    "copy_code": _of("coupon_code", "code", "coupon_code", "text"),
    "otp": _of("text", "code", "text"),  # of authentication templates: sent as a url button
    "flow": _flow,
    "catalog": _catalog,
    "mpm": _catalog,
}


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


# --- the platform's list ----------------------------------------------------------------------------------------------


def states_of(page: Mapping[str, Any]) -> Iterable[TemplateState]:
    """The templates of one page of the list."""
    for _, entry in items(page, "data"):
        if name := text(entry, "name"):
            yield TemplateState(
                name,
                text(entry, "language"),
                text(entry, "status").lower(),
                text(entry, "category").lower(),
                _places(entry),
            )


def _places(entry: Mapping[str, Any]) -> int:
    """How many texts the body takes: each place counts once, however often it stands there."""
    body = next((one for _, one in items(entry, "components") if text(one, "type").upper() == "BODY"), {})
    return len(set(_PLACE.findall(text(body, "text"))))


def next_page(page: Mapping[str, Any]) -> str:
    """The cursor of the page after this one, "" on the last."""
    paging = mapping(page, "paging")
    return text(mapping(paging, "cursors"), "after") if text(paging, "next") else ""
